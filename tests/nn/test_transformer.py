"""Blocks put together from parts, and feed-forward layers, against the formulas written out."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dl.nn.context import Context
from dl.nn.feed_forward import FeedForward
from dl.nn.transformer import Block, Branch, begin, post_norm, pre_norm


def norm(x, scale):
  return scale * (x - x.mean(-1, keepdims=True)) / jnp.sqrt(x.var(-1, keepdims=True) + 1e-6)


@pytest.mark.parametrize('order', [pre_norm, post_norm])
def test_order_of_norms_branches_and_what_they_add_to_the_loss(order):
  branches = lambda: (
    Branch(nn.LayerNorm(use_bias=False, name='one'), lambda y, context: (jnp.tanh(y), y.mean())),
    Branch(nn.LayerNorm(use_bias=False, name='two'), lambda y, context: y**2, lambda y, context: 3 * y),
  )
  x = jax.random.normal(jax.random.key(0), (2, 4, 6))
  params = {'one': {'scale': jnp.arange(6.0)}, 'two': {'scale': 1 + jnp.arange(6.0)}}
  y, loss = Block(branches, order).apply({'params': params}, begin(x), Context())
  one, two = params['one']['scale'], params['two']['scale']
  if order is pre_norm:
    middle = x + jnp.tanh(norm(x, one))
    wanted, added = middle + 3 * norm(middle, two) ** 2, norm(x, one).mean()
  else:
    middle = norm(x + jnp.tanh(x), one)
    wanted, added = norm(middle + 3 * middle**2, two), x.mean()
  np.testing.assert_allclose(y, wanted, rtol=1e-4, atol=1e-5)
  np.testing.assert_allclose(loss, added, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize('gate', [None, 'gate'])
def test_feed_forward_layers_are_two_or_three_products(gate):
  module = FeedForward(5, 'silu', gate=gate, bias_init=nn.initializers.normal(1.0))
  x = jax.random.normal(jax.random.key(0), (2, 4, 6))
  params = module.init(jax.random.key(1), x, Context())['params']
  dense = lambda name, x: x @ params[name]['kernel'] + params[name]['bias']
  silu = lambda x: x / (1 + jnp.exp(-x))
  hidden = dense('fc1', x) * silu(dense('gate', x)) if gate else silu(dense('fc1', x))
  np.testing.assert_allclose(module.apply({'params': params}, x, Context()), dense('fc2', hidden), rtol=1e-4, atol=1e-5)
