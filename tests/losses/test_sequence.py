"""Conditional random fields, by all paths: likelihood, gradients, the best path, and what is forbidden."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dl.losses import sequence

RNG = np.random.default_rng(0)
LENGTHS = [5, 3, 1]
MASK = np.arange(5) < np.asarray(LENGTHS)[:, None]
NAMES = ('O', 'B-x', 'I-x', 'B-y', 'I-y')
TAGS = np.asarray([[1, 2, 0, 3, 4], [0, 1, 1, -1, 7], [3, -1, 9, 0, 0]])


def chain():
  normal = lambda *shape: jnp.asarray(RNG.normal(size=shape), jnp.float32)
  return sequence.Chain(normal(3, 5, 5), normal(5, 5), normal(5), normal(5))


def score_of(c, row, path):
  total = c.begin[path[0]] + c.end[path[-1]] + sum(c.emissions[row, t, tag] for t, tag in enumerate(path))
  return total + sum(c.transitions[a, b] for a, b in itertools.pairwise(path))


def scores(c, row):
  """Of all paths of a row."""
  n = LENGTHS[row]
  paths = np.asarray(list(itertools.product(range(5), repeat=n)))
  total = c.begin[paths[:, 0]] + c.end[paths[:, -1]]
  total += sum(c.emissions[row, t][paths[:, t]] for t in range(n))
  return paths, total + sum(c.transitions[paths[:, t], paths[:, t + 1]] for t in range(n - 1))


def by_brute_force(c):
  found = []
  for row, n in enumerate(LENGTHS):
    _, of_all = scores(c, row)
    found.append(score_of(c, row, TAGS[row, :n]) - jax.nn.logsumexp(of_all))
  return jnp.stack(found)


@pytest.mark.parametrize('bio', [False, True])
def test_likelihood_and_gradients_equal_those_over_all_paths(bio):
  def prepared(c):
    return sequence.forbid(c, *sequence.forbidden_by_bio(NAMES)) if bio else c

  c = chain()
  ours = lambda c: sequence.log_likelihood(prepared(c), jnp.asarray(TAGS), jnp.asarray(MASK))
  theirs = lambda c: by_brute_force(prepared(c))
  np.testing.assert_allclose(ours(c), theirs(c), rtol=1e-5, atol=1e-5)
  assert np.isfinite(ours(c)).all()
  for weights in np.eye(3):
    gradients = [jax.grad(lambda c, f=f, w=weights: (f(c) * w).sum())(c) for f in (ours, theirs)]
    for a, b in zip(*gradients, strict=True):
      np.testing.assert_allclose(a, b, atol=1e-5)


@pytest.mark.parametrize('bio', [False, True])
def test_the_best_path(bio):
  c = chain()
  c = sequence.forbid(c, *sequence.forbidden_by_bio(NAMES)) if bio else c
  tags, best = jax.jit(sequence.viterbi)(c, jnp.asarray(MASK))
  for row, n in enumerate(LENGTHS):
    paths, of_all = scores(c, row)
    assert tags[row].tolist() == [*paths[int(of_all.argmax())].tolist(), *[-1] * (5 - n)]
    np.testing.assert_allclose(best[row], of_all.max(), rtol=1e-5)


def test_what_bio_forbids():
  transitions, begin = sequence.forbidden_by_bio(NAMES)
  allowed = {(a, b) for i, a in enumerate(NAMES) for j, b in enumerate(NAMES) if not transitions[i, j]}
  assert {a for a, b in allowed if b == 'I-x'} == {'B-x', 'I-x'}
  assert all((a, b) in allowed for a in NAMES for b in ('O', 'B-x', 'B-y'))
  assert begin.tolist() == [False, False, True, False, True]
  c = sequence.forbid(chain(), transitions, begin)
  wrong = jnp.asarray([[0, 2, 0, 0, 0]] * 3)
  assert sequence.log_likelihood(c, wrong, jnp.asarray(MASK))[0] == -jnp.inf
