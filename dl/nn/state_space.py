"""Selective state spaces (Mamba, arXiv 2312.00752): a linear recurrence whose coefficients depend on the input."""

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dl.config.bounds import Size
from dl.contract.axes import Axes
from dl.nn.context import Context

State = Float[Array, 'b d s']
"""What a layer remembers: `s` numbers of each feature."""


def selective_scan(
  x: Float[Array, 'b n d'],
  step: Float[Array, 'b n d'],
  decay: Float[Array, 'd s'],
  enter: Float[Array, 'b n s'],
  leave: Float[Array, 'b n s'],
  state: State,
  chunk: int = 64,
) -> tuple[Float[Array, 'b n d'], State]:
  """(outputs, last state) of h' = exp(step decay) h + step enter x, y = leave h' (equations 1a, 1b and 4).

  Within a chunk by an associative scan (Blelloch 1990), which takes log(chunk) steps; from one chunk to the next in
  order, so that no more than a chunk of states is held at once. A gradient computes them again.

  Args:
    x: features.
    step: how long the input acts on each (the paper's delta), above 0.
    decay: the paper's A, below 0.
    enter: the paper's B.
    leave: the paper's C.
    state: before the first position.
    chunk: positions which are scanned at once; any number will do.
  """
  n = x.shape[1]
  size = min(chunk, n)
  whole = -(-n // size) * size
  split = lambda v: jnp.moveaxis(
    jnp.pad(v, ((0, 0), (0, whole - n), (0, 0))).reshape(len(v), whole // size, size, -1), 1, 0
  )

  @jax.checkpoint
  def body(state: State, part: tuple[Array, ...]) -> tuple[State, Array]:
    x, step, enter, leave = part
    kept = jnp.exp(step[..., None] * decay)  # 1 where it is padded, where nothing is added
    added = (step * x)[..., None] * enter[:, :, None, :]
    join = lambda a, b: (a[0] * b[0], b[0] * a[1] + b[1])
    kept, added = jax.lax.associative_scan(join, (kept, added), axis=1)
    states = kept * state[:, None] + added
    return states[:, -1], jnp.einsum('bnds,bns->bnd', states, leave)

  state, y = jax.lax.scan(body, state, tuple(map(split, (x, step, enter, leave))))
  return jnp.moveaxis(y, 0, 1).reshape(len(x), whole, -1)[:, :n], state


class Mixer(nn.Module):
  """The mixing of positions in a block of Mamba (figure 3): a short causal convolution, the scan, and a gate.

  Its parts are called as in transformers: in_proj, conv1d, x_proj, dt_proj, A_log, D, out_proj.

  Attributes:
    hidden: features inside.
    states: numbers remembered of each feature.
    rank: of the product that the steps come from.
    kernel_size: positions of the convolution.
    out_init: initializer of the last layer.
    chunk: of `selective_scan`.
    dtype: compute type of the products; the recurrence is float32.
  """

  hidden: Size
  states: Size = 16
  rank: Size = 48
  kernel_size: Size = 4
  out_init: Any = nn.initializers.lecun_normal()
  chunk: Size = 64
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: Float[Array, 'b n width'], context: Context) -> Float[Array, 'b n width']:
    b, _, width = x.shape
    dense = lambda features, name, **more: nn.Dense(features, use_bias=False, dtype=self.dtype, name=name, **more)
    x, gate = jnp.split(dense(2 * self.hidden, 'in_proj')(x).astype(jnp.float32), 2, -1)
    x = jax.nn.silu(self._convolved(Axes(('batch', 'length', 'hidden'))(x), context))
    parts = dense(self.rank + 2 * self.states, 'x_proj')(x).astype(jnp.float32)
    step, enter, leave = jnp.split(parts, (self.rank, self.rank + self.states), -1)
    step = nn.Dense(
      self.hidden, dtype=self.dtype, kernel_init=_steps(self.rank), bias_init=_small_steps, name='dt_proj'
    )(step)
    step = jax.nn.softplus(step.astype(jnp.float32))
    log = lambda key, shape: jnp.log(jnp.arange(1, self.states + 1, dtype=jnp.float32)) * jnp.ones(shape)
    decay = -jnp.exp(self.param('A_log', log, (self.hidden, self.states)))
    zeros = jnp.zeros((b, self.hidden, self.states), jnp.float32)
    kept = self.variable('cache', 'state', lambda: zeros) if context.decode else None
    y, state = selective_scan(x, step, decay, enter, leave, zeros if kept is None else kept.value, self.chunk)
    if kept is not None:
      kept.value = state
    y = (y + x * self.param('D', nn.initializers.ones, (self.hidden,))) * jax.nn.silu(gate)
    return dense(width, 'out_proj', kernel_init=self.out_init)(y)

  @nn.nowrap
  def _convolved(self, x: Float[Array, 'b n d'], context: Context) -> Float[Array, 'b n d']:
    """Each feature with those before it at `kernel_size` positions, as a sum of shifts: a CPU is slow at the rest."""
    kernel, bias = ShortConvolution(self.kernel_size, name='conv1d')(self.hidden)
    before = jnp.zeros((len(x), self.kernel_size - 1, self.hidden), jnp.float32)
    if context.decode:
      kept = self.variable('cache', 'inputs', lambda: before)
      before = kept.value
    padded = jnp.concatenate([before, x], 1)
    if context.decode:
      kept.value = padded[:, x.shape[1] :]
    return sum(kernel[i, 0] * padded[:, i : i + x.shape[1]] for i in range(self.kernel_size)) + bias


class ShortConvolution(nn.Module):
  """The parameters of a convolution of each feature by itself, as arrays.

  Attributes:
    size: positions of the kernel.
  """

  size: Size

  @nn.compact
  def __call__(self, features: int) -> tuple[Float[Array, 'k 1 d'], Float[Array, ' d']]:
    bound = self.size**-0.5
    init = lambda key, shape: jax.random.uniform(key, shape, jnp.float32, -bound, bound)
    return self.param('kernel', init, (self.size, 1, features)), self.param('bias', init, (features,))


def _steps(rank: int) -> nn.initializers.Initializer:
  return lambda key, shape, dtype=jnp.float32: jax.random.uniform(key, shape, dtype, -(rank**-0.5), rank**-0.5)


def _small_steps(key: Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Array:
  """Biases for which the softplus, the step, lies between 0.001 and 0.1, evenly by its logarithm."""
  step = jnp.exp(jax.random.uniform(key, shape, dtype, math.log(1e-3), math.log(1e-1)))
  return step + jnp.log(-jnp.expm1(-step))
