"""python -m dl.sample --workdir=/tmp/gan --count=64 --output=samples.png

Samples a generative model: a grid of images, an .npz of images, or texts (printed, or to a .txt file).
A language model takes --prompt, --length, --temperature and --top_k.
"""

import inspect
import pathlib
from collections.abc import Sequence

import numpy as np
from absl import flags

from dl.commands import cli


def define_flags() -> None:
  """The flags of the command: not defined on import, so that a program may import several commands."""
  flags.DEFINE_string('workdir', None, 'Work directory of a run.')
  flags.DEFINE_string('step', None, "Checkpoint to use: a step, or 'best'; the newest if not given.")
  flags.DEFINE_string('output', None, 'File to write: .png or .npz for images, .txt for texts (printed if not given).')
  flags.DEFINE_integer('count', 16, 'Number of samples.', lower_bound=1)
  flags.DEFINE_integer('seed', 0, 'Seed of the samples.')
  flags.DEFINE_string('prompt', None, 'Text to continue.')
  flags.DEFINE_integer('length', None, 'Tokens to add to the prompt.', lower_bound=1)
  flags.DEFINE_float('temperature', None, 'Softmax temperature; lower is safer.', lower_bound=0)
  flags.DEFINE_integer('top_k', None, 'Sample among the k likeliest tokens alone.', lower_bound=1)


def main(argv: Sequence[str]) -> None:
  """Writes or prints samples."""
  cli.no_more(argv)
  FLAGS = flags.FLAGS
  from dl.errors import ConfigError, printable
  from dl.show import pictures
  from dl.training import keys, restore

  output = pathlib.Path(FLAGS.output) if FLAGS.output else None
  if output and not output.parent.is_dir():
    raise ConfigError(f'--output: no directory {output.parent}')
  task, state = restore.load(cli.required('workdir'), cli.step(FLAGS.step))
  options = {k: FLAGS[k].value for k in ('prompt', 'length', 'temperature', 'top_k') if FLAGS[k].value is not None}
  takes = inspect.signature(task.sample).parameters
  for name in options:
    if name not in takes and 'options' not in takes:
      raise ConfigError(f'--{name}: the samples of {type(task).__name__} have no such option')
  try:
    samples = task.sample(state, keys.samples(FLAGS.seed), FLAGS.count, **options)
  except NotImplementedError as e:
    raise ConfigError(str(e)) from e
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
