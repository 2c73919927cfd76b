"""Recurrent layers as compiled scans: Elman's network, LSTM and GRU, in both directions, over texts of any length.

The products with the inputs do not depend on the state, so they are one product for all positions; the scan has those
with the state alone. Of two biases that are only ever added, as those of cuDNN, one is kept.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from dl.config.bounds import BelowOne, Count, Depth, Size
from dl.contract.axes import Axes
from dl.nn import products
from dl.nn.norm import layer_norm

Cell = Literal['elman', 'lstm', 'gru']
"""Finding Structure in Time (Elman 1990), Long Short-Term Memory (Hochreiter and Schmidhuber 1997; with forget gates,
Gers and others 2000), and gated recurrent units (arXiv 1406.1078)."""

GATES = {'elman': 1, 'lstm': 4, 'gru': 3}

Carry = tuple[Float[Array, 'b size'], ...]
"""The state of a layer: (output,) of Elman's network and the GRU, (output, memory) of the LSTM."""


class Recurrent(nn.Module):
  """One layer in one direction.

  Its parameters are `input` and `hidden`, of the products with the inputs and with the state, with the gates in the
  order of PyTorch: input, forget, candidate, output of an LSTM; reset, update, candidate of a GRU.

  Attributes:
    cell: which kind.
    width: features of the state.
    projection: features that an LSTM's output is projected to (arXiv 1402.1128); 0 for none.
    layer_norm: whether both products, and the memory of an LSTM before its output, are normalized (arXiv 1607.06450);
      the biases are those of the norms.
    reset: where a GRU's reset gate acts: 'after' the product with the state, as in cuDNN and PyTorch, or 'before' it,
      as in the paper.
    activation: of Elman's network.
    reverse: whether it reads from the end to the beginning.
    weight_dropout: rate at which weights of the product with the state are left out, the same ones for all positions
      and rows of a call (DropConnect in AWD-LSTM, arXiv 1708.02182).
    dtype: compute type of the products; the state is float32.
  """

  cell: Cell
  width: Size
  projection: Count = 0
  layer_norm: bool = False
  reset: Literal['after', 'before'] = 'after'
  activation: Literal['tanh', 'relu'] = 'tanh'
  reverse: bool = False
  weight_dropout: BelowOne = 0.0
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self,
    x: Float[Array, 'b n f'],
    carry: Carry | None = None,
    mask: Bool[Array, 'b n'] | None = None,
    train: bool = False,
  ) -> tuple[Float[Array, 'b n size'], Carry]:
    """(outputs, last state).

    Args:
      x: features.
      carry: the state before the first position; None for zeros.
      mask: which positions are real; None for all. Others leave the state as it is, and their outputs are 0, so the
        last state is that after the last real position, and a reverse layer begins at it.
      train: whether weights are dropped out.
    """
    if self.projection and self.cell != 'lstm':
      raise ValueError(f'projection: of an LSTM alone, not of {self.cell!r}')
    if mask is not None:
      x = jnp.where(mask[..., None], x, 0)  # what pads may be NaN
    gates = GATES[self.cell]
    size = self.projection or self.width
    over = lambda v: jnp.moveaxis(v, 1, 0)
    given, real = self._given(over(x), gates), None if mask is None else over(mask)
    carry = self.begin(len(x)) if carry is None else carry
    kernel, step = self._step(size, gates, train)
    if kernel is None:
      whole = lambda carry, given, _: step(carry, given)
      carry, outputs = _scan(whole, lambda *_: None, self.reverse, carry, given, real)
    else:
      some = self._product(carry[0], kernel)
      step, constants = jax.closure_convert(step, carry, given[0], some)
      carry, outputs = _recur(step, self._product, self.reverse, kernel, constants, carry, given, real)
    outputs = over(outputs)
    return outputs if mask is None else jnp.where(mask[..., None], outputs, 0.0), carry

  @nn.nowrap
  def begin(self, rows: int) -> Carry:
    """The state before anything was read."""
    output = jnp.zeros((rows, self.projection or self.width), jnp.float32)
    return (output, jnp.zeros((rows, self.width), jnp.float32)) if self.cell == 'lstm' else (output,)

  @nn.nowrap
  def _given(self, x: Float[Array, 'n b f'], gates: int) -> Float[Array, 'n b gates']:
    """What the inputs give to the gates of each position."""
    kernel, bias = Weights(self.width, name='input')(x.shape[-1], gates * self.width, 0 if self.layer_norm else None)
    given = products.by_rows(lambda rows: self._product(rows, kernel), x)
    return self._norm('norm_input', gates * self.width)(given) if self.layer_norm else given + bias

  @nn.nowrap
  def _step(self, size: int, gates: int, train: bool) -> tuple[Array | None, Callable[..., Carry]]:
    """(kernel of the product with the state, (state, given, that product) -> state); a GRU's 'before' makes its own.

    What has parameters is made here, outside of the scan.
    """
    of_candidate = self.width if self.cell == 'gru' and self.reset == 'after' and not self.layer_norm else 0
    kernel, bias = Weights(self.width, name='hidden')(size, gates * self.width, of_candidate)
    if self.weight_dropout:
      kernel = nn.Dropout(self.weight_dropout, deterministic=not train)(kernel)
    normalize = self._norm('norm_hidden', gates * self.width) if self.layer_norm else lambda y: y
    if self.cell == 'elman':
      function = jnp.tanh if self.activation == 'tanh' else jax.nn.relu
      return kernel, lambda carry, given, held: (function(given + normalize(held)),)
    if self.cell == 'lstm':
      memory = self._norm('norm_memory', self.width) if self.layer_norm else lambda c: c
      project = lambda h: h
      if self.projection:
        project = functools.partial(self._product, kernel=Weights(self.width, name='project')(self.width, size, 0)[0])
      return kernel, lambda carry, given, held: _lstm(carry, given + normalize(held), memory, project)
    if self.reset == 'before' and self.layer_norm:
      raise ValueError("layer_norm: of a GRU with reset='after' alone")
    if self.reset == 'before':
      return None, lambda carry, given: _gru_before(carry, given, kernel, self._product)
    return kernel, lambda carry, given, held: _gru_after(carry, given, normalize(held), 0.0 if bias is None else bias)

  @nn.nowrap
  def _product(self, x: Array, kernel: Array) -> Array:
    return (x.astype(self.dtype) @ kernel.astype(self.dtype)).astype(jnp.float32)

  @nn.nowrap
  def _norm(self, name: str, size: int) -> Callable[[Array], Array]:
    """A layer norm which a scan may call: its parameters are made here."""
    norm, scale = layer_norm(1e-5, jnp.float32, parent=None), Scale(name=name)(size)
    return lambda y: norm.apply({'params': scale}, y)


