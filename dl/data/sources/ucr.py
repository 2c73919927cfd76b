"""Labelled time series in the .ts files of the UCR and UEA archives."""

import dataclasses
import pathlib
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from dl.contract.info import Info
from dl.data import files, splits
from dl.data.source import Arrays
from dl.errors import ConfigError, nearest

PARTS = {'train': 'TRAIN', 'test': 'TEST'}


class Ts(Arrays):
  """A data set of the archives, in its two parts: `series` [steps, channels] and `label`.

  Series which are shorter than the longest one end in NaN; a network needs `padded=True` for such.

  Cite: dau2019ucr

  Attributes:
    paths: file and line of each series.
  """

  def __init__(self, path: str, dataset: str):
    """Reads both files.

    Args:
      path: the folder in which they are.
      dataset: its name: GunPoint, of GunPoint_TRAIN.ts and GunPoint_TEST.ts.

    Raises:
      ConfigError: no such file, or a line in it that cannot be read.
    """
    folder = files.existing_folder(path)
    read = {}
    for split, part in PARTS.items():
      file = folder / f'{dataset}_{part}.ts'
      if not file.is_file():
        known = sorted({p.name.rpartition('_')[0] for p in folder.glob('*_TRAIN.ts')})
        raise ConfigError(f'dataset: there is no {file}; {nearest(dataset, known)}')
      read[split] = read_ts(file)
    train, test = read.values()
    if train.classes != test.classes:
      raise ConfigError(
        f'{folder}: the classes of {dataset} in training are {train.classes}, in the test {test.classes}'
      )
    if len({s.shape[1] for part in read.values() for s in part.series}) > 1:
      raise ConfigError(f'{folder}: the parts of {dataset} differ in their number of channels')
    series = pad([*train.series, *test.series])
    ragged = bool(np.isnan(series).any())
    facts = (('ragged', True),) if ragged else (('length', series.shape[1]),)
    info = Info(class_names=train.classes, num_classes=len(train.classes), more=facts)
    label = np.concatenate([part.labels for part in read.values()])
    super().__init__({'series': series, 'label': label}, info)
    self.paths = [*train.places, *test.places]
    self.parts = splits.ranges({split: len(part.series) for split, part in read.items()})


@dataclasses.dataclass(frozen=True)
class File:
  """What is in a .ts file.

  Attributes:
    series: [steps, channels] of each, of one number of channels.
    labels: class of each, from 0.
    classes: their names.
    places: 'FILE, line N' of each.
  """

  series: list[Float[np.ndarray, 'n c']]
  labels: np.ndarray
  classes: tuple[str, ...]
  places: list[str]


def read_ts(path: str | pathlib.Path) -> File:
  """Reads a .ts file of labelled series without time stamps.

  Raises:
    ConfigError: not such a file, or a line which cannot be read, by its number.
  """
  try:
    lines = pathlib.Path(path).read_text(encoding='utf-8').splitlines()
  except (OSError, UnicodeDecodeError) as e:
    raise ConfigError(f'{path} cannot be read as text') from e
  series, labels, places, header, begun = [], [], [], {}, False
  for number, line in enumerate(lines, 1):
    line, where = line.strip(), f'{path}, line {number}'
    if not line or line.startswith('#'):
      continue
    if not begun:
      key, *values = line.split()
      header[key.lower()] = values
      if begun := key.lower() == '@data':
        classes = _classes(header, path)
      continue
    *channels, label = line.split(':')
    if label.strip() not in classes:
      raise ConfigError(f'{where}: the class {label.strip()!r} is none of {", ".join(classes)}')
    series.append(_channels(channels, where))
    if series[-1].shape[1] != series[0].shape[1]:
      raise ConfigError(f'{where}: {series[-1].shape[1]} channels, but the first series has {series[0].shape[1]}')
    labels.append(classes.index(label.strip()))
    places.append(where)
  if not series:
    raise ConfigError(f'{path} has no series{"" if begun else ": no line @data"}')
  return File(series, np.asarray(labels, np.int32), classes, places)


def pad(series: Sequence[Float[np.ndarray, 'n c']]) -> Float[np.ndarray, 'b n c']:
  """Series as one array, of the length of the longest; shorter ones end in NaN."""
  joined = np.full((len(series), max(map(len, series)), series[0].shape[1]), np.nan, np.float32)
  for row, one in zip(joined, series, strict=True):
    row[: len(one)] = one
  return joined


def _classes(header: dict[str, list[str]], path: str | pathlib.Path) -> tuple[str, ...]:
  """The names of the classes, by what stands before the data."""
  if [value.lower() for value in header.get('@timestamps', [])] == ['true']:
    raise ConfigError(f'{path}: its series have time stamps, which are not read; write the values alone')
  given, *classes = header.get('@classlabel', ['false'])
  if given.lower() != 'true' or len(classes) < 2:
    raise ConfigError(f'{path}: its header names no classes, as in @classLabel true 1 2')
  return tuple(classes)


def _channels(texts: Sequence[str], where: str) -> Float[np.ndarray, 'n c']:
  """The channels of a series."""
  channels = []
  for number, text in enumerate(texts):
    try:
      channels.append(np.asarray(text.split(','), np.float32))
    except ValueError as e:
      cells = (cell.strip() for cell in text.split(','))
      cell = next(c for c in cells if not _is_number(c))
      hint = '; fill in what is missing, or leave the series out' if cell in ('', '?') else ''
      raise ConfigError(f'{where}, channel {number}: {cell!r} is not a number{hint}') from e
    if not np.isfinite(channels[-1]).all():
      raise ConfigError(f'{where}, channel {number}: not all of its values are finite')
  if len({len(c) for c in channels}) != 1:
    raise ConfigError(
      f'{where}: expected values and, behind a colon, a class; channels of {[len(c) for c in channels]}'
    )
  return np.stack(channels, axis=1)


def _is_number(cell: str) -> bool:
  try:
    float(cell)
  except ValueError:
    return False
  return True
