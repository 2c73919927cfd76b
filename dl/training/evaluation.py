"""Evaluation: of a batch, compiled, and of a whole set."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from dl.contract import keys, metrics
from dl.contract.evaluator import Evaluator, Own, Trained
from dl.contract.info import to_float
from dl.contract.state import State
from dl.contract.task import Metrics, Task
from dl.data.pipeline import Pipeline, prefetch
from dl.errors import ConfigError
from dl.parallel import activations, meshes
from dl.training import seeds
from dl.training.assemble import Parts, abstractly
from dl.training.feed import bounded

OWN = Own()


def make_eval_step(
  task: Task, seed: int, count: int | None = None, evaluator: Evaluator = OWN
) -> Callable[[State, Any, Any], Metrics]:
  """Metrics of one evaluation batch, with the averaged parameters where there are any; meant to be jitted.

  With `count` seeds, the state and the metrics have a leading axis of them, and the batch is the same for all.
  """

  def eval_step(seed: Any, state: State, batch: Any, index: Any) -> Metrics:
    measured = evaluator.measure(task, state.averaged(), to_float(batch, task.info), keys.evaluation(seed, index))
    return seeds.marked(measured, count)

  return seeds.over(eval_step, seed, count, (0, None, None))


def compiled(
  parts: Parts, mesh: Mesh, opinions: Mapping[str, Evaluator]
) -> dict[str, Callable[[State, Any, Any], Metrics]]:
  """Evaluation name -> its jitted step, (state, batch, index) -> metrics; those of equal evaluators are one program.

  Args:
    parts: the parts of the run.
    mesh: where states and batches are.
    opinions: evaluation name -> its evaluator.
  """
  steps: dict[str, Callable] = {}
  for name, evaluator in opinions.items():
    same = next((other for other in steps if opinions[other] == evaluator), None)
    steps[name] = steps[same] if same else _compiled(parts, mesh, evaluator)
  return steps


def _compiled(parts: Parts, mesh: Mesh, evaluator: Evaluator) -> Callable[[State, Any, Any], Metrics]:
  whole, experiment = meshes.replicated(mesh), parts.experiment

  def step(state: State, batch: Any, index: Any, others: Mapping[str, State]) -> Metrics:
    return make_eval_step(parts.task, experiment.seed, experiment.seeds, _with(evaluator, others))(state, batch, index)

  if evaluator.needs_data:
    step = activations.split(step, mesh, 1, experiment.sharding)
  step, others = jax.jit(step, out_shardings=whole), meshes.place(_others(evaluator), whole)
  return lambda state, batch, index: step(state, batch, index, others)


def named(evaluator: Evaluator, task: Task) -> str:
  """Whose evaluation it is, for error lines."""
  return type(task if isinstance(evaluator, Own) else evaluator).__name__


def numbers(
  parts: Parts,
  pipelines: Mapping[str, Pipeline | None],
  opinions: Mapping[str, Evaluator],
  at: str = 'config.eval.{}',
) -> dict[str, dict[str, metrics.Better]]:
  """Evaluation name -> metric which is a number -> whether less or more of it is better, by shapes alone.

  Args:
    parts: the parts of the run.
    pipelines: evaluation name -> its data, or None.
    opinions: evaluation name -> its evaluator.
    at: the config path, for error lines; {} is the name.

  Raises:
    ConfigError: an evaluator which does not fit the task or the data.
  """
  result = {}
  for name, evaluator in opinions.items():
    batch, where = {}, at.format(name)
    if pipelines[name] is not None:
      batch = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), pipelines[name][0])
    step = make_eval_step(parts.task, parts.experiment.seed, evaluator=evaluator)
    try:
      measured = abstractly(step, parts.state, batch, jax.ShapeDtypeStruct((), np.int32), where=where)
    except ConfigError as e:
      raise ConfigError(str(e) if str(e).startswith('config.') or where in str(e) else f'{where}: {e}') from e
    metrics.check(measured, f'{where}: {named(evaluator, parts.task)}')
    if not isinstance(evaluator, Own):  # else what it wants to know would fail after training
      look = lambda state, b, key, e=evaluator: e.examine(parts.task, state, to_float(b, parts.task.info), key)
      abstractly(look, parts.state, batch, keys.shape(), where=where)
    result[name] = metrics.better(measured)
  return result


def evaluate(eval_step: Callable, state: State, pipeline: Pipeline | None, mesh: Mesh) -> dict[str, Any]:
  """The metrics of a whole set, exactly: each example counts once, whatever the batch size and the devices.

  Args:
    eval_step: a jitted `make_eval_step`.
    state: the training state.
    pipeline: the evaluation data; None calls the step once with an empty batch.
    mesh: where batches are split.
  """
  throttle, parts = bounded(8), []
  for index, batch in enumerate(_placed(pipeline, mesh)):
    parts.append(eval_step(state, batch, jnp.int32(index)))
    throttle(parts[-1])
  return metrics.compute(metrics.total(jax.device_get(parts)))


def findings(
  evaluator: Evaluator, task: Task, state: State, pipeline: Pipeline | None, mesh: Mesh, seed: int
) -> dict[str, Any]:
  """Artifacts of a whole evaluation set (`Evaluator.findings`); none of an evaluator which examines nothing."""

  def examine(state, batch, index, others):
    key = keys.findings(seed, index)
    rows = _with(evaluator, others).examine(task, state, to_float(batch, task.info), key)
    return rows and {'mask': batch.get('mask', jnp.ones(len(next(iter(rows.values())))))} | rows

  first = {} if pipeline is None else jax.tree.map(jnp.asarray, pipeline[0])
  whole, others = meshes.replicated(mesh), _others(evaluator)
  if not jax.eval_shape(examine, state, first, jnp.int32(0), others):
    return {}
  step, others, parts = jax.jit(examine, out_shardings=whole), meshes.place(others, whole), []
  for index, batch in enumerate(_placed(pipeline, mesh)):
    parts.append(jax.device_get(step(state, batch, jnp.int32(index), others)))
  examined = {k: np.concatenate([part[k] for part in parts]) for k in parts[0]}
  real = examined.pop('mask') > 0
  place = np.flatnonzero(real)  # in the set: an example that was skipped leaves a gap
  examined = {k: v[real] for k, v in examined.items()}
  if pipeline is None:
    return evaluator.findings(task, examined | {'index': place}, lambda chosen: {})
  examined['index'] = pipeline.places(place)
  files = getattr(pipeline.source, 'paths', None)
  if files is not None and len(files) == len(pipeline.source):
    examined['file'] = np.asarray([str(files[i]) for i in place])
  return evaluator.findings(task, examined, lambda chosen: pipeline.examples(place[chosen]))


def _placed(pipeline: Pipeline | None, mesh: Mesh) -> Iterator[dict[str, Any]]:
  """The batches of a set on the devices; a single empty one without data."""
  place = lambda batch: meshes.place(batch, meshes.batch_sharding(mesh))
  return map(place, [{}]) if pipeline is None else prefetch(pipeline.iterate(0), place, pipeline.prefetch)


def _others(evaluator: Evaluator) -> dict[str, State]:
  """Argument -> the state of the other run that it is: these are arguments of compiled code, not constants in it."""
  values = {field.name: getattr(evaluator, field.name) for field in dataclasses.fields(evaluator)}
  return {name: value.state for name, value in values.items() if isinstance(value, Trained)}


def _with(evaluator: Evaluator, others: Mapping[str, State]) -> Evaluator:
  """The evaluator with the states of the other runs in place of its own."""
  runs = {name: dataclasses.replace(getattr(evaluator, name), state=state) for name, state in others.items()}
  return dataclasses.replace(evaluator, **runs) if runs else evaluator
