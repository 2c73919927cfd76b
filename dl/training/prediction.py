"""Predictions of a trained model for files of a user, without the data set, and such files of them."""

import csv
import json
import os
import pathlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TextIO

import jax
import numpy as np

from dl.contract import keys
from dl.data.reading import read_inputs
from dl.errors import ConfigError, first_line
from dl.store import atomic
from dl.training import restore


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


def write(rows: Iterable[Mapping[str, Any]], path: pathlib.Path) -> int:
  """Writes rows as a table (.csv) or JSON lines (.jsonl); returns how many. A mistake leaves an old file as it was."""
  new = path.with_name(path.name + atomic.SUFFIX)
  try:
    with new.open('w', newline='', encoding='utf-8') as file:
      count = _write_rows(rows, file, path.suffix)
    os.replace(new, path)
  finally:
    new.unlink(missing_ok=True)
  return count


def _write_rows(rows: Iterable[Mapping[str, Any]], file: TextIO, suffix: str) -> int:
  count, writer = 0, None
  for row in rows:
    count += 1
    if suffix == '.jsonl':
      file.write(json.dumps(row) + '\n')
      continue
    flat = _flat(row)
    if writer is None:
      writer = csv.DictWriter(file, list(flat))
      writer.writeheader()
    writer.writerow(flat)
  return count


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
  """A row of a table: a list becomes the columns name_0, name_1, ..."""
  flat = {}
  for name, value in row.items():
    flat |= {f'{name}_{i}': v for i, v in enumerate(value)} if isinstance(value, list) else {name: value}
  return flat
