"""Deconvolution network (Learning Deconvolution Network for Semantic Segmentation, arXiv 1505.04366)."""

from typing import Any, ClassVar, Literal

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from dl.config.bounds import Depth, Size
from dl.contract.weights import Rules, inputs, outputs
from dl.nn import maps
from dl.nn.convolution import convolution
from dl.nn.norm import batch_norm


class DeconvNet(nn.Module):
  """A stack of convolutions and pooling (VGG-16's by default), and its mirror image of transposed convolutions.

  No maps are handed across from one half to the other. With upsampling='unpool' only the places of the largest values
  are, as in the paper: a value returns to where its window's largest came from. 'transposed' hands nothing: transposed
  convolutions of 4x4 with stride 2 learn the whole way up. The two fully connected layers between the paper's halves,
  which hold nine tenths of its parameters and fix the size of its images, are left out.

  Logits have the size of the image, whatever that is: images are padded by repeating their edges until the poolings
  divide them.

  Cite: noh2015learning

  Attributes:
    num_classes: number of logits a pixel.
    features: channels of the stages, from the top; each ends in 2x2 max pooling.
    convolutions: 3x3 convolutions of each stage, and transposed ones of its mirror image.
    upsampling: 'unpool' or 'transposed'.
    batch_norm: whether each convolution but the last is normalized, as in the paper.
    dtype: compute type.
  """

  num_classes: Size
  features: tuple[Size, ...] = (64, 128, 256, 512, 512)
  convolutions: tuple[Depth, ...] = (2, 2, 3, 3, 3)
  upsampling: Literal['unpool', 'transposed'] = 'unpool'
  batch_norm: bool = True
  dtype: Any = jnp.float32

  sharding_rules: ClassVar[Rules] = (
    *outputs(r'(en|de)coder_\d+_\d*[02468]/(conv|norm)'),
    *inputs(r'(en|de)coder_\d+_\d*[13579]/conv'),
  )

  @nn.compact
  def __call__(self, x: Float[Array, 'b h w c'], train: bool = False) -> Float[Array, 'b h w classes']:
    maps.check(x, 'DeconvNet')
    if len(self.features) != len(self.convolutions):
      raise ValueError(f'convolutions: {len(self.convolutions)} numbers do not fit {len(self.features)} stages')
    x, box = maps.pad_to_multiple(x, 2 ** len(self.features))
    x = x.astype(self.dtype)
    layer = lambda name, features, stride: _Layer(
      features, 'encoder' not in name, stride, self.batch_norm, self.dtype, name=name
    )
    switches = []
    for i, (features, repeats) in enumerate(zip(self.features, self.convolutions)):
      for j in range(repeats):
        x = layer(f'encoder_{i}_{j}', features, 1)(x, train)
      x, where = maps.max_pool_switches(x)
      switches.append(where)
    for i in reversed(range(len(self.features))):
      if self.upsampling == 'unpool':
        x = maps.max_unpool(x, switches[i])
      else:
        x = layer(f'up_{i}', self.features[i], 2)(x, train)
      for j in range(self.convolutions[i]):
        last = j == self.convolutions[i] - 1
        x = layer(f'decoder_{i}_{j}', self.features[max(i - last, 0)], 1)(x, train)
    x = nn.Conv(self.num_classes, (1, 1), dtype=self.dtype, name='out')(x)
    return maps.crop(x, box).astype(jnp.float32)


class _Layer(nn.Module):
  """A convolution, or a transposed one (3x3, or 4x4 with stride 2), normalized and rectified."""

  features: int
  transposed: bool
  stride: int
  batch_norm: bool
  dtype: Any

  @nn.compact
  def __call__(self, x: Float[Array, 'b h w c'], train: bool) -> Float[Array, 'b H W f']:
    options = dict(use_bias=not self.batch_norm, kernel_init=nn.initializers.he_normal(), dtype=self.dtype, name='conv')
    if self.transposed:
      size, pad = self.stride + 2, self.stride  # PyTorch's padding=1
      options['kernel_init'] = nn.initializers.variance_scaling(
        2.0 * self.stride**2, 'fan_in', 'truncated_normal', in_axis=-1, out_axis=-2
      )  # each output sees one tap in stride^2
      x = nn.ConvTranspose(
        self.features,
        (size, size),
        (self.stride, self.stride),
        padding=[(pad, pad), (pad, pad)],
        transpose_kernel=True,
        **options,
      )(x)
    else:
      x = convolution(self.features, 3, **options)(x)
    if self.batch_norm:
      x = batch_norm(train, self.dtype, name='norm')(x)
    return nn.relu(x)
