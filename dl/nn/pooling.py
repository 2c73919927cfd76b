"""Pooling of maps of any size [b, h, w, c], as PyTorch does it."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


def max_pool(
  x: Float[Array, 'b h w c'], window: int, stride: int, padding: int = 0, ceil: bool = False
) -> Float[Array, 'b H W c']:
  """The largest value of each square window: PyTorch's `MaxPool2d(window, stride, padding, ceil_mode=ceil)`.

  Of equal values the first one, row by row, gets the gradient. A side smaller than the window is one window (PyTorch
  refuses it), so that small images do not vanish. Made of slices, since the gradient of a windowed reduction takes XLA
  ten times as long on a CPU.

  Args:
    x: maps.
    window: side of a window.
    stride: step.
    padding: places on every side which never are the largest.
    ceil: whether a last window may reach beyond the end; like the others it starts before that.
  """
  for axis in (2, 1):  # columns first, so that ties go by rows
    length = x.shape[axis] + padding
    steps = (length + padding - window) / stride
    last = stride * max(0, math.ceil(steps) if ceil else math.floor(steps))
    if ceil and last >= length:  # a window has to start before the padding behind
      last -= stride
    missing = max(0, last + window - x.shape[axis] - padding)
    if padding or missing:
      pads = [(padding, missing) if i == axis else (0, 0) for i in range(4)]
      x = jnp.pad(x, pads, constant_values=-jnp.inf)
    places = [jax.lax.slice_in_dim(x, i, i + last + 1, stride, axis) for i in range(window)]
    x = functools.reduce(_larger, places)
  return x


def _larger(a: Array, b: Array) -> Array:
  """The larger one, or NaN; equal values are the first one's."""
  return jnp.where((b > a) | jnp.isnan(b), b, a)


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
