"""The evaluators of a run, from its config."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax

from dl.config import build
from dl.config.hints import type_hints
from dl.contract.evaluator import Evaluator, Own, Trained
from dl.contract.task import Task
from dl.errors import ConfigError
from dl.training import entries, restore
from dl.training.assemble import Parts


def make(parts: Parts, names: Sequence[str] | None = None) -> dict[str, Evaluator]:
  """Evaluation name -> its evaluator; the task's own where the config names none.

  Raises:
    ConfigError: an evaluator which cannot be made of its arguments, or not for this task.
  """
  read = {name: entries.read(parts.experiment, name) for name in (parts.experiment.eval if names is None else names)}
  trained = functools.cache(_trained)  # two evaluations by one run read it once
  return {
    name: own(parts.task) if entry.by is None else build_one(entry.by, entry.where, parts.task, trained)
    for name, entry in read.items()
  }


def own(task: Task) -> Own:
  """The evaluation of a task by itself."""
  if task.examined_by is None:
    return Own()
  where = f'{type(task).__name__}.examined_by'
  return Own(examiner=build.build({'name': task.examined_by}, 'dl.evaluators', where, Evaluator))


def build_one(spec: Mapping[str, Any], where: str, task: Task, trained: Any = None) -> Evaluator:
  """An evaluator from its `name` and arguments; raises ConfigError as `make` does."""
  target = entries.evaluator_class(spec['name'], where)
  arguments = {k: v for k, v in spec.items() if k != 'name'}
  build.check_arguments(target, arguments, where)
  runs = [k for k, hint in type_hints(target).items() if k in arguments and hint is Trained]
  arguments |= {k: (trained or _trained)(arguments[k], f'{where}.{k}') for k in runs}
  evaluator = build.build({'name': spec['name']} | arguments, 'dl.evaluators', where, Evaluator)
  if evaluator.needs_data and not task.needs_data:
    raise ConfigError(f'{where}: {spec["name"]} measures batches of data, and {type(task).__name__} has none')
  return evaluator


def _trained(workdir: Any, where: str) -> Trained:
  """Another run, from its work directory."""
  if not isinstance(workdir, str):
    raise ConfigError(f'{where}: expected the work directory of a run, got {workdir!r}')
  if jax.process_count() > 1:
    raise ConfigError(f'{where}: another run is read by one process, without --distributed')
  try:
    task, state = restore.load(workdir)
  except ConfigError as e:
    raise ConfigError(f'{where}: {e}') from e
  return Trained(workdir, task, state.replace(opt={}))
