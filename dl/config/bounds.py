"""What numbers can be, by the names that arguments have throughout this code and optax: one table for all of them."""

import dataclasses
import math
import re
from typing import Any


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


_SIZE = Range(low=1, high=2**31 - 1)
_DEPTH = Range(low=1, high=10_000)
_FACTOR = Range(high=10_000, low_open=True)
_POSITIVE = Range(low_open=True)
_NOT_NEGATIVE = Range()
_SHARE = Range(high=1)
_BELOW_ONE = Range(high=1, high_open=True)

_RANGES = [
  (re.compile(names), found)
  for names, found in (
    (r'step_size', Range(low=-math.inf)),  # of `optax.scale`, which negates with it
    (r'\w+_step_size', _POSITIVE),
    # Layers are Python objects, each of which is traced.
    (r'layers|depths?|blocks|convolutions|stages|num_ops|discriminator_steps|epochs|ngrams|orders', _DEPTH),
    (r'(channel|token|mlp)_ratio|ratio', _FACTOR),
    (
      r'num_\w+|\w+_size|hidden|features|widths?|heads|length|channels|base|patch|kernel|strides?|dilation|tile|size',
      _SIZE,
    ),
    (
      r'rollout_length|sample_length|minibatches|eval_episodes|max_steps|folds|count|(ngram_)?buckets|grid|groups',
      _SIZE,
    ),
    (r'rates|stem|head|top_k|expansion|bins|steps_per_call|ns_steps|sync_period|last', _SIZE),
    (r'(\w+_)?dropout|stochastic_depth|label_smoothing|(adam_)?b[123]|beta[123s]?|momentum|rho', _BELOW_ONE),
    (r'(\w+_)?probability|discount|gae_lambda|decay|central', _SHARE),
    (r'max_norm|max_delta|clip|value_clip|clipping|clip_threshold|delta|threshold_norm|max_squared_norm', _POSITIVE),
    (r'\w+_mass|half_length|force|interval|max_angle|max_position|slow_step_size', _POSITIVE),
    (r'(\w+_)?learning_rate|\w*weight_decay|weight_decay_rate|(\w+_)?eps(_root|ilon)?|(init_)?std', _NOT_NEGATIVE),
    (r'\w+_weight|class_weights|temperature|r1|gradient_penalty|(\w+_)?alpha|degrees|pixels|pad|shear', _NOT_NEGATIVE),
    (r'best|min_delta|fold|gamma|prefetch|transition_begin|\w+_steps|decay_rate', _NOT_NEGATIVE),
    (r'(\w+_)?seed', Range(high=2**32 - 1)),
  )
]


def problem(name: str, value: Any) -> str | None:
  """What is wrong with an argument's value, be it a number or a list of them; None if nothing is.

  Texts, None, functions and what stands for a schedule have no range; nor have numbers under a name of no range.
  """
  if isinstance(value, list | tuple):
    return next((found for v in value if (found := problem(name, v))), None)
  if not isinstance(value, int | float):
    return None
  if isinstance(value, bool):
    return f'must be a number, got {value!r}' if any(names.fullmatch(name) for names, _ in _RANGES) else None
  if not math.isfinite(value):
    return f'must be a finite number, got {value!r}'
  for names, allowed in _RANGES:
    if names.fullmatch(name):
      return None if value in allowed else f'must be {allowed}, got {value!r}'
  return None
