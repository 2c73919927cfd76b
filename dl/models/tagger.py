"""A tagger: a bidirectional LSTM over words and what convolutions see of their characters (arXiv 1603.01354)."""

from typing import Any, ClassVar

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from dl.config.bounds import BelowOne, Count, Depth, Size
from dl.contract.weights import Rules, outputs
from dl.nn.recurrent import Stack
from dl.nn.tokens import TokenEmbedding


class BiLSTMTagger(nn.Module):
  """Scores of the tags of each word; with `crf`, also of one tag after another (`dl.losses.sequence`).

  Words are given as [1 + characters] ids each, or as one; negative ids are padding.

  Cite: ma2016end, huang2015bidirectional, lample2016neural

  Attributes:
    num_outputs: number of tags.
    vocab_size: number of ids of words.
    embedding: features of a word.
    character_size: number of ids of characters; 0 for words alone.
    character_embedding: features of a character.
    character_features: that convolutions make of a word's characters.
    character_window: characters of their kernel.
    width: features of the state in each direction.
    layers: of LSTM.
    dropout: rate on what the LSTM reads, between its layers and on what it gives.
    crf: whether there are scores of transitions; they are then of the first and last tag, too.
    dtype: compute type; states and scores are float32.
  """

  num_outputs: Size
  vocab_size: Size
  embedding: Size = 100
  character_size: Count = 0
  character_embedding: Size = 25
  character_features: Size = 30
  character_window: Size = 3
  width: Size = 100
  layers: Depth = 1
  dropout: BelowOne = 0.5
  crf: bool = True
  dtype: Any = jnp.float32

  bidirectional: ClassVar[bool] = True
  sharding_rules: ClassVar[Rules] = (
    *outputs('(input|hidden)'),
    *outputs('^out'),
    ('(^|/)token/embedding$', ('model', None)),
  )

  @nn.compact
  def __call__(
    self, words: Int[Array, 'b n ids'] | Int[Array, 'b n'], train: bool = False
  ) -> Float[Array, 'b n tags'] | dict[str, Array]:
    """Scores [b, n, tags]; of a CRF {'out': those, 'transitions': [from, to], 'begin': [tags], 'end': [tags]}."""
    words = words if words.ndim == 3 else words[..., None]
    drop = lambda x: nn.Dropout(self.dropout, deterministic=not train)(x) if self.dropout else x
    x, mask = TokenEmbedding(self.vocab_size, self.embedding, dtype=self.dtype, name='token')(words[..., 0])
    if self.character_size:
      if words.shape[-1] == 1:
        raise ValueError('character_size: the words come without characters; set it to 0')
      x = jnp.concatenate([x, self._spelling(words[..., 1:])], -1)
    stack = Stack('lstm', self.width, self.layers, True, dropout=self.dropout, dtype=self.dtype, name='rnn')
    y, _ = stack(drop(x), mask=mask, train=train)
    scores = nn.Dense(self.num_outputs, dtype=self.dtype, name='out')(drop(y)).astype(jnp.float32)
    if not self.crf:
      return scores
    param = lambda name, *shape: self.param(name, nn.initializers.zeros, shape, jnp.float32)
    k = self.num_outputs
    return {
      'out': scores,
      'transitions': param('transitions', k, k),
      'begin': param('begin', k),
      'end': param('end', k),
    }

  def _spelling(self, characters: Int[Array, 'b n c']) -> Float[Array, 'b n features']:
    """The largest value of each feature over the characters of a word."""
    embed = TokenEmbedding(self.character_size, self.character_embedding, dtype=self.dtype, name='character')
    x, real = embed(characters.reshape(-1, characters.shape[-1]))
    y = nn.Conv(self.character_features, (self.character_window,), dtype=self.dtype, name='spelling')(x)
    y = jnp.where(real[..., None], nn.relu(y), 0).max(1)
    return y.reshape(*characters.shape[:2], -1)