def _scan(
  step: Callable[..., Carry],
  product: Callable[[Array, Any], Array],
  reverse: bool,
  carry: Carry,
  given: Float[Array, 'n b g'],
  real: Bool[Array, 'n b'] | None,
  extra: Array | None = None,
) -> tuple[Carry, Float[Array, 'n b size']]:
  """(last state, outputs) of all positions; a step takes (state, given, product of the state and a row of `extra`)."""

  def body(carry: Carry, at: tuple[Array, Array | None, Array | None]) -> tuple[Carry, Array]:
    given, real, extra = at
    new = step(carry, given, product(carry[0], extra))
    if real is not None:
      new = tuple(jnp.where(real[:, None], a, b) for a, b in zip(new, carry, strict=True))
    return new, new[0]

  return jax.lax.scan(body, carry, (given, real, extra), reverse=reverse)


Product = Callable[[Array, Array], Array]


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def _recur(
  step: Callable[..., Carry],
  product: Product,
  reverse: bool,
  kernel: Array,
  constants: Sequence[Array],
  carry: Carry,
  given: Float[Array, 'n b g'],
  real: Bool[Array, 'n b'] | None,
) -> tuple[Carry, Float[Array, 'n b size']]:
  """`_scan` with a gradient of the kernel that is one product for all positions, and not a sum of one for each."""
  bound = lambda *args: step(*args, *constants)
  return _scan(bound, lambda state, _: product(state, kernel), reverse, carry, given, real)


