"""Sampling token by token, as one compiled scan."""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, PyTree

from dl.decoding.decoder import Decoder


def choose(
  logits: Float[Array, 'b v'], key: Key[Array, ''], temperature: Float[Array, ''], top_k: int | None
) -> Int[Array, ' b']:
  """One token a row: the likeliest at temperature 0, else a draw from softmax(logits / temperature)."""
  best = jnp.argmax(logits, -1).astype(jnp.int32)
  if top_k is not None:
    least = jax.lax.top_k(logits, min(top_k, logits.shape[-1]))[0][:, -1:]
    logits = jnp.where(logits < least, -jnp.inf, logits)
  drawn = jax.random.categorical(key, logits / jnp.maximum(temperature, 1e-6)).astype(jnp.int32)
  return jnp.where(temperature > 0, drawn, best)


@functools.partial(jax.jit, static_argnames=('model', 'length', 'top_k', 'vocab_size'))
def generate(
  model: Decoder,
  variables: PyTree,
  prompt: Int[Array, 'b p'],
  key: Key[Array, ''],
  temperature: float = 1.0,
  given: Mapping[str, Any] | None = None,
  *,
  length: int,
  top_k: int | None = None,
  vocab_size: int | None = None,
) -> Int[Array, 'b length']:
  """Continues prompts by `length` tokens; compiled once for each model, shape, length and `top_k`.

  When the model's context is full, its second half is read again as the first half of a new one, so a text can be of
  any length and each token is predicted from half a context or more.

  Args:
    model: what is sampled from.
    variables: the model's variables.
    prompt: one token or more a row; the last `model.length` count.
    key: random key.
    temperature: softmax temperature; 0 takes the likeliest token.
    given: what `model.prefill` takes besides; None for nothing.
    length: tokens to add.
    top_k: draw among the k likeliest tokens alone.
    vocab_size: ids from here on are never drawn (a model may have more than the data).
  """
  temperature = jnp.asarray(temperature, jnp.float32)
  context = model.length or prompt.shape[1] + length
  prompt = prompt[:, -context:]
  batch, begin = prompt.shape
  read = functools.partial(model.prefill, variables, **(given or {}))
  logits, cache = read(prompt)
  tokens = jnp.concatenate([prompt, jnp.zeros((batch, length), prompt.dtype)], axis=1)

  def step(carry, i):
    cache, held, logits, tokens = carry
    at = begin + i
    token = choose(logits[:, :vocab_size], jax.random.fold_in(key, i), temperature, top_k)
    tokens = jax.lax.dynamic_update_slice(tokens, token[:, None].astype(tokens.dtype), (0, at))

    def read_again(_):
      recent = jax.lax.dynamic_slice(tokens, (0, at - context // 2), (batch, context // 2))
      return read(recent)[1], jnp.int32(context // 2)

    if begin + length > context:
      cache, held = jax.lax.cond(held == context, read_again, lambda kept: kept, (cache, held))
    logits, cache = model.step(variables, cache, token)
    return (cache, held + 1, logits, tokens), None

  carry = cache, jnp.int32(begin), logits, tokens
  (*_, tokens), _ = jax.lax.scan(step, carry, jnp.arange(length))
  return tokens[:, begin:]
