"""ResNets (Deep Residual Learning for Image Recognition, arXiv 1512.03385).

Batch statistics are those of Flax: the running variance averages the batch's biased one, where PyTorch takes the
unbiased, n / (n - 1) times as large for n values a channel. Nothing else differs from torchvision in a training step.
"""

import functools
from typing import Any, ClassVar, Literal

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from dl.config.bounds import BelowOne, Depth, Size
from dl.contract.weights import Layouts, Rules, Table, inputs, outputs
from dl.models.variants import size_of
from dl.nn import maps, pooling
from dl.nn.convolution import convolution
from dl.nn.norm import batch_norm
from dl.nn.stack import Remat, memory_savings, rematerialized
from dl.nn.stochastic_depth import StochasticDepth, linear_rates

_conv = functools.partial(convolution, kernel_init=nn.initializers.variance_scaling(2.0, 'fan_out', 'normal'))


_HUGGINGFACE: Table = [
  (r'(?:resnet\.)?embedder\.embedder\.convolution\.(.*)', r'conv1.\1'),
  (r'(?:resnet\.)?embedder\.embedder\.normalization\.(.*)', r'bn1.\1'),
  *[
    (rf'(?:resnet\.)?encoder\.stages\.{i}\.layers\.(\d+)\.{theirs}\.(.*)', rf'layer{i + 1}.\1.{ours}.\2')
    for i in range(4)
    for theirs, ours in (
      (r'shortcut\.convolution', 'downsample.0'),
      (r'shortcut\.normalization', 'downsample.1'),
      *((rf'layer\.{j}\.convolution', f'conv{j + 1}') for j in range(3)),
      *((rf'layer\.{j}\.normalization', f'bn{j + 1}') for j in range(3)),
    )
  ],
  (r'classifier\.1\.(.*)', r'fc.\1'),
]


