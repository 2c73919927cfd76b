"""Speculative decoding draws what the large model alone would: token for token, and in distribution."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from dl.decoding import sampling, speculative
from dl.decoding.choice import Choice
from dl.decoding.decoder import Rewindable
from dl.models.gpt import GPT
from dl.models.llama import Llama
from dl.models.mamba import Mamba

KEY = jax.random.key(0)


@dataclasses.dataclass(frozen=True)
class Bigrams:
  """The next token depends on the last; the cache counts what was read, and keeps the last few tokens."""

  length: int | None = None

  def prefill(self, variables, tokens):
    logits, cache = self.read(variables, jnp.zeros((len(tokens), 8), tokens.dtype), tokens)
    return logits[:, -1], cache

  def step(self, variables, cache, tokens):
    logits, cache = self.read(variables, cache, tokens[:, None])
    return logits[:, 0], cache

  def read(self, variables, cache, tokens):
    return variables[tokens], jnp.concatenate([cache, tokens], axis=1)[:, -8:]

  def forget(self, cache, count):
    return jnp.roll(cache, count, axis=1)


def frequencies(tokens, size):
  """How often each sequence stands among rows [n, length]."""
  places = np.ravel_multi_index(np.asarray(tokens).T, (size,) * tokens.shape[1])
  return np.bincount(places, minlength=size ** tokens.shape[1])


@pytest.mark.parametrize('together', [False, True], ids=['alone', 'in rows of four'])
@pytest.mark.parametrize('choice', [Choice(), Choice(0.7, top_k=2)], ids=['all', 'top_k'])
def test_texts_have_the_distribution_of_the_large_model(together, choice):
  size, length, count = 3, 4, 40_000
  rng = np.random.default_rng(0)
  large, small = (jnp.asarray(rng.normal(0, 1.2, (size, size)), jnp.float32) for _ in range(2))
  assert isinstance(Bigrams(), Rewindable)

  @jax.jit
  @jax.vmap
  def drawn(key):
    prompt = jnp.zeros((4 if together else 1, 1), jnp.int32)
    return speculative.generate(Bigrams(), large, Bigrams(), small, prompt, key, choice, length=length, ahead=3)

  found = drawn(jax.random.split(KEY, count // 4 if together else count))
  counts = frequencies(found.tokens.reshape(-1, length), size)
  p = np.asarray(choice.probabilities(large), np.float64)
  p /= p.sum(1, keepdims=True)
  sequences = np.array(np.unravel_index(np.arange(size**length), (size,) * length)).T
  expected = count * np.prod(
    [p[a, b] for a, b in zip(np.c_[0 * sequences[:, :1], sequences[:, :-1]].T, sequences.T)], 0
  )
  assert not counts[expected == 0].any()
  possible = expected > 0
  assert scipy.stats.chisquare(counts[possible], expected[possible]).pvalue > 1e-3
  if choice.top_k is None:  # the small model's texts, or drafts taken as they are, are told apart by so many
    q = np.asarray(choice.probabilities(small), np.float64)[0]
    first = np.bincount(np.asarray(found.tokens).reshape(-1, length)[:, 0], minlength=size)
    assert scipy.stats.chisquare(first, count * q / q.sum()).pvalue < 1e-6


def test_a_token_is_accepted_as_often_as_the_paper_says():
  rng = np.random.default_rng(1)
  p, q = (jnp.asarray(rng.dirichlet(np.ones(5)), jnp.float32) for _ in range(2))
  large, small = (jnp.tile(jnp.log(x), (5, 1)) for x in (p, q))
  draw = functools.partial(speculative.generate, Bigrams(), large, Bigrams(), small, length=40, ahead=1)
  found = jax.jit(jax.vmap(lambda key: draw(jnp.zeros((1, 1), jnp.int32), key)))(jax.random.split(KEY, 400))
  share = np.average(found.accepted, weights=found.rounds)
  assert share == pytest.approx(float(jnp.minimum(p, q).sum()), abs=0.01)  # corollary 3.6: 1 - D(p, q)
  rest = speculative.residual(p[None], q[None])[0]
  np.testing.assert_allclose(jnp.minimum(p, q) + (1 - jnp.minimum(p, q).sum()) * rest, p, atol=1e-6)


ROTARY = functools.partial(GPT, rope=True, scan=True)


@pytest.mark.parametrize(('make', 'ahead'), [(GPT, 1), (ROTARY, 4), (functools.partial(Llama, hidden=24), 4)])
def test_greedy_texts_are_the_large_models_token_for_token(make, ahead):
  model, draft = (make(vocab_size=11, layers=n, heads=2, width=16, length=48) for n in (2, 1))
  prompt = jax.random.randint(KEY, (3, 5), 0, 11)
  scaled = lambda variables: jax.tree.map(lambda x: 8 * x if x.ndim > 1 else x, variables)
  variables, of_draft = (scaled(m.init(jax.random.key(i), prompt)) for i, m in enumerate((model, draft)))
  plain = sampling.generate(model, variables, prompt, KEY, 0.0, length=30, vocab_size=10)
  rules = dict(length=30, ahead=ahead, vocab_size=10)
  found = speculative.generate(model, variables, draft, of_draft, prompt, KEY, 0.0, **rules)
  assert len(np.unique(plain)) > 2
  np.testing.assert_array_equal(found.tokens, plain)
  assert found.accepted < 0.9 and found.rounds <= 29
  itself = speculative.generate(model, variables, model, variables, prompt, KEY, 0.0, **rules)
  np.testing.assert_array_equal(itself.tokens, plain)
  assert itself.accepted == 1 and itself.rounds == -(-29 // (ahead + 1))


def test_what_cannot_be_drafted_is_refused():
  prompt = jnp.zeros((1, 4), jnp.int32)
  gpt = GPT(vocab_size=5, layers=1, heads=1, width=8, length=16)
  mamba = Mamba(vocab_size=5, layers=1, width=8)
  variables, others = (m.init(KEY, prompt) for m in (gpt, mamba))
  run = lambda model, given, choice=1.0, length=4: speculative.generate(
    model, given, gpt, variables, prompt, KEY, choice, length=length
  )
  with pytest.raises(ValueError, match='13 tokens and a draft of 4 do not fit a context of 16'):
    run(gpt, variables, length=9)
  with pytest.raises(ValueError, match='a repetition penalty depends on'):
    run(gpt, variables, Choice(repetition_penalty=1.2))
  with pytest.raises(ValueError, match='Mamba cannot go back to an earlier token: it remembers its'):
    run(mamba, others)
