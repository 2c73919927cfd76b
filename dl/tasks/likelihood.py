"""Long texts, read a piece at a time: the logits of all their tokens would fill the memory."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree

from dl.losses import cross_entropy

PIECE = 128
"""Tokens of a row that are read at once, by a network which goes on from what it has read."""

MOST = 2**30
"""Logits that are held at once, of a text that can be read in no other way."""

Read = Callable[[Any, Int[Array, 'b n']], tuple[Float[Array, 'b n v'], Any]]
"""(what is carried, tokens) -> (logits of the token after each one, what is carried on)."""


def in_pieces(
  read: Read,
  start: PyTree,
  tokens: Int[Array, 'b n'],
  size: int,
  measure: Callable[[Float[Array, 'b size v'], Int[Array, 'b more']], PyTree],
) -> PyTree:
  """Sums, over texts that are read `size` tokens at a time, of what is measured.

  Args:
    read: reads a piece.
    start: what is carried to the first one.
    tokens: of the texts; negative ones, after the end of a shorter text, are read as 0.
    size: tokens of a piece, each of which begins with the last one of the piece before.
    measure: (logits, the tokens of the piece and the one after it) -> sums.
  """
  rows, predicted = len(tokens), tokens.shape[1] - 1
  size = min(size, predicted) or 1
  count = max(-(-predicted // size), 1)
  padded = jnp.pad(tokens, ((0, 0), (0, count * size - predicted)), constant_values=-1)

  def step(carry, i):
    piece = jax.lax.dynamic_slice(padded, (0, i * size), (rows, size + 1))
    logits, carry = read(carry, jnp.maximum(piece[:, :-1], 0))
    return carry, measure(logits, piece)

  return jax.tree.map(lambda x: x.sum(0), jax.lax.scan(step, start, jnp.arange(count))[1])


def scored(logits: Float[Array, 'b n v'], tokens: Int[Array, 'b more']) -> tuple[Float[Array, ' b'], Int[Array, ' b']]:
  """(nats, number) of the tokens of each row that are predicted, which are those behind the first."""
  targets = tokens[:, 1:]
  nats = cross_entropy(logits, jnp.maximum(targets, 0))
  return jnp.where(targets >= 0, nats, 0.0).sum(1), (targets >= 0).sum(1)
