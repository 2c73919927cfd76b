"""Mixtures of experts against a loop over tokens in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dl.errors import ConfigError
from dl.nn.experts import Experts, route


def layer(**changes):
  arguments = dict(experts=4, per_token=2, capacity_factor=1.0, hidden=12, activation='relu')
  init = jax.nn.initializers.normal(1.0)
  module = Experts(**(arguments | changes), kernel_init=init, out_init=init)
  x = jax.random.normal(jax.random.key(1), (3, 10, 6))
  return module, module.init(jax.random.key(0), x)['params'], x


def by_loop(params, x, per_token, capacity):
  """Output, and how many choices were dropped: sequence by sequence, choice by choice, token by token."""
  p, x = jax.tree.map(lambda a: np.asarray(a, np.float64), (params, x))
  y, dropped = np.zeros_like(x), 0
  logits = x @ p['router']['kernel']
  probability = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
  for b in range(len(x)):
    full = np.zeros(probability.shape[-1], int)
    order = np.argsort(-probability[b], -1)[:, :per_token]
    for choice in range(per_token):
      for n in range(x.shape[1]):
        expert = order[n, choice]
        if full[expert] == capacity:
          dropped += 1
          continue
        full[expert] += 1
        weight = probability[b, n, expert] / probability[b, n, order[n]].sum()
        y[b, n] += weight * (np.maximum(x[b, n] @ p['up'][expert], 0) @ p['down'][expert])
  return y, dropped


@pytest.mark.parametrize(('factor', 'capacity'), [(1.0, 5), (2.0, 10), (0.3, 2)])
def test_equals_a_loop_over_tokens(factor, capacity):
  module, params, x = layer(capacity_factor=factor)
  y, balance = module.apply({'params': params}, x)
  wanted, dropped = by_loop(params, x, 2, capacity)
  assert (dropped == 0) == (factor == 2.0)
  np.testing.assert_allclose(y, wanted, rtol=2e-5, atol=2e-5)
  assert np.isfinite(balance)


def test_equal_experts_are_one_feed_forward_layer():
  module, params, x = layer(capacity_factor=4.0)
  params = params | {k: jnp.broadcast_to(params[k][:1], params[k].shape) for k in ('up', 'down')}
  y, _ = module.apply({'params': params}, x)
  np.testing.assert_allclose(y, jnp.maximum(x @ params['up'][0], 0) @ params['down'][0], rtol=1e-4, atol=1e-5)


def test_places_are_taken_once():
  probability = jax.nn.softmax(jax.random.normal(jax.random.key(0), (2, 20, 5)))
  dispatch, combine = route(probability, 3, 6)
  assert dispatch.sum(1).max() == 1 and dispatch.sum((2, 3)).max() <= 3
  assert ((combine > 0) == dispatch).all()
  assert combine.sum((2, 3)).max() <= 1 + 1e-6


def test_balance_is_one_where_tokens_are_spread_evenly_and_grows():
  module, params, x = layer(per_token=1)
  even = {'router': {'kernel': jnp.zeros((6, 4))}}
  assert module.apply({'params': params | even}, x)[1] == pytest.approx(1.0)
  one = {'router': {'kernel': jnp.zeros((6, 4)).at[:, 0].set(50.0)}}
  assert module.apply({'params': params | one}, jnp.abs(x))[1] == pytest.approx(4.0)


def test_more_choices_than_experts_is_one_line():
  with pytest.raises(ConfigError, match=r'config\.model\.experts_per_token: must be from 1 to 4, got 5'):
    layer(per_token=5)
