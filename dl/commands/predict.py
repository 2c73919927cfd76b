"""python -m dl.predict --workdir=/tmp/digits --inputs=scan.png --inputs='more/*.png' --output=predictions.csv

Predicts from a checkpoint, without the data set. Inputs are image files or folders, a .csv with the training
columns, an .npz, or text files; each becomes one row (.csv), one JSON object a line (.jsonl, or standard output), a row
of arrays (.npz), or, of label maps, a .png (of one input) or one in a folder. A file that cannot be read is named and
left out, and the exit code is 2.
"""

import contextlib
import json
import pathlib
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from absl import flags

from dl.commands import cli
from dl.errors import USER_ERROR, ConfigError


def define_flags() -> None:
  """The flags of the command: not defined on import, so that a program may import several commands."""
  flags.DEFINE_string('workdir', None, 'Work directory of a run.')
  flags.DEFINE_string('step', None, "Checkpoint to use: a step, or 'best'; the newest if not given.")
  flags.DEFINE_multi_string('inputs', [], 'File, folder or quoted glob')
  flags.DEFINE_string(
    'output',
    None,
    '.csv, .jsonl or .npz file, a .png for one label map, or a folder for those of many; if not given, JSON lines on '
    'standard output.',
  )
  flags.DEFINE_integer('batch_size', 256, 'Inputs predicted at once.', lower_bound=1)
  flags.DEFINE_bool('lines', False, 'Whether each line of a text file is an input of its own.')


def main(argv: Sequence[str]) -> int:
  """Writes one row an input."""
  cli.no_more(argv)
  FLAGS = flags.FLAGS
  workdir, inputs, step = cli.required('workdir'), cli.required('inputs'), cli.step(FLAGS.step)
  from dl.training import answers, prediction

  output = pathlib.Path(FLAGS.output) if FLAGS.output else None
  write = answers.writer(output) if output else _print
  unreadable: list[str] = []
  steps: set[int | None] = set()
  rows = prediction.predict(workdir, inputs, step, FLAGS.batch_size, FLAGS.lines, unreadable.append)
  with cli.writing(output) if output else contextlib.nullcontext():
    count = write(_noting(rows, steps))
  if unreadable and not count:
    more = f' (and {len(unreadable) - 1} more)' if len(unreadable) > 1 else ''
    raise ConfigError(unreadable[0] + more)
  for line in unreadable:
    print(f'error: {line}', file=sys.stderr)
  left_out = f'; {len(unreadable)} of the files could not be read' if unreadable else ''
  if output or unreadable:
    by = ''.join(f' by the checkpoint of step {made_by}' for made_by in steps)
    print(f'{count} predictions{by}: {output or "above"}{left_out}', file=sys.stderr)
  return USER_ERROR if unreadable else 0


def _noting(rows: Iterable[Any], steps: set[int | None]) -> Iterable[Any]:
  """The rows, and in `steps` the checkpoint that they are of."""
  for row in rows:
    steps.add(row.step)
    yield row


def _print(rows: Iterable[Any]) -> int:
  count = 0
  for row in rows:
    print(json.dumps(row.row()))
    count += 1
  return count
