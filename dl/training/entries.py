"""The entries of `config.eval`: what of one changes the data, and what is for the evaluator that it names.

eval=dict(
  test=dict(split='test'),                                                    # the task's own evaluation
  attacked=dict(by='attacks.PGD', epsilon=0.3, split='test'),                 # epsilon is an argument of PGD
  same=dict(by=dict(name='attacks.PGD', epsilon=0.3), split='test'),          # all beside `by` changes the data
  once=dict(split='test', of='best'),  # at the end alone, of the best checkpoint by `keep.metric`
)
"""

import dataclasses
import inspect
import re
from collections.abc import Mapping
from typing import Any

from dl.config import Experiment, build
from dl.contract.evaluator import Evaluator
from dl.data import make
from dl.errors import ConfigError, nearest


@dataclasses.dataclass(frozen=True)
class Entry:
  """An evaluation, as plain data.

  Attributes:
    data: changes to the training data; None where there is none: the batch is empty, and there is one.
    by: the evaluator's `name` and its arguments; None for the task's own evaluation.
    where: the config path of its arguments, for error lines.
    of_best: whether it is measured once, of the best checkpoint at the end, and not along the way.
  """

  data: Mapping[str, Any] | None
  by: Mapping[str, Any] | None
  where: str
  of_best: bool = False


def read(experiment: Experiment, name: str) -> Entry:
  """The entry of an evaluation.

  Raises:
    ConfigError: an evaluation that the config does not have, a name which is none, an evaluator which there is not, or
      a key which is of neither the evaluator nor the data, or of both.
  """
  where = f'config.eval.{name}'
  if name not in experiment.eval:
    raise ConfigError(f'config.eval: no evaluation is called {name!r}; {nearest(name, experiment.eval)}')
  spec = experiment.eval[name]
  if not isinstance(spec, Mapping):
    raise ConfigError(f"{where}: expected a dict, such as dict(split='test'), got {spec!r}")
  if not re.fullmatch(r'\w[\w.-]*', name):
    raise ConfigError(f'{where}: it is a part of file names, so letters, digits, _, - and . alone, and first a letter')
  if name == 'train':
    raise ConfigError(f"{where}: 'train' is the name of the training's own metrics; take another name")
  of = spec.get('of')
  if of not in (None, 'best'):
    raise ConfigError(f"{where}.of: expected 'best', an evaluation of the best checkpoint at the end, got {of!r}")
  beside, by, at = {k: v for k, v in spec.items() if k not in ('by', 'of')}, None, where
  if 'by' in spec:
    at = f'{where}.by' if isinstance(spec['by'], Mapping) else where
    by, beside = _divided(spec['by'], beside, experiment, where)
    if not evaluator_class(by['name'], f'{where}.by').needs_data:
      if beside:
        raise ConfigError(f'{where}.{next(iter(beside))}: {by["name"]} makes its own examples, so there is no data')
      return Entry(None, by, at, of is not None)
  if experiment.data is None and beside:
    raise ConfigError(f'{where}: the task makes its own data, so this must be an empty dict, got {beside!r}')
  return Entry(None if experiment.data is None else beside, by, at, of is not None)


def evaluator_class(name: str, where: str) -> type[Evaluator]:
  """The class that a config names; raises ConfigError where there is none, or one which measures nothing."""
  target = build.resolve(name, 'dl.evaluators', where)
  if not (isinstance(target, type) and issubclass(target, Evaluator)):
    raise ConfigError(f'{where}: {name!r} is no class of dl.contract.evaluator.Evaluator')
  if target.measure is Evaluator.measure:
    raise ConfigError(f'{where}: {target.__name__} has no measure')
  return target


def _divided(
  by: Any, beside: Mapping[str, Any], experiment: Experiment, where: str
) -> tuple[dict[str, Any], dict[str, Any]]:
  """(the evaluator's name and arguments, the changes to the data) of an entry."""
  if isinstance(by, Mapping):
    if 'name' not in by:
      raise ConfigError(f"{where}.by: expected a name, or a dict with a 'name', got {dict(by)!r}")
    return dict(by), dict(beside)
  target = evaluator_class(by, f'{where}.by')
  its = tuple(inspect.signature(target).parameters)
  source = beside.get('name', (experiment.data or {}).get('name'))
  of_data = make.keys(source, where) if target.needs_data and source else ()
  for key in beside:
    if key in its and (of_data is None or key in of_data):
      raise ConfigError(
        f"{where}.{key}: may be the evaluator's or the data's; write by=dict(name={by!r}, {key}=...) for the former"
      )
    if key not in its and of_data is not None and key not in of_data:
      raise ConfigError(
        f'{where}.{key}: {target.__name__} takes no argument {key!r}, nor has the data one; '
        f'{nearest(key, [*its, *of_data])}'
      )
  arguments = {k: v for k, v in beside.items() if k in its}
  return {'name': by} | arguments, {k: v for k, v in beside.items() if k not in its}
