"""Convolutional generator and discriminator: images from noise, and a judge of images."""

from typing import Any, ClassVar, Literal

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from dl.config.bounds import BelowOne, NotNegative, Number, Size
from dl.contract.weights import Rules, inputs, outputs
from dl.nn.norm import batch_norm, group_norm

Norm = Literal['batch', 'group', 'none']


class ConvGenerator(nn.Module):
  """Transposed convolutions from a latent vector to an image, each doubling the size.

  The image is `base * 2**len(features)` pixels wide and high. The defaults are DCGAN's generator for 64x64 images
  (3,576,704 parameters). "Unsupervised representation learning with deep convolutional generative adversarial
  networks", arXiv 1511.06434.

  Cite: radford2016unsupervised

  Attributes:
    latent_size: numbers of noise an image is made from.
    features: channels of each hidden layer, the first at `base` x `base`.
    channels: of the image.
    base: size after the first layer.
    norm: normalization after each hidden layer: over the batch (as published), over groups of 8 channels, or none.
    init_std: standard deviation of the initial kernels; None scales it to the layer's inputs (He et al.).
    dtype: of the computation; the output is float32.
  """

  latent_size: Size = 100
  features: tuple[Size, ...] = (512, 256, 128, 64)
  channels: Size = 3
  base: Size = 4
  norm: Norm = 'batch'
  init_std: NotNegative | None = 0.02
  dtype: Any = jnp.float32

  sharding_rules: ClassVar[Rules] = (*outputs(r'(conv|norm)_\d*[02468]'), *inputs(r'conv_\d*[13579]'))

  @nn.compact
  def __call__(self, latents: Float[Array, 'b latent'], train: bool = False) -> Float[Array, 'b h w c']:
    """Noise to images in [-1, 1]."""
    x = latents[:, None, None, :]
    for i, width in enumerate((*self.features, self.channels)):
      last = i == len(self.features)
      x = nn.ConvTranspose(
        width,
        (self.base, self.base) if i == 0 else (4, 4),
        strides=(1, 1) if i == 0 else (2, 2),
        padding='VALID' if i == 0 else 'SAME',
        use_bias=last and self.norm != 'batch',
        kernel_init=kernel_init(self.init_std),
        dtype=self.dtype,
        name=f'conv_{i}',
      )(x)
      if not last:
        x = nn.relu(normalize(x, self.norm, train, f'norm_{i}', self.dtype))
    return jnp.tanh(x.astype(jnp.float32))


class ConvDiscriminator(nn.Module):
  """Convolutions from an image to one number, each halving the size; the mirror image of `ConvGenerator`.

  The defaults are DCGAN's discriminator for 64x64 images (2,765,568 parameters with 3 channels).

  Cite: radford2016unsupervised

  Attributes:
    features: channels of each hidden layer, the last at `base` x `base`.
    base: size before the last layer.
    norm: normalization after each hidden layer but the first: 'batch' (as published), 'group' or 'none'.
    slope: of the leaky ReLU below 0.
    dropout: rate after each hidden layer.
    init_std: as in `ConvGenerator`.
    dtype: of the computation; the output is float32.
  """

  features: tuple[Size, ...] = (64, 128, 256, 512)
  base: Size = 4
  norm: Norm = 'batch'
  slope: Number = 0.2
  dropout: BelowOne = 0.0
  init_std: NotNegative | None = 0.02
  dtype: Any = jnp.float32

  sharding_rules: ClassVar[Rules] = (*outputs(r'(conv|norm)_\d*[02468]'), *inputs(r'conv_\d*[13579]'))

  @nn.compact
  def __call__(self, images: Float[Array, 'b h w c'], train: bool = False) -> Float[Array, ' b']:
    """Images in [-1, 1] to logits: positive for real ones."""
    x = images
    for i, width in enumerate(self.features):
      x = self._conv(width, (4, 4), (2, 2), 'SAME', f'conv_{i}')(x)
      if i:
        x = normalize(x, self.norm, train, f'norm_{i}', self.dtype)
      x = nn.leaky_relu(x, self.slope)
      x = nn.Dropout(self.dropout, deterministic=not train)(x)
    x = self._conv(1, (self.base, self.base), (1, 1), 'VALID', f'conv_{len(self.features)}')(x)
    return x.astype(jnp.float32).reshape(len(images))

  def _conv(self, width: int, kernel: tuple[int, int], strides: tuple[int, int], padding: str, name: str) -> nn.Module:
    return nn.Conv(
      width,
      kernel,
      strides,
      padding,
      use_bias=self.norm != 'batch',
      kernel_init=kernel_init(self.init_std),
      dtype=self.dtype,
      name=name,
    )


def kernel_init(std: float | None) -> nn.initializers.Initializer:
  """Normal with a given standard deviation, or scaled to the inputs."""
  return nn.initializers.he_normal() if std is None else nn.initializers.normal(std)


def normalize(x: Float[Array, 'b h w c'], norm: Norm, train: bool, name: str, dtype: Any) -> Float[Array, 'b h w c']:
  """Normalization by name; called inside a compact module."""
  if norm == 'batch':
    scale = nn.initializers.normal(0.02)
    around_one = lambda key, shape, dtype=jnp.float32: 1 + scale(key, shape, dtype)
    return batch_norm(train, dtype, scale_init=around_one, name=name)(x)
  if norm == 'group':
    return group_norm(num_groups=None, group_size=8, dtype=dtype, name=name)(x)
  return x
