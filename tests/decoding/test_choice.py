"""The filters of logits: each as transformers has it, and what is drawn follows what they leave."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference

from dl.decoding.choice import Choice, likeliest, not_unlikely, nucleus, penalized
from dl.decoding.sampling import generate

LOGITS = np.random.default_rng(0).normal(size=(4, 23)).astype(np.float32) * 2
SEEN = np.random.default_rng(1).integers(0, 23, (4, 5))


@pytest.mark.parametrize(
  ('name', 'argument', 'ours'),
  [
    ('TopKLogitsWarper', 3, lambda x: likeliest(x, 3)),
    ('TopKLogitsWarper', 50, lambda x: likeliest(x, 50)),
    ('TopPLogitsWarper', 0.7, lambda x: nucleus(x, 0.7)),
    ('TopPLogitsWarper', 0.01, lambda x: nucleus(x, 0.01)),
    ('TopPLogitsWarper', 0.999, lambda x: nucleus(x, 0.999)),
    ('MinPLogitsWarper', 0.2, lambda x: not_unlikely(x, 0.2)),
    (
      'RepetitionPenaltyLogitsProcessor', 1.3,
      lambda x: penalized(x, jnp.zeros(x.shape, bool).at[np.arange(4)[:, None], SEEN].set(True), 1.3),
    ),
  ],
)  # fmt: skip
def test_each_filter_is_that_of_transformers(name, argument, ours):
  torch, transformers = pytest.importorskip('torch'), reference.transformers()
  theirs = getattr(transformers, name)(argument)(torch.tensor(SEEN), torch.tensor(LOGITS)).numpy()
  mine = np.asarray(jax.jit(ours)(LOGITS))
  np.testing.assert_array_equal(np.isfinite(mine), np.isfinite(theirs))
  np.testing.assert_allclose(mine, theirs, rtol=1e-6)


def test_a_choice_draws_of_what_its_filters_leave():
  logits = jnp.log(jnp.array([[0.5, 0.3, 0.15, 0.05]])).repeat(4000, 0)
  draw = lambda **options: np.bincount(Choice(**options)(logits, jax.random.key(0)), minlength=4) / 4000
  np.testing.assert_allclose(draw(), [0.5, 0.3, 0.15, 0.05], atol=0.03)
  np.testing.assert_allclose(draw(top_k=2), [0.625, 0.375, 0, 0], atol=0.03)
  np.testing.assert_allclose(draw(top_p=0.9), [0.526, 0.316, 0.158, 0], atol=0.03)
  np.testing.assert_allclose(draw(min_p=0.4), [0.625, 0.375, 0, 0], atol=0.03)
  np.testing.assert_allclose(draw(temperature=0.5), np.square([0.5, 0.3, 0.15, 0.05]) / 0.365, atol=0.03)
  assert draw(temperature=0.0, top_p=0.9)[0] == 1.0
  # The filters see probabilities at that temperature: of what is flat more is left.
  assert (draw(temperature=4.0, min_p=0.4) > 0).sum() == 4


class Sums:
  """The next token is likeliest the sum of the last two modulo 10; a `Decoder`."""

  length = None

  def prefill(self, variables, tokens):
    return self.step(variables, tokens[:, -2], tokens[:, -1])

  def step(self, variables, cache, tokens):
    return 3.0 * jax.nn.one_hot((cache + tokens) % 10, 10) + variables, tokens


def test_a_text_ends_at_a_token_and_a_penalty_counts_prompt_and_text():
  prompt, flat = jnp.array([[1, 1], [3, 7]]), jnp.zeros(10)
  whole = generate(Sums(), flat, prompt, jax.random.key(0), 0.0, length=6)
  assert whole.tolist() == [[2, 3, 5, 8, 3, 1], [0, 7, 7, 4, 1, 5]]
  ended = generate(Sums(), flat, prompt, jax.random.key(0), 0.0, length=6, stop=(5, 7))
  assert ended.tolist() == [[2, 3, 5, -1, -1, -1], [0, 7, -1, -1, -1, -1]]
  # A logit of 3 divided by 4 is below one of 1: the likeliest unseen token then, which is the first with that logit.
  penalty = generate(Sums(), jnp.ones(10), prompt, jax.random.key(0), Choice(0.0, repetition_penalty=8.0), length=4)
  for row, text in zip(np.asarray(penalty), np.asarray(prompt), strict=True):
    assert len({*row.tolist(), *text.tolist()}) == 4 + len({*text.tolist()})


def test_each_token_of_each_text_is_drawn_by_itself():
  prompt = jnp.ones((40, 2), jnp.int32)
  drawn = np.asarray(generate(Sums(), jnp.zeros(10), prompt, jax.random.key(0), Choice(1e3), length=30))
  assert (drawn[:, 1:] == drawn[:, :-1]).mean() < 0.15 and (drawn[1:] == drawn[:-1]).mean() < 0.15  # of ten tokens


def test_numbers_of_a_choice_compile_once():
  before = generate._cache_size()
  model = Sums()
  for p in (0.5, 0.7, 0.9):
    generate(model, jnp.zeros(10), jnp.array([[1, 1]]), jax.random.key(0), Choice(p, top_p=p), length=3)
  assert generate._cache_size() == before + 1
