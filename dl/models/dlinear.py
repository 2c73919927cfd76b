"""Forecasts by one or two linear maps of time (Are Transformers Effective for Time Series Forecasting?, 2205.13504)."""

import re
from typing import Any, ClassVar

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dl.config.bounds import Size
from dl.contract.weights import Layouts, Rules, Tensors, outputs
from dl.nn import time
from dl.nn.time import AlongTime

_RULES: Rules = outputs('Linear(_Seasonal|_Trend)?')


def _from_ltsf(tensors: Tensors, model: nn.Module) -> Tensors:
  """Those of the authors' code; channels with maps of their own have them one by one ('Linear_Trend.0.weight')."""
  own: dict[str, dict[int, np.ndarray]] = {}
  result: Tensors = {}
  for name, value in tensors.items():
    match = re.fullmatch(r'(Linear\w*)\.(\d+)\.(weight|bias)', name)
    if match is None:
      result[name] = value
    else:
      own.setdefault(f'{match[1]}.{match[3]}', {})[int(match[2])] = value
  return result | {name: np.stack([parts[i] for i in sorted(parts)]) for name, parts in own.items()}


class DLinear(nn.Module):
  """The trend, a moving average, and what is left of it, each by a linear map; 64,704 parameters from 336 to 96 steps.

  Cite: zeng2023are

  Attributes:
    horizon: steps that are forecast.
    window: steps of the average.
    individual: whether each channel has maps of its own.
    dtype: compute type.
  """

  horizon: Size
  window: Size = 25
  individual: bool = False
  dtype: Any = jnp.float32

  sharding_rules: ClassVar[Rules] = _RULES
  layouts: ClassVar[Layouts] = {'ltsf': _from_ltsf}

  @nn.compact
  def __call__(self, x: Float[Array, 'b n c'], train: bool = False) -> Float[Array, 'b horizon c']:
    time.check(x, 'DLinear')
    trend = time.moving_average(x, self.window)
    along = lambda name: AlongTime(self.horizon, self.individual, self.dtype, name=name)
    return (along('Linear_Seasonal')(x - trend) + along('Linear_Trend')(trend)).astype(jnp.float32)


class NLinear(nn.Module):
  """A linear map of the differences from the last value, which is added again; 32,352 parameters from 336 to 96 steps.

  Cite: zeng2023are

  Attributes:
    horizon: steps that are forecast.
    individual: whether each channel has a map of its own.
    dtype: compute type.
  """

  horizon: Size
  individual: bool = False
  dtype: Any = jnp.float32

  sharding_rules: ClassVar[Rules] = _RULES
  layouts: ClassVar[Layouts] = {'ltsf': _from_ltsf}

  @nn.compact
  def __call__(self, x: Float[Array, 'b n c'], train: bool = False) -> Float[Array, 'b horizon c']:
    time.check(x, 'NLinear')
    last = x[:, -1:]
    y = AlongTime(self.horizon, self.individual, self.dtype, name='Linear')(x - last)
    return (y + last).astype(jnp.float32)
