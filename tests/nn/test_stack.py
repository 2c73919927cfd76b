"""What is computed again changes no result: rematerialized blocks, attention in chunks."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dl.models.gpt import GPT
from dl.models.resnet import ResNet
from dl.models.vit import ViT

MODELS = {
  'vit': (ViT(num_classes=3, patch=4, width=16, depth=2, heads=2), (2, 8, 8, 3)),
  'resnet': (ResNet(num_classes=3, blocks=(1, 1), width=4, stem='cifar'), (4, 8, 8, 3)),
}


def gradient(model, variables, x):
  """(value, gradient, batch statistics, size of what the backward pass keeps)."""
  rest = {k: v for k, v in variables.items() if k != 'params'}

  def loss(params):
    y, changed = model.apply({'params': params, **rest}, x, train=True, mutable=list(rest))
    return (y**2).mean(), changed

  kept = jax.eval_shape(lambda p: jax.vjp(loss, p, has_aux=True)[1], variables['params'])
  return *jax.jit(jax.value_and_grad(loss, has_aux=True))(variables['params']), sum(
    x.size for x in jax.tree.leaves(kept)
  )


@pytest.mark.parametrize(
  'name', [pytest.param(name, marks=pytest.mark.thorough) if name == 'vit' else name for name in MODELS]
)
def test_rematerialized_blocks_change_nothing_but_memory(name):
  model, shape = MODELS[name]
  x = jax.random.normal(jax.random.key(0), shape)
  variables = jax.jit(functools.partial(model.init, train=False))(jax.random.key(1), x)
  found = {how: gradient(model.clone(remat=how), variables, x) for how in ('none', 'dots', 'full')}
  for how in ('dots', 'full'):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), found['none'][:2], found[how][:2])
  assert found['full'][2] < found['none'][2]


@pytest.mark.parametrize('rope', [pytest.param(False, marks=pytest.mark.thorough), True])
def test_attention_in_chunks_changes_nothing(rope):
  plain = GPT(vocab_size=31, length=16, layers=2, heads=2, width=8, rope=rope)
  tokens = jax.random.randint(jax.random.key(0), (2, 16), 0, 31)
  variables = jax.jit(plain.init)(jax.random.key(1), tokens)
  loss = lambda model: jax.jit(jax.value_and_grad(lambda v: (model.apply(v, tokens) * jnp.arange(31)).mean()))(
    variables
  )
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
    loss(plain),
    loss(plain.clone(attention_chunk=4)),
  )


def test_chunks_and_dropout_are_a_contradiction():
  model = GPT(vocab_size=31, length=16, layers=1, heads=2, width=8, attention_chunk=4, dropout=0.1)
  with pytest.raises(ValueError, match='attention in chunks has no dropout'):
    model.init(jax.random.key(0), jnp.zeros((1, 16), jnp.int32), train=True)
