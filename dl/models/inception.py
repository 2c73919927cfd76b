"""Inception-v3 (Rethinking the Inception Architecture for Computer Vision, arXiv 1512.00567)."""

import functools
from typing import Any, ClassVar

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from dl.config.bounds import BelowOne, Size
from dl.contract.weights import Rules, inputs, outputs
from dl.nn import maps, pooling
from dl.nn.convolution import ConvNorm, Sides

_SMALLEST = 75


class InceptionV3(nn.Module):
  """Modules of factorized convolutions side by side: 23,834,568 parameters for 1,000 classes, 27,161,264 with `aux`.

  Made for images of 299x299, of at least 75x75. Parts are named as torchvision names them, whose published weights
  expect images whose channels have been normalized by a mean and a deviation of 0.5.

  With `aux` one more head helps in training, of which the result is then {'out', 'aux'}: logits each, for a task to
  weight. In evaluation it is the logits alone. The head needs maps of 17x17, of images of at least 299x299; smaller
  ones are brought to what it reads by adaptive means (torchvision refuses them).

  Cite: szegedy2016rethinking

  Attributes:
    num_classes: number of logits.
    aux: whether there is an auxiliary head.
    dropout: rate before the last layer.
    dtype: compute type; statistics and logits are float32.
  """

  num_classes: Size
  aux: bool = False
  dropout: BelowOne = 0.5
  dtype: Any = jnp.float32

  sharding_rules: ClassVar[Rules] = (
    *outputs(r'branch\w+_1/(conv|bn)'),
    *inputs(r'branch\w+_2[ab]?/conv'),
    *outputs('branch7x7(dbl|x3)_3/(conv|bn)'),
    *inputs('branch7x7(dbl|x3)_4/conv'),
  )

  @nn.compact
  def __call__(
    self, x: Float[Array, 'b h w c'], train: bool = False
  ) -> Float[Array, 'b classes'] | dict[str, Float[Array, 'b classes']]:
    maps.check(x, 'InceptionV3')
    h, w = x.shape[1:3]
    if min(h, w) < _SMALLEST:
      raise ValueError(f'InceptionV3 takes images of at least {_SMALLEST}x{_SMALLEST}, not {h}x{w}')
    conv = _convolutions(self.dtype, train)
    module = lambda kind, name, *options: kind(*options, dtype=self.dtype, name=name)
    x = conv('Conv2d_1a_3x3', x.astype(self.dtype), 32, 3, stride=2, same=False)
    x = conv('Conv2d_2a_3x3', x, 32, 3, same=False)
    x = conv('Conv2d_2b_3x3', x, 64, 3)
    x = pooling.max_pool(x, 3, 2)
    x = conv('Conv2d_3b_1x1', x, 80, 1)
    x = conv('Conv2d_4a_3x3', x, 192, 3, same=False)
    x = pooling.max_pool(x, 3, 2)
    for name, pooled in (('5b', 32), ('5c', 64), ('5d', 64)):
      x = module(_A, f'Mixed_{name}', pooled)(x, train)
    x = module(_B, 'Mixed_6a')(x, train)
    for name, hidden in (('6b', 128), ('6c', 160), ('6d', 160), ('6e', 192)):
      x = module(_C, f'Mixed_{name}', hidden)(x, train)
    if self.aux and (train or self.is_initializing()):
      aux = AuxHead(self.num_classes, self.dtype, name='AuxLogits')(x, train)
    x = module(_D, 'Mixed_7a')(x, train)
    for name in ('7b', '7c'):
      x = module(_E, f'Mixed_{name}')(x, train)
    x = nn.Dropout(self.dropout, deterministic=not train)(x.mean(axis=(1, 2)))
    x = nn.Dense(self.num_classes, dtype=self.dtype, kernel_init=nn.initializers.normal(0.1), name='fc')(x)
    x = x.astype(jnp.float32)
    return {'out': x, 'aux': aux} if self.aux and train else x


class AuxHead(nn.Module):
  """Logits from the middle of the network.

  Attributes:
    num_classes: number of logits.
    dtype: compute type.
  """

  num_classes: Size
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: Float[Array, 'b h w c'], train: bool) -> Float[Array, 'b classes']:
    conv = _convolutions(self.dtype, train)
    if min(x.shape[1:3]) < 17:
      x = pooling.adaptive_avg_pool(x, (5, 5))
    else:
      x = nn.avg_pool(x, (5, 5), (3, 3))
    x = conv('conv0', x, 128, 1)
    x = conv('conv1', x, 768, 5, same=False, std=0.01).mean(axis=(1, 2))
    init = nn.initializers.normal(0.001)
    return nn.Dense(self.num_classes, dtype=self.dtype, kernel_init=init, name='fc')(x).astype(jnp.float32)


# The kinds of modules, by the letters of torchvision; figures 5 to 7 and 10 of the paper.


