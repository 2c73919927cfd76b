"""Fully convolutional networks (Fully Convolutional Networks for Semantic Segmentation, arXiv 1411.4038)."""

from typing import Any, ClassVar

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from dl.config.bounds import BelowOne, Depth, Size
from dl.contract.weights import Rules
from dl.models.resnet import ResNet
from dl.models.variants import size_of
from dl.nn import maps
from dl.nn.dense_heads import FCNHead


class FCN(nn.Module):
  """A ResNet whose last two stages have holes in the place of strides, and a convolutional head.

  Logits are computed at an eighth of the size of an image, and enlarged bilinearly. Parts are named as torchvision
  names them; there the pre-trained networks have an auxiliary head, too.

  Cite: long2015fully, he2016deep

  Attributes:
    num_classes: number of logits a pixel.
    blocks: bottleneck blocks of each stage of the ResNet.
    aux: whether a second head reads the third stage; then a training step's output is {'out': ..., 'aux': ...}.
    dropout: rate in the heads.
    dtype: compute type.
  """

  num_classes: Size
  blocks: tuple[Depth, ...] = (3, 4, 6, 3)
  aux: bool = False
  dropout: BelowOne = 0.1
  dtype: Any = jnp.float32

  sharding_rules: ClassVar[Rules] = ResNet.sharding_rules

  @nn.compact
  def __call__(
    self, x: Float[Array, 'b h w c'], train: bool = False
  ) -> Float[Array, 'b h w classes'] | dict[str, Float[Array, 'b h w classes']]:
    head = FCNHead(self.num_classes, self.dropout, self.dtype, name='classifier')
    return segment(self, head, x, train)


def segment(
  model: Any, head: nn.Module, x: Float[Array, 'b h w c'], train: bool
) -> Float[Array, 'b h w classes'] | dict[str, Float[Array, 'b h w classes']]:
  """Backbone, head and auxiliary head of an `FCN` or `DeepLabV3`, from within its compact method."""
  maps.check(x, type(model).__name__)
  backbone = ResNet(
    num_classes=0,
    blocks=model.blocks,
    bottleneck=True,
    dilate=(False, True, True),
    features_only=True,
    dtype=model.dtype,
    name='backbone',
  )
  stages = backbone(x, train)
  logits = lambda head, stage: maps.resize(head(stages[stage], train), x.shape[1:3])
  out = logits(head, -1)
  if not model.aux or not (train or model.is_initializing()):
    return out
  aux = logits(FCNHead(model.num_classes, dtype=model.dtype, name='aux_classifier'), -2)
  return {'out': out, 'aux': aux} if train else out


@size_of(FCN)
def FCN_R50() -> FCN:
  """FCN on a ResNet-50: 35,322,218 parameters for 21 classes with aux=True."""


@size_of(FCN, blocks=(3, 4, 23, 3))
def FCN_R101() -> FCN:
  """FCN on a ResNet-101: 54,314,346 parameters for 21 classes with aux=True."""
