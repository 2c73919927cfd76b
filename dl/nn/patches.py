"""Images as sequences of patches."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from dl.config.bounds import Size
from dl.nn import maps


class Patches(nn.Module):
  """A linear embedding of each patch (An Image is Worth 16x16 Words, arXiv 2010.11929), row by row.

  Attributes:
    patch: side of a patch; divides the image's.
    width: features a token.
    model: name of the network, for error lines.
    kernel_init: initializer of the embedding.
    dtype: compute type.
  """

  patch: Size
  width: Size
  model: str
  kernel_init: Any = nn.initializers.lecun_normal()
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: Float[Array, 'b h w c']) -> Float[Array, 'b rows columns width']:
    maps.check(x, self.model)
    h, w = x.shape[1:3]
    if h % self.patch or w % self.patch:
      sizes = [p for p in range(1, min(h, w) + 1) if h % p == w % p == 0]
      raise ValueError(f'patch: {self.patch} does not divide images of {h}x{w}; these do: {", ".join(map(str, sizes))}')
    side = (self.patch, self.patch)
    return nn.Conv(
      self.width, side, side, padding='VALID', dtype=self.dtype, kernel_init=self.kernel_init, name='proj'
    )(x)
