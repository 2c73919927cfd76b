"""What a model has to offer to be sampled from token by token."""

from typing import Any, Protocol, runtime_checkable

from jaxtyping import Array, Float, Int, PyTree


@runtime_checkable
class Decoder(Protocol):
  """A model of the next token which remembers what it has read; `generate` asks for no more.

  What it remembers is its cache: a tree of arrays, whose shapes no step changes, and which the caller keeps. A causal
  transformer's holds the keys and values of the tokens, a recurrent network's its state. Both methods are pure
  functions, called within a compiled program; the object is hashable, as Linen modules are.

  Attributes:
    length: the most tokens that a cache can hold, at least 2; None where there is no limit.
  """

  length: int | None

  def prefill(self, variables: PyTree, tokens: Int[Array, 'b n'], **given: Any) -> tuple[Float[Array, 'b v'], PyTree]:
    """Reads the beginning of texts: (logits of the token after the last one, cache).

    Args:
      variables: the model's variables.
      tokens: one or more a row, and no more than `length`.
      **given: what else the texts are to depend on, such as a text to translate.
    """

  def step(self, variables: PyTree, cache: PyTree, tokens: Int[Array, ' b']) -> tuple[Float[Array, 'b v'], PyTree]:
    """Reads one more token a row: (logits of the token after it, cache)."""


@runtime_checkable
class Continuing(Protocol):
  """A model of the next token which goes on from any state that it has left.

  `model.apply(variables, tokens, train=train, carry=carry, state=True)` gives (logits [b, n, v], the state after the
  last token), which is the carry of the tokens that follow.
  """

  def begin(self, rows: int) -> PyTree:
    """The state before anything was read, arrays [rows, ...]."""


@runtime_checkable
class Rewindable(Decoder, Protocol):
  """A decoder which reads several tokens at once, and can forget the last of them: `dl.decoding.speculative`."""

  def read(self, variables: PyTree, cache: PyTree, tokens: Int[Array, 'b n']) -> tuple[Float[Array, 'b n v'], PyTree]:
    """Reads more tokens a row: (logits of the token after each of them, cache)."""

  def forget(self, cache: PyTree, count: Int[Array, '']) -> PyTree:
    """The cache without the last `count` tokens a row; ValueError where it cannot go back."""
