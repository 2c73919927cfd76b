"""What people would rather look at, as files of a work directory: images, texts and tables."""

import csv
import io
import os
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from dl.show.pictures import png
from dl.store import atomic


def write(workdir: str | os.PathLike, step: int, artifacts: Mapping[str, Any]) -> list[pathlib.Path]:
  """Writes each artifact to `workdir/artifacts/<step:08d>_<name>.<png|txt|csv>`.

  Args:
    workdir: the work directory.
    step: number of completed training steps.
    artifacts: name (letters, digits, '.', '_' and '-') -> an image `[h, w]` or `[h, w, 1 | 3]`, uint8 or float in
      [0, 1]; a text; or a table, a list of dicts. Small images are enlarged by a whole factor, so that each pixel
      shows.

  Returns:
    The paths, in the order of `artifacts`. A file is there whole or not at all.

  Raises:
    ValueError: a name that is no file name, or a value that is neither image, text nor table.
  """
  folder = pathlib.Path(workdir) / 'artifacts'
  folder.mkdir(parents=True, exist_ok=True)
  paths = []
  for name, value in artifacts.items():
    if not re.fullmatch(r'\w[\w.-]*', name):
      raise ValueError(f'an artifact needs a name that a file can have, got {name!r}')
    if isinstance(value, str):
      suffix, content = '.txt', value.encode('utf-8', 'replace')
    elif isinstance(value, Sequence) and all(isinstance(row, Mapping) for row in value):
      suffix, content = '.csv', _csv(value)
    else:
      suffix, content = '.png', png(value)
    path = folder / f'{step:08d}_{name}{suffix}'
    atomic.write(path, content)
    paths.append(path)
  return paths


def _csv(rows: Sequence[Mapping[str, Any]]) -> bytes:
  """The rows below a header of all their keys, in order of appearance; a missing value is empty."""
  names = list(dict.fromkeys(name for row in rows for name in row))
  file = io.StringIO(newline='')
  writer = csv.DictWriter(file, names, restval='', lineterminator='\n')
  writer.writeheader()
  writer.writerows(rows)
  return file.getvalue().encode()
