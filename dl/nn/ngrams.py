"""Embeddings of hashed n-grams, which give a byte model its local statistics at the price of a lookup."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, UInt32

from dl.config.bounds import Depth, Size
from dl.nn.context import Context

_MULTIPLIER = 0x9E3779B1  # odd, from the golden ratio: spreads neighbours over all 32 bits


class HashedNgrams(nn.Module):
  """The sum of one embedding for each n-gram that ends at a position (Byte Latent Transformer, arXiv 2412.09871, 3.2).

  The n-gram of order k at position i is tokens i-k+1 to i, hashed into one of `buckets` rows; places before the first
  token count as a token of their own. Different n-grams may share a row.

  Attributes:
    orders: lengths of the n-grams, each with a table of its own.
    buckets: rows a table.
    width: features.
    dtype: compute type.
  """

  orders: tuple[Depth, ...]
  buckets: Size
  width: Size
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, tokens: Int[Array, 'b n'], context: Context | None = None) -> Float[Array, 'b n width']:
    """Embeds `tokens`; while decoding, they continue those which the 'cache' collection remembers."""
    if min(self.orders) < 2:
      raise ValueError(f'orders of n-grams start at 2, got {min(self.orders)}')
    longest, decode = max(self.orders), context is not None and context.decode
    before = jnp.zeros((len(tokens), longest - 1), jnp.uint32)
    if decode:
      recent = self.variable('cache', 'recent', lambda: before)
      before = jnp.where(context.positions[0] == 0, 0, recent.value)
    padded = jnp.concatenate([before, tokens.astype(jnp.uint32) + 1], axis=1)
    if decode:
      recent.value = padded[:, padded.shape[1] - (longest - 1) :]
    init = nn.initializers.normal(0.02)
    total = 0.0
    for order in self.orders:
      table = nn.Embed(self.buckets, self.width, embedding_init=init, dtype=self.dtype, name=f'order_{order}')
      total += table(hashes(padded, order, tokens.shape[1]) % self.buckets)
    return total


def hashes(padded: UInt32[Array, 'b m'], order: int, count: int) -> UInt32[Array, 'b count']:
  """A hash of the `order` tokens which end at each of the last `count` positions."""
  m = padded.shape[1]
  result = jnp.zeros((len(padded), count), jnp.uint32)
  for back in range(order - 1, -1, -1):
    result = (result ^ padded[:, m - count - back : m - back]) * jnp.uint32(_MULTIPLIER)
    result ^= result >> 15
  return result
