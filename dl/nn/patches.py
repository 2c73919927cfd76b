"""Images as sequences of patches, and the two-layer network which treats each token by itself."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from dl.errors import ConfigError
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

  patch: int
  width: int
  model: str
  kernel_init: Any = nn.initializers.lecun_normal()
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: Float[Array, 'b h w c']) -> Float[Array, 'b rows columns width']:
    maps.check(x, self.model)
    h, w = x.shape[1:3]
    if h % self.patch or w % self.patch:
      sizes = [p for p in range(1, min(h, w) + 1) if h % p == w % p == 0]
      raise ConfigError(
        f'config.model.patch: {self.patch} does not divide images of {h}x{w}; these do: {", ".join(map(str, sizes))}'
      )
    side = (self.patch, self.patch)
    return nn.Conv(
      self.width, side, side, padding='VALID', dtype=self.dtype, kernel_init=self.kernel_init, name='proj'
    )(x)


class FeedForward(nn.Module):
  """Dense, GELU, dense over the last axis (Attention Is All You Need, arXiv 1706.03762); dropout after both.

  Attributes:
    hidden: features between the layers.
    dropout: rate.
    kernel_init: initializer of both layers.
    bias_init: initializer of their biases.
    dtype: compute type.
  """

  hidden: int
  dropout: float = 0.0
  kernel_init: Any = nn.initializers.xavier_uniform()
  bias_init: Any = nn.initializers.zeros
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: Float[Array, '*n d'], train: bool) -> Float[Array, '*n d']:
    width = x.shape[-1]
    dense = lambda features, name: nn.Dense(
      features, dtype=self.dtype, kernel_init=self.kernel_init, bias_init=self.bias_init, name=name
    )
    drop = nn.Dropout(self.dropout, deterministic=not train)
    x = drop(nn.gelu(dense(self.hidden, 'fc1')(x), approximate=False))
    return drop(dense(width, 'fc2')(x))
