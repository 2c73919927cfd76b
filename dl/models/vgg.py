"""VGG (Very Deep Convolutional Networks for Large-Scale Image Recognition, arXiv 1409.1556)."""

from typing import Any, ClassVar, Literal

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from dl.config.bounds import BelowOne, Depth, Size
from dl.contract.weights import Rules, inputs, outputs
from dl.models.variants import size_of
from dl.nn import maps, pooling
from dl.nn.convolution import convolution
from dl.nn.norm import batch_norm


class VGG(nn.Module):
  """Stages of 3x3 convolutions, each of which ends in 2x2 max pooling, and three fully connected layers.

  Parts are named as torchvision names them. Maps are brought to 7x7 before the fully connected layers by adaptive
  means, so that images may have any size; a side of one pixel is not pooled further.

  Cite: simonyan2015very

  Attributes:
    num_classes: number of logits.
    convolutions: 3x3 convolutions of each stage.
    features: channels of each stage.
    batch_norm: whether each convolution is normalized (arXiv 1502.03167).
    head: 'dense' is the paper's; 'linear' is one layer on the mean of the maps, as usual for images of 32x32, which
      leaves 14.7 of VGG-16's 138 million parameters.
    hidden: width of the two layers before the logits.
    dropout: rate after each of them.
    dtype: compute type; statistics and logits are float32.
  """

  num_classes: Size
  convolutions: tuple[Depth, ...] = (2, 2, 3, 3, 3)
  features: tuple[Size, ...] = (64, 128, 256, 512, 512)
  batch_norm: bool = False
  head: Literal['dense', 'linear'] = 'dense'
  hidden: Size = 4096
  dropout: BelowOne = 0.5
  dtype: Any = jnp.float32

  sharding_rules: ClassVar[Rules] = (*outputs('classifier_0'), *inputs('classifier_3'))

  @nn.compact
  def __call__(self, x: Float[Array, 'b h w c'], train: bool = False) -> Float[Array, 'b classes']:
    maps.check(x, 'VGG')
    if self.head not in ('dense', 'linear'):
      raise ValueError(f"head: 'dense' or 'linear', not {self.head!r}")
    if len(self.convolutions) != len(self.features):
      raise ValueError(f'features: {len(self.features)} values for {len(self.convolutions)} stages')
    x = x.astype(self.dtype)
    index = 0  # torchvision counts every layer, rectifiers and poolings too
    for count, features in zip(self.convolutions, self.features):
      for _ in range(count):
        init = nn.initializers.variance_scaling(2.0, 'fan_out', 'normal')
        conv = convolution(features, 3, use_bias=True, kernel_init=init, dtype=self.dtype, name=f'features_{index}')
        x = conv(x)
        if self.batch_norm:
          x = batch_norm(train, self.dtype, name=f'features_{index + 1}')(x)
        x = nn.relu(x)
        index += 3 if self.batch_norm else 2
      x = pooling.max_pool(x, 2, 2)
      index += 1
    dense = lambda features, name: nn.Dense(
      features, dtype=self.dtype, kernel_init=nn.initializers.normal(0.01), name=name
    )
    if self.head == 'linear':
      return dense(self.num_classes, 'classifier')(x.mean(axis=(1, 2))).astype(jnp.float32)
    x = pooling.flatten(pooling.adaptive_avg_pool(x, (7, 7)))
    for i in (0, 3):
      x = nn.relu(dense(self.hidden, f'classifier_{i}')(x))
      x = nn.Dropout(self.dropout, deterministic=not train)(x)
    return dense(self.num_classes, 'classifier_6')(x).astype(jnp.float32)


@size_of(VGG, convolutions=(1, 1, 2, 2, 2))
def VGG11() -> VGG:
  """VGG-11 (A): 132,863,336 parameters for 1,000 classes."""


@size_of(VGG, convolutions=(2, 2, 2, 2, 2))
def VGG13() -> VGG:
  """VGG-13 (B): 133,047,848 parameters for 1,000 classes."""


@size_of(VGG, convolutions=(2, 2, 3, 3, 3))
def VGG16() -> VGG:
  """VGG-16 (D): 138,357,544 parameters for 1,000 classes; 138,365,992 with batch norm."""


@size_of(VGG, convolutions=(2, 2, 4, 4, 4))
def VGG19() -> VGG:
  """VGG-19 (E): 143,667,240 parameters for 1,000 classes."""
