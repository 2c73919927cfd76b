"""Products in a narrow type stay narrow, in the backward pass as well."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dl.models.gpt import GPT
from dl.models.vit import ViT
from dl.nn import products

MODELS = {
  'gpt': (GPT(vocab_size=31, length=16, layers=1, heads=2, width=8), jnp.zeros((2, 16), jnp.int32), 0),
  'gpt, untied, rope': (
    GPT(vocab_size=31, length=16, layers=2, heads=2, width=8, rope=True, tie_embeddings=False, scan=True),
    jnp.zeros((2, 16), jnp.int32),
    0,
  ),
  'gpt, in chunks, again': (
    GPT(vocab_size=31, length=16, layers=2, heads=2, width=8, attention_chunk=4, remat='full'),
    jnp.zeros((2, 16), jnp.int32),
    0,
  ),
  # A router is float32 on purpose: one product forward, two backward.
  'gpt, experts': (
    GPT(vocab_size=31, length=16, layers=1, heads=2, width=8, experts=4),
    jnp.zeros((2, 16), jnp.int32),
    3,
  ),
  'vit': (ViT(num_classes=3, patch=4, width=16, depth=2, heads=2), jnp.zeros((2, 8, 8, 3)), 0),
}


def operands(jaxpr):
  """The types of the operands of each product, in the programs within a program as well."""
  for equation in jaxpr.eqns:
    if equation.primitive.name in ('dot_general', 'conv_general_dilated'):
      yield tuple(str(v.aval.dtype) for v in equation.invars)
    for inner in jax.tree.leaves(
      list(equation.params.values()), is_leaf=lambda p: hasattr(p, 'eqns') or hasattr(p, 'jaxpr')
    ):
      inner = getattr(inner, 'jaxpr', inner)
      if hasattr(inner, 'eqns'):
        yield from operands(inner)


@pytest.mark.parametrize('name', MODELS)
def test_all_products_of_a_step_have_narrow_operands(name):
  model, x, wide = MODELS[name]
  model = model.clone(dtype=jnp.bfloat16)
  params = jax.eval_shape(model.init, jax.random.key(0), x)['params']

  def loss(params):
    out = model.apply({'params': params}, x, train=True)
    out = out if isinstance(out, dict) else {'out': out}
    return (out['out'] ** 2).mean() + out.get('balance', 0.0)

  types = list(operands(jax.make_jaxpr(jax.grad(loss))(params).jaxpr))
  assert len(types) >= 15  # forward, and two backward for each
  assert sum(pair != ('bfloat16', 'bfloat16') for pair in types) == wide, types


def test_einsum_sums_in_float32_and_rounds_gradients_alone():
  a, b = jax.random.normal(jax.random.key(0), (2, 64, 64)).astype(jnp.bfloat16)
  c = jax.random.normal(jax.random.key(1), (64, 64))
  wide = lambda x: np.asarray(x, np.float64)
  out, back = jax.vjp(lambda a, b: products.einsum('ij,jk->ik', a, b), a, b)
  assert out.dtype == jnp.float32
  np.testing.assert_allclose(out, wide(a) @ wide(b), rtol=1e-4, atol=1e-4)
  da, db = back(c)
  assert da.dtype == db.dtype == jnp.bfloat16
  np.testing.assert_allclose(wide(da), wide(c) @ wide(b).T, rtol=0.02, atol=0.1)
  np.testing.assert_allclose(wide(db), wide(a).T @ wide(c), rtol=0.02, atol=0.1)
