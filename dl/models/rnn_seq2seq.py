"""Recurrent encoder-decoders with attention: those of Bahdanau and others, and of Luong and others."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from dl.config.bounds import BelowOne, Depth, Size
from dl.contract.axes import Axes
from dl.contract.weights import Rules, outputs
from dl.nn import products
from dl.nn.cached import CachedPair
from dl.nn.recurrent import Carry, Cell, Stack
from dl.nn.recurrent_attention import AttentiveStack, Memory, Reading, Score, keys


class EncoderDecoder(CachedPair, nn.Module):
  """Reads a source whole, and gives the next token of a target; `dl.models.seq2seq.Transformer` is called alike.

  Negative ids after the end of a shorter text are padding. An encoder of both directions hands its last states on
  through a dense layer for each (of tanh, but for the memory of an LSTM), one of one direction as they are.

  Cite: bahdanau2015neural, luong2015effective

  Attributes:
    vocab_size: number of token ids of the source and, where `target_vocab_size` is None, of the target.
    target_vocab_size: token ids of the target, where it has a vocabulary of its own; None for one table of embeddings
      of both.
    cell: 'elman', 'lstm' or 'gru' (`dl.nn.recurrent`).
    width: features of each state, of each direction of the encoder and of the decoder.
    layers: of the encoder, and of the decoder.
    embedding: features of a token.
    bidirectional: whether the encoder reads in both directions.
    score: of the attention: 'dot' or 'general' (arXiv 1508.04025), or 'additive' (arXiv 1409.0473), which asks before
      a token is read (`dl.nn.recurrent_attention`).
    input_feeding: whether what came out for a token is read with the next one; not with 'additive'.
    tie_embeddings: whether the output layer is the target's table of embeddings (arXiv 1608.05859); what attention
      gives has `embedding` features then, and else `width`.
    reset: where a GRU's reset gate acts: 'after' the product with the state, or 'before' (`dl.nn.recurrent`).
    dropout: rate on embeddings, between layers and before the output.
    dtype: compute type of the products; states, softmax and logits are float32.
  """

  vocab_size: Size
  target_vocab_size: Size | None = None
  cell: Cell = 'gru'
  width: Size = 256
  layers: Depth = 1
  embedding: Size = 256
  bidirectional: bool = True
  score: Score = 'general'
  input_feeding: bool = False
  tie_embeddings: bool = False
  reset: Literal['after', 'before'] = 'after'
  dropout: BelowOne = 0.0
  dtype: Any = jnp.float32

  length: ClassVar[int | None] = None
  sharding_rules: ClassVar[Rules] = (
    *outputs('(input|hidden)'),
    *outputs('key'),
    *outputs('^out'),
    ('(^|/)(token|target)/embedding$', ('model', None)),
  )

  @nn.compact
  def __call__(
    self, texts: Mapping[str, Int[Array, 'b _']], train: bool = False, decode: bool = False
  ) -> Float[Array, 'b n vocab']:
    """Logits of the token after each one of a target.

    Args:
      texts: `source` [b, m] and `target` [b, n], which begins with the token that all targets begin with.
      train: whether things are dropped out.
      decode: whether the target continues those of earlier calls (with mutable=['cache']); the first has a `source`.
    """
    drop = lambda x: nn.Dropout(self.dropout, deterministic=not train)(x) if self.dropout else x
    table = lambda size, name: nn.Embed(size, self.embedding, dtype=self.dtype, name=name)
    token = table(self.vocab_size, 'token')
    target = token if self.target_vocab_size is None else table(self.target_vocab_size, 'target')
    if 'source' in texts:
      real = texts['source'] >= 0
      memory, states = self._encode(drop(token(jnp.maximum(texts['source'], 0))), real, train)
      read = memory, Reading(states)
    elif self.has_variable('cache', 'read'):
      read = self.get_variable('cache', 'read')
    else:
      raise ValueError('the first call needs a source')
    size = self.embedding if self.tie_embeddings else self.width
    decoder = AttentiveStack(
      self.cell, self.width, self.layers, size, self.score, self.input_feeding, self.reset, self.dropout, self.dtype,
      name='decoder',
    )  # fmt: skip
    y, reading = decoder(drop(target(jnp.maximum(texts['target'], 0))), *read, train)
    if decode:
      self.put_variable('cache', 'read', (read[0], reading))
    y = drop(y).astype(self.dtype)
    if self.tie_embeddings:
      logits = products.unembed(y, target.embedding)
    else:
      out = nn.Dense(self.target_vocab_size or self.vocab_size, dtype=self.dtype, name='out')
      logits = products.by_rows(out, y).astype(jnp.float32)
    return Axes(('batch', 'query', 'vocab'))(logits)

  @nn.nowrap
  def _encode(self, x: Float[Array, 'b m e'], real: Array, train: bool) -> tuple[Memory, tuple[Carry, ...]]:
    """(what is attended to, the states with which the decoder begins)."""
    encoder = Stack(
      self.cell, self.width, self.layers, self.bidirectional, reset=self.reset, dropout=self.dropout, dtype=self.dtype,
      name='encoder',
    )  # fmt: skip
    values, last = encoder(x, mask=real, train=train)
    values = values.astype(self.dtype)
    memory = Memory(values, keys(values, self.score, self.width, self.dtype), real)
    if not self.bidirectional:
      return memory, last
    pairs = zip(last[::2], last[1::2], strict=True)
    return memory, tuple(self._bridge(i, [*zip(*both, strict=True)]) for i, both in enumerate(pairs))

  @nn.nowrap
  def _bridge(self, layer: int, parts: list[tuple[Array, Array]]) -> Carry:
    """A state of the decoder, from the parts of those of both directions."""
    state = []
    for name, part in zip(('output', 'memory'), parts, strict=False):
      dense = nn.Dense(self.width, dtype=self.dtype, name=f'bridge_{layer}_{name}')
      y = dense(jnp.concatenate(part, -1)).astype(jnp.float32)
      state.append(jnp.tanh(y) if name == 'output' else y)
    return tuple(state)
