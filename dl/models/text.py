"""Classifiers of texts that see words, or a few beside each other, wherever they are. Negative tokens are padding."""

from typing import Any, ClassVar

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from dl.config.bounds import BelowOne, Count, Size
from dl.contract.weights import Rules, outputs
from dl.nn import time
from dl.nn.tokens import TokenEmbedding

_TABLES: Rules = (('(^|/)(token|pair)/embedding$', ('model', None)),)

_HASH = 1_000_003
"""A prime by which the first token of a pair counts more than the second."""


class TextCNN(nn.Module):
  """Convolutions over the embeddings of a text, and the largest value of each of their features.

  The convolutions are as long as the text, which is surrounded by zeros; what is behind its end is never the largest.

  Cite: kim2014convolutional

  Attributes:
    num_classes: number of logits.
    vocab_size: number of token ids.
    embedding: features of a token.
    sizes: tokens of the kernels.
    features: of each size of kernel.
    embedding_dropout: rate on embeddings.
    dropout: rate before the output layer.
    dtype: compute type.
  """

  num_classes: Size
  vocab_size: Size
  embedding: Size = 300
  sizes: tuple[Size, ...] = (3, 4, 5)
  features: Size = 100
  embedding_dropout: BelowOne = 0.0
  dropout: BelowOne = 0.5
  dtype: Any = jnp.float32

  sharding_rules: ClassVar[Rules] = (*outputs('conv_\\d+'), *_TABLES)

  @nn.compact
  def __call__(self, tokens: Int[Array, 'b n'], train: bool = False) -> Float[Array, 'b classes']:
    embed = TokenEmbedding(self.vocab_size, self.embedding, self.embedding_dropout, self.dtype, name='token')
    x, real = embed(tokens, train)
    found = []
    for size in self.sizes:
      y = nn.relu(nn.Conv(self.features, (size,), dtype=self.dtype, name=f'conv_{size}')(x))
      found.append(jnp.where(real[..., None], y, 0).max(1))  # a rectifier gives nothing less
    y = nn.Dropout(self.dropout, deterministic=not train)(jnp.concatenate(found, -1))
    return nn.Dense(self.num_classes, dtype=self.dtype, name='out')(y).astype(jnp.float32)


class FastText(nn.Module):
  """A linear model of the mean of embeddings: of words and, with `buckets`, of pairs of them.

  Cite: joulin2017bag

  Attributes:
    num_classes: number of logits.
    vocab_size: number of token ids.
    embedding: features of a token.
    buckets: rows for pairs of neighbours, which are hashed to them; 0 for words alone.
    dropout: rate on embeddings.
    dtype: compute type.
  """

  num_classes: Size
  vocab_size: Size
  embedding: Size = 10
  buckets: Count = 0
  dropout: BelowOne = 0.0
  dtype: Any = jnp.float32

  sharding_rules: ClassVar[Rules] = _TABLES

  @nn.compact
  def __call__(self, tokens: Int[Array, 'b n'], train: bool = False) -> Float[Array, 'b classes']:
    embed = lambda size, name: TokenEmbedding(size, self.embedding, self.dropout, self.dtype, name=name)
    x, real = embed(self.vocab_size, 'token')(tokens, train)
    if self.buckets and tokens.shape[1] > 1:
      first, second = tokens[:, :-1].astype(jnp.uint32), tokens[:, 1:].astype(jnp.uint32)
      hashed = ((first * _HASH + second) % self.buckets).astype(jnp.int32)
      y, paired = embed(self.buckets, 'pair')(jnp.where(tokens[:, 1:] >= 0, hashed, -1), train)
      x, real = jnp.concatenate([x, y], 1), jnp.concatenate([real, paired], 1)
    x = time.mean(x, real[..., None])
    return nn.Dense(self.num_classes, dtype=self.dtype, name='out')(x).astype(jnp.float32)
