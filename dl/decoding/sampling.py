"""Sampling token by token, as one compiled scan, or as several which continue each other."""

import functools
from collections.abc import Mapping
from typing import Any

import flax
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key, PyTree

from dl.decoding.choice import Choice
from dl.decoding.decoder import Decoder


@flax.struct.dataclass
class Texts:
  """Texts that are being written.

  Attributes:
    cache: what the model remembers of them.
    held: how many tokens that is.
    logits: of the token after those.
    tokens: all so far, and room for those to come.
    at: how many there are.
    prompted: how many of them were given.
    seen: which tokens stand in a text; None where no penalty asks.
    ended: which texts have come to a token that ends them.
    drawn: tokens drawn so far, of which each has a key of its own.
  """

  cache: PyTree
  held: Int[Array, '']
  logits: Float[Array, 'b v']
  tokens: Int[Array, 'b n']
  at: Int[Array, '']
  prompted: Int[Array, ' b']
  seen: Bool[Array, 'b v'] | None
  ended: Bool[Array, ' b']
  drawn: Int[Array, '']


@functools.partial(jax.jit, static_argnames=('model', 'length', 'vocab_size', 'stop', 'shared'))
def generate(
  model: Decoder,
  variables: PyTree,
  prompt: Int[Array, 'b p'],
  key: Key[Array, ''],
  choice: Choice | float = 1.0,
  given: Mapping[str, Any] | None = None,
  *,
  length: int,
  vocab_size: int | None = None,
  stop: tuple[int, ...] = (),
  shared: int | None = None,
) -> Int[Array, 'b length']:
  """Continues prompts by `length` tokens; compiled once for each model, shape, length and `choice.top_k`.

  When the model's context is full, its second half is read again as the first half of a new one, so a text can be of
  any length and each token is predicted from half a context or more.

  Args:
    model: what is sampled from.
    variables: the model's variables.
    prompt: one token or more a row, and `model.length` at most. Shorter ones end in -1: then `shared` is needed.
    key: random key.
    choice: how each token is chosen; a number is its temperature.
    given: what `model.prefill` takes besides; None for nothing.
    length: tokens to add.
    vocab_size: ids from here on are never drawn (a model may have more than the data).
    stop: tokens that end a text; those after the first of them are -1.
    shared: the tokens of the shortest prompt, where prompts differ in length. So many are read at once, and those after
      them one by one, while the shorter prompts are continued: each text is that of its prompt alone.

  Raises:
    ValueError: a prompt which is longer than the model's context.
  """
  texts = begin(model, variables, prompt, choice, given, length=length, vocab_size=vocab_size, shared=shared)
  more = 0 if shared is None else prompt.shape[1] - shared
  rules = dict(length=length + more, vocab_size=vocab_size, stop=stop)
  new = go_on(model, variables, texts, key, choice, given, **rules)[1]
  if more:
    new = jnp.take_along_axis(new, (texts.prompted - shared)[:, None] + jnp.arange(length), axis=1)
  return new.astype(prompt.dtype)


@functools.partial(jax.jit, static_argnames=('model', 'length', 'vocab_size', 'shared'))
def begin(
  model: Decoder,
  variables: PyTree,
  prompt: Int[Array, 'b p'],
  choice: Choice | float = 1.0,
  given: Mapping[str, Any] | None = None,
  *,
  length: int,
  vocab_size: int | None = None,
  shared: int | None = None,
) -> Texts:
  """Reads prompts, to be gone on with by up to `length` tokens; the arguments are those of `generate`."""
  context = model.length or prompt.shape[1]
  if prompt.shape[1] > context:
    raise ValueError(f'a prompt of {prompt.shape[1]} tokens does not fit a context of {context}')
  batch, size = prompt.shape
  prompted = (prompt >= 0).sum(1).astype(jnp.int32)
  logits, cache = model.prefill(variables, prompt[:, : shared or size], **(given or {}))
  seen = None
  if isinstance(choice, Choice) and choice.repetition_penalty is not None:
    ids = jnp.where(prompt < 0, logits.shape[-1], prompt)  # which is no token
    seen = jnp.zeros(logits[:, :vocab_size].shape, bool).at[jnp.arange(batch)[:, None], ids].set(True, mode='drop')
  held = jnp.int32(shared or size)
  room = jnp.zeros((batch, length), prompt.dtype)
  return Texts(
    cache=cache,
    held=held,
    logits=logits,
    tokens=jnp.concatenate([prompt, room], axis=1),
    at=held,
    prompted=prompted,
    seen=seen,
    ended=jnp.zeros(batch, bool),
    drawn=jnp.int32(0),
  )


@functools.partial(jax.jit, static_argnames=('model', 'length', 'vocab_size', 'stop'))
def go_on(
  model: Decoder,
  variables: PyTree,
  texts: Texts,
  key: Key[Array, ''],
  choice: Choice | float = 1.0,
  given: Mapping[str, Any] | None = None,
  *,
  length: int,
  vocab_size: int | None = None,
  stop: tuple[int, ...] = (),
) -> tuple[Texts, Int[Array, 'b length']]:
  """(texts with `length` more tokens, those tokens); the arguments are those of `generate`.

  Several calls give what one gives.
  """
  choice = choice if isinstance(choice, Choice) else Choice(choice)
  batch, room = texts.tokens.shape
  context = model.length or room
  rows = jnp.arange(batch)

  def step(texts, _):
    at = texts.at
    token = choice(texts.logits[:, :vocab_size], jax.random.fold_in(key, texts.drawn), texts.seen)
    given_token = jax.lax.dynamic_index_in_dim(texts.tokens, at, axis=1, keepdims=False)
    token = jnp.where(at < texts.prompted, given_token, token).astype(texts.tokens.dtype)
    tokens = jax.lax.dynamic_update_slice(texts.tokens, token[:, None], (0, at))
    shown = jnp.where(texts.ended, -1, token)
    ended = texts.ended | (jnp.isin(token, jnp.asarray(stop, jnp.int32)) & (at >= texts.prompted))
    seen = None if texts.seen is None else texts.seen.at[rows, token].set(True)

    def read_again(_):
      recent = jax.lax.dynamic_slice(tokens, (0, at - context // 2), (batch, context // 2))
      return model.prefill(variables, recent, **(given or {}))[1], jnp.int32(context // 2)

    cache, held = texts.cache, texts.held
    if room > context:
      cache, held = jax.lax.cond(held == context, read_again, lambda kept: kept, (cache, held))
    logits, cache = model.step(variables, cache, token)
    changed = dict(cache=cache, held=held + 1, logits=logits, tokens=tokens, seen=seen, ended=ended)
    return texts.replace(**changed, at=at + 1, drawn=texts.drawn + 1), shown

  texts, shown = jax.lax.scan(step, texts, length=length)
  return texts, shown.T
