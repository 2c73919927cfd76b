"""Recurrent decoders which attend to what an encoder has read: after each step (Luong) or before it (Bahdanau)."""

from typing import Any, Literal

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from dl.config.bounds import BelowOne, Depth, Size
from dl.contract.axes import Axes
from dl.nn import products
from dl.nn.recurrent import Carry, Cell, Stack

Score = Literal['dot', 'general', 'additive']
"""Of a state and a position of the memory: their product, that by a matrix (both arXiv 1508.04025), or a layer of tanh
(arXiv 1409.0473)."""


@flax.struct.dataclass
class Memory:
  """What an encoder has read.

  Attributes:
    values: features of each position.
    keys: what states are compared with.
    real: which positions are no padding.
  """

  values: Float[Array, 'b m f']
  keys: Float[Array, 'b m k']
  real: Bool[Array, 'b m']


@flax.struct.dataclass
class Reading:
  """A decoder after some tokens.

  Attributes:
    states: of each layer.
    fed: what the next step reads beside its token, where inputs are fed; else None.
  """

  states: tuple[Carry, ...]
  fed: Float[Array, 'b features'] | None = None


class AttentiveStack(nn.Module):
  """Layers of recurrent cells with attention to a memory.

  With the scores 'dot' and 'general' the state after a token asks, and a layer of tanh joins it with what it is given
  (Effective Approaches to Attention-based Neural Machine Translation, arXiv 1508.04025): all positions at once, unless
  inputs are fed. With 'additive' the state before a token asks; its answer is read with the token, and goes with both
  into a layer of maxima of pairs (Neural Machine Translation by Jointly Learning to Align and Translate, arXiv
  1409.0473).

  Its weights [b, 1, n, m] are in the collection 'attention', as those of `dl.nn.attention.Attention`.

  Attributes:
    cell: which kind.
    width: features of each state.
    layers: how many.
    features: of what comes out.
    score: how a state and a position of the memory are compared.
    input_feeding: whether what came out for a token is read with the next one; not with 'additive'.
    reset: of a GRU, see `dl.nn.recurrent.Recurrent`.
    dropout: rate between layers.
    dtype: compute type of the products; states and softmax are float32.
  """

  cell: Cell
  width: Size
  layers: Depth
  features: Size
  score: Score = 'general'
  input_feeding: bool = False
  reset: Literal['after', 'before'] = 'after'
  dropout: BelowOne = 0.0
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self, x: Float[Array, 'b n e'], memory: Memory, reading: Reading, train: bool = False
  ) -> tuple[Float[Array, 'b n features'], Reading]:
    """(features of each position, where the decoder then is); it begins with the states of `reading`."""
    if self.input_feeding and self.score == 'additive':
      raise ValueError("input_feeding: of the scores 'dot' and 'general' alone, not of 'additive'")
    stack = lambda: Stack(
      self.cell, self.width, self.layers, reset=self.reset, dropout=self.dropout, dtype=self.dtype, name='rnn'
    )
    if self.score == 'additive':
      y, states, weights = self._before(stack, x, memory, reading.states, train)
      return self._sown(y, weights), Reading(states)
    if self.input_feeding:
      y, reading, weights = self._fed(stack, x, memory, reading, train)
      return self._sown(y, weights), reading
    y, states = stack()(x, reading.states, train=train)
    given, weights = self._attend(y, memory)
    return self._sown(self._joined(y, given), weights), Reading(states)

  @nn.nowrap
  def _before(self, stack: Any, x: Array, memory: Memory, states: Any, train: bool) -> tuple[Array, Any, Array]:
    """(features, last states, weights) where the state before a token asks."""

    def step(self: Any, states: Any, x: Array) -> tuple[Any, tuple[Array, Array, Array]]:
      given, weights = self._attend(states[-1][0][:, None], memory)
      y, states = stack()(jnp.concatenate([x[:, None], given], -1), states, train=train)
      return states, (y[:, 0], given[:, 0], weights[:, 0])

    states, (y, given, weights) = _over_positions(step)(self, states, x)
    read = nn.Dense(2 * self.features, dtype=self.dtype, name='readout')
    y = products.by_rows(read, jnp.concatenate([y, given, x], -1))
    return y.reshape(*y.shape[:-1], self.features, 2).max(-1), states, weights

  @nn.nowrap
  def _fed(self, stack: Any, x: Array, memory: Memory, reading: Reading, train: bool) -> tuple[Array, Reading, Array]:
    """(features, where the decoder then is, weights) where a step reads what came out of the one before."""

    def step(self: Any, reading: Reading, x: Array) -> tuple[Reading, tuple[Array, Array]]:
      y, states = stack()(jnp.concatenate([x, reading.fed], -1)[:, None], reading.states, train=train)
      given, weights = self._attend(y, memory)
      y = self._joined(y, given)[:, 0]
      return Reading(states, y.astype(jnp.float32)), (y, weights[:, 0])

    fed = jnp.zeros((len(x), self.features), jnp.float32) if reading.fed is None else reading.fed
    reading, (y, weights) = _over_positions(step)(self, reading.replace(fed=fed), x)
    return y, reading, weights

  @nn.nowrap
  def _attend(self, state: Float[Array, 'b n w'], memory: Memory) -> tuple[Float[Array, 'b n f'], Array]:
    """(what the memory gives to each state, weights)."""
    state, keys = state.astype(self.dtype), memory.keys
    if self.score == 'additive':
      query = nn.Dense(keys.shape[-1], use_bias=False, dtype=self.dtype, name='query')(state)
      hidden = jnp.tanh(query[:, :, None] + keys[:, None])
      scores = nn.Dense(1, use_bias=False, dtype=self.dtype, name='score')(hidden)[..., 0].astype(jnp.float32)
    elif keys.shape[-1] != state.shape[-1]:
      raise ValueError(f'score: a product of {state.shape[-1]} features and {keys.shape[-1]}; take another score')
    else:
      scores = products.einsum('bnw,bmw->bnm', state, keys)
    weights = jax.nn.softmax(jnp.where(memory.real[:, None], scores, jnp.finfo(jnp.float32).min))
    return products.einsum('bnm,bmf->bnf', weights.astype(self.dtype), memory.values), weights

  @nn.nowrap
  def _joined(self, y: Float[Array, 'b n w'], given: Float[Array, 'b n f']) -> Float[Array, 'b n features']:
    join = nn.Dense(self.features, use_bias=False, dtype=self.dtype, name='join')
    return jnp.tanh(products.by_rows(join, jnp.concatenate([given, y], -1)))

  @nn.nowrap
  def _sown(self, y: Array, weights: Float[Array, 'b n m']) -> Array:
    if not self.is_initializing() and self.is_mutable_collection('attention'):
      self.sow('attention', 'weights', weights[:, None])
    return Axes(('batch', 'length', None))(y)


def _over_positions(step: Any) -> Any:
  """A scan of steps (module, carry, [b, f]) -> (carry, tree of [b, ...]) over [b, n, f]."""
  rngs = {'params': False, 'dropout': True}
  return nn.scan(step, variable_broadcast='params', split_rngs=rngs, in_axes=1, out_axes=1)


def keys(values: Float[Array, 'b m f'], score: Score, width: int, dtype: Any) -> Float[Array, 'b m k']:
  """What states of a width are compared with; in a compact method, whose module gets the layer `key`."""
  if score == 'dot':
    return values
  return products.by_rows(nn.Dense(width, use_bias=False, dtype=dtype, name='key'), values)
