"""The actor-critic: its size, and how it starts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dl.models.actor_critic import ActorCritic


@pytest.fixture(scope='module')
def params():
  return jax.jit(ActorCritic(num_actions=2).init)(jax.random.key(0), jnp.zeros((1, 4)))['params']


def test_parameter_count(params):
  assert sum(x.size for x in jax.tree.leaves(params)) == 9155
  actor = sum(x.size for k, v in params.items() if k.startswith('actor') for x in jax.tree.leaves(v))
  assert actor == 4 * 64 + 64 + 64 * 64 + 64 + 64 * 2 + 2


def test_it_starts_orthogonal_and_near_uniform(params):
  hidden = params['actor_1']['kernel']
  np.testing.assert_allclose(hidden.T @ hidden, 2 * np.eye(64), atol=1e-5)
  np.testing.assert_allclose(jnp.linalg.norm(params['actor_out']['kernel'], axis=0), 0.01, rtol=1e-5)
  np.testing.assert_allclose(jnp.linalg.norm(params['critic_out']['kernel'], axis=0), 1.0, rtol=1e-5)
  logits, _ = ActorCritic(num_actions=2).apply({'params': params}, jnp.eye(4))
  np.testing.assert_allclose(jax.nn.softmax(logits), 0.5, atol=0.01)


def test_shapes_and_dtypes(params):
  observations = jnp.ones((3, 5, 4))
  logits, value = ActorCritic(num_actions=2).apply({'params': params}, observations)
  assert logits.shape == (3, 5, 2) and value.shape == (3, 5)
  low, low_value = ActorCritic(num_actions=2, dtype=jnp.bfloat16).apply({'params': params}, observations)
  assert low.dtype == low_value.dtype == jnp.float32
  np.testing.assert_allclose(low_value, value, atol=0.05)


def test_policy_and_value_share_nothing(params):
  model = ActorCritic(num_actions=2)
  grads = jax.grad(lambda p: model.apply({'params': p}, jnp.ones((2, 4)))[1].sum())(params)
  for name, tree in grads.items():
    assert any(np.any(x) for x in jax.tree.leaves(tree)) == name.startswith('critic')
