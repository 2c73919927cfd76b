"""Options of samples are those of the task's own `sample`, by their types and bounds."""

import dataclasses
from typing import Literal

import flax.linen as nn
import pytest
from absl import flags

from dl.commands import cli, sample
from dl.config.bounds import Share
from dl.contract.task import Task
from dl.errors import ConfigError
from dl.models.gpt import GPT
from dl.tasks.lm import LanguageModel


@dataclasses.dataclass(frozen=True, kw_only=True)
class Painter(Task):
  """A user's own task, whose samples have options of its own."""

  def sample(
    self, state, key, count, style: Literal['oil', 'ink'] = 'oil', guidance: Share = 0.5, tiled: bool = False,
    size: tuple[int, int] = (8, 8), title: str = '',
  ):  # fmt: skip
    return None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Free(Task):
  def sample(self, state, key, count, **options):
    return None


PAINTER = Painter(model=nn.Dense(1))
GPT_TASK = LanguageModel(model=GPT(vocab_size=8, layers=1, heads=1, width=8, length=8))


def test_options_are_values_of_the_signatures_types():
  texts = ['style=ink', 'guidance=1', 'tiled', 'size=(3, 4)', 'title=1968']
  assert sample.options(PAINTER, texts) == {
    'style': 'ink', 'guidance': 1, 'tiled': True, 'size': (3, 4), 'title': '1968',
  }  # fmt: skip
  assert sample.options(GPT_TASK, ['prompt=def ', 'temperature=0', 'top_k=None', 'length=1']) == {
    'prompt': 'def ', 'temperature': 0, 'top_k': None, 'length': 1,
  }  # fmt: skip
  assert sample.options(Free(model=nn.Dense(1)), ['whatever=3']) == {'whatever': 3}


def test_how_much_of_a_draft_was_accepted_is_said(runs, command):
  run = f'--workdir={runs("gpt")}'
  options = '--prompt=d', '--length=16', '--temperature=0', '--count=2'
  code, out, err = command('dl.sample', run, f'--draft={runs("gpt")}', *options)
  read = 'the model has read 3 times for 16 tokens a text, 5.3 each'  # one token by the prompt, and five by each
  assert (code, err) == (0, f'draft: 100.0% of its tokens were accepted; {read}\n')
  assert out == command('dl.sample', run, *options)[1]


@pytest.mark.parametrize(
  ('task', 'text', 'words'),
  [
    (
      PAINTER,
      'temperature=1',
      ('--temperature: Painter draws samples without it', 'it has --style, --guidance, --tiled, --size, --title'),
    ),
    (PAINTER, 'guidence=1', ('--guidence: ', "did you mean 'guidance'")),
    (PAINTER, 'coutn=1', ('--coutn: ', "did you mean 'count'")),
    (PAINTER, 'state=1', ('--state: ', 'draws samples without it')),
    (PAINTER, 'style=oli', ('--style: ', 'oil')),
    (PAINTER, 'guidance=1.5', ('--guidance: must be from 0 to 1',)),
    (PAINTER, 'tiled=3', ('--tiled: expected bool',)),
    (GPT_TASK, 'length=0', ('--length: must be at least 1',)),
    (GPT_TASK, 'temperature=-1', ('--temperature: must be at least 0',)),
    (GPT_TASK, 'temperature=warm', ('--temperature: expected float',)),
    (GPT_TASK, 'top_k=1.5', ('--top_k: expected int',)),
  ],
)
def test_an_option_that_cannot_be_is_named(task, text, words):
  with pytest.raises(ConfigError) as e:
    sample.options(task, [text])
  assert all(word in str(e.value) for word in words), str(e.value)


def test_flags_which_are_not_the_commands_own_are_options(monkeypatch):
  own = flags.FlagValues()
  flags.DEFINE_integer('seed', 0, '', flag_values=own)
  flags.DEFINE_boolean('debug', False, '', flag_values=own)
  monkeypatch.setattr(cli.flags, 'FLAGS', own)
  argv = ['x', '--temperature=0.7', '-prompt', 'def ']
  assert cli.rewrite_options(argv) == argv, 'another command has no options'
  flags.DEFINE_multi_string('option', [], '', flag_values=own)
  assert cli.rewrite_options([*argv, '--seed', '-3', '--nodebug', '--tiled', '--length', '5', 'rest', '--', '--z']) == [
    'x', '--option=temperature=0.7', '--option=prompt=def ', '--seed', '-3', '--nodebug', '--option=tiled',
    '--option=length=5', 'rest', '--', '--z',
  ]  # fmt: skip
