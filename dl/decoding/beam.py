"""Beam search: the likeliest continuations that a search of a given width finds, as one compiled loop."""

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PyTree

from dl.decoding.decoder import Decoder

_NEVER = -1e9


class Beams(NamedTuple):
  """The search after some tokens, of each of b texts.

  Attributes:
    tokens: of the running beams [b, k, length].
    scores: sums of their log probabilities [b, k].
    ended: tokens of the best texts which have ended [b, k, length].
    ended_scores: theirs, divided by length ** penalty [b, k]; very low where there is none yet.
    open: whether a running beam may still become one of the best [b].
  """

  tokens: Int[Array, 'b k n']
  scores: Float[Array, 'b k']
  ended: Int[Array, 'b k n']
  ended_scores: Float[Array, 'b k']
  open: Bool[Array, ' b']


@functools.partial(jax.jit, static_argnames=('model', 'length', 'width', 'vocab_size', 'stop'))
def search(
  model: Decoder,
  variables: PyTree,
  prompt: Int[Array, 'b p'],
  given: Mapping[str, Any] | None = None,
  *,
  length: int,
  width: int,
  stop: int | None = None,
  length_penalty: float = 1.0,
  vocab_size: int | None = None,
) -> tuple[Int[Array, 'b width length'], Float[Array, 'b width']]:
  """(texts, best first; their scores): sums of log probabilities, divided by (tokens ** length_penalty).

  Chooses as transformers' `generate(num_beams=width, early_stopping=False)` does.

  Args:
    model: what is searched.
    variables: the model's variables.
    prompt: one token or more a row; with `length` more they fit its context.
    given: what `model.prefill` takes besides, arrays with a row a text; None for nothing.
    length: most tokens to add.
    width: beams.
    stop: the token that ends a text; what comes after it is -1. None: all have `length` tokens.
    length_penalty: above 0 favours long texts, since log probabilities are negative.
    vocab_size: ids from here on are never taken.

  Raises:
    ValueError: a text would be longer than the model's context.
  """
  batch, begin = prompt.shape
  if model.length is not None and begin + length > model.length:
    most = max(model.length - begin, 0)
    raise ValueError(
      f'a context of {model.length} tokens does not hold {begin} of the prompt and {length} more; {most} at most'
    )
  given = given or {}
  read = lambda tokens, given: model.prefill(variables, tokens, **given)
  logits, cache = read(prompt, given)
  axes = _axes(read, prompt, given)
  cache = _by_rows(lambda x, axis: jnp.repeat(x, width, axis), cache, axes)
  logits = jnp.repeat(logits, width, 0)
  blank = jnp.full((batch, width, length), -1, jnp.int32)
  first = jnp.full((batch, width), _NEVER).at[:, 0].set(0.0)  # the beams are still the same
  beams = Beams(blank, first, blank, jnp.full((batch, width), _NEVER), jnp.ones(batch, bool))

  def step(carry):
    at, beams, cache, logits = carry
    log = jax.nn.log_softmax(logits[:, :vocab_size].astype(jnp.float32)).reshape(batch, width, -1)
    beams, parents = _grow(beams, log, at, stop, length_penalty)
    rows = (jnp.arange(batch)[:, None] * width + parents).ravel()
    cache = _by_rows(lambda x, axis: jnp.take(x, rows, axis), cache, axes)
    logits, cache = model.step(variables, cache, beams.tokens[:, :, at].ravel())
    return at + 1, beams, cache, logits

  goes_on = lambda carry: (carry[0] < length) & carry[1].open.any()  # nothing changes after that
  _, beams, _, _ = jax.lax.while_loop(goes_on, step, (jnp.int32(0), beams, cache, logits))
  return beams.ended, beams.ended_scores


def _grow(
  beams: Beams, log: Float[Array, 'b k v'], at: Int[Array, ''], stop: int | None, penalty: float
) -> tuple[Beams, Int[Array, 'b k']]:
  """The beams with one more token each, and which beam each comes from."""
  batch, width, vocab = log.shape
  scores = (beams.scores[..., None] + log).reshape(batch, -1)
  scores, chosen = jax.lax.top_k(scores, min(2 * width, scores.shape[1]))  # enough, should each of `width` end
  parents, token = chosen // vocab, (chosen % vocab).astype(jnp.int32)
  texts = jnp.take_along_axis(beams.tokens, parents[..., None], 1).at[:, :, at].set(token)
  ends = jnp.full(token.shape, at == beams.tokens.shape[2] - 1)  # all texts do, in the last step
  ends = ends if stop is None else ends | (token == stop)

  # Texts that end here, if among the best `width` of all, stand with those that ended before.
  rank = jnp.arange(scores.shape[1]) < width
  now = jnp.where(ends & rank & beams.open[:, None], scores / (at + 1.0) ** penalty, _NEVER)
  all_scores = jnp.concatenate([beams.ended_scores, now], 1)
  ended_scores, best = jax.lax.top_k(all_scores, width)
  ended = jnp.take_along_axis(jnp.concatenate([beams.ended, texts], 1), best[..., None], 1)

  scores, kept = jax.lax.top_k(jnp.where(ends, _NEVER, scores), width)
  tokens = jnp.take_along_axis(texts, kept[..., None], 1)
  best_possible = scores[:, 0] / (at + 1.0) ** penalty
  still = beams.open & ((ended_scores[:, -1] <= _NEVER / 2) | (best_possible > ended_scores[:, -1]))
  return Beams(tokens, scores, ended, ended_scores, still), jnp.take_along_axis(parents, kept, 1)


def _axes(read: Any, prompt: Int[Array, 'b p'], given: Mapping[str, Any]) -> list[tuple[int, int] | None]:
  """Of each leaf of a cache (the axis of the texts, which grows with them; how often it has each: once a head)."""

  def shapes(rows: int) -> list[Any]:
    of_rows = lambda x: jax.ShapeDtypeStruct((rows, *x.shape[1:]), x.dtype)
    return jax.tree.leaves(jax.eval_shape(lambda *texts: read(*texts)[1], *jax.tree.map(of_rows, (prompt, given))))

  def grown(a: Any, b: Any) -> tuple[int, int] | None:
    return next(((i, n - m) for i, (m, n) in enumerate(zip(a.shape, b.shape, strict=True)) if m != n), None)

  return [grown(a, b) for a, b in zip(shapes(2), shapes(3), strict=True)]


def _by_rows(function: Any, cache: PyTree, axes: list[tuple[int, int] | None]) -> PyTree:
  """A function of (leaf, axis of the texts) of the leaves which have one."""

  def changed(x: Array, found: tuple[int, int] | None) -> Array:
    if found is None:
      return x
    axis, each = found
    x = function(x.reshape(*x.shape[:axis], -1, each, *x.shape[axis + 1 :]), axis)
    return x.reshape(*x.shape[:axis], -1, *x.shape[axis + 2 :])

  leaves, structure = jax.tree.flatten(cache)
  return jax.tree.unflatten(structure, [changed(x, found) for x, found in zip(leaves, axes, strict=True)])