class ResNet(nn.Module):
  """Residual blocks in stages; each stage after the first halves the maps and doubles the features.

  Parts are named as torchvision and timm name them; there is a 'huggingface' layout. Bottleneck blocks have their
  stride in the 3x3 convolution, as torchvision's (version 1.5; the paper's is in the first 1x1 one).

  With `features_only` the result is the maps of every stage, (layer1, layer2, layer3, layer4), for heads of other
  tasks; there is then no last layer, and `num_classes` is not used.

  Cite: he2016deep

  Attributes:
    num_classes: number of logits.
    blocks: residual blocks of each stage.
    bottleneck: whether a block is 1x1, 3x3, 1x1 to four times the features, or two 3x3 convolutions.
    width: features of the first stage.
    stem: 'imagenet' is 7x7 with stride 2 and 3x3 max pooling with stride 2; 'cifar' is 3x3 with neither.
    shortcut: where shapes change, 'projection' is a 1x1 convolution (the paper's option B); 'pad' skips every other
      pixel and adds channels of zeros, half of them before the others (option A, without parameters).
    zero_init_residual: whether each block starts as the identity, by a last scale of zero (arXiv 1706.02677).
    stochastic_depth: rate to which that of the blocks grows linearly (arXiv 1603.09382).
    dilate: for each stage after the first, whether holes in its 3x3 convolutions replace its stride, so that its maps
      keep their size; () for none. For bottleneck blocks only.
    features_only: whether to return the maps of the stages.
    remat: what the backward pass computes again: 'none', 'dots' or 'full' (`dl.nn.stack`).
    dtype: compute type; statistics and logits are float32.
  """

  num_classes: Size
  blocks: tuple[Depth, ...] = (2, 2, 2, 2)
  bottleneck: bool = False
  width: Size = 64
  stem: Literal['imagenet', 'cifar'] = 'imagenet'
  shortcut: Literal['projection', 'pad'] = 'projection'
  zero_init_residual: bool = False
  stochastic_depth: BelowOne = 0.0
  dilate: tuple[bool, ...] = ()
  features_only: bool = False
  remat: Remat = 'none'
  dtype: Any = jnp.float32

  sharding_rules: ClassVar[Rules] = (*outputs(r'layer\d+_\d+/(conv|bn)1'), *inputs(r'layer\d+_\d+/conv2'))
  layouts: ClassVar[Layouts] = {'huggingface': _HUGGINGFACE}

  @nn.compact
  def __call__(
    self, x: Float[Array, 'b h w c'], train: bool = False
  ) -> Float[Array, 'b classes'] | tuple[Float[Array, 'b H W f'], ...]:
    maps.check(x, 'ResNet')
    _check(self)
    dilate = (False, *(self.dilate or [False] * (len(self.blocks) - 1)))
    x = x.astype(self.dtype)
    if self.stem == 'imagenet':
      x = _conv(self.width, 7, 2, dtype=self.dtype, name='conv1')(x)
    else:
      x = _conv(self.width, 3, dtype=self.dtype, name='conv1')(x)
    x = nn.relu(batch_norm(train, self.dtype, name='bn1')(x))
    if self.stem == 'imagenet':
      x = pooling.max_pool(x, 3, 2, 1)
    rates = iter(linear_rates(self.stochastic_depth, sum(self.blocks)))
    dilation, stages = 1, []
    for i, count in enumerate(self.blocks):
      stride = 2 if i else 1
      previous = dilation  # the first block of a stage still has the distance of the stage before
      if dilate[i]:
        dilation, stride = dilation * stride, 1
      for j in range(count):
        x = rematerialized(Block, self.remat)(
          self.width * 2**i,
          stride if j == 0 else 1,
          self.bottleneck,
          dilation if j else previous,
          self.shortcut,
          self.zero_init_residual,
          next(rates),
          self.dtype,
          name=f'layer{i + 1}_{j}',
        )(x, train)
      stages.append(x)
    if self.features_only:
      return tuple(stages)
    init = nn.initializers.variance_scaling(1 / 3, 'fan_in', 'uniform')  # PyTorch's own
    x = nn.Dense(self.num_classes, dtype=self.dtype, kernel_init=init, name='fc')(x.mean(axis=(1, 2)))
    return x.astype(jnp.float32)

  @nn.nowrap
  def memory_savings(self) -> dict[str, Any]:
    """Arguments with which it keeps fewer activations, the least costly first."""
    return memory_savings(self.remat)


