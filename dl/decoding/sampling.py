"""Sampling token by token from a causal model with a key-value cache, as one compiled scan."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, PyTree


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
  model: nn.Module,
  variables: PyTree,
  prompt: Int[Array, 'b p'],
  key: Key[Array, ''],
  temperature: float = 1.0,
  *,
  length: int,
  top_k: int | None = None,
  vocab_size: int | None = None,
) -> Int[Array, 'b length']:
  """Continues prompts by `length` tokens; compiled once for each model, shape, length and `top_k`.

  When the model's context is full, its second half is read again as the first half of a new one, so a text can be of
  any length and each token is predicted from half a context or more.

  Args:
    model: called as `model.apply(variables, tokens, train=False, decode=True, mutable=['cache'])`; it has a `length`
      of at least 2 positions, and its cache has an entry 'index', the number of positions read.
    variables: the model's variables.
    prompt: one token or more a row; the last `model.length` count.
    key: random key.
    temperature: softmax temperature; 0 takes the likeliest token.
    length: tokens to add.
    top_k: draw among the k likeliest tokens alone.
    vocab_size: ids from here on are never drawn (a model may have more than the data).
  """
  temperature = jnp.asarray(temperature, jnp.float32)
  prompt = prompt[:, -model.length :]
  batch, begin = prompt.shape
  half = model.length // 2
  apply = functools.partial(model.apply, train=False, decode=True, mutable=['cache'])

  def read(cache, tokens):
    logits, changed = apply({**variables, 'cache': cache}, tokens)
    return logits[:, -1, :vocab_size], changed['cache']

  shapes = jax.eval_shape(lambda: apply(variables, prompt)[1]['cache'])
  logits, cache = read(jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes), prompt)
  tokens = jnp.concatenate([prompt, jnp.zeros((batch, length), prompt.dtype)], axis=1)

  def step(carry, i):
    cache, logits, tokens = carry
    at = begin + i
    token = choose(logits, jax.random.fold_in(key, i), temperature, top_k)
    tokens = jax.lax.dynamic_update_slice(tokens, token[:, None].astype(tokens.dtype), (0, at))

    def read_again(cache):
      recent = jax.lax.dynamic_slice(tokens, (0, at - half), (batch, half))
      return read({**cache, 'index': jnp.zeros_like(cache['index'])}, recent)[1]

    if begin + length > model.length:
      cache = jax.lax.cond(cache['index'] == model.length, read_again, lambda c: c, cache)
    logits, cache = read(cache, token[:, None])
    return (cache, logits, tokens), None

  (_, _, tokens), _ = jax.lax.scan(step, (cache, logits, tokens), jnp.arange(length))
  return tokens[:, begin:]
