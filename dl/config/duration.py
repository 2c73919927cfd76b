"""Durations with a unit: '20 epochs', '500 steps', '1e6 examples', '5%'."""

import re

from dl.errors import ConfigError

_PATTERN = re.compile(r'^\s*([0-9]*\.?[0-9]+(?:e[+-]?[0-9]+)?)\s*(steps?|epochs?|examples?|%)\s*$', re.IGNORECASE)


def to_steps(
  duration: str | int,
  where: str,
  *,
  steps_per_epoch: float | None = None,
  examples_per_step: int | None = None,
  total_steps: int | None = None,
) -> int:
  """A duration as a whole number of steps, rounded to the nearest; a bare int is steps.

  Args:
    duration: a number with a unit: step(s), epoch(s), example(s), or % of the whole training.
    where: the config path, for error lines.
    steps_per_epoch: steps which one pass over the training set takes; None if there is no set.
    examples_per_step: batch size, or environment steps a training step.
    total_steps: length of the whole training, which % refers to.

  Raises:
    ConfigError: not a duration, or in a unit which has no meaning here.
  """
  if isinstance(duration, int) and not isinstance(duration, bool):
    if duration < 0:
      raise ConfigError(f'{where}: a duration cannot be negative, got {duration}')
    return _countable(duration, where, duration)
  match = _PATTERN.match(duration) if isinstance(duration, str) else None
  if not match:
    raise ConfigError(f"{where}: expected a duration such as '20 epochs', '500 steps' or '5%', got {duration!r}")
  number, unit = float(match[1]), match[2].lower().rstrip('s')
  scale = {
    'step': 1.0,
    'epoch': steps_per_epoch,
    'example': 1.0 / examples_per_step if examples_per_step else None,
    '%': total_steps / 100.0 if total_steps is not None else None,
  }[unit]
  if scale is None:
    raise ConfigError(f'{where}: {duration!r} has no meaning here, since there is no {_NEEDS[unit]}; use steps')
  if unit == '%' and number > 100:
    raise ConfigError(f'{where}: {duration!r} is more than the whole training')
  steps = _countable(number * scale, where, duration)
  return max(steps, 1) if number > 0 else 0


def _countable(steps: float, where: str, said: str | int) -> int:
  """A number of steps as such; raises ConfigError for more than a run can count, in 32 bits."""
  if not steps < 2**31 - 1:
    raise ConfigError(f'{where}: {said!r} is more than the {2**31 - 1:,} steps that a run can count')
  return round(steps)


_NEEDS = {'epoch': 'data set to pass over', 'example': 'batch', '%': 'total length yet'}
