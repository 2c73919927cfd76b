"""DeepLabV3 (Rethinking Atrous Convolution for Semantic Image Segmentation, arXiv 1706.05587)."""

from typing import Any, ClassVar

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from dl.config.bounds import BelowOne, Depth, Size
from dl.contract.weights import Rules
from dl.models.fcn import segment
from dl.models.resnet import ResNet
from dl.models.variants import size_of
from dl.nn.dense_heads import ASPPHead


class DeepLabV3(nn.Module):
  """A ResNet whose last two stages have holes in the place of strides, and atrous spatial pyramid pooling.

  Logits are computed at an eighth of the size of an image, and enlarged bilinearly. Parts are named as torchvision
  names them; there the pre-trained networks have an auxiliary head, too.

  Cite: chen2017rethinking, he2016deep

  Attributes:
    num_classes: number of logits a pixel.
    blocks: bottleneck blocks of each stage of the ResNet.
    aux: whether a second head reads the third stage; then a training step's output is {'out': ..., 'aux': ...}.
    rates: distances of the taps of the pyramid's 3x3 convolutions, in maps of an eighth of the image's size.
    dropout: rate after the pyramid.
    dtype: compute type.
  """

  num_classes: Size
  blocks: tuple[Depth, ...] = (3, 4, 6, 3)
  aux: bool = False
  rates: tuple[Size, ...] = (12, 24, 36)
  dropout: BelowOne = 0.5
  dtype: Any = jnp.float32

  sharding_rules: ClassVar[Rules] = ResNet.sharding_rules

  @nn.compact
  def __call__(
    self, x: Float[Array, 'b h w c'], train: bool = False
  ) -> Float[Array, 'b h w classes'] | dict[str, Float[Array, 'b h w classes']]:
    head = ASPPHead(self.num_classes, self.rates, dropout=self.dropout, dtype=self.dtype, name='classifier')
    return segment(self, head, x, train)


@size_of(DeepLabV3)
def DeepLabV3_R50() -> DeepLabV3:
  """DeepLabV3 on a ResNet-50: 39,638,869 parameters for 21 classes."""


@size_of(DeepLabV3, blocks=(3, 4, 23, 3))
def DeepLabV3_R101() -> DeepLabV3:
  """DeepLabV3 on a ResNet-101: 58,630,997 parameters for 21 classes."""
