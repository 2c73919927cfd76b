"""From the maps of a network without its classifier to logits of pixels; names and sizes are torchvision's."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from dl.config.bounds import BelowOne, Size
from dl.nn.convolution import convolution
from dl.nn.norm import batch_norm


class FCNHead(nn.Module):
  """A 3x3 convolution to a quarter of the channels, normalized and rectified, dropout, and a 1x1 one to the logits.

  Attributes:
    num_classes: number of logits a pixel.
    dropout: rate.
    dtype: compute type.
  """

  num_classes: Size
  dropout: BelowOne = 0.1
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: Float[Array, 'b h w c'], train: bool) -> Float[Array, 'b h w classes']:
    x = convolution(x.shape[-1] // 4, 3, dtype=self.dtype, name='0')(x)
    x = nn.relu(batch_norm(train, self.dtype, name='1')(x))
    x = nn.Dropout(self.dropout, deterministic=not train)(x)
    return convolution(self.num_classes, 1, use_bias=True, dtype=self.dtype, name='4')(x)


class ASPPHead(nn.Module):
  """Atrous spatial pyramid pooling, and a head on it (DeepLabV3, arXiv 1706.05587).

  Side by side: a 1x1 convolution, three 3x3 ones with holes of different widths, and the mean of the whole image; all
  are joined by a 1x1 convolution, and followed by a 3x3 and a 1x1 one.

  Attributes:
    num_classes: number of logits a pixel.
    rates: distances of the taps of the 3x3 convolutions.
    features: channels of each part.
    dropout: rate, after the join.
    dtype: compute type.
  """

  num_classes: Size
  rates: tuple[Size, ...] = (12, 24, 36)
  features: Size = 256
  dropout: BelowOne = 0.5
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: Float[Array, 'b h w c'], train: bool) -> Float[Array, 'b h w classes']:
    x = _ASPP(self.rates, self.features, self.dropout, self.dtype, name='0')(x, train)
    x = convolution(self.features, 3, dtype=self.dtype, name='1')(x)
    x = nn.relu(batch_norm(train, self.dtype, name='2')(x))
    return convolution(self.num_classes, 1, use_bias=True, dtype=self.dtype, name='4')(x)


class _ASPP(nn.Module):
  rates: tuple[int, ...]
  features: int
  dropout: float
  dtype: Any

  @nn.compact
  def __call__(self, x: Float[Array, 'b h w c'], train: bool) -> Float[Array, 'b h w f']:
    def layer(x: Array, prefix: str, size: int = 1, dilation: int = 1, first: int = 0) -> Array:
      x = convolution(self.features, size, dilation=dilation, dtype=self.dtype, name=f'{prefix}_{first}')(x)
      return nn.relu(batch_norm(train, self.dtype, name=f'{prefix}_{first + 1}')(x))

    parts = [layer(x, 'convs_0')]
    parts += [layer(x, f'convs_{i}', 3, rate) for i, rate in enumerate(self.rates, 1)]
    # Between the mean and its 1x1 convolution torchvision counts from the pooling.
    mean = layer(x.mean((1, 2), keepdims=True), f'convs_{len(parts)}', first=1)
    parts.append(jnp.broadcast_to(mean, parts[0].shape))
    x = layer(jnp.concatenate(parts, -1), 'project')
    return nn.Dropout(self.dropout, deterministic=not train)(x)
