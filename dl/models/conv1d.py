"""Convolutional networks of time series (Time Series Classification from Scratch, arXiv 1611.06455).

Convolutions keep the length. With `padded`, the steps which are NaN in all channels are no part of a series: no
convolution reads them, and neither norms nor the average over time count them.
"""

from typing import Any, ClassVar

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from dl.config.bounds import Size
from dl.contract.weights import Rules, outputs
from dl.nn import time
from dl.nn.norm import batch_norm

Mask = Bool[Array, 'b n 1'] | None


class ConvNorm(nn.Module):
  """norm(convolution) along time.

  Attributes:
    features: channels out.
    size: steps of the kernel.
    dtype: compute type; statistics are float32.
  """

  features: Size
  size: Size
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: Float[Array, 'b n c'], mask: Mask, train: bool) -> Float[Array, 'b n features']:
    x = x if mask is None else jnp.where(mask, x, 0)
    x = nn.Conv(
      self.features, (self.size,), dtype=self.dtype, kernel_init=nn.initializers.xavier_uniform(), name='conv'
    )(x)
    return batch_norm(train, self.dtype, name='norm')(x, mask=mask)


class FCN(nn.Module):
  """Three convolutions, each with batch norm and a rectifier, and the mean over time.

  With one channel and two classes it has 264,962 parameters.

  Cite: wang2017time

  Attributes:
    num_classes: number of logits.
    features: channels of the convolutions.
    sizes: steps of their kernels.
    padded: whether series end in NaN where they are shorter than others.
    dtype: compute type; statistics are float32.
  """

  num_classes: Size
  features: tuple[Size, ...] = (128, 256, 128)
  sizes: tuple[Size, ...] = (8, 5, 3)
  padded: bool = False
  dtype: Any = jnp.float32

  sharding_rules: ClassVar[Rules] = (*outputs('conv'), *outputs('norm'))

  @nn.compact
  def __call__(self, x: Float[Array, 'b n c'], train: bool = False) -> Float[Array, 'b classes']:
    time.check(x, 'FCN')
    if len(self.features) != len(self.sizes):
      raise ValueError(f'sizes: {len(self.sizes)} of kernels, but there are {len(self.features)} convolutions')
    mask = time.real(x) if self.padded else None
    for i, (features, size) in enumerate(zip(self.features, self.sizes, strict=True)):
      x = nn.relu(ConvNorm(features, size, self.dtype, name=f'block_{i}')(x, mask, train))
    x = time.mean(x, mask)
    return nn.Dense(self.num_classes, dtype=self.dtype, name='out')(x).astype(jnp.float32)


class ResNet(nn.Module):
  """Residual blocks of three convolutions, each with batch norm, and the mean over time.

  With one channel and two classes it has 504,258 parameters.

  Cite: wang2017time, he2016deep

  Attributes:
    num_classes: number of logits.
    features: channels of each block.
    sizes: steps of the kernels of a block.
    padded: whether series end in NaN where they are shorter than others.
    dtype: compute type; statistics are float32.
  """

  num_classes: Size
  features: tuple[Size, ...] = (64, 128, 128)
  sizes: tuple[Size, ...] = (8, 5, 3)
  padded: bool = False
  dtype: Any = jnp.float32

  sharding_rules: ClassVar[Rules] = (*outputs('conv'), *outputs('norm'))

  @nn.compact
  def __call__(self, x: Float[Array, 'b n c'], train: bool = False) -> Float[Array, 'b classes']:
    time.check(x, 'ResNet')
    mask = time.real(x) if self.padded else None
    x = x if mask is None else jnp.where(mask, x, 0)
    for i, features in enumerate(self.features):
      y = x
      for j, size in enumerate(self.sizes):
        y = nn.relu(y) if j else y
        y = ConvNorm(features, size, self.dtype, name=f'block_{i}_{j}')(y, mask, train)
      if x.shape[-1] != features:
        x = ConvNorm(features, 1, self.dtype, name=f'shortcut_{i}')(x, mask, train)
      else:
        x = batch_norm(train, self.dtype, name=f'shortcut_norm_{i}')(x, mask=mask)
      x = nn.relu(x + y)
    x = time.mean(x, mask)
    return nn.Dense(self.num_classes, dtype=self.dtype, name='out')(x).astype(jnp.float32)
