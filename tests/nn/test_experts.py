"""Mixtures of experts against a loop over tokens in NumPy, which sees them from left to right."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dl.nn.context import Context
from dl.nn.experts import AHEAD, Experts, route, shares


def layer(**changes):
  arguments = dict(experts=4, per_token=2, capacity_factor=1.0, hidden=12, activation='relu')
  init = jax.nn.initializers.normal(1.0)
  module = Experts(**(arguments | changes), kernel_init=init, out_init=init)
  x = jax.random.normal(jax.random.key(1), (3, 40, 6))
  return module, module.init(jax.random.key(0), x, Context())['params'], x


def by_loop(params, x, per_token, factor):
  """Output, and how many choices were dropped: an expert takes a token while it has had less than its share so far."""
  p, x = jax.tree.map(lambda a: np.asarray(a, np.float64), (params, x))
  y, dropped = np.zeros_like(x), 0
  logits = x @ p['router']['kernel']
  probability = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
  experts = probability.shape[-1]
  for b in range(len(x)):
    taken = np.zeros(experts, int)
    for n in range(x.shape[1]):
      chosen = np.argsort(-probability[b, n])[:per_token]
      for expert in chosen:
        if taken[expert] >= np.ceil(factor * per_token / experts * (n + 1) - 1e-6) + AHEAD:
          dropped += 1
          continue
        taken[expert] += 1
        weight = probability[b, n, expert] / probability[b, n, chosen].sum()
        y[b, n] += weight * (np.maximum(x[b, n] @ p['up'][expert], 0) @ p['down'][expert])
  return y, dropped


@pytest.mark.parametrize('per_token', [1, 2])
@pytest.mark.parametrize('factor', [0.3, 0.6, 4.0])
def test_equals_a_loop_over_tokens(factor, per_token):
  module, params, x = layer(capacity_factor=factor, per_token=per_token)
  y, balance = jax.jit(lambda p: module.apply({'params': p}, x, Context()))(params)
  wanted, dropped = by_loop(params, x, per_token, factor)
  assert (dropped == 0) == (factor == 4.0)
  np.testing.assert_allclose(y, wanted, rtol=2e-5, atol=2e-5)
  assert np.isfinite(balance)


def test_equal_experts_are_one_feed_forward_layer():
  module, params, x = layer(capacity_factor=4.0)
  params = params | {k: jnp.broadcast_to(params[k][:1], params[k].shape) for k in ('up', 'down')}
  y, _ = module.apply({'params': params}, x, Context())
  np.testing.assert_allclose(y, jnp.maximum(x @ params['up'][0], 0) @ params['down'][0], rtol=1e-4, atol=1e-5)


def test_places_are_taken_once_and_the_counts_go_on():
  compiled = jax.jit(route, static_argnums=(1, 3))
  probability = jax.nn.softmax(jax.random.normal(jax.random.key(0), (2, 20, 5)))
  share = shares(jnp.arange(20) + 1, 5, 3, 0.3)
  dispatch, combine, taken = map(np.asarray, compiled(probability, 3, share, 20))
  assert dispatch.sum(1).max() == 1 and dispatch.sum((2, 3)).max() <= 3
  assert ((combine > 0) == dispatch).all()
  assert combine.sum((2, 3)).max() <= 1 + 1e-6
  np.testing.assert_array_equal(taken, dispatch.sum((1, 3)))
  assert 0 < taken.max() <= share[-1]
  *_, before = compiled(probability[:, :7], 3, share[:7], 7)
  rest, _, after = map(np.asarray, compiled(probability[:, 7:], 3, share[7:], 13, before))
  np.testing.assert_array_equal(after, taken)
  np.testing.assert_array_equal(rest.any(-1), dispatch[:, 7:].any(-1))


def test_balance_is_one_where_tokens_are_spread_evenly_and_grows():
  module, params, x = layer(per_token=1)
  even = {'router': {'kernel': jnp.zeros((6, 4))}}
  assert module.apply({'params': params | even}, x, Context())[1] == pytest.approx(1.0)
  one = {'router': {'kernel': jnp.zeros((6, 4)).at[:, 0].set(50.0)}}
  assert module.apply({'params': params | one}, jnp.abs(x), Context())[1] == pytest.approx(4.0)


def test_more_choices_than_experts_is_one_line():
  with pytest.raises(ValueError, match='a token can go to 1 to 4 experts, got 5'):
    layer(per_token=5)