class Block(nn.Module):
  """relu(shortcut + residual branch), of two 3x3 convolutions or of a bottleneck; see `ResNet`.

  Attributes:
    features: channels out; a bottleneck has four times as many.
    stride: step.
    bottleneck: which of the two.
    dilation: distance of the taps of the 3x3 convolution of a bottleneck.
    shortcut: 'projection' or 'pad', where shapes change.
    zero_init: whether the last scale starts at zero.
    stochastic_depth: rate at which the branch is left out.
    dtype: compute type.
  """

  features: Size
  stride: Size = 1
  bottleneck: bool = False
  dilation: Size = 1
  shortcut: Literal['projection', 'pad'] = 'projection'
  zero_init: bool = False
  stochastic_depth: BelowOne = 0.0
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: Float[Array, 'b h w c'], train: bool) -> Float[Array, 'b H W f']:
    # (features, side of the kernel, stride, distance of the taps)
    if self.bottleneck:
      layers = [
        (self.features, 1, 1, 1),
        (self.features, 3, self.stride, self.dilation),
        (4 * self.features, 1, 1, 1),
      ]
    else:
      layers = [(self.features, 3, self.stride, 1), (self.features, 3, 1, 1)]
    y = x
    for i, (features, kernel, stride, dilation) in enumerate(layers, 1):
      last = i == len(layers)
      y = _conv(features, kernel, stride, dilation=dilation, dtype=self.dtype, name=f'conv{i}')(y)
      init = nn.initializers.zeros if last and self.zero_init else nn.initializers.ones
      y = batch_norm(train, self.dtype, scale_init=init, name=f'bn{i}')(y)
      y = y if last else nn.relu(y)
    if self.stochastic_depth:
      y = StochasticDepth(self.stochastic_depth)(y, train)
    channels = layers[-1][0]
    if self.stride != 1 or x.shape[-1] != channels:
      if self.shortcut == 'projection':
        x = _conv(channels, 1, self.stride, dtype=self.dtype, name='downsample_0')(x)
        x = batch_norm(train, self.dtype, name='downsample_1')(x)
      else:
        extra = channels - x.shape[-1]
        pads = ((0, 0), (0, 0), (0, 0), (extra // 2, extra - extra // 2))
        x = jnp.pad(x[:, :: self.stride, :: self.stride], pads)
    return nn.relu(x + y)


def _check(model: ResNet) -> None:
  """Raises ValueError where attributes do not fit one another."""
  if model.stem not in ('imagenet', 'cifar'):
    raise ValueError(f"stem: 'imagenet' or 'cifar', not {model.stem!r}")
  if model.shortcut not in ('projection', 'pad'):
    raise ValueError(f"shortcut: 'projection' or 'pad', not {model.shortcut!r}")
  if model.shortcut == 'pad' and model.bottleneck:
    raise ValueError("shortcut: 'pad' is for blocks without bottleneck; use 'projection'")
  if model.dilate and len(model.dilate) != len(model.blocks) - 1:
    raise ValueError(f'dilate: {len(model.dilate)} values; there are {len(model.blocks) - 1} stages after the first')
  if any(model.dilate) and not model.bottleneck:
    raise ValueError('dilate: only bottleneck blocks can be dilated, such as those of ResNet50')


@size_of(ResNet, blocks=(2, 2, 2, 2))
def ResNet18() -> ResNet:
  """ResNet-18: 11,689,512 parameters for 1,000 classes; with stem='cifar' 11,173,962 for 10."""


@size_of(ResNet, blocks=(3, 4, 6, 3))
def ResNet34() -> ResNet:
  """ResNet-34: 21,797,672 parameters for 1,000 classes."""


@size_of(ResNet, blocks=(3, 4, 6, 3), bottleneck=True)
def ResNet50() -> ResNet:
  """ResNet-50: 25,557,032 parameters for 1,000 classes."""


@size_of(ResNet, blocks=(3, 4, 23, 3), bottleneck=True)
def ResNet101() -> ResNet:
  """ResNet-101: 44,549,160 parameters for 1,000 classes."""


@size_of(ResNet, blocks=(3, 8, 36, 3), bottleneck=True)
def ResNet152() -> ResNet:
  """ResNet-152: 60,192,808 parameters for 1,000 classes."""


@size_of(ResNet, blocks=(3, 3, 3), width=16, stem='cifar', shortcut='pad')
def ResNet20() -> ResNet:
  """ResNet-20 for small images (section 4.2): 269,722 parameters for 10 classes."""


@size_of(ResNet, blocks=(5, 5, 5), width=16, stem='cifar', shortcut='pad')
def ResNet32() -> ResNet:
  """ResNet-32 for small images (section 4.2): 464,154 parameters for 10 classes."""


@size_of(ResNet, blocks=(7, 7, 7), width=16, stem='cifar', shortcut='pad')
def ResNet44() -> ResNet:
  """ResNet-44 for small images (section 4.2): 658,586 parameters for 10 classes."""


@size_of(ResNet, blocks=(9, 9, 9), width=16, stem='cifar', shortcut='pad')
def ResNet56() -> ResNet:
  """ResNet-56 for small images (section 4.2): 853,018 parameters for 10 classes."""


@size_of(ResNet, blocks=(18, 18, 18), width=16, stem='cifar', shortcut='pad')
def ResNet110() -> ResNet:
  """ResNet-110 for small images (section 4.2): 1,727,962 parameters for 10 classes."""
