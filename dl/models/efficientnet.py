"""EfficientNets (arXiv 1905.11946) and EfficientNetV2 (arXiv 2104.00298)."""

import functools
import math
from typing import Any, ClassVar, Literal

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from dl.config.bounds import BelowOne, Depth, Factor, NotNegative, Size
from dl.contract.weights import Layouts, Rules, Table, inputs, outputs
from dl.models.variants import size_of
from dl.nn import maps
from dl.nn.activations import identity
from dl.nn.convolution import ConvNorm, convolution
from dl.nn.stochastic_depth import StochasticDepth

_INIT = nn.initializers.variance_scaling(2.0, 'fan_out', 'normal')

Stages = tuple[tuple[Literal['mb', 'fused'], Size, Size, Size, Size, Depth], ...]
"""(kind of block, expansion, kernel, stride, features, blocks) of each stage."""

V1: Stages = (
  ('mb', 1, 3, 1, 16, 1),
  ('mb', 6, 3, 2, 24, 2),
  ('mb', 6, 5, 2, 40, 2),
  ('mb', 6, 3, 2, 80, 3),
  ('mb', 6, 5, 1, 112, 3),
  ('mb', 6, 5, 2, 192, 4),
  ('mb', 6, 3, 1, 320, 1),
)
V2_S: Stages = (
  ('fused', 1, 3, 1, 24, 2),
  ('fused', 4, 3, 2, 48, 4),
  ('fused', 4, 3, 2, 64, 4),
  ('mb', 4, 3, 2, 128, 6),
  ('mb', 6, 3, 1, 160, 9),
  ('mb', 6, 3, 2, 256, 15),
)
V2_M: Stages = (
  ('fused', 1, 3, 1, 24, 3),
  ('fused', 4, 3, 2, 48, 5),
  ('fused', 4, 3, 2, 80, 5),
  ('mb', 4, 3, 2, 160, 7),
  ('mb', 6, 3, 1, 176, 14),
  ('mb', 6, 3, 2, 304, 18),
  ('mb', 6, 3, 1, 512, 5),
)
V2_L: Stages = (
  ('fused', 1, 3, 1, 32, 4),
  ('fused', 4, 3, 2, 64, 7),
  ('fused', 4, 3, 2, 96, 7),
  ('mb', 4, 3, 2, 192, 10),
  ('mb', 6, 3, 1, 224, 19),
  ('mb', 6, 3, 2, 384, 25),
  ('mb', 6, 3, 1, 640, 7),
)


# Of B0 to B7: the first stage does not widen, so that its blocks have one convolution less.
_TIMM: Table = [
  (r'conv_stem\.(.*)', r'features.0.0.\1'),
  (r'bn1\.(.*)', r'features.0.1.\1'),
  *[
    (rf'blocks\.{i}\.(\d+)\.{theirs}\.(.*)', rf'features.{i + 1}.\1.block.{ours}.\2')
    for i in range(7)
    for theirs, ours in (
      *([] if i == 0 else [('conv_pw', '0.0'), ('bn1', '0.1')]),
      ('conv_dw', f'{min(i, 1)}.0'),
      (f'bn{1 + min(i, 1)}', f'{min(i, 1)}.1'),
      (r'se\.conv_reduce', f'{1 + min(i, 1)}.fc1'),
      (r'se\.conv_expand', f'{1 + min(i, 1)}.fc2'),
      ('conv_pwl' if i else 'conv_pw', f'{2 + min(i, 1)}.0'),
      (f'bn{2 + min(i, 1)}', f'{2 + min(i, 1)}.1'),
    )
  ],
  (r'conv_head\.(.*)', r'features.8.0.\1'),
  (r'bn2\.(.*)', r'features.8.1.\1'),
  (r'classifier\.(.*)', r'classifier.1.\1'),
]


