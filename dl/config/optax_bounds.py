"""Bounds of the arguments of optax's functions, by the names that they have there.

optax is not ours to annotate, and its arguments have one meaning each: what is called `b1` is a share which stays. This
is about functions of optax alone; every other argument states its own bounds (`dl.config.bounds`).
"""

import inspect
import re
import typing
from collections.abc import Callable
from typing import Annotated, Any

from dl.config.bounds import BelowOne, NotNegative, Number, Positive, Range, Seed, Share, Size
from dl.config.hints import type_hints

_BOUNDS = [
  (re.compile(names), typing.get_args(alias)[1])
  for names, alias in (
    (r'(\w+_)?learning_rate|\w*weight_decay|weight_decay_rate|(\w+_)?eps(_root|ilon)?', NotNegative),
    (r'(adam_)?b[123]|beta[123s]?|momentum|rho', BelowOne),
    (r'decay', Share),
    (r'max_norm|max_delta|clipping|clip_threshold|max_squared_norm|l2_norm_clip|delta', Positive),
    (r'(min|max|slow)_step_size', Positive),
    (r'step_size', Number),  # of `optax.scale`, which negates with it
    (r'alpha|gamma|decay_rate|transition_begin|temperature|class_weights', NotNegative),
    (r'ns_steps', Size),
    (r'\w+_steps', NotNegative),
    (r'(memory|accumulation|microbatch)_size|num_\w+|sync_period|rank', Size),
    (r'seed', Seed),
  )
]


def annotated(target: Callable) -> dict[str, Any]:
  """Type hints of the arguments of a function, with bounds by their names where it is of optax."""
  stated = type_hints(target)
  if (getattr(target, '__module__', None) or '').partition('.')[0] != 'optax':
    return stated
  ranges = {n: _range(n) for n in inspect.signature(target).parameters}
  return stated | {n: Annotated[stated.get(n, Any), r] for n, r in ranges.items() if r}


def _range(name: str) -> Range | None:
  return next((r for names, r in _BOUNDS if names.fullmatch(name)), None)
