"""What numbers can be: an interval, written as an annotation on the argument that it is about.

    width: Size = 64               # in place of `int`; likewise `Size | None`, `tuple[Size, ...]`, `Size | str`
    rate: Annotated[float, Range(high=2, low_open=True)] = 0.5    # where no name below says it

`dl.config.build.check_arguments` reads these out of the type hints of whatever a config names: the fields of modules
and tasks, and the arguments of functions and classes. A user's own are read just the same.
"""

import dataclasses
import math
import re
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


def bounded(hint: Any) -> bool:
  """Whether a type hint states bounds, wherever in it."""
  if typing.get_origin(hint) is typing.Literal:
    return False
  return any(isinstance(m, Range) for m in getattr(hint, '__metadata__', ())) or any(
    bounded(inner) for inner in typing.get_args(hint)
  )


def _numbers(value: Any) -> Iterator[float]:
  """The numbers in a value, be it one or nested lists of them."""
  if isinstance(value, list | tuple):
    for v in value:
      yield from _numbers(v)
  elif isinstance(value, int | float):
    yield value


# By the names which arguments have throughout this code and optax: for what states no bounds.
_BY_NAME = [
  (re.compile(names), typing.get_args(alias)[1])
  for names, alias in (
    (r'step_size', Number),  # of `optax.scale`, which negates with it
    (r'\w+_step_size', Positive),
    (r'layers|depths?|blocks|convolutions|stages|num_ops|discriminator_steps|epochs|ngrams|orders', Depth),
    (r'(channel|token|mlp)_ratio|ratio', Factor),
    (
      r'num_\w+|\w+_size|hidden|features|widths?|heads|length|channels|base|patch|kernel|strides?|dilation|tile|size',
      Size,
    ),
    (
      r'rollout_length|sample_length|minibatches|eval_episodes|max_steps|folds|count|(ngram_)?buckets|grid|groups',
      Size,
    ),
    (r'rates|stem|head|top_k|expansion|bins|steps_per_call|ns_steps|sync_period|last', Size),
    (r'(\w+_)?dropout|stochastic_depth|label_smoothing|(adam_)?b[123]|beta[123s]?|momentum|rho', BelowOne),
    (r'(\w+_)?probability|discount|gae_lambda|decay|central', Share),
    (r'max_norm|max_delta|clip|value_clip|clipping|clip_threshold|delta|threshold_norm|max_squared_norm', Positive),
    (r'\w+_mass|half_length|force|interval|max_angle|max_position|slow_step_size', Positive),
    (r'(\w+_)?learning_rate|\w*weight_decay|weight_decay_rate|(\w+_)?eps(_root|ilon)?|(init_)?std', NotNegative),
    (r'\w+_weight|class_weights|temperature|r1|gradient_penalty|(\w+_)?alpha|degrees|pixels|pad|shear', NotNegative),
    (r'best|min_delta|fold|gamma|prefetch|transition_begin|\w+_steps|decay_rate', NotNegative),
    (r'(\w+_)?seed', Seed),
  )
]


def problem_by_name(name: str, value: Any) -> str | None:
  """What is wrong with an argument's value by its name alone; numbers under a name of no range are finite at least."""
  if isinstance(value, list | tuple):
    return next(filter(None, (problem_by_name(name, v) for v in value)), None)
  if not isinstance(value, int | float):
    return None
  known = next((r for names, r in _BY_NAME if names.fullmatch(name)), None)
  if isinstance(value, bool):
    return f'must be a number, got {value!r}' if known else None
  return (known or Range(low=-math.inf)).problem(value)
