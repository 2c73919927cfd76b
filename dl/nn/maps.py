"""Maps [b, h, w, c]: sizes that strides divide, resizing as PyTorch does it, and the ways back up from pooling."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from dl.config.bounds import Size

Box = tuple[int, int, int, int]
"""(top, left, height, width) of a part of a map."""


def check(x: Float[Array, '...'], name: str) -> None:
  """Raises ValueError unless the inputs of a model are images [b, h, w, c]."""
  if x.ndim != 4:
    raise ValueError(f'{name} takes images [height, width, channels], the data has shape {x.shape[1:]}')


def pad_to_multiple(x: Float[Array, 'b h w c'], multiple: int) -> tuple[Float[Array, 'b H W c'], Box]:
  """The maps with their edges repeated until `multiple` divides both sides, and where they lie inside that."""
  h, w = x.shape[1:3]
  pads = [((-n % multiple) // 2, (-n % multiple + 1) // 2) for n in (h, w)]
  if any(map(any, pads)):
    x = jnp.pad(x, ((0, 0), *pads, (0, 0)), mode='edge')
  return x, (pads[0][0], pads[1][0], h, w)


def crop(x: Float[Array, 'b H W c'], box: Box) -> Float[Array, 'b h w c']:
  """A part of the maps."""
  top, left, h, w = box
  return x[:, top : top + h, left : left + w]


def centre_crop(x: Array, size: tuple[int, int]) -> Array:
  """The middle of maps [b, H, W, ...], whose rows and columns are `size`."""
  top, left = ((n - s) // 2 for n, s in zip(x.shape[1:3], size, strict=True))
  return x[:, top : top + size[0], left : left + size[1]]


def resize(x: Float[Array, 'b h w c'], size: tuple[int, int]) -> Float[Array, 'b H W c']:
  """Bilinear resizing, as PyTorch's `interpolate(mode='bilinear', align_corners=False)`; in float32."""
  b, c = x.shape[0], x.shape[-1]
  return jax.image.resize(x.astype(jnp.float32), (b, *size, c), 'bilinear', antialias=False)


class UpConv(nn.Module):
  """A transposed convolution of 2x2 with stride 2, which doubles the size: PyTorch's `ConvTranspose2d(c, f, 2, 2)`.

  Since windows do not overlap, it is one matrix product, whose gradient is many times faster than that of a
  transposed convolution on a CPU.

  Attributes:
    features: channels of the result.
    dtype: compute type.
  """

  features: Size
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: Float[Array, 'b h w c']) -> Float[Array, 'b 2*h 2*w f']:
    b, h, w, c = x.shape
    # Each output sees one tap of the four, so the variance is 1 / c.
    init = nn.initializers.variance_scaling(4.0, 'fan_in', 'normal', in_axis=-1, out_axis=-2)
    kernel = self.param('kernel', init, (2, 2, self.features, c), jnp.float32)
    bias = self.param('bias', nn.initializers.zeros, (self.features,), jnp.float32)
    x, kernel, bias = nn.dtypes.promote_dtype(x, kernel, bias, dtype=self.dtype)
    return jnp.einsum('bhwi,yxoi->bhywxo', x, kernel).reshape(b, 2 * h, 2 * w, self.features) + bias


def max_pool_switches(x: Float[Array, 'b 2*h 2*w c']) -> tuple[Float[Array, 'b h w c'], Bool[Array, 'b h 2 w 2 c']]:
  """The largest of each 2x2 window, and the switches: where it was (the first of equal ones)."""
  b, h, w, c = x.shape
  windows = x.reshape(b, h // 2, 2, w // 2, 2, c).swapaxes(2, 3).reshape(b, h // 2, w // 2, 4, c)
  switches = jnp.arange(4)[:, None] == windows.argmax(3)[..., None, :]
  pooled = jnp.where(switches, windows, 0).sum(3)
  return pooled, switches.reshape(b, h // 2, w // 2, 2, 2, c).swapaxes(2, 3)


def max_unpool(x: Float[Array, 'b h w c'], switches: Bool[Array, 'b h 2 w 2 c']) -> Float[Array, 'b 2*h 2*w c']:
  """Each value back where `max_pool_switches` found the largest, among zeros."""
  b, h, w, c = x.shape
  return jnp.where(switches, x[:, :, None, :, None], 0).reshape(b, 2 * h, 2 * w, c)
