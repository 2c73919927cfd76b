"""Products of arrays: in a narrow type with sums and results in float32, and of rows, which a CPU likes better."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dl.contract.axes import Rows


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


def by_rows(function: Callable[[Array], Array], x: Float[Array, '*n w']) -> Float[Array, '*m']:
  """A product of the last axis with weights, inside of a module: `function` is called with rows [r, w].

  The gradient of a kernel from [batch, length, w] sums over two axes. XLA for CPU then transposes what it comes from,
  element by element, with all the arithmetic that gave it; over one axis it does not (a step of a GPT: a third less).
  """
  rows = Rows()(x)
  y = function(rows)
  return y.reshape(*x.shape[:-1], *y.shape[rows.ndim - 1 :])


def unembed(x: Float[Array, '*n w'], embedding: Float[Array, 'vocab w']) -> Float[Array, '*m']:
  """Logits [*n, vocab], in float32, by a token embedding (arXiv 1608.05859)."""
  return by_rows(lambda rows: einsum('...w,vw->...v', rows, embedding.astype(rows.dtype)), x)


@jax.custom_vjp
def joint(x: Float[Array, '*x']) -> Float[Array, '*x']:
  """x, whose gradient is made once, and not anew in each of the many places that it goes to, as XLA for CPU would."""
  return x


joint.defvjp(lambda x: (x, None), lambda _, gradient: (jax.lax.optimization_barrier(gradient),))
