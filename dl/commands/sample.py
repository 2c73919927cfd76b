"""python -m dl.sample --workdir=/tmp/gan --count=64 --output=samples.png

Samples a generative model: a grid of images, an .npz of images, texts (printed, or to a .txt file), or pieces of music:
a .mid file, or several with a number behind their name.

Other flags are options of the task's own samples, with the types, bounds and defaults of its `sample`: of a language
model --prompt='def ' --length=400 --temperature=0.7 --top_k=40. One that the task has not is refused with those it has.
"""

import inspect
import pathlib
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from absl import flags

from dl.commands import cli
from dl.config import build
from dl.config.hints import to_tuples, type_hints
from dl.contract.task import Task
from dl.errors import ConfigError, nearest, printable

_OWN = 'workdir', 'step', 'output', 'count', 'seed', 'stream', 'draft'
"""Flags of the command itself."""

_MIDI = '.mid', '.midi'

_GIVEN = 'state', 'key', 'count', 'draft'
"""Arguments of a task's `sample` which are no options."""


def define_flags() -> None:
  """The flags of the command: not defined on import, so that a program may import several commands."""
  flags.DEFINE_string('workdir', None, 'Work directory of a run.')
  flags.DEFINE_string('step', None, "Checkpoint to use: a step, or 'best'; the newest if not given.")
  flags.DEFINE_string(
    'output', None, 'File to write: .png or .npz for images, .txt for texts (printed if not given), .mid for music.'
  )
  flags.DEFINE_integer(
    'count', 16, 'Number of samples; if not given, as many as --beams, or one .mid file.', lower_bound=1
  )
  flags.DEFINE_integer('seed', 0, 'Seed of the samples.')
  flags.DEFINE_boolean('stream', False, 'Print one text as it is written.')
  flags.DEFINE_string('draft', None, 'Work directory of a smaller language model, which proposes what this one reads.')
  flags.DEFINE_multi_string('option', [], "name=value, an option of the task's samples; --name=value is short for it")


def options(task: Task, texts: Sequence[str], streamed: bool = False) -> dict[str, Any]:
  """Options of a task's `sample`, or of its `stream`, from texts 'name=value'.

  Raises:
    ConfigError: an option that it has not, or a value of a wrong type or out of bounds.
  """
  draw = task.stream if streamed else task.sample
  parameters = inspect.signature(draw).parameters.values()
  own = [p.name for p in parameters if p.kind != p.VAR_KEYWORD and p.name not in _GIVEN]
  values = cli.values(texts, draw)
  for name in values if all(p.kind != p.VAR_KEYWORD for p in parameters) else ():
    if name not in own:
      has = f'; it has {", ".join(map("--{}".format, own))}' if own else ''
      hint = nearest(name, [*own, *_OWN])
      hint = f'; {hint}' if hint.startswith('did') else ''
      how = 'with --stream ' if streamed else ''
      raise ConfigError(f'--{name}: {how}{type(task).__name__} draws samples without it{has}{hint}')
  try:
    build.check_arguments(draw, values, 'sample', given=_GIVEN)
  except ConfigError as e:
    raise ConfigError(str(e).replace('sample.', '--', 1)) from e
  hints = type_hints(draw)
  return {name: to_tuples(value, hints.get(name)) for name, value in values.items()}


def main(argv: Sequence[str]) -> None:
  """Writes or prints samples."""
  cli.no_more(argv)
  FLAGS = flags.FLAGS
  from dl.contract import keys
  from dl.show import pictures, words
  from dl.training import restore

  if FLAGS.workdir is None and FLAGS.option:  # none of the command's own
    name = FLAGS.option[0].partition('=')[0]
    raise ConfigError(f'--{name}: is no flag; {nearest(name, _OWN)}, and --workdir is needed')
  output = pathlib.Path(FLAGS.output) if FLAGS.output else None
  if output and not output.parent.is_dir():
    raise ConfigError(f'--output: no directory {output.parent}')
  for name in ('output', 'draft'):
    if FLAGS.stream and FLAGS[name].present:
      raise ConfigError(f'--{name}: has no use beside --stream; leave one of the two out')
  if FLAGS.stream and FLAGS.count != 1 and FLAGS['count'].present:
    raise ConfigError(f'--count: one text is shown with --stream, not {FLAGS.count}')
  task, state = restore.load(cli.required('workdir'), cli.step(FLAGS.step))
  noted: list[Any] = []
  try:
    given = options(task, FLAGS.option, FLAGS.stream)
    if FLAGS.stream:
      for piece in task.stream(state, keys.samples(FLAGS.seed), **given):
        print(printable(piece), end='', flush=True)
      print()
      return
    if FLAGS.draft is not None:
      given['draft'] = _draft(task, FLAGS.draft, noted.append)
    count, beams = FLAGS.count, given.get('beams')
    if not FLAGS['count'].present and isinstance(beams, int):
      count = beams  # as many as are searched
    elif not FLAGS['count'].present and output and output.suffix in _MIDI:
      count = 1  # file
    samples = task.sample(state, keys.samples(FLAGS.seed), count, **given)
  except NotImplementedError as e:
    raise ConfigError(str(e)) from e
  except ConfigError as e:
    raise ConfigError(re.sub(r'^sample\.', '--', str(e))) from e  # an option
  for drawn in noted:
    length, rounds = drawn.tokens.shape[1], int(drawn.rounds)
    print(
      f'draft: {words.percent(float(drawn.accepted))} of its tokens were accepted; the model has read {rounds} times '
      f'for {length} tokens a text, {words.tenths(length / max(rounds, 1))} each',
      file=sys.stderr,
    )
  if isinstance(samples, list) and samples and isinstance(samples[0], bytes):
    if output is None or output.suffix not in _MIDI:
      raise ConfigError(f'--output: music goes to a .mid file, got {output}')
    numbered = lambda i: output if len(samples) == 1 else output.with_stem(f'{output.stem}_{i}')
    for i, content in enumerate(samples):
      numbered(i).write_bytes(content)
    print(f'{len(samples)} {"piece" if len(samples) == 1 else "pieces"}: {numbered(0)}')
    return
  if isinstance(samples, list):
    if output and output.suffix != '.txt':
      raise ConfigError(f'--output: texts go to a .txt file, got {output}')
    text = ('\n' + '-' * 80 + '\n').join(samples) + '\n'
    output.write_text(text, encoding='utf-8') if output else print(printable(text), end='')
    return
  images = np.asarray(samples)
  if output is None or output.suffix not in ('.png', '.npz'):
    raise ConfigError(f'--output: images go to a .png or .npz file, got {output}')
  if output.suffix == '.npz':
    np.savez(output, x=images)
  else:
    output.write_bytes(pictures.png(pictures.grid(images)))
  print(f'{len(images)} samples: {output}')


def _draft(task: Task, workdir: str, noted: Callable[[Any], None]) -> Any:
  """The language model of another run, to draft for this one."""
  from dl.tasks.writing import Draft
  from dl.training import restore

  if 'draft' not in inspect.signature(task.sample).parameters:
    raise ConfigError(f'--draft: {type(task).__name__} draws samples without it')
  other, state = restore.load(workdir)
  if not isinstance(other, type(task)):
    raise ConfigError(f'--draft: {workdir} is of {type(other).__name__}, and the run of {type(task).__name__}')
  return Draft(other.model, other.decoder_variables(state), other.info, noted)
