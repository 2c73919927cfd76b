"""Decisions from the evaluations so far: which is the best, whether to stop. Pure, so a resumed run agrees."""

import dataclasses
import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal

from dl.config import Experiment
from dl.config.bounds import Count, NotNegative, Size, Whole
from dl.config.build import check_arguments, matches
from dl.contract.metrics import Better
from dl.errors import ConfigError, nearest

History = Sequence[Mapping[str, Any]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Keep:
  """Which checkpoints to keep.

  Attributes:
    last: how many of the newest; two, so that one which is damaged has one before it.
    best: how many of the best by `metric`.
    metric: 'evaluation/name', such as 'validation/accuracy'.
    mode: whether less or more is better; to be given where the metric does not say itself.
  """

  last: Size = 2
  best: Count = 0
  metric: str | None = None
  mode: Literal['min', 'max'] = 'min'

  def value(self, history: History, step: int) -> float | None:
    """The metric at a step, if it was evaluated then."""
    return None if self.metric is None else dict(values(history, self.metric)).get(step)

  def is_best(self, history: History, step: int) -> bool:
    """Whether the evaluation at `step` is among the `best` best so far; earlier ones win ties."""
    if not self.best or self.value(history, step) is None:
      return False
    sign = 1 if self.mode == 'min' else -1
    ranked = sorted(values(history, self.metric), key=lambda point: (sign * point[1], point[0]))
    return step in [s for s, _ in ranked[: self.best]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class EarlyStop:
  """When to stop early.

  Attributes:
    metric: 'evaluation/name'.
    patience: how long the metric may go without an improvement, a duration.
    mode: whether less or more is better; to be given where the metric does not say itself.
    min_delta: how much better counts as an improvement.
  """

  metric: str
  patience: str | Whole
  mode: Literal['min', 'max'] = 'min'
  min_delta: NotNegative = 0.0

  def reason(self, history: History, step: int, patience: int) -> str | None:
    """Why to stop, if `patience` steps have passed since the last improvement; else None."""
    best = best_step(values(history, self.metric), self.mode, self.min_delta)
    if best is None or step - best < patience:
      return None
    return f'{self.metric} last improved at step {best:,}, {step - best:,} steps before; the patience is {patience:,}'


def make(cls: type, spec: Mapping[str, Any], where: str, metrics: Mapping[str, Mapping[str, Better]]) -> Any:
  """A `Keep` or an `EarlyStop` from data; raises ConfigError for a metric that no evaluation has, or a missing mode.

  Args:
    cls: either.
    spec: its arguments.
    where: the config path, for error lines.
    metrics: evaluation name -> metric -> whether less or more of it is better.
  """
  check_arguments(cls, spec, where)
  policy = cls(**spec)
  if policy.metric is None:
    if policy.best:
      raise ConfigError(f"{where}.best: needs a metric, such as metric='validation/loss'")
    return policy
  check_metric(policy.metric, metrics, f'{where}.metric')
  if 'mode' in spec:
    return policy
  split, _, name = policy.metric.partition('/')
  if metrics[split][name] is None:
    raise ConfigError(
      f"{where}.mode: {policy.metric!r} does not say whether less or more of it is better; give mode='min' or 'max'"
    )
  return dataclasses.replace(policy, mode=metrics[split][name])


def check_of_best(names: Collection[str], experiment: Experiment) -> None:
  """Raises ConfigError where evaluations of the best checkpoint are to choose it, or nothing says which is the best."""
  for name in names:
    if not experiment.keep.get('best') or not experiment.keep.get('metric'):
      raise ConfigError(
        f'config.eval.{name}.of: nothing says which checkpoint is the best; set keep=dict(best=1, '
        "metric='validation/loss'), say"
      )
    for part in ('keep', 'early_stop'):
      metric = (getattr(experiment, part) or {}).get('metric') or ''
      if metric.partition('/')[0] == name:
        raise ConfigError(
          f'config.{part}.metric: {name!r} is measured once, of the best checkpoint, so it chooses nothing; choose by '
          'a validation part'
        )


def mode_of_run(experiment: Experiment, facts: Mapping[str, Any]) -> Literal['min', 'max']:
  """How the checkpoints of a run are ranked: as its config or its `run.json` says; 'min' where neither does.

  Earlier code kept the least of a metric unless the config said otherwise, and wrote nothing of it into `run.json`.
  """
  keep = experiment.keep
  split, _, name = (keep.get('metric') or '').partition('/')
  return keep.get('mode') or facts.get('better', {}).get(split, {}).get(name) or 'min'


def check_metric(metric: str, metrics: Mapping[str, Collection[str]], where: str) -> None:
  """Raises ConfigError unless an evaluation has this metric, 'evaluation/name'."""
  valid = [f'{split}/{name}' for split, names in metrics.items() for name in names]
  if metric not in valid:
    raise ConfigError(f'{where}: no evaluation has {metric!r}; {nearest(metric, valid)}')


def check_claims(experiment: Experiment, metrics: Mapping[str, Collection[str]]) -> None:
  """Raises ConfigError unless `expect` and `baselines` fit the metrics that the evaluations have."""
  for part in ('expect', 'baselines'):
    for name in getattr(experiment, part) if metrics else ():
      check_metric(name, metrics, f'config.{part}')
  for name, claim in experiment.expect.items():
    if not matches(claim, tuple[float, float]) or claim[1] < 0:
      raise ConfigError(f'config.expect: {name!r} needs (value, tolerance), got {claim!r}')
  for name, methods in experiment.baselines.items():
    if not isinstance(methods, Mapping) or not all(matches(value, float) for value in methods.values()):
      raise ConfigError(f'config.baselines: {name!r} needs a dict method -> value, got {methods!r}')


def values(history: History, metric: str) -> list[tuple[int, float]]:
  """(step, value) of a metric 'evaluation/name', where it is a finite number."""
  split, _, name = metric.partition('/')
  return [
    (r['step'], r[name])
    for r in history
    if r['split'] == split and isinstance(r.get(name), int | float) and math.isfinite(r[name])
  ]


def best_step(points: Sequence[tuple[int, float]], mode: str, min_delta: float = 0.0) -> int | None:
  """The step of the last improvement by more than `min_delta`; the first of equals."""
  best = None
  for step, value in points:
    if best is None or (value < best[1] - min_delta if mode == 'min' else value > best[1] + min_delta):
      best = (step, value)
  return best and best[0]
