"""Evaluation: of a batch, compiled, and of a whole set."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from dl.contract import metrics
from dl.contract.info import to_float
from dl.contract.state import State
from dl.contract.task import Metrics, Task
from dl.data.pipeline import Pipeline, prefetch
from dl.parallel import meshes
from dl.training import keys, seeds
from dl.training.feed import bounded


def make_eval_step(task: Task, seed: int, count: int | None = None) -> Callable[[State, Any, Any], Metrics]:
  """Metrics of one evaluation batch, with the averaged parameters where there are any; meant to be jitted.

  With `count` seeds, the state and the metrics have a leading axis of them, and the batch is the same for all.
  """

  def eval_step(seed: Any, state: State, batch: Any, index: Any) -> Metrics:
    key = keys.evaluation(seed, index)
    return seeds.marked(task.evaluate(state.averaged(), to_float(batch, task.info), key), count)

  return seeds.over(eval_step, seed, count, (0, None, None))


def evaluate(eval_step: Callable, state: State, pipeline: Pipeline | None, mesh: Mesh) -> dict[str, Any]:
  """The metrics of a whole set, exactly: each example counts once, whatever the batch size and the devices.

  Args:
    eval_step: a jitted `make_eval_step`.
    state: the training state.
    pipeline: the evaluation data; None calls the task once with an empty batch.
    mesh: where batches are split.
  """
  place = lambda batch: meshes.place(batch, meshes.batch_sharding(mesh))
  batches = map(place, [{}]) if pipeline is None else prefetch(pipeline.iterate(0), place, pipeline.prefetch)
  throttle, parts = bounded(8), []
  for index, batch in enumerate(batches):
    parts.append(eval_step(state, batch, jnp.int32(index)))
    throttle(parts[-1])
  return metrics.compute(metrics.total(jax.device_get(parts)))


def findings(task: Task, state: State, pipeline: Pipeline | None, mesh: Mesh, seed: int) -> dict[str, Any]:
  """Artifacts of a whole evaluation set (`Task.findings`); none for a task which examines nothing."""
  if pipeline is None:
    return {}
  place = lambda batch: meshes.place(batch, meshes.batch_sharding(mesh))

  def examine(state, batch, index):
    found = task.examine(state, to_float(batch, task.info), keys.findings(seed, index))
    return found and found | {'mask': batch['mask']}

  if not jax.eval_shape(examine, state, jax.tree.map(jnp.asarray, pipeline[0]), jnp.int32(0)):
    return {}
  compiled, found, real = jax.jit(examine, out_shardings=meshes.replicated(mesh)), [], []
  for index, batch in enumerate(prefetch(pipeline.iterate(0), place, pipeline.prefetch)):
    of_batch = jax.device_get(compiled(state, batch, jnp.int32(index)))
    real.append(of_batch.pop('mask') > 0)
    found.append({k: v[real[-1]] for k, v in of_batch.items()})
  examined = {k: np.concatenate([f[k] for f in found]) for k in found[0]}
  place = np.flatnonzero(np.concatenate(real))  # in the set: an example that was skipped leaves a gap
  files = getattr(pipeline.source, 'paths', None)
  if files is not None and len(files) == len(pipeline.source):
    examined['file'] = np.asarray([str(files[i]) for i in place])
  return task.findings(examined | {'index': place}, lambda chosen: pipeline.examples(place[chosen]))