class EfficientNet(nn.Module):
  """Inverted residual blocks with squeeze-and-excitation, scaled together in width and depth (arXiv 1905.11946).

  Images are halved five times. Parts are named as torchvision names them; B0 to B7 have a 'timm' layout as well.
  torchvision's published B5 to B7 and V2 have `epsilon` 1e-3 as here; timm's B5 to B7 have 1e-5. Weights called
  tf_efficientnet pad as TensorFlow does: their tensors have the same names, and are not for this network.

  Cite: tan2019efficientnet, sandler2018mobilenetv2, hu2018squeeze

  Attributes:
    num_classes: number of logits.
    stages: (kind of block, expansion, kernel, stride, features, blocks) of each; the kinds are 'mb' (`MBConv`) and
      'fused' (`FusedMBConv`).
    width: factor of all features, which are then rounded to multiples of 8.
    depth: factor of the blocks of a stage, which are then rounded up.
    stem: features of the first convolution, before the factor.
    head: features of the last convolution; None for four times those of the last stage.
    dropout: rate before the last layer.
    stochastic_depth: rate to which that of the blocks grows linearly (arXiv 1603.09382).
    epsilon: of batch norm, added to variances.
    momentum: of batch norm: the share of a running average which stays.
    dtype: compute type; statistics and logits are float32.
  """

  num_classes: Size
  stages: Stages = V1
  width: Factor = 1.0
  depth: Factor = 1.0
  stem: Size = 32
  head: Size | None = None
  dropout: BelowOne = 0.2
  stochastic_depth: BelowOne = 0.2
  epsilon: NotNegative = 1e-5
  momentum: BelowOne = 0.9
  dtype: Any = jnp.float32

  sharding_rules: ClassVar[Rules] = (
    *outputs(r'features_\d+_\d+/block_[01]/[01]'),
    *inputs('block_2/fc1'),
    *outputs('block_2/fc2'),
    *inputs('block_3/0'),
  )
  layouts: ClassVar[Layouts] = {'timm': _TIMM}

  @nn.compact
  def __call__(self, x: Float[Array, 'b h w c'], train: bool = False) -> Float[Array, 'b classes']:
    maps.check(x, 'EfficientNet')
    layer = functools.partial(_layer, self)
    counts = [math.ceil(stage[5] * self.depth) for stage in self.stages]
    x = layer(_round(self.stem * self.width), 3, 2, name='features_0')(x, train)
    done, features = 0, 0
    for i, (kind, expansion, kernel, stride, features, _) in enumerate(self.stages):
      if kind not in _BLOCKS:
        raise ValueError(f"stages: blocks are of the kinds 'mb' and 'fused', not {kind!r}")
      features = _round(features * self.width)
      for j in range(counts[i]):
        x = _BLOCKS[kind](
          features,
          expansion,
          kernel,
          stride if j == 0 else 1,
          self.stochastic_depth * done / sum(counts),  # as torchvision does: the last block has a little less
          self.epsilon,
          self.momentum,
          self.dtype,
          name=f'features_{i + 1}_{j}',
        )(x, train)
        done += 1
    x = layer(self.head or 4 * features, 1, name=f'features_{len(self.stages) + 1}')(x, train)
    x = nn.Dropout(self.dropout, deterministic=not train)(x.mean(axis=(1, 2)))
    # Uniform in ±1/sqrt(classes).
    init = nn.initializers.variance_scaling(1 / 3, 'fan_out', 'uniform')
    x = nn.Dense(self.num_classes, dtype=self.dtype, kernel_init=init, name='classifier_1')(x)
    return x.astype(jnp.float32)


def _layer(
  model: Any, features: int, size: int, stride: int = 1, *, name: str, groups: int = 1, linear: bool = False
) -> ConvNorm:
  """Convolution, batch norm and, unless it is linear, SiLU, with the constants of `model`."""
  # Each output of a depthwise kernel's channel goes to one map alone: its fan-out is what JAX computes as its fan-in.
  init = _INIT if groups == 1 else nn.initializers.variance_scaling(2.0, 'fan_in', 'normal')
  return ConvNorm(
    features,
    size,
    stride,
    groups=groups,
    activation=identity if linear else nn.silu,
    kernel_init=init,
    epsilon=model.epsilon,
    momentum=model.momentum,
    names=('0', '1'),
    dtype=model.dtype,
    name=name,
  )


class SqueezeExcitation(nn.Module):
  """Channels weighted by a small network of their means (Squeeze-and-Excitation Networks, arXiv 1709.01507).

  Attributes:
    hidden: features of the small network.
    dtype: compute type.
  """

  hidden: Size
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: Float[Array, 'b h w c']) -> Float[Array, 'b h w c']:
    layer = lambda features, name: convolution(
      features, 1, use_bias=True, dtype=self.dtype, kernel_init=_INIT, name=name
    )
    y = nn.silu(layer(self.hidden, 'fc1')(x.mean(axis=(1, 2), keepdims=True)))
    return x * nn.sigmoid(layer(x.shape[-1], 'fc2')(y))


