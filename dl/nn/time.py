"""Time series [b, steps, channels]: averages along time, linear maps of it, and norms that are undone at the end."""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from dl.config.bounds import Positive, Size


def check(x: Float[Array, '...'], name: str) -> None:
  """Raises ValueError unless the inputs of a model are series [b, steps, channels]."""
  if x.ndim != 3:
    raise ValueError(f'{name} takes series [steps, channels], the data has shape {x.shape[1:]}')


def real(x: Float[Array, 'b n c']) -> Bool[Array, 'b n 1']:
  """Which steps belong to a series: those that pad a shorter one are NaN in all channels."""
  return ~jnp.isnan(x).all(-1, keepdims=True)


def mean(x: Float[Array, 'b n c'], mask: Bool[Array, 'b n 1'] | None = None) -> Float[Array, 'b c']:
  """The mean over time; of the steps in a mask alone, where one is given."""
  if mask is None:
    return x.mean(1)
  return jnp.where(mask, x, 0).sum(1) / jnp.maximum(mask.sum(1), 1).astype(x.dtype)


def moving_average(x: Float[Array, 'b n c'], window: int) -> Float[Array, 'b n c']:
  """The mean of `window` steps about each one, the ends being repeated beyond them; an even window looks ahead."""
  n, before = x.shape[1], (window - 1) // 2
  padded = jnp.pad(x, ((0, 0), (before, window - 1 - before), (0, 0)), mode='edge')
  return functools.reduce(jnp.add, [padded[:, i : i + n] for i in range(window)]) / window


class AlongTime(nn.Module):
  """A linear map of the steps to others, the same for all channels, or one for each.

  Attributes:
    steps: how many it gives.
    individual: whether each channel has its own.
    dtype: compute type.
  """

  steps: Size
  individual: bool = False
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: Float[Array, 'b n c']) -> Float[Array, 'b steps c']:
    n, c = x.shape[1:]
    bound = n**-0.5  # as PyTorch draws both
    init = lambda key, shape: jax.random.uniform(key, shape, jnp.float32, -bound, bound)
    own = (c,) if self.individual else ()
    kernel = self.param('kernel', init, (n, self.steps, *own)).astype(self.dtype)
    bias = self.param('bias', init, (*own, self.steps)).astype(self.dtype)
    y = jnp.einsum('bnc,nsc->bsc' if self.individual else 'bnc,ns->bsc', x.astype(self.dtype), kernel)
    return y + (bias.T if self.individual else bias[:, None])


class RevIN(nn.Module):
  """Reversible instance normalization: each series by its own mean and deviation (Kim and others, ICLR 2022).

  Attributes:
    affine: whether channels are then scaled and shifted, by parameters.
    epsilon: what is added to variances.
  """

  affine: bool = False
  epsilon: Positive = 1e-5

  @nn.compact
  def __call__(
    self, x: Float[Array, 'b n c']
  ) -> tuple[Float[Array, 'b n c'], Callable[[Float[Array, 'b m c']], Float[Array, 'b m c']]]:
    """(the normalized series, what undoes it)."""
    mean = x.mean(1, keepdims=True)
    std = jnp.sqrt(jnp.square(x - mean).mean(1, keepdims=True) + self.epsilon)
    if not self.affine:
      return (x - mean) / std, lambda y: y * std + mean
    scale = self.param('scale', nn.initializers.ones, (x.shape[-1],))
    bias = self.param('bias', nn.initializers.zeros, (x.shape[-1],))
    undo = lambda y: (y - bias) / (scale + self.epsilon**2) * std + mean
    return (x - mean) / std * scale + bias, undo
