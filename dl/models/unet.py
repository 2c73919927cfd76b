"""U-Net (U-Net: Convolutional Networks for Biomedical Image Segmentation, arXiv 1505.04597)."""

from typing import Any, ClassVar, Literal

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from dl.config.bounds import BelowOne, Size
from dl.contract.weights import Rules, inputs, outputs
from dl.nn import maps, pooling
from dl.nn.convolution import convolution
from dl.nn.norm import batch_norm


class UNet(nn.Module):
  """A contracting path and an expanding one, whose levels are joined: 31,030,658 parameters for one channel and two
  classes.

  Each level is two convolutions of 3x3 with rectifiers; 2x2 max pooling leads down, 2x2 transposed convolutions up,
  where the maps of the same level are put beside theirs.

  Cite: ronneberger2015u

  Attributes:
    num_classes: number of logits a pixel.
    features: channels of the levels, from the top.
    padding: 'same' pads the convolutions with zeros, and images (by repeating their edges) until they can be halved,
      so that logits have the size of the image, whatever that is; 'valid' pads nothing, as in the paper: an image of
      572x572 gives the logits of its middle 388x388.
    batch_norm: whether each 3x3 convolution is normalized, instead of having a bias (the paper's are not).
    dropout: rate at the end of the contracting path.
    dtype: compute type.
  """

  num_classes: Size
  features: tuple[Size, ...] = (64, 128, 256, 512, 1024)
  padding: Literal['same', 'valid'] = 'same'
  batch_norm: bool = False
  dropout: BelowOne = 0.0
  dtype: Any = jnp.float32

  sharding_rules: ClassVar[Rules] = (
    *outputs(r'(en|de)coder_\d+/(conv|norm)_0'),
    *inputs(r'(en|de)coder_\d+/conv_1'),
  )

  @nn.compact
  def __call__(self, x: Float[Array, 'b h w c'], train: bool = False) -> Float[Array, 'b H W classes']:
    maps.check(x, 'UNet')
    depth = len(self.features) - 1
    if self.padding == 'valid':
      _check_valid(x.shape[1:3], depth)
      box = None
    else:
      x, box = maps.pad_to_multiple(x, 2**depth)
    x = x.astype(self.dtype)
    block = lambda i, name: _Block(self.features[i], self.padding, self.batch_norm, self.dtype, name=f'{name}_{i}')
    levels = []
    for i in range(depth + 1):
      if i:
        x = pooling.max_pool(x, 2, 2)
      x = block(i, 'encoder')(x, train)
      levels.append(x)
    x = nn.Dropout(self.dropout, deterministic=not train)(x)
    for i in reversed(range(depth)):
      x = maps.UpConv(self.features[i], self.dtype, name=f'up_{i}')(x)
      x = jnp.concatenate([maps.centre_crop(levels[i], x.shape[1:3]), x], -1)
      x = block(i, 'decoder')(x, train)
    x = nn.Conv(self.num_classes, (1, 1), dtype=self.dtype, name='out')(x).astype(jnp.float32)
    return x if box is None else maps.crop(x, box)


class _Block(nn.Module):
  features: int
  padding: str
  batch_norm: bool
  dtype: Any

  @nn.compact
  def __call__(self, x: Float[Array, 'b h w c'], train: bool) -> Float[Array, 'b H W f']:
    padding = None if self.padding == 'same' else 0
    init = nn.initializers.variance_scaling(2.0, 'fan_in', 'normal')  # the paper's sqrt(2 / N)
    for i in range(2):
      x = convolution(
        self.features,
        3,
        padding=padding,
        use_bias=not self.batch_norm,
        kernel_init=init,
        dtype=self.dtype,
        name=f'conv_{i}',
      )(x)
      if self.batch_norm:
        x = batch_norm(train, self.dtype, name=f'norm_{i}')(x)
      x = nn.relu(x)
    return x


def _check_valid(size: tuple[int, int], depth: int) -> None:
  """Raises ValueError for a size which pooling without padding does not halve evenly down to something."""
  step, margin = 2**depth, 4 * (2**depth - 1)  # of the images whose maps at the bottom have whole sides
  # Two convolutions take 4 at the bottom and at each level on the way up; something has to be left.
  least = next(n for n in range(5, 99) if _out(n, depth) > 0)
  for n in size:
    bottom = (n - margin) // step
    if (n - margin) % step or bottom < least:
      near = [max(bottom, least) * step + margin, max(bottom + 1, least) * step + margin]
      which = ' or '.join(map(str, dict.fromkeys(near)))
      raise ValueError(f"padding: 'valid' takes images of a side of {which}, say, not of {n}")


def _out(bottom: int, depth: int) -> int:
  n = bottom - 4
  for _ in range(depth):
    n = 2 * n - 4 if n > 0 else n
  return n
