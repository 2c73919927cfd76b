"""Texts of a language model: prompts of several lengths, piece by piece, and with a draft."""

import jax
import numpy as np
import pytest

from dl.commands import sample
from dl.contract.info import Info
from dl.contract.state import State
from dl.errors import ConfigError
from dl.models.gpt import GPT
from dl.models.mamba import Mamba
from dl.models.rnn import RecurrentLanguageModel
from dl.tasks.lm import LanguageModel
from dl.tasks.writing import Draft

KEY = jax.random.key(3)
ROMAN = Info(vocab_size=6, vocabulary=tuple('abcdé\n'))


def untrained(model, info=ROMAN, seed=0):
  """A task and a state whose logits differ enough to write more than one letter."""
  task = LanguageModel(model=model, info=info)
  params, extra = task.init(jax.random.key(seed), {'tokens': np.zeros((1, 8), np.int32)})
  params = jax.tree.map(lambda x: 8 * x if x.ndim > 1 else x, params)
  return task, State(step=np.int32(0), params=params, opt={}, extra=extra)


def gpt(length=32, layers=1, **options):
  return GPT(vocab_size=6, layers=layers, heads=2, width=16, length=length, **options)


@pytest.mark.parametrize(
  'model',
  [
    gpt(),
    gpt(rope=True),
    gpt(12),
    RecurrentLanguageModel(vocab_size=6, width=8, layers=1),
    Mamba(vocab_size=6, width=8, layers=1),
  ],
)
def test_prompts_of_other_lengths_are_continued_as_each_alone(model):
  task, state = untrained(model)
  prompts = ('a', 'dcbacd\n', 'abc')
  options = dict(length=14, temperature=0.0, repetition_penalty=1.1)
  together = task.sample(state, KEY, 2, prompts=prompts, **options)
  alone = [task.sample(state, KEY, 1, prompt=prompt, **options)[0] for prompt in prompts]
  assert together == [text for text in alone for _ in range(2)] and len(set(alone)) == 3


def test_a_text_in_pieces_is_the_text():
  for info, stop in ((ROMAN, ''), (ROMAN, 'é'), (Info(vocab_size=6), '')):
    task, state = untrained(gpt(), info)
    options = dict(prompt='' if info is not ROMAN else 'ab', length=45, stop=stop)
    pieces = list(task.stream(state, KEY, **options))
    assert ''.join(pieces) == task.sample(state, KEY, 1, **options)[0]
    assert len(pieces) > 1


def test_what_is_drafted_is_the_models_own():
  task, state = untrained(gpt(64, layers=2))
  other, of_draft = untrained(gpt(48), seed=1)
  variables = {'params': of_draft.params['model']}
  draft = Draft(other.model, variables, ROMAN)
  options = dict(prompt='abc', length=40, temperature=0.0)
  assert task.sample(state, KEY, 2, draft=draft, **options) == task.sample(state, KEY, 2, **options)
  for wrong, words in (
    (dict(draft=Draft(other.model, variables, Info(vocab_size=6))), 'sample.draft: has another vocabulary'),
    (dict(draft=draft, length=60), 'sample.draft: 63 tokens and a draft of 4 do not fit a context of 48'),
    (dict(draft=draft, beams=2), 'sample.draft: has no use beside beams'),
    (dict(draft=draft, repetition_penalty=2.0), 'sample.draft: a repetition penalty'),
    (dict(prompt='', prompts=('ab', 'a' * 70)), 'prompts.1.: has 70 tokens, and the model reads 64 at most'),
    (dict(prompts=('ab',)), 'sample.prompts: has no use beside prompt'),
  ):
    with pytest.raises(ConfigError, match=words):
      task.sample(state, KEY, 2, **options | wrong)


def test_options_of_a_stream_are_its_own():
  task, _ = untrained(gpt())
  assert sample.options(task, ['top_k=2'], streamed=True) == {'top_k': 2}
  with pytest.raises(ConfigError, match='--beams: with --stream LanguageModel draws samples without it'):
    sample.options(task, ['beams=2'], streamed=True)
  with pytest.raises(ConfigError, match='--draft: '):
    sample.options(task, ['draft=2'])
