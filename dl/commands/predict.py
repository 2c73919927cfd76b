"""python -m dl.predict --workdir=/tmp/digits --inputs=scan.png --inputs='more/*.png' --output=predictions.csv

Predicts from a checkpoint, without the data set. Inputs are image files or folders, a .csv with the training
columns, an .npz, or text files; each becomes one row (.csv) or one JSON object a line (.jsonl, or standard output).
"""

import json
import pathlib
import sys
from collections.abc import Sequence

from absl import flags

from dl.commands import cli
from dl.errors import ConfigError


def define_flags() -> None:
  """The flags of the command: not defined on import, so that a program may import several commands."""
  flags.DEFINE_string('workdir', None, 'Work directory of a run.')
  flags.DEFINE_string('step', None, "Checkpoint to use: a step, or 'best'; the newest if not given.")
  flags.DEFINE_multi_string('inputs', [], 'File, folder or quoted glob; may be given several times.')
  flags.DEFINE_string('output', None, '.csv or .jsonl file to write; JSON lines on standard output if not given.')
  flags.DEFINE_integer('batch_size', 256, 'Inputs predicted at once.', lower_bound=1)
  flags.DEFINE_bool('lines', False, 'Whether each line of a text file is an input of its own.')


def main(argv: Sequence[str]) -> None:
  """Writes one row an input."""
  cli.no_more(argv)
  FLAGS = flags.FLAGS
  output = pathlib.Path(FLAGS.output) if FLAGS.output else None
  if output and output.suffix not in ('.csv', '.jsonl'):
    raise ConfigError(f'--output: expected a .csv or .jsonl file, got {output}')
  if output and not output.parent.is_dir():
    raise ConfigError(f'--output: no directory {output.parent}')
  cli.required('inputs')
  from dl.training import prediction

  rows = prediction.predict(cli.required('workdir'), FLAGS.inputs, cli.step(FLAGS.step), FLAGS.batch_size, FLAGS.lines)
  if output is None:
    for row in rows:
      print(json.dumps(row))
    return
  print(f'{prediction.write(rows, output)} predictions: {output}', file=sys.stderr)
