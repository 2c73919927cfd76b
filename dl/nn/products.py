"""Products of arrays in a narrow type whose sums, and results, are float32; in the backward pass as well."""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def einsum(spec: str, a: Float[Array, '*a'], b: Float[Array, '*b']) -> Float[Array, '*c']:
  """`jnp.einsum` of two arrays of one type, in float32.

  The gradient that comes back is float32 too. JAX would multiply it by the other operand as it is, and float32 x
  bfloat16 is a product in float32: here it is brought to the type of the operands first.
  """
  if a.dtype == b.dtype == jnp.float32:
    return jnp.einsum(spec, a, b)
  return _narrow(spec, a, b)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _narrow(spec: str, a: Array, b: Array) -> Array:
  return jnp.einsum(spec, a, b, preferred_element_type=jnp.float32)


def _forward(spec: str, a: Array, b: Array) -> tuple[Array, tuple[Array, Array]]:
  return _narrow(spec, a, b), (a, b)


def _backward(spec: str, operands: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
  product, back = jax.vjp(functools.partial(jnp.einsum, spec), *operands)
  return back(gradient.astype(product.dtype))


_narrow.defvjp(_forward, _backward)
