"""What makes a `Decoder` of a module which keeps what it has read in the collection 'cache'."""

from typing import Any

from jaxtyping import Array, Float, Int, PyTree


class Cached:
  """For a Linen module to inherit, called as `module(tokens, decode=True)`, which continues what the cache holds."""

  apply: Any

  def prefill(self, variables: PyTree, tokens: Int[Array, 'b n']) -> tuple[Float[Array, 'b vocab'], PyTree]:
    """(logits of the token after the last one, cache); see `dl.decoding.decoder.Decoder`."""
    logits, changed = self.apply(variables, tokens, decode=True, mutable=['cache'])
    return logits[:, -1], changed['cache']

  def step(self, variables: PyTree, cache: PyTree, tokens: Int[Array, ' b']) -> tuple[Float[Array, 'b vocab'], PyTree]:
    """(logits of the token after one more a row, cache)."""
    return self.prefill({**variables, 'cache': cache}, tokens[:, None])
