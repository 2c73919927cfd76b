"""What tokens are to a network: a row of features each."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from dl.config.bounds import BelowOne, Size


class TokenEmbedding(nn.Module):
  """Features of each token, drawn uniformly within 0.25 as Kim does (arXiv 1408.5882), and which tokens are real.

  Attributes:
    vocab_size: number of token ids; negative ones are padding, whose features are 0.
    features: how many.
    dropout: rate.
    dtype: of the features.
  """

  vocab_size: Size
  features: Size
  dropout: BelowOne = 0.0
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self, tokens: Int[Array, 'b n'], train: bool = False
  ) -> tuple[Float[Array, 'b n features'], Bool[Array, 'b n']]:
    if tokens.ndim != 2 or not jnp.issubdtype(tokens.dtype, jnp.integer):
      raise ValueError(f'vocab_size: of token ids [batch, length], got {tokens.dtype} {tokens.shape}')
    draw = nn.initializers.uniform(0.5)
    table = self.param('embedding', lambda *a: draw(*a) - 0.25, (self.vocab_size, self.features), jnp.float32)
    real = tokens >= 0
    x = table.astype(self.dtype)[jnp.maximum(tokens, 0)]
    x = nn.Dropout(self.dropout, deterministic=not train)(x) if self.dropout else x
    return jnp.where(real[..., None], x, 0), real