class MBConv(nn.Module):
  """Widen, convolve each channel by itself, weight the channels, narrow again (MobileNetV2, arXiv 1801.04381).

  Attributes:
    features: channels out.
    expansion: factor by which the channels in are widened.
    kernel: side of the kernel.
    stride: step.
    stochastic_depth: rate at which the branch is left out, where there is a residual connection.
    epsilon: of batch norm.
    momentum: of batch norm.
    dtype: compute type.
  """

  features: Size
  expansion: Size
  kernel: Size
  stride: Size
  stochastic_depth: BelowOne = 0.0
  epsilon: NotNegative = 1e-5
  momentum: BelowOne = 0.9
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: Float[Array, 'b h w c'], train: bool) -> Float[Array, 'b H W features']:
    channels = x.shape[-1]
    hidden = _round(channels * self.expansion)
    layer = functools.partial(_layer, self)
    y, i = x, 0
    if hidden != channels:
      y, i = layer(hidden, 1, name='block_0')(y, train), 1
    y = layer(hidden, self.kernel, self.stride, groups=hidden, name=f'block_{i}')(y, train)
    y = SqueezeExcitation(max(1, channels // 4), self.dtype, name=f'block_{i + 1}')(y)
    y = layer(self.features, 1, linear=True, name=f'block_{i + 2}')(y, train)
    return _residual(x, y, self.stochastic_depth, train)


class FusedMBConv(MBConv):
  """Widen by a whole convolution, narrow again (EfficientNetV2, arXiv 2104.00298); the attributes are `MBConv`'s."""

  @nn.compact
  def __call__(self, x: Float[Array, 'b h w c'], train: bool) -> Float[Array, 'b H W features']:
    channels = x.shape[-1]
    hidden = _round(channels * self.expansion)
    layer = functools.partial(_layer, self)
    if hidden == channels:
      y = layer(self.features, self.kernel, self.stride, name='block_0')(x, train)
    else:
      y = layer(hidden, self.kernel, self.stride, name='block_0')(x, train)
      y = layer(self.features, 1, linear=True, name='block_1')(y, train)
    return _residual(x, y, self.stochastic_depth, train)


_BLOCKS: dict[str, type[nn.Module]] = {'mb': MBConv, 'fused': FusedMBConv}


def _residual(x: Array, y: Array, rate: float, train: bool) -> Array:
  """x + y where they have one shape, else y."""
  return x + StochasticDepth(rate)(y, train) if x.shape == y.shape else y


def _round(features: float) -> int:
  """The nearest multiple of 8 which is not more than a tenth below."""
  nearest = max(8, int(features + 4) // 8 * 8)
  return nearest + 8 if nearest < 0.9 * features else nearest


@size_of(EfficientNet)
def EfficientNetB0() -> EfficientNet:
  """EfficientNet-B0: 5,288,548 parameters for 1,000 classes."""


@size_of(EfficientNet, depth=1.1)
def EfficientNetB1() -> EfficientNet:
  """EfficientNet-B1: 7,794,184 parameters for 1,000 classes."""


@size_of(EfficientNet, width=1.1, depth=1.2, dropout=0.3)
def EfficientNetB2() -> EfficientNet:
  """EfficientNet-B2: 9,109,994 parameters for 1,000 classes."""


@size_of(EfficientNet, width=1.2, depth=1.4, dropout=0.3)
def EfficientNetB3() -> EfficientNet:
  """EfficientNet-B3: 12,233,232 parameters for 1,000 classes."""


@size_of(EfficientNet, width=1.4, depth=1.8, dropout=0.4)
def EfficientNetB4() -> EfficientNet:
  """EfficientNet-B4: 19,341,616 parameters for 1,000 classes."""


@size_of(EfficientNet, width=1.6, depth=2.2, dropout=0.4, epsilon=1e-3, momentum=0.99)
def EfficientNetB5() -> EfficientNet:
  """EfficientNet-B5: 30,389,784 parameters for 1,000 classes."""


@size_of(EfficientNet, width=1.8, depth=2.6, dropout=0.5, epsilon=1e-3, momentum=0.99)
def EfficientNetB6() -> EfficientNet:
  """EfficientNet-B6: 43,040,704 parameters for 1,000 classes."""


@size_of(EfficientNet, width=2.0, depth=3.1, dropout=0.5, epsilon=1e-3, momentum=0.99)
def EfficientNetB7() -> EfficientNet:
  """EfficientNet-B7: 66,347,960 parameters for 1,000 classes."""


@size_of(EfficientNet, stages=V2_S, stem=24, head=1280, epsilon=1e-3)
def EfficientNetV2_S() -> EfficientNet:
  """EfficientNetV2-S (arXiv 2104.00298): 21,458,488 parameters for 1,000 classes.

  Cite: tan2021efficientnetv2
  """


@size_of(EfficientNet, stages=V2_M, stem=24, head=1280, dropout=0.3, epsilon=1e-3)
def EfficientNetV2_M() -> EfficientNet:
  """EfficientNetV2-M (arXiv 2104.00298): 54,139,356 parameters for 1,000 classes.

  Cite: tan2021efficientnetv2
  """


@size_of(EfficientNet, stages=V2_L, stem=32, head=1280, dropout=0.4, epsilon=1e-3)
def EfficientNetV2_L() -> EfficientNet:
  """EfficientNetV2-L (arXiv 2104.00298): 118,515,272 parameters for 1,000 classes.

  Cite: tan2021efficientnetv2
  """
