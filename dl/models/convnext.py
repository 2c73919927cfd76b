"""ConvNeXt (A ConvNet for the 2020s, arXiv 2201.03545)."""

from typing import Any, ClassVar

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from dl.config.bounds import BelowOne, Depth, Number, Size
from dl.contract.weights import Layouts, Rules, Table, inputs, outputs
from dl.models.variants import size_of
from dl.nn import maps
from dl.nn.convolution import convolution
from dl.nn.norm import layer_norm
from dl.nn.stochastic_depth import StochasticDepth, linear_rates

_INIT = nn.initializers.truncated_normal(0.02)


_HUGGINGFACE: Table = [
  (r'(?:convnext\.)?embeddings\.patch_embeddings\.(.*)', r'features.0.0.\1'),
  (r'(?:convnext\.)?embeddings\.layernorm\.(.*)', r'features.0.1.\1'),
  *[
    (rf'(?:convnext\.)?encoder\.stages\.{i}\.{theirs}', ours)
    for i in range(4)
    for theirs, ours in (
      (r'downsampling_layer\.(.*)', rf'features.{2 * i}.\1'),
      (r'layers\.(\d+)\.layer_scale_parameter', rf'features.{2 * i + 1}.\1.layer_scale'),
      (r'layers\.(\d+)\.dwconv\.(.*)', rf'features.{2 * i + 1}.\1.block.0.\2'),
      (r'layers\.(\d+)\.layernorm\.(.*)', rf'features.{2 * i + 1}.\1.block.2.\2'),
      (r'layers\.(\d+)\.pwconv1\.(.*)', rf'features.{2 * i + 1}.\1.block.3.\2'),
      (r'layers\.(\d+)\.pwconv2\.(.*)', rf'features.{2 * i + 1}.\1.block.5.\2'),
    )
  ],
  (r'(?:convnext\.)?layernorm\.(.*)', r'classifier.0.\1'),
  (r'classifier\.(.*)', r'classifier.2.\1'),
]

_TIMM: Table = [
  (r'stem\.(.*)', r'features.0.\1'),
  *[
    (rf'stages\.{i}\.{theirs}', ours)
    for i in range(4)
    for theirs, ours in (
      (r'downsample\.(.*)', rf'features.{2 * i}.\1'),
      (r'blocks\.(\d+)\.gamma', rf'features.{2 * i + 1}.\1.layer_scale'),
      (r'blocks\.(\d+)\.conv_dw\.(.*)', rf'features.{2 * i + 1}.\1.block.0.\2'),
      (r'blocks\.(\d+)\.norm\.(.*)', rf'features.{2 * i + 1}.\1.block.2.\2'),
      (r'blocks\.(\d+)\.mlp\.fc1\.(.*)', rf'features.{2 * i + 1}.\1.block.3.\2'),
      (r'blocks\.(\d+)\.mlp\.fc2\.(.*)', rf'features.{2 * i + 1}.\1.block.5.\2'),
    )
  ],
  (r'head\.norm\.(.*)', r'classifier.0.\1'),
  (r'head\.fc\.(.*)', r'classifier.2.\1'),
]


