"""When a run logs, evaluates, saves and stops: all of it a pure function of the step and the numbers so far."""

import dataclasses
from collections.abc import Iterator, Mapping

from dl.contract.metrics import Better
from dl.training import policy
from dl.training.assemble import Parts

KINDS = ('log', 'eval', 'checkpoint', 'artifacts')


@dataclasses.dataclass(frozen=True)
class Schedule:
  """When a run does what.

  Attributes:
    total: steps of the whole run.
    fused: steps which one compiled call may hold.
    every: 'log', 'eval', 'checkpoint', 'artifacts' -> steps between two; one that is absent happens at the end alone.
    keep: which checkpoints stay.
    stop: when to stop early, and its patience in steps.
    metrics: evaluation name -> metric which is a number -> whether less or more of it is better.
  """

  total: int
  fused: int
  every: Mapping[str, int]
  keep: policy.Keep
  stop: tuple[policy.EarlyStop, int] | None
  metrics: Mapping[str, Mapping[str, Better]]

  def due(self, step: int) -> set[str]:
    """What is done after a step."""
    if step == self.total:
      return {*KINDS}
    return {kind for kind, n in self.every.items() if step % n == 0}

  def stop_reason(self, history: policy.History, step: int) -> str | None:
    """Why to stop early after the evaluation at `step`; None to go on, or at the end anyway."""
    return self.stop[0].reason(history, step, self.stop[1]) if self.stop and step < self.total else None

  def calls(self, start: int) -> Iterator[int]:
    """Lengths of the compiled calls from `start` on: `fused` steps where nothing is due between them, else one.

    A pure function of the step, so that a resumed run makes the same calls.
    """
    step = start
    while step < self.total:
      end = min([self.total, *(step - step % n + n for n in self.every.values())])
      length = self.fused if step % self.fused == 0 and step + self.fused <= end else 1
      yield length
      step += length


def make(parts: Parts, metrics: Mapping[str, Mapping[str, Better]]) -> Schedule:
  """The schedule of a run, checked against the metrics which its evaluations have.

  Args:
    parts: the parts of the run.
    metrics: of each evaluation (`dl.training.evaluation.numbers`).

  Raises:
    ConfigError: a duration which cannot be, or a metric that no evaluation has.
  """
  experiment = parts.experiment
  every = {kind: parts.steps(f'{kind}_every') for kind in KINDS}
  policy.check_claims(experiment, metrics)
  keep, stop = policy.make(policy.Keep, experiment.keep, 'config.keep', metrics), None
  if experiment.early_stop is not None:
    rule = policy.make(policy.EarlyStop, experiment.early_stop, 'config.early_stop', metrics)
    stop = (rule, parts.duration(rule.patience, 'config.early_stop.patience'))
  every = {kind: n for kind, n in every.items() if n is not None}
  return Schedule(parts.total_steps, experiment.steps_per_call, every, keep, stop, metrics)