def _recur_forward(
  step: Callable[..., Carry], product: Product, reverse: bool, kernel: Array, constants: Any, carry: Carry, *given: Any
) -> tuple[tuple[Carry, Array], tuple[Any, ...]]:
  def run(constants: Any, carry: Carry, given: Array, seen: Array) -> tuple[Carry, Array]:
    bound = lambda *args: step(*args, *constants)
    return _scan(bound, lambda state, seen: _witnessed(product, state, kernel, seen), reverse, carry, given, real, seen)

  given, real = given
  seen = jnp.zeros((*given.shape[:2], kernel.shape[1]), jnp.float32)
  (last, outputs), back = jax.vjp(run, constants, carry, given, seen)
  first = carry[0][None]
  before = jnp.concatenate([outputs[1:], first] if reverse else [first, outputs[:-1]])
  return (last, outputs), (back, before, kernel)


def _recur_backward(
  step: Callable[..., Carry], product: Product, reverse: bool, kept: tuple[Any, ...], gradients: tuple[Carry, Array]
) -> tuple[Any, ...]:
  back, before, kernel = kept
  constants, carry, given, seen = back(gradients)
  rows = lambda x: x.reshape(-1, x.shape[-1])
  (of_kernel,) = jax.vjp(functools.partial(product, rows(before)), kernel)[1](rows(seen))
  return of_kernel, constants, carry, given, None


