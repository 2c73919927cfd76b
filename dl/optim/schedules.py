"""Schedules as data: optax's by their names, with lengths as durations."""

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
import optax

from dl.config.build import check_arguments
from dl.config.duration import to_steps
from dl.errors import ConfigError
from dl.optim import names
from dl.optim.arguments import Argument, check_value

Schedule = Callable[[Any], Any]

_VALUES = ('init_value', 'peak_value', 'end_value', 'value')
_STEP_ARGUMENTS = ('warmup_steps', 'decay_steps', 'transition_steps', 'transition_begin')


@dataclasses.dataclass(frozen=True)
class Length:
  """What durations inside an optimizer refer to.

  Attributes:
    total: optimizer updates in the whole training.
    per_epoch: updates in one epoch, if there is a data set.
    examples: examples an update uses, if known.
  """

  total: int
  per_epoch: float | None = None
  examples: int | None = None

  def scaled(self, factor: float) -> 'Length':
    """Lengths when `factor` updates happen where one did."""
    return Length(
      max(round(self.total * factor), 1),
      self.per_epoch and self.per_epoch * factor,
      self.examples and max(round(self.examples / factor), 1),
    )

  def steps(self, duration: str | int, where: str) -> int:
    """A duration as a number of updates."""
    return to_steps(
      duration, where, steps_per_epoch=self.per_epoch, examples_per_step=self.examples, total_steps=self.total
    )


def make_schedule(spec: Mapping[str, Any], length: Length, where: str, of: Argument | None = None) -> Schedule:
  """Builds an optax schedule; lengths are durations and default to the whole training, `warmup` is `warmup_steps`.

  Args:
    spec: `name` and arguments.
    length: of the training.
    where: the config path, for error lines.
    of: the argument which follows the schedule; its values have the bounds of that.
  """
  target = names.schedule(spec.get('name'), where)
  arguments = {k: v for k, v in spec.items() if k != 'name'}
  for name in _VALUES:
    if of and name in arguments:
      check_value(of, arguments[name], f'{where}.{name}')
  parameters = inspect.signature(target).parameters
  if 'warmup' in arguments and 'warmup_steps' in parameters:
    arguments['warmup_steps'] = arguments.pop('warmup')
  elif 'warmup' in arguments:
    return _warmed_up(arguments.pop('warmup'), {'name': spec['name'], **arguments}, length, where, of)
  for name in _STEP_ARGUMENTS:
    if name in arguments:
      arguments[name] = length.steps(arguments[name], f'{where}.{name}')
  for name in ('decay_steps', 'transition_steps'):
    if name in parameters and name not in arguments:
      arguments[name] = max(length.total - arguments.get('transition_begin', 0), 1)
  if 'warmup_steps' in parameters and 'init_value' in parameters:
    arguments.setdefault('init_value', 0.0)
  if 'warmup_steps' in arguments and 'decay_steps' in arguments:  # the warm-up of a very short run
    arguments['warmup_steps'] = min(arguments['warmup_steps'], arguments['decay_steps'] - 1)
  if 'boundaries_and_scales' in arguments:
    if not isinstance(arguments['boundaries_and_scales'], Mapping):
      raise ConfigError(f"{where}.boundaries_and_scales: expected a dict such as {{'50%': 0.1}}")
    arguments['boundaries_and_scales'] = {
      length.steps(k if not k.isdecimal() else int(k), f'{where}.boundaries_and_scales'): v
      for k, v in arguments['boundaries_and_scales'].items()
    }
  if 'schedules' in arguments:
    for name, kind in (('schedules', Mapping), ('boundaries', str | int)):
      if not isinstance(arguments.get(name, []), list | tuple) or not all(isinstance(v, kind) for v in arguments[name]):
        raise ConfigError(f'{where}.{name}: expected a list, of schedules and of the durations between them')
    arguments['schedules'] = [
      make_schedule(s, length, f'{where}.schedules.{i}', of) for i, s in enumerate(arguments['schedules'])
    ]
    arguments['boundaries'] = [length.steps(b, f'{where}.boundaries') for b in arguments.get('boundaries', [])]
  check_arguments(target, arguments, where)
  schedule = names.call(target, arguments, where)
  if not callable(schedule) or isinstance(schedule, optax.GradientTransformation):
    raise ConfigError(f'{where}: {spec["name"]!r} is not a schedule')
  return schedule


def _warmed_up(warmup: str | int, spec: Mapping[str, Any], length: Length, where: str, of: Argument | None) -> Schedule:
  """A linear rise from 0, and then a schedule over what is left; one with places of its own keeps them."""
  steps = min(length.steps(warmup, f'{where}.warmup'), max(length.total - 1, 0))
  if {'boundaries_and_scales', 'boundaries'} & spec.keys():
    whole = make_schedule(spec, length, where, of)
    return lambda step: jnp.where(step < steps, whole(0) * step / max(steps, 1), whole(step))
  rest = make_schedule(spec, dataclasses.replace(length, total=length.total - steps), where, of)
  if not steps:
    return rest
  return optax.schedules.join_schedules([optax.schedules.linear_schedule(0.0, float(rest(0)), steps), rest], [steps])
