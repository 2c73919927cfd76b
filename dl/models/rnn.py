"""Recurrent networks, from sequences to one answer, to one at each position, to the next token, and to what follows."""

import re
from typing import Any, ClassVar, Literal

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PyTree

from dl.config.bounds import BelowOne, Count, Depth, Size
from dl.contract.axes import Axes
from dl.contract.weights import Layouts, Rules, Tensors, outputs
from dl.nn import products, time
from dl.nn.recurrent import Carry, Cell, Stack, dropout
from dl.nn.tokens import TokenEmbedding

_RULES: Rules = (*outputs('(input|hidden)'), *outputs('^out'), ('(^|/)token/embedding$', ('model', None)))

_PARTS = {'ih': 'input', 'hh': 'hidden', 'hr': 'project'}


def _from_torch(tensors: Tensors, model: nn.Module) -> Tensors:
  """Those of `torch.nn.RNN`, `LSTM` or `GRU`, be they a module of their own or a part ('lstm.weight_ih_l0').

  PyTorch adds two biases in each gate. Here is their sum, but for the candidate of a GRU, whose reset gate comes
  between the two.
  """
  result: Tensors = {}
  for name, value in tensors.items():
    match = re.fullmatch(r'(?:.*\.)?(weight|bias)_(ih|hh|hr)_l(\d+)(_reverse)?', name)
    if match is None:
      result[name] = value
      continue
    what, of, number, reverse = match.groups(default='')
    layer = f'rnn.layer_{number}{reverse}'
    if what == 'weight':
      result[f'{layer}.{_PARTS[of]}.weight'] = value
      continue
    if model.cell == 'gru' and of == 'hh':
      value, result[f'{layer}.hidden.bias'] = np.split(value, [2 * model.width])
      value = np.pad(value, (0, model.width))
    result[f'{layer}.input.bias'] = result.get(f'{layer}.input.bias', 0) + value
  return result


class RNN(nn.Module):
  """A recurrent network of sequences [b, n, f], of texts, or of images, each of whose rows of pixels is a position.

  Weights of `torch.nn.RNN`, `LSTM` and `GRU` load with the layout 'torch'. The network is Elman's by default.
  With pooling 'none' and in one direction it can go on where it stopped: it is a `dl.decoding.decoder.Decoder`.

  Cite: elman1990finding, hochreiter1997long, cho2014learning

  Attributes:
    num_outputs: outputs of a sequence, or of each position.
    cell: 'elman', 'lstm' or 'gru' (`dl.nn.recurrent`).
    width: features of each state.
    layers: how many, one on top of another.
    bidirectional: whether each layer reads in both directions.
    pooling: what of the positions the outputs are of: the state after the 'last' one (of a backward layer, after the
      first), the 'mean' or 'max' over them, or 'none': each has outputs of its own.
    projection: features that an LSTM's output is projected to (arXiv 1402.1128); 0 for none.
    layer_norm: whether the products, and the memory of an LSTM, are normalized (arXiv 1607.06450).
    reset: where a GRU's reset gate acts: 'after' the product with the state, as in cuDNN, or 'before', as in the paper.
    activation: of Elman's network.
    dropout: rate on embeddings, between layers and before the output.
    padded: whether sequences end in positions of NaN where they are shorter than others.
    vocab_size: number of token ids, of texts [b, n] in which negative ids are padding; None for what is no text.
    embedding: features of a token.
    dtype: compute type of the products; states and outputs are float32.
  """

  num_outputs: Size
  cell: Cell = 'elman'
  width: Size = 128
  layers: Depth = 1
  bidirectional: bool = False
  pooling: Literal['last', 'mean', 'max', 'none'] = 'last'
  projection: Count = 0
  layer_norm: bool = False
  reset: Literal['after', 'before'] = 'after'
  activation: Literal['tanh', 'relu'] = 'tanh'
  dropout: BelowOne = 0.0
  padded: bool = False
  vocab_size: Size | None = None
  embedding: Size = 128
  dtype: Any = jnp.float32

  length: ClassVar[int | None] = None
  sharding_rules: ClassVar[Rules] = _RULES
  layouts: ClassVar[Layouts] = {'torch': _from_torch}

  @nn.compact
  def __call__(
    self,
    x: Float[Array, 'b n *f'] | Int[Array, 'b n'],
    train: bool = False,
    mask: Bool[Array, 'b n'] | None = None,
    carry: tuple[Carry, ...] | None = None,
    state: bool = False,
  ) -> Float[Array, 'b outputs'] | Float[Array, 'b n outputs'] | tuple[Array, tuple[Carry, ...]]:
    """Outputs of each sequence, or of each position; with `state`, (outputs, the states after the last position).

    Args:
      x: sequences.
      train: whether things are dropped out.
      mask: which positions are real; None for all.
      carry: the states before the first position; None for zeros.
      state: whether to return states.
    """
    if self.vocab_size is not None:
      x, mask = TokenEmbedding(self.vocab_size, self.embedding, self.dropout, self.dtype, name='token')(x, train)
    if x.ndim < 3:
      hint = '; of texts, set vocab_size' if jnp.issubdtype(x.dtype, jnp.integer) else ''
      raise ValueError(f'needs sequences [batch, length, features], got {x.shape}{hint}')
    x = x.reshape(*x.shape[:2], -1)
    if self.padded and mask is None:
      mask = time.real(x)[..., 0]
    rnn = Stack(
      self.cell, self.width, self.layers, self.bidirectional, self.projection, self.layer_norm, self.reset,
      self.activation, self.dropout, dtype=self.dtype, name='rnn',
    )  # fmt: skip
    y, last = rnn(x, carry, mask, train)
    real = jnp.ones(x.shape[:2], bool) if mask is None else mask
    if self.pooling == 'last':
      y = jnp.concatenate([state[0] for state in last[-1 - self.bidirectional :]], -1)
    elif self.pooling == 'mean':
      y = y.sum(1) / jnp.maximum(real.sum(1, keepdims=True), 1)
    elif self.pooling == 'max':
      y = jnp.where(real[..., None], y, -jnp.inf).max(1)
      y = jnp.where(real.any(1, keepdims=True), y, 0)  # of no position at all
    y = nn.Dropout(self.dropout, deterministic=not train)(y) if self.dropout else y
    y = nn.Dense(self.num_outputs, dtype=self.dtype, name='out')(y).astype(jnp.float32)
    return (y, last) if state else y

  @nn.nowrap
  def prefill(self, variables: PyTree, x: Float[Array, 'b n f'] | Int[Array, 'b n']) -> tuple[Array, PyTree]:
    """(outputs of the last position, states); see `dl.decoding.decoder.Decoder`."""
    if self.pooling != 'none' or self.bidirectional:
      raise ValueError("pooling: what is to go on reads forward alone, and has outputs of each position: 'none'")
    y, carry = self.apply(variables, x, state=True)
    return y[:, -1], carry

  @nn.nowrap
  def step(self, variables: PyTree, cache: PyTree, x: Float[Array, 'b f'] | Int[Array, ' b']) -> tuple[Array, PyTree]:
    """(outputs of one more position a row, states)."""
    y, carry = self.apply(variables, x[:, None], carry=cache, state=True)
    return y[:, -1], carry


