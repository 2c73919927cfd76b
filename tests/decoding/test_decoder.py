"""Any model with the methods of a decoder can be sampled from."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dl.decoding.decoder import Decoder
from dl.decoding.sampling import generate


@dataclasses.dataclass(frozen=True)
class Fibonacci:
  """The next token is the sum of the last two, and of a bias, modulo 10; its cache is the one before the last."""

  length: int | None = None

  def prefill(self, variables, tokens, shift=0):
    padded = jnp.pad(tokens, ((0, 0), (1, 0)))
    cache = {'last': padded[:, -2], 'shift': jnp.full(len(tokens), shift)}
    return self.step(variables, cache, padded[:, -1])

  def step(self, variables, cache, tokens):
    following = (cache['last'] + tokens + cache['shift'] + variables['bias']) % 10
    return jax.nn.one_hot(following, 10), cache | {'last': tokens}


def by_hand(prompt, length, plus):
  rows = [list(row) for row in np.asarray(prompt)]
  for row in rows:
    for _ in range(length):
      row.append((row[-1] + row[-2] + plus) % 10)
  return [row[prompt.shape[1] :] for row in rows]


def test_a_token_that_ends_texts_ends_none_by_standing_in_its_prompt():
  prompt = jnp.array([[1, 1, -1, -1], [3, 7, 5, 2]])
  draw = lambda prompt, **more: generate(
    Fibonacci(), {'bias': jnp.int32(1)}, prompt, jax.random.key(0), 0.0, length=6, stop=(5,), **more
  )
  alone = [draw(prompt[:1, :2])[0].tolist(), draw(prompt[1:])[0].tolist()]
  assert alone == [[3, 5, -1, -1, -1, -1], [8, 1, 0, 2, 3, 6]]
  assert draw(prompt, shared=2).tolist() == alone


@pytest.mark.parametrize('length', [None, 4])
def test_a_network_with_another_kind_of_memory_generates(length):
  model, prompt = Fibonacci(length), jnp.array([[1, 1], [3, 7]])
  assert isinstance(model, Decoder) and not isinstance(object(), Decoder)
  variables = {'bias': jnp.int32(1)}
  tokens = generate(model, variables, prompt, jax.random.key(0), 0.0, length=9)
  assert tokens.tolist() == by_hand(prompt, 9, 1)
  if length is None:
    shifted = generate(model, variables, prompt, jax.random.key(0), 0.0, {'shift': jnp.int32(2)}, length=9)
    assert shifted.tolist() == by_hand(prompt, 9, 3)
