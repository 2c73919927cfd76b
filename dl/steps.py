"""The compiled steps: training with its running sums, and evaluation over a whole set."""

import collections
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Int

from dl import metrics, sharding
from dl.assemble import Parts, to_float
from dl.data.pipeline import Pipeline, prefetch
from dl.state import State
from dl.task import Metrics, Task


@flax.struct.dataclass
class Sums:
  """What training adds up on the device between two logs.

  Attributes:
    metrics: the sums of the training metrics.
    bad_step: the first step whose metrics were not finite; -1 if there was none.
  """

  metrics: Metrics
  bad_step: Int[Array, '']


def make_train_step(parts: Parts) -> Callable[[State, Sums, Any], tuple[State, Sums, Array]]:
  """One training step: augmentation, the task's step and the sums; a pure function, meant to be jitted.

  The third result is a flag to wait for: the others are donated to the next step.
  """
  task, chains, seed = parts.task, parts.optimizer.chains, parts.config['seed']
  augment = parts.pipeline.augment if parts.pipeline is not None else None

  def train_step(state: State, sums: Sums, batch: Any) -> tuple[State, Sums, Array]:
    key = jax.random.fold_in(jax.random.key(seed), state.step)
    step_key, augment_key = jax.random.split(key)
    batch = to_float(batch)
    if augment is not None:
      batch = augment(augment_key, batch)
    new, found = task.step(state, batch, step_key, chains)
    finite = all_finite(found)
    bad_step = jnp.where((sums.bad_step < 0) & ~finite, new.step, sums.bad_step)
    return new, Sums(metrics.add(sums.metrics, found), bad_step), finite

  return train_step


def all_finite(tree: Any) -> Bool[Array, '']:
  """Whether every number in a tree of arrays is finite."""
  return jnp.all(jnp.asarray([jnp.all(jnp.isfinite(x)) for x in jax.tree.leaves(tree)], bool))


def fuse(train_step: Callable, length: int) -> Callable:
  """`length` steps as one call: the batches carry a leading dimension of steps."""

  def fused(state: State, sums: Sums, batches: Any) -> tuple[State, Sums, Array]:
    def body(carry, batch):
      state, sums, finite = train_step(*carry, batch)
      return (state, sums), finite

    (state, sums), finite = jax.lax.scan(body, (state, sums), batches, length=length)
    return state, sums, finite.all()

  return fused


def zero_sums(parts: Parts) -> Sums:
  """Sums of no steps; meant to be jitted."""
  key = jax.random.key(0)
  found = jax.eval_shape(
    lambda s, b: parts.task.step(s, to_float(b), key, parts.optimizer.chains)[1], parts.state, parts.batch
  )
  return Sums(jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), found), jnp.full([], -1, jnp.int32))


def make_eval_step(task: Task, seed: int) -> Callable[[State, Any, Any], Metrics]:
  """Metrics of one evaluation batch, with the averaged parameters where there are any; meant to be jitted."""

  def eval_step(state: State, batch: Any, index: Any) -> Metrics:
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), 2**31 - 1), index)
    return task.evaluate(state.averaged(), to_float(batch), key)

  return eval_step


def evaluate(eval_step: Callable, state: State, pipeline: Pipeline | None, mesh: Mesh) -> dict[str, Any]:
  """The metrics of a whole set, exactly: each example counts once, whatever the batch size and the devices.

  Args:
    eval_step: a jitted `make_eval_step`.
    state: the training state.
    pipeline: the evaluation data; None calls the task once with an empty batch.
    mesh: where batches are split.
  """
  place = lambda batch: sharding.place(batch, sharding.batch_sharding(mesh))
  batches = map(place, [{}]) if pipeline is None else prefetch(pipeline.iterate(0), place, pipeline.prefetch)
  throttle, parts = bounded(depth=8), []
  for index, batch in enumerate(batches):
    parts.append(eval_step(state, batch, jnp.int32(index)))
    throttle(parts[-1])
  return metrics.compute(metrics.total(jax.device_get(parts)))


def bounded(depth: int) -> Callable[[Any], None]:
  """A function to call with a result of each dispatched step: it waits for the one `depth` calls ago.

  So the host runs ahead of the device, but never so far that batches pile up in the device's memory.
  """
  waiting: collections.deque = collections.deque()

  def push(result: Any) -> None:
    waiting.append(result)
    if len(waiting) > depth:
      jax.block_until_ready(waiting.popleft())

  return push


def plan_calls(start: int, total: int, fused: int, boundaries: Mapping[str, int]) -> Iterator[int]:
  """Lengths of the compiled calls from `start` to `total`: `fused` steps where no boundary is crossed, else one.

  A pure function of the step, so that a resumed run makes the same calls.
  """
  step = start
  while step < total:
    end = min([total, *(step - step % n + n for n in boundaries.values())])
    length = fused if step % fused == 0 and step + fused <= end else 1
    yield length
    step += length