class RecurrentForecaster(nn.Module):
  """All steps of a forecast at once, by one linear map of the last state; the channels are read together.

  Each series is normalized by its own mean and deviation (RevIN), which the forecast gets back: a state is no place to
  keep the level of a series in.

  Cite: hochreiter1997long, kim2022reversible

  Attributes:
    horizon: steps that are forecast.
    cell: 'elman', 'lstm' or 'gru' (`dl.nn.recurrent`).
    width: features of each state.
    layers: how many, one on top of another.
    dropout: rate between layers and before the output.
    dtype: compute type of the products; states and forecasts are float32.
  """

  horizon: Size
  cell: Cell = 'lstm'
  width: Size = 64
  layers: Depth = 1
  dropout: BelowOne = 0.0
  dtype: Any = jnp.float32

  sharding_rules: ClassVar[Rules] = _RULES
  layouts: ClassVar[Layouts] = {'torch': _from_torch}

  @nn.compact
  def __call__(self, x: Float[Array, 'b n c'], train: bool = False) -> Float[Array, 'b horizon c']:
    time.check(x, 'RecurrentForecaster')
    x, undo = time.RevIN()(x)
    rnn = Stack(self.cell, self.width, self.layers, dropout=self.dropout, dtype=self.dtype, name='rnn')
    _, last = rnn(x, train=train)
    y = nn.Dropout(self.dropout, deterministic=not train)(last[-1][0]) if self.dropout else last[-1][0]
    y = nn.Dense(self.horizon * x.shape[-1], dtype=self.dtype, name='out')(y).astype(jnp.float32)
    return undo(y.reshape(len(y), self.horizon, -1))


Logits = Float[Array, 'b n vocab'] | dict[str, Array]


