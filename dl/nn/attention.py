"""Multi-head attention: the product of queries with keys, its parts, and a cache for generation."""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from dl.config.bounds import BelowOne, Count, Number, Size
from dl.contract.axes import Axes
from dl.nn import products
from dl.nn.context import Context

Heads = Float[Array, 'b n h d']
"""Features of each head at each position."""


def attend(
  query: Float[Array, 'b q h d'],
  key: Float[Array, 'b k g d'],
  value: Float[Array, 'b k g d'],
  mask: Bool[Array, '#b #h #q k'] | None = None,
  bias: Float[Array, '#b #h q k'] | None = None,
  drop: Callable[[Array], Array] | None = None,
  scale: float | None = None,
) -> Float[Array, 'b q h d']:
  """Scaled dot-product attention (Attention Is All You Need, arXiv 1706.03762); scores and softmax are float32.

  Written out because `jax.nn.dot_product_attention` takes a fifth to a third longer on CPU, and has no dropout.

  Args:
    query: queries.
    key: keys; with fewer heads, each is shared by as many query heads that follow each other (arXiv 2305.13245).
    value: values.
    mask: which keys a query sees; at least one each. None: all.
    bias: what is added to the scores.
    drop: dropout for the attention weights.
    scale: of the queries; None for 1 / sqrt(d).
  """
  heads, groups = query.shape[2], key.shape[2]
  query = Axes(('batch', 'query', 'heads', None))(query) * (query.shape[-1] ** -0.5 if scale is None else scale)
  if groups != heads:
    key, value = (jnp.repeat(x, heads // groups, axis=2) for x in (key, value))
  key, value = (Axes(('batch', 'key', 'heads', None))(x) for x in (key, value))
  weights = _softmax(products.einsum('bqhd,bkhd->bhqk', query, key), mask, bias)
  if drop is not None:
    weights = drop(weights)
  return jnp.einsum('bhqk,bkhd->bqhd', weights.astype(value.dtype), value)


def attend_kept(
  query: Float[Array, 'b q h d'],
  key: Float[Array, 'bg d k'],
  value: Float[Array, 'bg k d'],
  mask: Bool[Array, '#b #h #q k'] | None = None,
  bias: Float[Array, '#b #h q k'] | None = None,
  scale: float | None = None,
) -> Float[Array, 'b q h d']:
  """`attend` to what a cache keeps, in the shapes in which XLA for CPU multiplies: none of it is moved for a token.

  Texts and the groups of their keys are one dimension: of two, XLA makes one, and copies the cache for it.
  """
  b, q, h, d = query.shape
  query = Axes(('batch', 'query', 'heads', None))(query) * (d**-0.5 if scale is None else scale)
  rows = query.swapaxes(1, 2).reshape(len(key), -1, d)  # heads which share keys follow each other
  scores = jnp.matmul(rows, key, preferred_element_type=jnp.float32).reshape(b, h, q, -1)
  weights = _softmax(scores, mask, bias).astype(value.dtype).reshape(*rows.shape[:2], -1)
  return jnp.matmul(weights, value).reshape(b, h, q, d).swapaxes(1, 2)


def _softmax(scores: Float[Array, 'b h q k'], mask: Array | None, bias: Array | None) -> Float[Array, 'b h q k']:
  """The weights of the keys that a query sees."""
  if bias is not None:
    scores = scores + bias
  if mask is not None:
    scores = jnp.where(mask, scores, jnp.finfo(jnp.float32).min)
  return jax.nn.softmax(scores)


def attend_in_chunks(
  query: Float[Array, 'b q h d'],
  key: Float[Array, 'b k g d'],
  value: Float[Array, 'b k g d'],
  mask: Bool[Array, '#b #h #q k'] | None,
  bias: Float[Array, '#b #h q k'] | None,
  size: int,
  scale: float | None = None,
  how: Callable[..., Array] = attend,
) -> Float[Array, 'b q h d']:
  """`attend`, for `size` queries at a time, whose scores are computed again for the gradient.

  So a step holds the scores of one chunk, b h size k numbers, and not of all (Self-attention Does Not Need O(n^2)
  Memory, arXiv 2112.05682).
  """
  b, q, h, d = query.shape
  chunks = query.reshape(b, q // size, size, h, d).swapaxes(0, 1)

  def rows(x: Array | None) -> Array | None:
    """[chunks, #b, #h, size, k] of what there is for each query and key."""
    if x is None:
      return None
    x = jnp.broadcast_to(x, (*x.shape[:2], q, x.shape[3]))
    return jnp.moveaxis(x.reshape(*x.shape[:2], q // size, size, -1), 2, 0)

  part = jax.checkpoint(lambda x: how(x[0], key, value, x[1], x[2], scale=scale), prevent_cse=False)
  return jax.lax.map(part, (chunks, rows(mask), rows(bias))).swapaxes(0, 1).reshape(b, q, h, d)


def rotate(x: Heads, positions: Int[Array, ' n'], base: float = 10_000.0) -> Heads:
  """Rotary position embedding, halves paired (RoFormer, arXiv 2104.09864): scores then depend on distance alone."""
  half = x.shape[-1] // 2
  angles = positions[:, None] * base ** (-jnp.arange(half) / half)
  cos, sin = jnp.cos(angles)[:, None, :], jnp.sin(angles)[:, None, :]
  a, b = jnp.split(x.astype(jnp.float32), 2, axis=-1)
  return jnp.concatenate([a * cos - b * sin, a * sin + b * cos], axis=-1).astype(x.dtype)


def rotary(query: Heads, key: Heads, positions: Int[Array, ' n'], base: float = 10_000.0) -> tuple[Heads, Heads]:
  """Queries and keys turned by their positions: a hook for `Attention.process_heads`."""
  return rotate(query, positions, base), rotate(key, positions, base)


class Projections(nn.Module):
  """Queries, keys and values [b, n, heads, head_dim] of the same features, by one product.

  The kernel is [width, 3 width], queries first, as published weights have it. Its heads are what a mesh may split:
  where devices have other columns of it, the weights are moved and not what they give.

  Attributes:
    heads: attention heads; must divide the width of the input.
    use_bias: whether there is a bias.
    dtype: compute type.
    kernel_init: initializer of the kernel.
  """

  heads: Size
  use_bias: bool = True
  dtype: Any = jnp.float32
  kernel_init: Any = nn.initializers.lecun_normal()

  @nn.compact
  def __call__(self, x: Float[Array, 'b n width']) -> tuple[Heads, Heads, Heads]:
    width = x.shape[-1]
    if width % self.heads:
      raise ValueError(f'{self.heads} heads do not divide a width of {width}')
    shape = (3, self.heads, width // self.heads)
    kernel = self.param('kernel', self.kernel_init, (width, 3 * width))
    x, kernel = x.astype(self.dtype), kernel.astype(self.dtype)
    kernel = Axes((None, None, 'heads', None))(kernel.reshape(width, *shape))
    y = products.by_rows(lambda rows: jnp.einsum('...w,wphd->...phd', rows, kernel), x)
    if self.use_bias:
      bias = self.param('bias', nn.initializers.zeros, (3 * width,)).astype(self.dtype)
      y = y + Axes((None, 'heads', None))(bias.reshape(shape))
    return y[:, :, 0], y[:, :, 1], y[:, :, 2]

  @nn.nowrap
  def plus_adapter(self, outputs: tuple[Heads, Heads, Heads], more: Float[Array, 'b n out']) -> tuple[Heads, ...]:
    """As `dl.nn.lora.Adaptable`: queries, keys and values lie one after another in a row of the kernel."""
    return tuple(y + part.reshape(y.shape) for y, part in zip(outputs, jnp.split(more, 3, axis=-1), strict=True))


class Projection(nn.Module):
  """One of queries, keys or values [b, n, heads, head_dim], with a kernel [width, heads head_dim] of its own.

  Attributes:
    heads: how many.
    head_dim: features of each.
    use_bias: whether there is a bias.
    dtype: compute type.
    kernel_init: initializer of the kernel.
  """

  heads: Size
  head_dim: Size
  use_bias: bool = True
  dtype: Any = jnp.float32
  kernel_init: Any = nn.initializers.lecun_normal()

  @nn.compact
  def __call__(self, x: Float[Array, 'b n width']) -> Heads:
    shape, width = (self.heads, self.head_dim), x.shape[-1]
    kernel = self.param('kernel', self.kernel_init, (width, self.heads * self.head_dim))
    x, kernel = x.astype(self.dtype), kernel.astype(self.dtype)
    kernel = Axes((None, 'heads', None))(kernel.reshape(width, *shape))
    y = products.by_rows(lambda rows: jnp.einsum('...w,whd->...hd', rows, kernel), x)
    if self.use_bias:
      bias = self.param('bias', nn.initializers.zeros, (self.heads * self.head_dim,)).astype(self.dtype)
      y = y + Axes(('heads', None))(bias.reshape(shape))
    return y

  @nn.nowrap
  def plus_adapter(self, outputs: Heads, more: Float[Array, 'b n out']) -> Heads:
    """As `dl.nn.lora.Adaptable`: heads lie one after another in a row of the kernel."""
    return outputs + more.reshape(outputs.shape)


def separate(
  heads: int, head_dim: int, groups: int | None = None, names: tuple[str, str, str] = ('q', 'k', 'v'), **options: Any
) -> Callable[[], tuple[nn.Module, nn.Module, nn.Module]]:
  """What makes three `Projection`s, for `Attention.project`.

  Args:
    heads: of the queries.
    head_dim: features of a head.
    groups: heads of keys and values, a divisor of `heads` (arXiv 2305.13245); None for as many.
    names: of the three.
    **options: further attributes of each `Projection`.
  """
  if groups is not None and heads % groups:
    raise ValueError(f'{groups} heads of keys do not divide {heads} of queries')
  counts = (heads, groups or heads, groups or heads)
  return lambda: tuple(Projection(n, head_dim, name=name, **options) for n, name in zip(counts, names, strict=True))


class Attention(nn.Module):
  """Attention of positions to one another or, across, to `Context.memory` (arXiv 1706.03762).

  Its parts are passed in: what differs between networks is no flag here. They are called inside of the module, so they
  may make modules with parameters of their own. Attention across gives its weights in the collection 'attention'.

  Attributes:
    project: makes the projections: one module x -> (queries, keys, values), or three, one for each.
    causal: whether each position sees itself and those before it alone.
    across: whether keys and values are those of `Context.memory`; `project` then makes three modules.
    length: positions the cache holds.
    process_heads: hook of (queries, keys, positions), before they meet: `rotary`, or norms.
    bias: hook of (positions of queries, positions of keys) -> what is added to the scores [#b, #h, q, k].
    scale: of the scores; None for 1 / sqrt(head_dim).
    dropout: rate, on the attention weights.
    chunk: queries that attend at a time, where it divides them (`attend_in_chunks`); 0 for all.
    use_bias: whether the output projection has a bias.
    out_init: initializer of the output projection.
    out: its name.
    dtype: compute type; scores and softmax are float32.
  """

  project: Callable[[], Any]
  causal: bool = False
  across: bool = False
  length: Size | None = None
  process_heads: Callable[[Heads, Heads, Array], tuple[Heads, Heads]] | None = None
  bias: Callable[[Array, Array], Array] | None = None
  scale: Number | None = None
  dropout: BelowOne = 0.0
  chunk: Count = 0
  use_bias: bool = True
  out_init: Any = nn.initializers.lecun_normal()
  out: str = 'out'
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: Float[Array, 'b n width'], context: Context) -> Float[Array, 'b n width']:
    """Attends among the positions of `x`, and to those that the cache remembers while decoding."""
    b, n, width = x.shape
    if self.chunk and self.dropout:
      raise ValueError('attention in chunks has no dropout; leave one of the two at 0')
    positions = jnp.arange(n) if context.positions is None else context.positions
    read = self._memory if self.across else self._itself
    query, key, value, seen, mask = read(x, positions, context)
    bias = None if self.bias is None else self.bias(positions, seen)
    if self.chunk and n > self.chunk and n % self.chunk == 0:
      how = attend_kept if context.decode else attend
      y = attend_in_chunks(query, key, value, mask, bias, self.chunk, self.scale, how)
    elif context.decode:
      y = attend_kept(query, key, value, mask, bias, self.scale)
    else:
      drop = nn.Dropout(self.dropout, deterministic=not context.train) if self.dropout else None
      y = attend(query, key, value, mask, bias, self._shown(drop) if self.across else drop, self.scale)
    y = Axes(('batch', 'query', 'heads'))(y.reshape(b, n, -1))
    out = nn.Dense(width, self.use_bias, self.dtype, kernel_init=self.out_init, name=self.out)
    return products.by_rows(out, y)

  @nn.nowrap
  def _shown(self, drop: Callable[[Array], Array] | None) -> Callable[[Array], Array] | None:
    """`drop`, keeping the weights [b, h, q, k] where a caller asks for them by mutable=['attention']."""
    if self.is_initializing() or not self.is_mutable_collection('attention'):
      return drop

    def keep(weights: Array) -> Array:
      self.sow('attention', 'weights', weights)
      return weights if drop is None else drop(weights)

    return keep

  @nn.nowrap
  def _itself(
    self, x: Array, positions: Array, context: Context
  ) -> tuple[Heads, Heads, Heads, Array, Bool[Array, '#b #h #q k'] | None]:
    """(queries, keys, values, positions of the keys, mask) of self-attention."""
    made = self.project()
    query, key, value = (part(x) for part in made) if isinstance(made, tuple) else made(x)
    if self.process_heads is not None:
      query, key = self.process_heads(query, key, positions)
    real, seen = context.mask, positions
    if context.decode:
      remember = functools.partial(self._remember, start=positions[0])
      key, value = remember('key', _kept_key(key), axis=2), remember('value', _kept_value(value), axis=1)
      real = None if real is None else remember('real', real, axis=1)
      seen = jnp.arange(self.length)
    masks = [] if real is None else [real[:, None, None, :]]
    masks += [(seen <= positions[:, None])[None, None]] if self.causal else []
    return query, key, value, seen, functools.reduce(jnp.logical_and, masks) if masks else None

  @nn.nowrap
  def _remember(self, name: str, new: Array, start: Array, axis: int) -> Array:
    """All that the cache holds of a kind, with what is new from position `start` of an axis on."""
    if self.length is None:
      raise ValueError('decoding needs a length, the positions that the cache holds')
    shape = (*new.shape[:axis], self.length, *new.shape[axis + 1 :])
    kept = self.variable('cache', name, jnp.zeros, shape, new.dtype)
    kept.value = jax.lax.dynamic_update_slice_in_dim(kept.value, new, start, axis)
    return kept.value

  @nn.nowrap
  def _memory(
    self, x: Array, positions: Array, context: Context
  ) -> tuple[Heads, Heads, Heads, Array, Bool[Array, '#b #h #q k'] | None]:
    """(queries, keys, values, positions of the keys, mask) of attention to the memory; decoding projects it once."""
    of_query, of_key, of_value = self.project()
    query, kept = of_query(x), {}
    if context.memory is not None:
      kept = {'key': of_key(context.memory), 'value': of_value(context.memory)}
      if context.decode:
        kept = {'key': _kept_key(kept['key']), 'value': _kept_value(kept['value'])}
      if context.memory_mask is not None:
        kept['real'] = context.memory_mask
    if context.decode:
      names = kept or [name for name in ('key', 'value', 'real') if self.has_variable('cache', name)]
      if not names:
        raise ValueError('the first call of decoding needs a memory')
      for name in names:
        variable = self.variable('cache', name, lambda name=name: kept[name])
        variable.value = kept[name] = kept.get(name, variable.value)
    mask = kept['real'][:, None, None, :] if 'real' in kept else None
    seen = jnp.arange(kept['value'].shape[1])
    return query, kept['key'], kept['value'], seen, mask


def _kept_key(key: Heads) -> Float[Array, 'bh d n']:
  b, n, h, d = key.shape
  return key.transpose(0, 2, 3, 1).reshape(b * h, d, n)


def _kept_value(value: Heads) -> Float[Array, 'bh n d']:
  b, n, h, d = value.shape
  return value.swapaxes(1, 2).reshape(b * h, n, d)
