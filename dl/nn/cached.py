"""What makes a `Decoder` of a module which keeps what it has read in the collection 'cache'."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree

from dl.nn.context import Context


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
    logits, changed = self.apply(variables, tokens, decode=True, mutable=['cache'])
    return logits[:, -1], changed['cache']

  def step(self, variables: PyTree, cache: PyTree, tokens: Int[Array, ' b']) -> tuple[Float[Array, 'b vocab'], PyTree]:
    """(logits of the token after one more a row, cache)."""
    return self.prefill({**variables, 'cache': cache}, tokens[:, None])
