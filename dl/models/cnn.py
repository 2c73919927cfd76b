"""A plain convolutional network: stages of 3x3 convolutions with pooling between them (arXiv 1409.1556, in small)."""

from collections.abc import Callable
from typing import Any, ClassVar

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from dl.config.bounds import BelowOne, Size
from dl.contract.weights import Rules, inputs, outputs
from dl.nn import activations, maps, pooling
from dl.nn.norm import batch_norm


class CNN(nn.Module):
  """Stages of 3x3 convolutions, each stage but the last followed by 2x2 max pooling, and an average over the image.

  Each convolution is convolution -> batch norm (arXiv 1502.03167) -> activation.

  Cite: simonyan2015very, ioffe2015batch

  Attributes:
    features: channels of the convolutions of each stage, such as ((24,), (48, 48), (96,)).
    num_classes: number of logits.
    activation: name, dotted path or function (`dl.nn.activations`).
    dropout: rate before the last layer.
    batch_norm: whether convolutions are normalized; they then have no bias.
    dtype: compute type; statistics are float32.
  """

  features: tuple[tuple[Size, ...], ...]
  num_classes: Size
  activation: str | Callable = 'relu'
  dropout: BelowOne = 0.0
  batch_norm: bool = True
  dtype: Any = jnp.float32

  sharding_rules: ClassVar[Rules] = (*outputs(r'(conv|norm)_\d+_\d*[02468]'), *inputs(r'conv_\d+_\d*[13579]'))

  @nn.compact
  def __call__(self, x: Float[Array, 'b h w c'], train: bool = False) -> Float[Array, 'b classes']:
    maps.check(x, 'CNN')
    if min(x.shape[1:3]) >> (len(self.features) - 1) < 1:
      raise ValueError(f'features: {len(self.features)} stages are too many for images of {x.shape[1:3]}')
    activation = activations.get(self.activation)
    x = x.astype(self.dtype)
    for i, stage in enumerate(self.features):
      x = pooling.max_pool(x, 2, 2) if i else x
      for j, width in enumerate(stage):
        conv = nn.Conv(width, (3, 3), use_bias=not self.batch_norm, dtype=self.dtype, name=f'conv_{i}_{j}')
        x = conv(x)
        if self.batch_norm:
          x = batch_norm(train, self.dtype, name=f'norm_{i}_{j}')(x)
        x = activation(x)
    x = nn.Dropout(self.dropout, deterministic=not train)(x.mean((1, 2)))
    return nn.Dense(self.num_classes, dtype=self.dtype, name='out')(x).astype(jnp.float32)
