"""GoogLeNet (Going Deeper with Convolutions, arXiv 1409.4842)."""

import functools
from typing import Any, ClassVar

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from dl.config.bounds import BelowOne, Size
from dl.contract.weights import Rules, inputs, outputs
from dl.nn import maps, pooling
from dl.nn.convolution import ConvNorm

# Features of the branches of each module: 1x1; 3x3, reduced to and then; second 3x3, reduced to and then; pooled.
_MODULES = {
  '3a': (64, 96, 128, 16, 32, 32),
  '3b': (128, 128, 192, 32, 96, 64),
  '4a': (192, 96, 208, 16, 48, 64),
  '4b': (160, 112, 224, 24, 64, 64),
  '4c': (128, 128, 256, 24, 64, 64),
  '4d': (112, 144, 288, 32, 64, 64),
  '4e': (256, 160, 320, 32, 128, 128),
  '5a': (256, 160, 320, 32, 128, 128),
  '5b': (384, 192, 384, 48, 128, 128),
}
_INIT = nn.initializers.normal(0.01)
_ConvNorm = functools.partial(ConvNorm, kernel_init=_INIT, epsilon=1e-3)  # torchvision's constants for this network


class GoogLeNet(nn.Module):
  """Nine modules of convolutions side by side: 6,624,904 parameters for 1,000 classes, 13,004,888 with `aux`.

  As torchvision has it, whose names its parts have: batch norm after each convolution instead of local response
  normalization, and 3x3 convolutions in the place of 5x5 ones. torchvision's published weights expect images whose
  channels have been normalized by a mean and a deviation of 0.5.

  With `aux` two more heads help in training, of which the result is then {'out', 'aux1', 'aux2'}: logits each, for a
  task to weight. In evaluation it is the logits alone.

  Cite: szegedy2015going, ioffe2015batch

  Attributes:
    num_classes: number of logits.
    aux: whether there are auxiliary heads.
    dropout: rate before the last layer.
    aux_dropout: rate in the auxiliary heads.
    dtype: compute type; statistics and logits are float32.
  """

  num_classes: Size
  aux: bool = False
  dropout: BelowOne = 0.2
  aux_dropout: BelowOne = 0.7
  dtype: Any = jnp.float32

  sharding_rules: ClassVar[Rules] = (*outputs('branch[23]_0/(conv|bn)'), *inputs('branch[23]_1/conv'))

  @nn.compact
  def __call__(
    self, x: Float[Array, 'b h w c'], train: bool = False
  ) -> Float[Array, 'b classes'] | dict[str, Float[Array, 'b classes']]:
    maps.check(x, 'GoogLeNet')
    module = lambda which, x: InceptionModule(*_MODULES[which], self.dtype, name=f'inception{which}')(x, train)
    heads = {}

    def head(name: str, x: Array) -> None:
      if self.aux and (train or self.is_initializing()):
        heads[name] = AuxHead(self.num_classes, self.aux_dropout, self.dtype, name=name)(x, train)

    x = _ConvNorm(64, 7, 2, dtype=self.dtype, name='conv1')(x.astype(self.dtype), train)
    x = pooling.max_pool(x, 3, 2, ceil=True)
    x = _ConvNorm(64, dtype=self.dtype, name='conv2')(x, train)
    x = _ConvNorm(192, 3, dtype=self.dtype, name='conv3')(x, train)
    x = pooling.max_pool(x, 3, 2, ceil=True)
    x = module('3b', module('3a', x))
    x = pooling.max_pool(x, 3, 2, ceil=True)
    x = module('4a', x)
    head('aux1', x)
    x = module('4d', module('4c', module('4b', x)))
    head('aux2', x)
    x = module('4e', x)
    x = pooling.max_pool(x, 2, 2, ceil=True)
    x = module('5b', module('5a', x))
    x = nn.Dropout(self.dropout, deterministic=not train)(x.mean(axis=(1, 2)))
    x = nn.Dense(self.num_classes, dtype=self.dtype, kernel_init=_INIT, name='fc')(x).astype(jnp.float32)
    return {'out': x, **heads} if self.aux and train else x


class InceptionModule(nn.Module):
  """Four branches, whose maps are put beside one another; two of them narrow the channels before a 3x3 convolution.

  Attributes:
    one: features of the 1x1 convolution.
    three_reduced: to which the channels of the first 3x3 convolution are narrowed.
    three: features of that convolution.
    five_reduced: to which those of the second one, the paper's 5x5, are narrowed.
    five: features of that convolution.
    pooled: features of the 1x1 convolution after 3x3 max pooling.
    dtype: compute type.
  """

  one: Size
  three_reduced: Size
  three: Size
  five_reduced: Size
  five: Size
  pooled: Size
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: Float[Array, 'b h w c'], train: bool) -> Float[Array, 'b h w f']:
    narrow = lambda features, name: _ConvNorm(features, dtype=self.dtype, name=name)
    widen = lambda features, name: _ConvNorm(features, 3, dtype=self.dtype, name=name)
    branches = [
      narrow(self.one, 'branch1')(x, train),
      widen(self.three, 'branch2_1')(narrow(self.three_reduced, 'branch2_0')(x, train), train),
      widen(self.five, 'branch3_1')(narrow(self.five_reduced, 'branch3_0')(x, train), train),
      narrow(self.pooled, 'branch4_1')(pooling.max_pool(x, 3, 1, 1), train),
    ]
    return jnp.concatenate(branches, -1)


class AuxHead(nn.Module):
  """Logits from the middle of the network: 4x4 means, a 1x1 convolution and two dense layers.

  Attributes:
    num_classes: number of logits.
    dropout: rate between the dense layers.
    dtype: compute type.
  """

  num_classes: Size
  dropout: BelowOne = 0.7
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: Float[Array, 'b h w c'], train: bool) -> Float[Array, 'b classes']:
    dense = lambda features, name: nn.Dense(features, dtype=self.dtype, kernel_init=_INIT, name=name)
    x = _ConvNorm(128, dtype=self.dtype, name='conv')(pooling.adaptive_avg_pool(x, (4, 4)), train)
    x = nn.relu(dense(1024, 'fc1')(pooling.flatten(x)))
    x = nn.Dropout(self.dropout, deterministic=not train)(x)
    return dense(self.num_classes, 'fc2')(x).astype(jnp.float32)