class _A(nn.Module):
  """Branches of 1x1, of 5x5, of two 3x3, and pooled (35x35 maps)."""

  pooled: int
  dtype: Any

  @nn.compact
  def __call__(self, x: Float[Array, 'b h w c'], train: bool) -> Float[Array, 'b h w f']:
    conv = _convolutions(self.dtype, train)
    five = conv('branch5x5_2', conv('branch5x5_1', x, 48, 1), 64, 5)
    double = conv('branch3x3dbl_2', conv('branch3x3dbl_1', x, 64, 1), 96, 3)
    double = conv('branch3x3dbl_3', double, 96, 3)
    pooled = conv('branch_pool', _means(x), self.pooled, 1)
    return jnp.concatenate([conv('branch1x1', x, 64, 1), five, double, pooled], -1)


class _B(nn.Module):
  """Halves the maps: branches of 3x3, of two 3x3, and max pooling."""

  dtype: Any

  @nn.compact
  def __call__(self, x: Float[Array, 'b h w c'], train: bool) -> Float[Array, 'b H W f']:
    conv = _convolutions(self.dtype, train)
    three = conv('branch3x3', x, 384, 3, stride=2, same=False)
    double = conv('branch3x3dbl_2', conv('branch3x3dbl_1', x, 64, 1), 96, 3)
    double = conv('branch3x3dbl_3', double, 96, 3, stride=2, same=False)
    return jnp.concatenate([three, double, pooling.max_pool(x, 3, 2)], -1)


class _C(nn.Module):
  """Branches of 1x1, of one and of two factorized 7x7 convolutions, and pooled (17x17 maps)."""

  hidden: int
  dtype: Any

  @nn.compact
  def __call__(self, x: Float[Array, 'b h w c'], train: bool) -> Float[Array, 'b h w f']:
    conv = _convolutions(self.dtype, train)
    row, column = (1, 7), (7, 1)
    seven = conv('branch7x7_2', conv('branch7x7_1', x, self.hidden, 1), self.hidden, row)
    seven = conv('branch7x7_3', seven, 192, column)
    double = conv('branch7x7dbl_1', x, self.hidden, 1)
    for i, kernel in ((2, column), (3, row), (4, column)):
      double = conv(f'branch7x7dbl_{i}', double, self.hidden, kernel)
    double = conv('branch7x7dbl_5', double, 192, row)
    pooled = conv('branch_pool', _means(x), 192, 1)
    return jnp.concatenate([conv('branch1x1', x, 192, 1), seven, double, pooled], -1)


class _D(nn.Module):
  """Halves the maps: branches of 3x3, of a factorized 7x7 and 3x3, and max pooling."""

  dtype: Any

  @nn.compact
  def __call__(self, x: Float[Array, 'b h w c'], train: bool) -> Float[Array, 'b H W f']:
    conv = _convolutions(self.dtype, train)
    three = conv('branch3x3_2', conv('branch3x3_1', x, 192, 1), 320, 3, stride=2, same=False)
    seven = conv('branch7x7x3_2', conv('branch7x7x3_1', x, 192, 1), 192, (1, 7))
    seven = conv('branch7x7x3_3', seven, 192, (7, 1))
    seven = conv('branch7x7x3_4', seven, 192, 3, stride=2, same=False)
    return jnp.concatenate([three, seven, pooling.max_pool(x, 3, 2)], -1)


class _E(nn.Module):
  """Branches which end in 1x3 and 3x1 convolutions side by side (8x8 maps)."""

  dtype: Any

  @nn.compact
  def __call__(self, x: Float[Array, 'b h w c'], train: bool) -> Float[Array, 'b h w f']:
    conv = _convolutions(self.dtype, train)
    fork = lambda name, x: [conv(f'{name}a', x, 384, (1, 3)), conv(f'{name}b', x, 384, (3, 1))]
    three = fork('branch3x3_2', conv('branch3x3_1', x, 384, 1))
    double = conv('branch3x3dbl_2', conv('branch3x3dbl_1', x, 448, 1), 384, 3)
    double = fork('branch3x3dbl_3', double)
    pooled = conv('branch_pool', _means(x), 192, 1)
    return jnp.concatenate([conv('branch1x1', x, 320, 1), *three, *double, pooled], -1)


def _convolutions(dtype: Any, train: bool) -> Any:
  """The layers of a module: (name, maps, features, kernel) -> maps."""
  return functools.partial(_conv, dtype, train)


def _conv(
  dtype: Any, train: bool, name: str, x: Array, features: int, size: Sides, stride: int = 1, same: bool = True,
  std: float = 0.1,
) -> Array:  # fmt: skip
  layer = ConvNorm(
    features,
    size,
    stride,
    None if same else 0,
    kernel_init=nn.initializers.normal(std),
    epsilon=1e-3,
    dtype=dtype,
    name=name,
  )
  return layer(x, train)


def _means(x: Array) -> Array:
  """Of 3x3 windows; beyond the edges there are zeros."""
  return nn.avg_pool(x, (3, 3), padding=[(1, 1), (1, 1)])
