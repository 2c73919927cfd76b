"""Multi-head attention; that of a sequence seen from the left, with a key-value cache for generation."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from dl.contract.axes import Axes
from dl.errors import ConfigError


def attend(
  query: Float[Array, 'b q h d'],
  key: Float[Array, 'b k h d'],
  value: Float[Array, 'b k h d'],
  mask: Bool[Array, '#b #h q k'] | None,
  drop: nn.Module | None = None,
) -> Float[Array, 'b q h d']:
  """Scaled dot-product attention (Attention Is All You Need, arXiv 1706.03762); the softmax is in float32.

  Written out because `jax.nn.dot_product_attention` takes a fifth to a third longer on CPU, and has no dropout.

  Args:
    query: queries.
    key: keys.
    value: values.
    mask: which keys a query sees; at least one each. None: all.
    drop: dropout for the attention weights.
  """
  query = Axes(('batch', 'query', 'heads', None))(query) * query.shape[-1] ** -0.5
  key, value = (Axes(('batch', 'key', 'heads', None))(x) for x in (key, value))
  scores = jnp.einsum('bqhd,bkhd->bhqk', query, key, preferred_element_type=jnp.float32)
  if mask is not None:
    scores = jnp.where(mask, scores, jnp.finfo(jnp.float32).min)
  weights = jax.nn.softmax(scores)
  if drop is not None:
    weights = drop(weights)
  return jnp.einsum('bhqk,bkhd->bqhd', weights.astype(value.dtype), value)


def attend_in_chunks(
  query: Float[Array, 'b q h d'],
  key: Float[Array, 'b k h d'],
  value: Float[Array, 'b k h d'],
  mask: Bool[Array, '#b #h q k'],
  size: int,
) -> Float[Array, 'b q h d']:
  """`attend`, for `size` queries at a time, whose scores are computed again for the gradient.

  So a step holds the scores of one chunk, b h size k numbers, and not of all (Self-attention Does Not Need O(n^2)
  Memory, arXiv 2112.05682).
  """
  b, q, h, d = query.shape
  chunks = query.reshape(b, q // size, size, h, d).swapaxes(0, 1)
  masks = jnp.moveaxis(mask.reshape(*mask.shape[:2], q // size, size, -1), 2, 0)
  part = jax.checkpoint(lambda x: attend(x[0], key, value, x[1]), prevent_cse=False)
  return jax.lax.map(part, (chunks, masks)).swapaxes(0, 1).reshape(b, q, h, d)


def rotate(x: Float[Array, 'b n h d'], positions: Int[Array, ' n'], base: float = 10_000.0) -> Float[Array, 'b n h d']:
  """Rotary position embedding, halves paired (RoFormer, arXiv 2104.09864): scores then depend on distance alone."""
  half = x.shape[-1] // 2
  angles = positions[:, None] * base ** (-jnp.arange(half) / half)
  cos, sin = jnp.cos(angles)[:, None, :], jnp.sin(angles)[:, None, :]
  a, b = jnp.split(x.astype(jnp.float32), 2, axis=-1)
  return jnp.concatenate([a * cos - b * sin, a * sin + b * cos], axis=-1).astype(x.dtype)


class Projections(nn.Module):
  """Queries, keys and values [b, n, heads, head_dim], by one product.

  The kernel is [width, 3 width], queries first, as published weights have it. Its heads are what a mesh may split:
  where devices have other columns of it, the weights are moved and not what they give.

  Attributes:
    heads: attention heads; must divide the width of the input.
    use_bias: whether there is a bias.
    dtype: compute type.
    kernel_init: initializer of the kernel.
  """

  heads: int
  use_bias: bool = True
  dtype: Any = jnp.float32
  kernel_init: Any = nn.initializers.lecun_normal()

  @nn.compact
  def __call__(
    self, x: Float[Array, 'b n width']
  ) -> tuple[Float[Array, 'b n h d'], Float[Array, 'b n h d'], Float[Array, 'b n h d']]:
    width = x.shape[-1]
    shape = (3, self.heads, width // self.heads)
    kernel = self.param('kernel', self.kernel_init, (width, 3 * width))
    x, kernel = x.astype(self.dtype), kernel.astype(self.dtype)
    kernel = Axes((None, None, 'heads', None))(kernel.reshape(width, *shape))
    y = jnp.einsum('bnw,wphd->bnphd', x, kernel)
    if self.use_bias:
      bias = self.param('bias', nn.initializers.zeros, (3 * width,)).astype(self.dtype)
      y = y + Axes((None, 'heads', None))(bias.reshape(shape))
    return y[:, :, 0], y[:, :, 1], y[:, :, 2]


class CausalSelfAttention(nn.Module):
  """Self-attention in which each position sees itself and those before it (arXiv 1706.03762).

  Attributes:
    heads: attention heads; must divide the width of the input.
    length: positions the cache holds.
    dropout: rate, on the attention weights.
    use_bias: whether the projections have biases.
    rope: whether queries and keys are rotated by their positions.
    chunk: queries that attend at a time, where it divides them (`attend_in_chunks`); 0 for all.
    kernel_init: initializer of the query, key and value projection.
    out_init: initializer of the output projection.
    dtype: compute type; scores and softmax are float32.
  """

  heads: int
  length: int
  dropout: float = 0.0
  use_bias: bool = True
  rope: bool = False
  chunk: int = 0
  kernel_init: Any = nn.initializers.lecun_normal()
  out_init: Any = nn.initializers.lecun_normal()
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self, x: Float[Array, 'b n width'], train: bool, start: Int[Array, ''] | None = None
  ) -> Float[Array, 'b n width']:
    """Attends among the positions of `x`; with `start`, `x` begins at that position and earlier ones are cached."""
    b, n, width = x.shape
    query, key, value = Projections(self.heads, self.use_bias, self.dtype, self.kernel_init, name='qkv')(x)
    at = jnp.arange(n) + (0 if start is None else start)
    if self.rope:
      query, key = rotate(query, at), rotate(key, at)
    if start is not None:
      shape = (b, self.length, *key.shape[2:])
      keys = self.variable('cache', 'key', jnp.zeros, shape, key.dtype)
      values = self.variable('cache', 'value', jnp.zeros, shape, value.dtype)
      key = keys.value = jax.lax.dynamic_update_slice(keys.value, key, (0, start, 0, 0))
      value = values.value = jax.lax.dynamic_update_slice(values.value, value, (0, start, 0, 0))
    mask = jnp.arange(key.shape[1]) <= at[:, None]
    drop = nn.Dropout(self.dropout, deterministic=not train) if self.dropout else None
    if self.chunk and drop is not None:
      raise ConfigError('config.model.attention_chunk: attention in chunks has no dropout; leave one of the two at 0')
    if self.chunk and n > self.chunk and n % self.chunk == 0:
      y = attend_in_chunks(query, key, value, mask[None, None], self.chunk).reshape(b, n, width)
    else:
      y = attend(query, key, value, mask[None, None], drop).reshape(b, n, width)
    y = Axes(('batch', 'query', 'heads'))(y)
    return nn.Dense(width, self.use_bias, self.dtype, kernel_init=self.out_init, name='out')(y)
