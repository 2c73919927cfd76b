"""Beam search: token for token as transformers', and on a small problem as trying all texts."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from models import test_llama

from dl.decoding import beam
from dl.models.gpt import GPT
from dl.models.llama import Llama


@pytest.mark.parametrize(
  ('width', 'penalty', 'stop'),
  [(1, 1.0, None), (3, 1.0, None), (3, 1.0, 7), (4, 0.0, 7), (4, 2.0, 7), (2, 1.0, 29), (2, 0.5, 13)],
)
def test_texts_are_those_of_transformers(width, penalty, stop):
  torch, theirs = test_llama.hugging_face(2)
  model = Llama(**test_llama.TINY, groups=2)
  variables = test_llama.converted({k: v.detach().numpy() for k, v in theirs.state_dict().items()}, model)
  prompt = test_llama.TOKENS[:, :5]
  expected = theirs.generate(
    torch.tensor(prompt), attention_mask=torch.ones(prompt.shape), max_new_tokens=10, num_beams=width,
    do_sample=False, length_penalty=penalty,
    early_stopping=False, eos_token_id=stop, pad_token_id=30, num_return_sequences=width, output_scores=True,
    return_dict_in_generate=True,
  )  # fmt: skip
  tokens, scores = beam.search(model, variables, prompt, length=10, width=width, stop=stop, length_penalty=penalty)
  sequences = expected.sequences[:, 5:].numpy().reshape(3, width, -1)
  wanted = np.full((3, width, 10), -1)
  for row, i in itertools.product(range(3), range(width)):
    text = sequences[row, i].tolist()
    text = text[: text.index(stop) + 1] if stop in text else text
    wanted[row, i, : len(text)] = text
  np.testing.assert_array_equal(tokens, wanted)
  if width > 1:
    np.testing.assert_allclose(scores, expected.sequences_scores.numpy().reshape(3, width), rtol=1e-3)


def test_a_search_wide_enough_finds_the_best_of_all_texts():
  model = GPT(vocab_size=4, length=8, layers=1, heads=1, width=8)
  variables = jax.tree.map(lambda p: p * 20, model.init(jax.random.key(0), jnp.zeros((1, 2), jnp.int32)))
  prompt = jnp.array([[1, 2], [3, 0]])
  tokens, scores = beam.search(model, variables, prompt, length=3, width=16)
  texts = np.array(list(itertools.product(range(4), repeat=3)))
  for row in range(2):
    whole = np.concatenate([np.tile(prompt[row], (64, 1)), texts], 1)
    log = jax.nn.log_softmax(model.apply(variables, whole))[:, 1:4]
    each = np.take_along_axis(np.asarray(log), texts[..., None], 2)[..., 0].sum(1)
    order = np.argsort(-each)[:16]
    np.testing.assert_array_equal(tokens[row], texts[order])
    np.testing.assert_allclose(scores[row], each[order] / 3, rtol=1e-4)


def test_a_text_beyond_the_context_is_refused():
  model = GPT(vocab_size=4, length=8, layers=1, heads=1, width=8)
  with pytest.raises(ValueError, match='a context of 8 tokens does not hold 5 of the prompt and 4 more'):
    beam.search(model, {}, jnp.zeros((1, 5), jnp.int32), length=4, width=2)
