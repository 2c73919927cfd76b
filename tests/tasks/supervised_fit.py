"""A bare training loop, for tests of tasks without the real one."""

import jax
import jax.numpy as jnp
import optax

from dl.contract import metrics
from dl.contract.info import to_float
from dl.contract.state import State


def init(task, batch, optim, seed=0):
  params, extra = jax.jit(task.init)(jax.random.key(seed), to_float(batch, task.info))
  return State(step=jnp.zeros([], jnp.int32), params=params, opt={'model': optim.init(params['model'])}, extra=extra)


def fit(task, batches, optim=None, seed=0):
  """Trains on a list of batches; (final state, numbers of the last batch)."""
  optim = optim or optax.adam(3e-3)
  state = init(task, batches[0], optim, seed)
  key = lambda s: jax.random.fold_in(jax.random.key(seed), s.step)
  step = jax.jit(lambda s, b: task.step(s, to_float(b, task.info), key(s), {'model': optim}))
  for batch in batches:
    state, found = step(state, batch)
  return state, metrics.compute(jax.device_get(found))


def evaluate(task, state, batches):
  step = jax.jit(lambda s, b: task.evaluate(s, to_float(b, task.info), jax.random.key(1)))
  return metrics.compute(metrics.total(jax.device_get([step(state, b) for b in batches])))