_recur.defvjp(_recur_forward, _recur_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _witnessed(product: Product, state: Array, kernel: Array, seen: Array) -> Array:
  """The product; its gradient is that of `seen`, whose value nobody reads, and that of the kernel is left out."""
  return product(state, kernel)


_witnessed.defvjp(
  lambda product, state, kernel, _: (product(state, kernel), kernel),
  lambda product, kernel, gradient: (product(gradient, kernel.T), None, gradient),
)


class Weights(nn.Module):
  """A kernel and a bias, as arrays: a scan over positions may not make parameters.

  Attributes:
    width: of the state; all are drawn uniformly within 1 / sqrt(width), as in PyTorch.
  """

  width: Size

  @nn.compact
  def __call__(self, rows: int, columns: int, biases: int | None = None) -> tuple[Array, Array | None]:
    """(kernel [rows, columns], bias [biases]); as many biases as columns by default, and None of 0."""
    bound = self.width**-0.5
    init = lambda key, shape: jax.random.uniform(key, shape, jnp.float32, -bound, bound)
    biases = columns if biases is None else biases
    return self.param('kernel', init, (rows, columns)), self.param('bias', init, (biases,)) if biases else None


class Scale(nn.Module):
  """The parameters of a norm: {'scale': [size], 'bias': [size]}."""

  @nn.compact
  def __call__(self, size: int) -> dict[str, Array]:
    ones, zeros = nn.initializers.ones, nn.initializers.zeros
    return {'scale': self.param('scale', ones, (size,)), 'bias': self.param('bias', zeros, (size,))}


def _lstm(carry: Carry, gates: Array, normalize: Callable[[Array], Array], project: Callable[[Array], Array]) -> Carry:
  enter, forget, candidate, leave = jnp.split(gates, 4, -1)
  memory = jax.nn.sigmoid(forget) * carry[1] + jax.nn.sigmoid(enter) * jnp.tanh(candidate)
  return project(jax.nn.sigmoid(leave) * jnp.tanh(normalize(memory))), memory


def _gru_after(carry: Carry, given: Array, held: Array, bias: Array | float) -> Carry:
  (reset, update, candidate), (of_reset, of_update, of_candidate) = (jnp.split(x, 3, -1) for x in (given, held))
  reset, update = jax.nn.sigmoid(reset + of_reset), jax.nn.sigmoid(update + of_update)
  new = jnp.tanh(candidate + reset * (of_candidate + bias))
  return (update * carry[0] + (1.0 - update) * new,)


def _gru_before(carry: Carry, given: Array, hidden: Array, product: Callable[[Array, Array], Array]) -> Carry:
  width = hidden.shape[1] // 3
  gates = jax.nn.sigmoid(given[:, : 2 * width] + product(carry[0], hidden[:, : 2 * width]))
  reset, update = jnp.split(gates, 2, -1)
  new = jnp.tanh(given[:, 2 * width :] + product(reset * carry[0], hidden[:, 2 * width :]))
  return (update * carry[0] + (1.0 - update) * new,)


def dropout(rate: float, locked: bool, train: bool) -> nn.Dropout:
  """Dropout of [b, n, f]; where locked, of the same features at all positions of a row (arXiv 1512.05287)."""
  return nn.Dropout(rate, broadcast_dims=(1,) if locked else (), deterministic=not train)


class Stack(nn.Module):
  """Layers of recurrent cells, one on top of another, each of one direction or of both.

  Layers are called layer_0, layer_1, ..., those that read backwards layer_0_reverse, ...; the outputs of both stand
  side by side.

  Attributes:
    cell: which kind.
    width: features of each state.
    layers: how many.
    bidirectional: whether each layer reads in both directions.
    projection: see `Recurrent`.
    layer_norm: see `Recurrent`.
    reset: see `Recurrent`.
    activation: see `Recurrent`.
    dropout: rate between layers.
    locked: whether dropout between layers is the same for all positions of a row (arXiv 1512.05287).
    weight_dropout: see `Recurrent`.
    last_width: features of each state of the last layer; None for as many as of the others.
    dtype: compute type of the products.
  """

  cell: Cell
  width: Size
  layers: Depth = 1
  bidirectional: bool = False
  projection: Count = 0
  layer_norm: bool = False
  reset: Literal['after', 'before'] = 'after'
  activation: Literal['tanh', 'relu'] = 'tanh'
  dropout: BelowOne = 0.0
  locked: bool = False
  weight_dropout: BelowOne = 0.0
  last_width: Size | None = None
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self,
    x: Float[Array, 'b n f'],
    carry: tuple[Carry, ...] | None = None,
    mask: Bool[Array, 'b n'] | None = None,
    train: bool = False,
  ) -> tuple[Float[Array, 'b n size'], tuple[Carry, ...]]:
    """(outputs of the last layer, last state of each layer and direction); see `Recurrent`."""
    last = []
    for i in range(self.layers):
      if i and self.dropout:
        x = dropout(self.dropout, self.locked, train)(x)
      outputs = []
      for layer in self._layer(i):
        y, state = layer(x, None if carry is None else carry[len(last)], mask, train)
        outputs.append(y)
        last.append(state)
      x = Axes(('batch', 'length', None))(jnp.concatenate(outputs, -1))
    return x, tuple(last)

  @nn.nowrap
  def begin(self, rows: int) -> tuple[Carry, ...]:
    """The state of each layer and direction before anything was read."""
    return tuple(layer.begin(rows) for number in range(self.layers) for layer in self._layer(number))

  @nn.nowrap
  def _layer(self, number: int) -> list[Recurrent]:
    name = lambda reverse: f'layer_{number}' + ('_reverse' if reverse else '')
    width = (number == self.layers - 1 and self.last_width) or self.width
    return [
      Recurrent(
        self.cell, width, self.projection, self.layer_norm, self.reset, self.activation, reverse, self.weight_dropout,
        self.dtype, name=name(reverse),
      )
      for reverse in ((False, True) if self.bidirectional else (False,))
    ]  # fmt: skip