class ConvNeXt(nn.Module):
  """Four stages of large depthwise convolutions, built like a transformer (A ConvNet for the 2020s, arXiv 2201.03545).

  Images may have any size and channels, from `8 * patch` pixels on. Parts are named as torchvision names them; 'timm'
  and 'huggingface' are layouts as well.

  Cite: liu2022convnet

  Attributes:
    num_classes: number of logits.
    depths: blocks of each stage.
    widths: features of each stage; a stage has half the rows and columns of the one before.
    patch: side of the first layer's patches in pixels; 1 or 2 for small images.
    kernel: side of the depthwise kernels; odd.
    stochastic_depth: rate of the last block, which grows linearly from 0 (arXiv 1603.09382).
    layer_scale: with what each block's branch is multiplied at the start, channel by channel (CaiT, arXiv 2103.17239).
    dtype: compute type; logits are float32.
  """

  num_classes: Size
  depths: tuple[Depth, ...] = (3, 3, 9, 3)
  widths: tuple[Size, ...] = (96, 192, 384, 768)
  patch: Size = 4
  kernel: Size = 7
  stochastic_depth: BelowOne = 0.1
  layer_scale: Number = 1e-6
  dtype: Any = jnp.float32

  sharding_rules: ClassVar[Rules] = (*outputs('block_3'), *inputs('block_5'))
  layouts: ClassVar[Layouts] = {'huggingface': _HUGGINGFACE, 'timm': _TIMM}

  @nn.compact
  def __call__(self, x: Float[Array, 'b h w c'], train: bool = False) -> Float[Array, 'b classes']:
    maps.check(x, 'ConvNeXt')
    if len(self.depths) != len(self.widths):
      raise ValueError(f'widths: {len(self.widths)} widths for {len(self.depths)} stages')
    least = self.patch * 2 ** (len(self.depths) - 1)
    if min(x.shape[1:3]) < least:
      raise ValueError(f'patch: patches of {self.patch} need images of {least}x{least}, not {x.shape[1]}x{x.shape[2]}')
    norm = lambda name: layer_norm(1e-6, self.dtype, name=name)
    reduce = lambda features, side, name: convolution(
      features, side, side, padding=0, use_bias=True, dtype=self.dtype, kernel_init=_INIT, name=name
    )
    rates = iter(linear_rates(self.stochastic_depth, sum(self.depths)))
    x = norm('features_0_1')(reduce(self.widths[0], self.patch, 'features_0_0')(x))
    for i, (depth, width) in enumerate(zip(self.depths, self.widths, strict=True)):
      if i:
        x = reduce(width, 2, f'features_{2 * i}_1')(norm(f'features_{2 * i}_0')(x))
      for j in range(depth):
        name = f'features_{2 * i + 1}_{j}'
        x = Block(self.kernel, next(rates), self.layer_scale, self.dtype, name=name)(x, train)
    x = norm('classifier_0')(x.mean(axis=(1, 2)))
    x = nn.Dense(self.num_classes, dtype=self.dtype, kernel_init=_INIT, name='classifier_2')(x)
    return x.astype(jnp.float32)


class Block(nn.Module):
  """A depthwise convolution and an MLP over the channels, around which the input passes.

  Attributes:
    kernel: side of the depthwise kernel; odd.
    stochastic_depth: rate at which the branch is left out.
    scale_init: with what the branch is multiplied at the start.
    dtype: compute type.
  """

  kernel: Size = 7
  stochastic_depth: BelowOne = 0.0
  scale_init: Number = 1e-6
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: Float[Array, 'b h w c'], train: bool) -> Float[Array, 'b h w c']:
    c = x.shape[-1]
    depthwise = convolution(
      c, self.kernel, groups=c, use_bias=True, dtype=self.dtype, kernel_init=_INIT, name='block_0'
    )
    y = depthwise(x)
    y = layer_norm(1e-6, self.dtype, name='block_2')(y)
    dense = lambda features, name: nn.Dense(features, dtype=self.dtype, kernel_init=_INIT, name=name)
    y = dense(c, 'block_5')(nn.gelu(dense(4 * c, 'block_3')(y), approximate=False))
    scale = self.param('layer_scale', nn.initializers.constant(self.scale_init), (c,))
    return x + StochasticDepth(self.stochastic_depth)(scale.astype(self.dtype) * y, train)


@size_of(ConvNeXt)
def ConvNeXtT() -> ConvNeXt:
  """ConvNeXt-T: 28,589,128 parameters for 1,000 classes."""


@size_of(ConvNeXt, depths=(3, 3, 27, 3), stochastic_depth=0.4)
def ConvNeXtS() -> ConvNeXt:
  """ConvNeXt-S: 50,223,688 parameters for 1,000 classes."""


@size_of(ConvNeXt, depths=(3, 3, 27, 3), widths=(128, 256, 512, 1024), stochastic_depth=0.5)
def ConvNeXtB() -> ConvNeXt:
  """ConvNeXt-B: 88,591,464 parameters for 1,000 classes."""
