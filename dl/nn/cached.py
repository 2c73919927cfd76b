"""What makes a `Decoder` of a module which keeps what it has read in the collection 'cache'."""

from collections.abc import Callable, Mapping
from typing import Any

import flax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree

from dl.nn.context import Context

_FORGETS = {'index', 'key', 'value', 'real'}
"""Variables of a cache with a place for each token."""


class Cached:
  """For a Linen module to inherit, called as `module(tokens, decode=True)`, which continues what the cache holds."""

  apply: Any
  variable: Any
  length: int | None

  def context(self, count: int, train: bool, decode: bool) -> Context:
    """What blocks are told of so many tokens, the first ones or, while decoding, those after the ones in the cache.

    For use in a compact method; raises ValueError for more than `length`.
    """
    if self.length is not None and count > self.length:
      raise ValueError(f'a length of {self.length}, but there are {count} tokens to read')
    start = 0
    if decode:
      index = self.variable('cache', 'index', jnp.zeros, (), jnp.int32)
      start = index.value
      index.value = start + count
    return Context(train=train, decode=decode, positions=jnp.arange(count) + start)

  def prefill(self, variables: PyTree, tokens: Int[Array, 'b n']) -> tuple[Float[Array, 'b vocab'], PyTree]:
    """(logits of the token after the last one, cache); see `dl.decoding.decoder.Decoder`."""
    logits, cache = self._read(variables, tokens)
    return logits[:, -1], cache

  def step(self, variables: PyTree, cache: PyTree, tokens: Int[Array, ' b']) -> tuple[Float[Array, 'b vocab'], PyTree]:
    """(logits of the token after one more a row, cache)."""
    return self.prefill({**variables, 'cache': cache}, tokens[:, None])

  def read(
    self, variables: PyTree, cache: PyTree, tokens: Int[Array, 'b n']
  ) -> tuple[Float[Array, 'b n vocab'], PyTree]:
    """(logits of the token after each one of several more a row, cache)."""
    return self._read({**variables, 'cache': cache}, tokens)

  def forget(self, cache: PyTree, count: Int[Array, '']) -> PyTree:
    """The cache without the last `count` tokens.

    Raises:
      ValueError: a cache of more than keys and values, which cannot go back: a recurrent state, counts of experts.
    """
    flat = flax.traverse_util.flatten_dict(cache)
    if other := sorted({path[-1] for path in flat} - _FORGETS):
      raise ValueError(f'{type(self).__name__} cannot go back to an earlier token: it remembers its {other[0]!r}')
    # What stands behind the index is seen by no query, and is written over.
    return {**cache, 'index': cache['index'] - count}

  def _read(self, variables: PyTree, inputs: Any) -> tuple[Float[Array, 'b n vocab'], PyTree]:
    logits, changed = self.apply(variables, inputs, decode=True, mutable=['cache'])
    return logits, changed['cache']


class CachedPair(Cached):
  """The same for a module of two texts, called with a mapping: `module({'source': ..., 'target': ...}, decode=True)`.

  The first call has both, later ones go on with the target alone.
  """

  def decoded(
    self,
    texts: Mapping[str, Int[Array, 'b _']],
    train: bool,
    decode: bool,
    side: Callable[[str, Int[Array, 'b n'], Context], Float[Array, 'b n width']],
  ) -> Float[Array, 'b n width']:
    """Features of the target's tokens, by `side` of ('encoder' or 'decoder', tokens, context); in a compact method."""
    context = self.context(texts['target'].shape[1], train, decode)
    if 'source' in texts:
      real = texts['source'] >= 0
      memory = side('encoder', texts['source'], Context(train=train, mask=real))
      context = context.replace(memory=memory, memory_mask=real)
    return side('decoder', texts['target'], context)

  def prefill(
    self, variables: PyTree, tokens: Int[Array, 'b n'], source: Int[Array, 'b m'] | None = None
  ) -> tuple[Float[Array, 'b vocab'], PyTree]:
    """(logits of the token after the last one, cache) of targets of a source; see `dl.decoding.decoder.Decoder`."""
    logits, cache = self._read(variables, {'target': tokens} | ({} if source is None else {'source': source}))
    return logits[:, -1], cache

  def read(
    self, variables: PyTree, cache: PyTree, tokens: Int[Array, 'b n']
  ) -> tuple[Float[Array, 'b n vocab'], PyTree]:
    """(logits of the token after each one of several more of a target, cache)."""
    return self._read({**variables, 'cache': cache}, {'target': tokens})
