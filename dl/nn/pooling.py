"""Pooling of maps of any size [b, h, w, c], as PyTorch does it."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float


def max_pool(x: Float[Array, 'b h w c'], window: int, stride: int, ceil: bool = False) -> Float[Array, 'b H W c']:
  """The largest value of each square window, without padding: PyTorch's `MaxPool2d(window, stride, ceil_mode=ceil)`.

  A side smaller than the window is one window (PyTorch refuses it), so that small images do not vanish.

  Args:
    x: maps.
    window: side of a window.
    stride: step.
    ceil: whether a last window may reach beyond the end.
  """
  pads = []
  for n in x.shape[1:3]:
    steps = (n - window) / stride
    last = max(0, math.ceil(steps) if ceil else math.floor(steps))
    pads.append((0, max(0, last * stride + window - n)))
  return nn.max_pool(x, (window, window), (stride, stride), pads)


def adaptive_avg_pool(x: Float[Array, 'b h w c'], size: tuple[int, int]) -> Float[Array, 'b H W c']:
  """Means of windows which cover the maps evenly, `size` of them: PyTorch's `AdaptiveAvgPool2d(size)`.

  Window i of n on a side of length s reaches from floor(i s / n) to ceil((i + 1) s / n); where s < n, values repeat.
  """
  b, h, w, c = x.shape
  if (h, w) == size:
    return x
  if h % size[0] == 0 and w % size[1] == 0:
    return x.reshape(b, size[0], h // size[0], size[1], w // size[1], c).mean(axis=(2, 4))
  rows, columns = _windows(h, size[0]), _windows(w, size[1])
  y = jnp.einsum('yh,xw,bhwc->byxc', rows, columns, x.astype(jnp.float32), precision=jax.lax.Precision.HIGHEST)
  return y.astype(x.dtype)


def flatten(x: Float[Array, 'b h w c']) -> Float[Array, 'b c*h*w']:
  """Vectors of maps in PyTorch's order, channels first."""
  return x.transpose(0, 3, 1, 2).reshape(len(x), -1)


def _windows(length: int, count: int) -> np.ndarray:
  """[count, length]: the weight of each place in each mean."""
  weights = np.zeros((count, length), np.float32)
  for i in range(count):
    start, stop = i * length // count, -(-(i + 1) * length // count)
    weights[i, start:stop] = 1 / (stop - start)
  return weights