class RecurrentLanguageModel(nn.Module):
  """The next token from the state that the tokens before have left; a `dl.decoding.decoder.Decoder` without an end.

  By default that of Zaremba and others (arXiv 1409.2329), whose dropout is on all but the connections from step to
  step: 4,651,600 parameters with 10,000 words and a width of 200. What AWD-LSTM adds (arXiv 1708.02182) are options.

  Cite: mikolov2010recurrent, zaremba2014recurrent

  Attributes:
    vocab_size: number of token ids.
    cell: 'elman', 'lstm' or 'gru' (`dl.nn.recurrent`).
    width: features of each state.
    layers: how many, one on top of another.
    embedding: features of a token; None for as many as of a state.
    last_width: features of each state of the last layer, which may be those of a token and not of the other layers;
      None for `width`.
    tie_embeddings: whether the output layer is the token embedding (arXiv 1608.05859).
    projection: features that an LSTM's output is projected to (arXiv 1402.1128); 0 for none.
    layer_norm: whether the products, and the memory of an LSTM, are normalized (arXiv 1607.06450).
    reset: where a GRU's reset gate acts: 'after' the product with the state, or 'before'.
    activation: of Elman's network.
    dropout: rate on embeddings, between layers and before the output.
    input_dropout: rate on embeddings; None for `dropout`.
    hidden_dropout: rate between layers; None for `dropout`.
    locked: whether these three are the same for all tokens of a row (arXiv 1512.05287).
    word_dropout: rate at which whole words lose their embedding, wherever they stand in a batch (arXiv 1512.05287).
    weight_dropout: rate on the weights of the products with the states (arXiv 1708.02182).
    penalties: whether training gives what to penalize, too.
    dtype: compute type of the products; states and logits are float32.
  """

  vocab_size: Size
  cell: Cell = 'lstm'
  width: Size = 200
  layers: Depth = 2
  embedding: Size | None = None
  last_width: Size | None = None
  tie_embeddings: bool = False
  projection: Count = 0
  layer_norm: bool = False
  reset: Literal['after', 'before'] = 'after'
  activation: Literal['tanh', 'relu'] = 'tanh'
  dropout: BelowOne = 0.0
  input_dropout: BelowOne | None = None
  hidden_dropout: BelowOne | None = None
  locked: bool = False
  word_dropout: BelowOne = 0.0
  weight_dropout: BelowOne = 0.0
  penalties: bool = False
  dtype: Any = jnp.float32

  length: ClassVar[int | None] = None
  sharding_rules: ClassVar[Rules] = _RULES
  layouts: ClassVar[Layouts] = {'torch': _from_torch}

  @nn.compact
  def __call__(
    self, tokens: Int[Array, 'b n'], train: bool = False, carry: tuple[Carry, ...] | None = None, state: bool = False
  ) -> Logits | tuple[Logits, tuple[Carry, ...]]:
    """Logits of the token after each one; with `state`, (logits, the states after the last one).

    In training with `penalties`, the logits are `out` of a dict, beside means of squares, both of the last layer:
    `activation`, of its outputs as they are dropped out, and `temporal`, of their changes from token to token.

    Args:
      tokens: ids.
      train: whether things are dropped out.
      carry: the states before the first token; None for zeros.
      state: whether to return states.
    """
    size = self.width if self.embedding is None else self.embedding
    top = self.projection or self.last_width or self.width
    if self.tie_embeddings and size != top:
      raise ValueError(f'tie_embeddings: embeddings have {size} features, and the last layer gives {top}')
    drop = lambda x, rate: dropout(rate, self.locked, train)(x) if rate else x
    embed = nn.Embed(self.vocab_size, size, dtype=self.dtype, name='token')
    x = embed(tokens)
    if self.word_dropout:
      kept = nn.Dropout(self.word_dropout, deterministic=not train)(jnp.ones(self.vocab_size, self.dtype))
      x = x * kept[tokens][..., None]
    x = drop(x, self.dropout if self.input_dropout is None else self.input_dropout)
    y, last = self._stack('rnn')(x, carry, train=train)
    dropped = drop(y, self.dropout)
    y, top = dropped.astype(self.dtype), y
    if self.tie_embeddings:
      logits = products.unembed(y, embed.embedding)
    else:
      logits = nn.Dense(self.vocab_size, dtype=self.dtype, name='out')(y).astype(jnp.float32)
    logits = Axes(('batch', 'query', 'vocab'))(logits)
    if self.penalties and train:
      changes = jnp.square(top[:, 1:] - top[:, :-1])
      temporal = changes.sum() / max(changes.size, 1)  # of one token there is none
      logits = {'out': logits, 'activation': jnp.square(dropped).mean(), 'temporal': temporal}
    return (logits, last) if state else logits

  @nn.nowrap
  def _stack(self, name: str | None = None) -> Stack:
    return Stack(
      self.cell, self.width, self.layers, False, self.projection, self.layer_norm, self.reset, self.activation,
      self.dropout if self.hidden_dropout is None else self.hidden_dropout, self.locked, self.weight_dropout,
      self.last_width, self.dtype, name=name,
    )  # fmt: skip

  @nn.nowrap
  def begin(self, rows: int) -> tuple[Carry, ...]:
    """The states before anything was read."""
    return self._stack().begin(rows)

  @nn.nowrap
  def prefill(self, variables: PyTree, tokens: Int[Array, 'b n']) -> tuple[Float[Array, 'b vocab'], PyTree]:
    """(logits of the token after the last one, states); see `dl.decoding.decoder.Decoder`."""
    logits, carry = self.apply(variables, tokens, state=True)
    return logits[:, -1], carry

  @nn.nowrap
  def step(self, variables: PyTree, cache: PyTree, tokens: Int[Array, ' b']) -> tuple[Float[Array, 'b vocab'], PyTree]:
    """(logits of the token after one more a row, states)."""
    logits, carry = self.apply(variables, tokens[:, None], carry=cache, state=True)
    return logits[:, -1], carry
