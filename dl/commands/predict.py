"""python -m dl.predict --workdir=/tmp/digits --inputs=scan.png --inputs='more/*.png' --output=predictions.csv

Predicts from a checkpoint, without the data set. Inputs are image files or folders, a .csv with the training
columns, an .npz, or text files; each becomes one row (.csv) or one JSON object a line (.jsonl, or standard output).
"""

import csv
import json
import os
import pathlib
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TextIO

import jax
import numpy as np
from absl import flags

from dl.commands import cli


def define_flags() -> None:
  """The flags of the command: not defined on import, so that a program may import several commands."""
  flags.DEFINE_string('workdir', None, 'Work directory of a run.')
  flags.DEFINE_string('step', None, "Checkpoint to use: a step, or 'best'; the newest if not given.")
  flags.DEFINE_multi_string('inputs', [], 'File, folder or quoted glob; may be given several times.')
  flags.DEFINE_string('output', None, '.csv or .jsonl file to write; JSON lines on standard output if not given.')
  flags.DEFINE_integer('batch_size', 256, 'Inputs predicted at once.', lower_bound=1)
  flags.DEFINE_bool('lines', False, 'Whether each line of a text file is an input of its own.')


def predict(
  workdir: str | pathlib.Path,
  inputs: Sequence[str],
  step: int | str | None = None,
  batch_size: int = 256,
  lines: bool = False,
) -> Iterator[dict[str, Any]]:
  """One dict of plain values an input: `input` (its name) and what the task predicts.

  Labels come with `class`, their name, where the data set has names. With `lines`, each line of a text file is an
  input of its own.

  Raises:
    ConfigError: no such run or checkpoint, a task without predictions, or inputs which the model cannot take.
  """
  from dl.data.reading import read_inputs
  from dl.errors import ConfigError, first_line
  from dl.training import keys, restore

  task, state = restore.load(workdir, step)
  predict_batch = jax.jit(task.predict)
  key = keys.prediction()
  column = restore.input_column(workdir, task.info)
  compiled = set()  # shapes of a row of full batches: a short one is padded to such a batch, or compiled once more
  for names, batch in read_inputs(inputs, task.info, column, batch_size=batch_size, lines=lines):
    rows, shape = len(names), batch.shape[1:]
    if rows == batch_size:
      compiled.add(shape)
    size = batch_size if shape in compiled else min(1 << (rows - 1).bit_length(), batch_size)
    padded = np.concatenate([batch, np.repeat(batch[:1], size - rows, 0)])
    try:
      outputs = jax.device_get(predict_batch(state, padded, key))
    except NotImplementedError as e:
      raise ConfigError(first_line(e)) from e
    for i, name in enumerate(names):
      row = {'input': name} | {k: np.asarray(v[i]).tolist() for k, v in outputs.items()}
      if 'label' in row and task.info.class_names:
        row['class'] = task.info.class_names[row['label']]
      yield row


def main(argv: Sequence[str]) -> None:
  """Writes one row an input."""
  cli.no_more(argv)
  FLAGS = flags.FLAGS
  from dl.errors import ConfigError

  output = pathlib.Path(FLAGS.output) if FLAGS.output else None
  if output and output.suffix not in ('.csv', '.jsonl'):
    raise ConfigError(f'--output: expected a .csv or .jsonl file, got {output}')
  if output and not output.parent.is_dir():
    raise ConfigError(f'--output: no directory {output.parent}')
  cli.required('inputs')
  rows = predict(cli.required('workdir'), FLAGS.inputs, cli.step(FLAGS.step), FLAGS.batch_size, FLAGS.lines)
  if output is None:
    for row in rows:
      print(json.dumps(row))
    return
  new = output.with_name(output.name + '.new')  # so that a mistake leaves an old file as it was
  try:
    with new.open('w', newline='', encoding='utf-8') as file:
      count = write(rows, file, output.suffix)
    os.replace(new, output)
  finally:
    new.unlink(missing_ok=True)
  print(f'{count} predictions: {output}', file=sys.stderr)


def write(rows: Iterable[dict[str, Any]], file: TextIO, suffix: str) -> int:
  """Writes rows as a table ('.csv') or as JSON lines ('.jsonl'); returns how many."""
  count, writer = 0, None
  for row in rows:
    count += 1
    if suffix == '.jsonl':
      file.write(json.dumps(row) + '\n')
      continue
    flat = flatten(row)
    if writer is None:
      writer = csv.DictWriter(file, list(flat))
      writer.writeheader()
    writer.writerow(flat)
  return count


def flatten(row: dict[str, Any]) -> dict[str, Any]:
  """A row of a table: a list becomes the columns name_0, name_1, ..."""
  flat = {}
  for name, value in row.items():
    flat |= {f'{name}_{i}': v for i, v in enumerate(value)} if isinstance(value, list) else {name: value}
  return flat
