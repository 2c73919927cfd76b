"""Checkpoints, and the decisions about them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dl.errors import ConfigError
from dl.store.checkpoint import Checkpoints, abstract
from dl.training import policy


def items(value):
  return {'state': {'w': jnp.full((3,), value), 'key': jax.random.key(int(value)), 'n': jnp.int32(value)}}


def like(tree):
  here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  return {'state': abstract(tree['state'], jax.tree.map(lambda _: here, tree['state']))}


def test_keeps_last_and_best_and_restores_exactly(tmp_path):
  with Checkpoints(tmp_path / 'c', last=1, best=1, mode='max') as saved:
    for step, value in [(1, 0.1), (2, 0.9), (3, 0.3), (4, None), (5, 0.2)]:
      saved.save(step, items(step), value)
    saved.wait()
    assert saved.steps == [2, 5] and saved.best == 2 and saved.latest == 5
  with Checkpoints(tmp_path / 'c', mode='max', read_only=True) as saved:
    assert saved.find('best', 'x') == 2 and saved.find(None, 'x') == 5 and saved.find(2, 'x') == 2
    state = saved.restore(2, like(items(2)))['state']
    np.testing.assert_array_equal(state['w'], 2.0)
    assert jax.random.key_data(state['key']).tolist() == jax.random.key_data(jax.random.key(2)).tolist()
    with pytest.raises(ConfigError, match='no checkpoint of step 3; there are: 2, 5'):
      saved.find(3, 'x')


def test_no_checkpoint_is_one_line(tmp_path):
  with pytest.raises(ConfigError, match='holds no checkpoint'):
    Checkpoints(tmp_path / 'c', read_only=True)
  with Checkpoints(tmp_path / 'c') as saved, pytest.raises(ConfigError, match='no finished checkpoint'):
    saved.find(None, 'x')


HISTORY = [
  {'step': s, 'split': 'test', 'loss': v} for s, v in [(10, 1.0), (20, 0.5), (30, 0.6), (40, 0.5), (50, None)]
] + [{'step': 20, 'split': 'train', 'loss': 0.0}]


def test_best_is_the_first_of_equals():
  keep = policy.Keep(best=1, metric='test/loss')
  assert policy.best_step(policy.values(HISTORY, 'test/loss'), 'min') == 20
  assert keep.is_best(HISTORY[:2], 20) and not keep.is_best(HISTORY[:4], 40)
  assert keep.value(HISTORY, 50) is None


def test_early_stop_counts_steps_since_the_last_improvement():
  stop = policy.EarlyStop(metric='test/loss', patience=20)
  assert stop.reason(HISTORY, 30, 20) is None
  assert stop.reason(HISTORY, 40, 20) == 'test/loss last improved at step 20, 20 steps before; the patience is 20'
  assert policy.EarlyStop(metric='test/loss', patience=20, min_delta=0.6).reason(HISTORY, 30, 20)


def test_a_metric_that_no_evaluation_has_is_one_line():
  with pytest.raises(ConfigError, match="did you mean 'test/accuracy'"):
    policy.make(policy.Keep, dict(best=1, metric='test/acuracy'), 'config.keep', {'test': ['loss', 'accuracy']})
