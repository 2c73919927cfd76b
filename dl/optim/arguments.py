"""What the arguments of stages and schedules can be. optax states no bounds, so there the names of arguments do."""

import re
import typing
from collections.abc import Callable, Sequence
from typing import Annotated, Any

from dl.config import build
from dl.config.bounds import BelowOne, NotNegative, Number, Positive, Seed, Share, Size, problem
from dl.config.hints import type_hints
from dl.errors import ConfigError

Argument = tuple[Callable, str]
"""A function and the name of one of its arguments."""

_BOUNDS = [
  (re.compile(names), typing.get_args(alias)[1])
  for names, alias in (
    (r'(\w+_)?learning_rate|\w*weight_decay|weight_decay_rate|(\w+_)?eps(_root|ilon)?', NotNegative),
    (r'(adam_)?b[123]|beta[123s]?|momentum|rho', BelowOne),
    (r'decay', Share),
    (r'max_norm|max_delta|clipping|clip_threshold|threshold_norm|max_squared_norm|l2_norm_clip', Positive),
    (r'(min|max|slow)_step_size', Positive),
    (r'step_size', Number),  # of `optax.scale`, which negates with it
    (r'alpha|gamma|decay_rate|transition_begin|(decay|transition|warmup|max_\w+)_steps', NotNegative),
    (r'(memory|accumulation)_size|num_\w+|ns_steps|sync_period|rank', Size),
    (r'seed', Seed),
  )
]


def hints(target: Callable) -> dict[str, Any]:
  """Type hints of the arguments of a function, with bounds by their names where it is of optax."""
  stated = type_hints(target)
  if (getattr(target, '__module__', None) or '').partition('.')[0] != 'optax':
    return stated
  return stated | {n: Annotated[h, r] for n, h in stated.items() for names, r in _BOUNDS if names.fullmatch(n)}


def check(target: Callable, arguments: dict[str, Any], where: str, given: Sequence[str] = ()) -> None:
  """Checks names, types and bounds of arguments; raises ConfigError."""
  build.check_arguments(target, arguments, where, given, hints(target))


def check_value(argument: Argument, value: Any, where: str) -> None:
  """Raises ConfigError for a number that an argument cannot be, nor a schedule which it follows."""
  target, name = argument
  if wrong := problem(value, hints(target).get(name)):
    raise ConfigError(f'{where}: {wrong}')
