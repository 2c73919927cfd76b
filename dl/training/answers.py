"""Predictions as files: a table, JSON lines, arrays, or a picture of each label map."""

import csv
import io
import itertools
import json
import os
import pathlib
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TextIO

import numpy as np

from dl.data.sources.images import size_of
from dl.errors import ConfigError
from dl.show.pictures import label_map_png
from dl.store import atomic
from dl.training.prediction import Prediction

MAP = 'label_map'
"""What of a prediction is a class for each pixel."""

Rows = Iterable[Prediction]


def writer(path: pathlib.Path) -> Callable[[Rows], int]:
  """What writes rows of `dl.training.prediction.predict` to a file, or a folder, and gives how many those were.

  Args:
    path: .csv (a list becomes the columns name_0, name_1, ...), .jsonl (one object a line), .npz (each part of the
      predictions as one array, with the names in `input`), a .png for the label map of one input, of the size of its
      file, whose pixels are the classes, shown in colours, or a folder, without a suffix, for one of each input.

  Returns:
    A function; a mistake in it leaves an old file as it was.

  Raises:
    ConfigError: another ending, or no folder to write into. The function raises it for what such a file cannot hold.
  """
  ways = {'.csv': _table, '.jsonl': _json_lines, '.npz': _arrays, '.png': _map, '': _maps}
  if path.suffix not in ways:
    raise ConfigError(f'--output: expected a .csv, .jsonl or .npz file, a .png or a folder for label maps, got {path}')
  if path.suffix and not path.parent.is_dir():
    raise ConfigError(f'--output: no directory {path.parent}')
  if not path.suffix and path.exists() and not path.is_dir():
    raise ConfigError(f'--output: {path} is a file; name a folder, or a .csv, .jsonl or .npz file')
  return lambda rows: ways[path.suffix](rows, path)


def _table(rows: Rows, path: pathlib.Path) -> int:
  def write(row: Prediction, file: TextIO, first: bool) -> None:
    flat = _flat(row.row())
    table = csv.DictWriter(file, list(flat))
    if first:
      table.writeheader()
    table.writerow(flat)

  return _text(rows, path, write)


def _json_lines(rows: Rows, path: pathlib.Path) -> int:
  return _text(rows, path, lambda row, file, first: file.write(json.dumps(row.row()) + '\n'))


def _text(rows: Rows, path: pathlib.Path, write: Callable[[Prediction, TextIO, bool], Any]) -> int:
  new, count = path.with_name(path.name + atomic.SUFFIX), 0
  try:
    with new.open('w', newline='', encoding='utf-8') as file:
      for count, row in enumerate(rows, 1):
        write(row, file, count == 1)
    if count:
      os.replace(new, path)
  finally:
    new.unlink(missing_ok=True)
  return count


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
  """A row of a table: a list becomes the columns name_0, name_1, ...; spans and tags are JSON in a cell."""
  flat = {}
  for name, value in row.items():
    if name in ('spans', 'tags'):
      flat[name] = json.dumps(value)
      continue
    if isinstance(value, list) and value and isinstance(value[0], list):
      raise ConfigError(f'--output: {name} has more than one axis, which a table has no columns for; name a .npz file')
    flat |= {f'{name}_{i}': v for i, v in enumerate(value)} if isinstance(value, list) else {name: value}
  return flat


def _arrays(rows: Rows, path: pathlib.Path) -> int:
  rows = [row.arrays() for row in rows]
  if not rows:
    return 0
  columns = {name: [np.asarray(row[name]) for row in rows] for name in rows[0]}
  for name, values in columns.items():
    if len({value.shape for value in values}) > 1:
      raise ConfigError(f'--output: the {name} of these inputs differ in shape; write a .jsonl file')
  file = io.BytesIO()
  np.savez_compressed(file, **{name: np.stack(values) for name, values in columns.items()})
  atomic.write(path, file.getvalue())
  return len(rows)


def _maps(rows: Rows, path: pathlib.Path) -> int:
  count, taken = 0, set()
  for row in rows:
    picture = _picture(row, 'a folder')
    path.mkdir(parents=True, exist_ok=True)
    name = _name(row.input, taken)
    taken.add(name)
    atomic.write(path / f'{name}.png', picture)
    count += 1
  return count


def _map(rows: Rows, path: pathlib.Path) -> int:
  pictures = [_picture(row, 'a .png') for row in itertools.islice(rows, 2)]
  if len(pictures) > 1:
    raise ConfigError(f'--output: {path} holds the label map of one input, and there are several; name a folder')
  for picture in pictures:
    atomic.write(path, picture)
  return len(pictures)


def _name(given: str, taken: set[str]) -> str:
  """A file's name for an input: its own, behind those of the folders above it where another input has the same."""
  *folders, last = pathlib.Path(given).parts
  suffix = pathlib.PurePath(last).suffix
  name = re.sub(r'\W+', '_', last) if ':' in suffix else pathlib.PurePath(last).stem  # FILE.npz:3
  while name in taken and folders:
    name = f'{folders.pop()}_{name}'
  return name if name not in taken else next(n for i in itertools.count(2) if (n := f'{name}_{i}') not in taken)


def _picture(row: Prediction, what: str) -> bytes:
  if MAP not in row.outputs:
    raise ConfigError(
      f'--output: {what} is for label maps, and this model predicts {", ".join(row.outputs)}; '
      'name a .csv, .jsonl or .npz file'
    )
  try:
    return label_map_png(row.outputs[MAP], size_of(row.input))
  except ValueError as e:
    raise ConfigError(f'--output: {e}; write an .npz file') from e
