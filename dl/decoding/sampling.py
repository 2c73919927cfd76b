"""Sampling token by token, as one compiled scan."""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, Key, PyTree

from dl.decoding.choice import Choice
from dl.decoding.decoder import Decoder


@functools.partial(jax.jit, static_argnames=('model', 'length', 'vocab_size', 'stop'))
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
) -> Int[Array, 'b length']:
  """Continues prompts by `length` tokens; compiled once for each model, shape, length and `choice.top_k`.

  When the model's context is full, its second half is read again as the first half of a new one, so a text can be of
  any length and each token is predicted from half a context or more.

  Args:
    model: what is sampled from.
    variables: the model's variables.
    prompt: one token or more a row; the last `model.length` count.
    key: random key.
    choice: how each token is chosen; a number is its temperature.
    given: what `model.prefill` takes besides; None for nothing.
    length: tokens to add.
    vocab_size: ids from here on are never drawn (a model may have more than the data).
    stop: tokens that end a text; those after the first of them are -1.
  """
  choice = choice if isinstance(choice, Choice) else Choice(choice)
  context = model.length or prompt.shape[1] + length
  whole, prompt = prompt, prompt[:, -context:]
  batch, begin = prompt.shape
  read = functools.partial(model.prefill, variables, **(given or {}))
  logits, cache = read(prompt)
  tokens = jnp.concatenate([prompt, jnp.zeros((batch, length), prompt.dtype)], axis=1)
  seen, rows = None, jnp.arange(batch)
  if choice.repetition_penalty is not None:
    seen = jnp.zeros(logits[:, :vocab_size].shape, bool).at[rows[:, None], whole].set(True)
  ended = jnp.zeros(batch, bool)

  def step(carry, i):
    cache, held, logits, tokens, seen, ended = carry
    at = begin + i
    token = choice(logits[:, :vocab_size], jax.random.fold_in(key, i), seen)
    tokens = jax.lax.dynamic_update_slice(tokens, token[:, None].astype(tokens.dtype), (0, at))
    shown, ended = jnp.where(ended, -1, token), ended | jnp.isin(token, jnp.asarray(stop, jnp.int32))
    if seen is not None:
      seen = seen.at[rows, token].set(True)

    def read_again(_):
      recent = jax.lax.dynamic_slice(tokens, (0, at - context // 2), (batch, context // 2))
      return read(recent)[1], jnp.int32(context // 2)

    if begin + length > context:
      cache, held = jax.lax.cond(held == context, read_again, lambda kept: kept, (cache, held))
    logits, cache = model.step(variables, cache, token)
    return (cache, held + 1, logits, tokens, seen, ended), shown

  carry = cache, jnp.int32(begin), logits, tokens, seen, ended
  return jax.lax.scan(step, carry, jnp.arange(length))[1].T.astype(prompt.dtype)
