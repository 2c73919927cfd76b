"""What numbers can be: an interval, written as an annotation on the argument that it is about.

    width: Size = 64               # in place of `int`; likewise `Size | None`, `tuple[Size, ...]`, `Size | str`
    rate: Annotated[float, Range(high=2, low_open=True)] = 0.5    # where no alias below says it

`dl.config.build.check_arguments` reads these out of the type hints of whatever a config names: the fields of modules
and tasks, and the arguments of functions and classes. A user's own are read just the same. optax's functions state no
bounds: `dl.config.optax_bounds` does it for them.
"""

import dataclasses
import math
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from dl.config.hints import matches


@dataclasses.dataclass(frozen=True)
class Range:
  """An interval of numbers.

  Attributes:
    low: the least.
    high: the most.
    low_open: whether `low` itself is outside.
    high_open: whether `high` itself is outside.
  """

  low: float = 0.0
  high: float = math.inf
  low_open: bool = False
  high_open: bool = False

  def __contains__(self, value: float) -> bool:
    above = value > self.low if self.low_open else value >= self.low
    below = value < self.high if self.high_open else value <= self.high
    return above and below

  def __str__(self) -> str:
    if not self.low_open and not self.high_open and self.high < 2**31 - 1:
      return f'from {self.low:,g} to {self.high:,g}'
    least = f'above {self.low:,g}' if self.low_open else f'at least {self.low:,g}'
    most = f'below {self.high:,g}' if self.high_open else f'at most {self.high:,g}'
    return least if self.high >= 2**31 - 1 else f'{least} and {most}'

  def problem(self, value: float) -> str | None:
    """What is wrong with a number; None if nothing is."""
    if isinstance(value, bool):
      return f'must be a number, got {value!r}'
    if not math.isfinite(value):
      return f'must be a finite number, got {value!r}'
    return None if value in self else f'must be {self}, got {value!r}'


# Whole numbers.
Size = Annotated[int, Range(low=1, high=2**31 - 1)]
"""How many there are of something, or how large it is: features, classes, pixels, heads, examples, steps."""
Depth = Annotated[int, Range(low=1, high=10_000)]
"""How often a part is repeated: layers are Python objects, each of which is traced."""
Count = Annotated[int, Range(high=2**31 - 1)]
"""As a size, but there may be none."""
Seed = Annotated[int, Range(high=2**32 - 1)]
"""Where random numbers start."""
Whole = Annotated[int, Range(low=-(2**31), high=2**31 - 1)]
"""Any whole number: an axis, an offset, a label that is not there."""

# Numbers.
Factor = Annotated[float, Range(high=10_000, low_open=True)]
"""A ratio of sizes: what a width is multiplied by."""
Positive = Annotated[float, Range(low_open=True)]
"""Above zero: a norm to clip at, a mass, a length."""
NotNegative = Annotated[float, Range()]
"""Zero or more: a learning rate, a weight in a sum, a temperature, a deviation."""
Share = Annotated[float, Range(high=1)]
"""From 0 to 1: a probability, a discount."""
PositiveShare = Annotated[float, Range(high=1, low_open=True)]
"""Above 0, up to 1: a part of the whole that is never empty."""
BelowOne = Annotated[float, Range(high=1, high_open=True)]
"""From 0 to below 1: dropout, a momentum, what smoothing takes away."""
Number = Annotated[float, Range(low=-math.inf)]
"""Any finite number: for what has no bounds, said aloud."""


def problem(value: Any, hint: Any) -> str | None:
  """What is wrong with a value, of the type that a hint says, by the bounds in it; None if nothing is.

  Of a union, one member that the value is of has to hold. Texts, None, functions and schedules have no bounds.
  """
  origin, inner = typing.get_origin(hint), typing.get_args(hint)
  if origin is Annotated:
    wrongs = (r.problem(number) for r in hint.__metadata__ if isinstance(r, Range) for number in _numbers(value))
    return next(filter(None, wrongs), None) or problem(value, inner[0])
  if origin in (typing.Union, types.UnionType):
    wrongs = [problem(value, member) for member in inner if matches(value, member)]
    return None if None in wrongs or not wrongs else wrongs[0]
  if isinstance(value, Mapping) and len(inner) == 2:
    return next(filter(None, (problem(v, inner[1]) for v in value.values())), None)
  if isinstance(value, list | tuple) and inner and origin is not typing.Literal:
    members = inner if origin is tuple and inner[-1] is not Ellipsis else inner[:1] * len(value)
    return next(filter(None, map(problem, value, members)), None)
  return None


def _numbers(value: Any) -> Iterator[float]:
  """The numbers in a value, be it one or nested lists of them."""
  if isinstance(value, list | tuple):
    for v in value:
      yield from _numbers(v)
  elif isinstance(value, int | float):
    yield value
