"""Reading what a trained model is to predict: image files, CSV, .npz and text, without the data set."""

import pathlib
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from jaxtyping import Num

from dl.config import build
from dl.contract.info import Info
from dl.contract.kinds import Kind
from dl.data import files
from dl.data.readers import FileReader, Rows
from dl.data.sources import arrays
from dl.errors import ConfigError, nearest

NPZ = '.npz'


def read_inputs(
  paths: Sequence[str | pathlib.Path],
  info: Info,
  column: str,
  batch_size: int = 256,
  lines: bool = False,
  unreadable: Callable[[str], None] | None = None,
) -> Iterator[tuple[list[str], Num[np.ndarray, 'b ...']]]:
  """Batches of raw model inputs, with a name for each row.

  Args:
    paths: files, folders or globs: of images; of .csv (columns are found by their names, others are ignored) or .tsv;
      of .npz (`FILE.npz`, whose array `x` or only array is read, or `FILE.npz:NAME`); of text; or what the kind of
      the column is read of.
    info: what the run recorded about its data.
    column: the column of a batch which the model reads: 'image', 'features' or 'tokens', say.
    batch_size: rows of a batch; the last one is smaller.
    lines: whether each line of a text file is an input of its own, rather than each file.
    unreadable: is told of each file that is there and cannot be read, which is then left out; None makes it an error.

  Returns:
    An iterator of (names, batch): images [b, h, w, c] in bytes or floats; features [b, f] float32; tokens [b, n]
    int32 with -1 after the end of a shorter text, n being a power of two so that few sizes are compiled.

  Raises:
    ConfigError: a file which is missing or cannot be read, or which is not what the model reads; the missing files
      at once, the others when their turn comes.
  """
  reader = reader_of(info, column)
  if lines and not reader.by_lines:
    raise ConfigError(f'lines: this model reads {reader.reads}, not lines of text')
  return _batches([file for path in paths for file in _files(path, reader)], reader, batch_size, lines, unreadable)


def reader_of(info: Info, column: str) -> FileReader:
  """What reads the files of a kind; raises ConfigError for a kind that nothing reads."""
  kind: Kind = info.kind(column)
  if kind.reader is None:
    raise ConfigError(f'inputs: nothing reads {column!r}')
  made = kind.reader
  if isinstance(made, str):
    made = build.resolve(made, 'dl.data.readers', f'kind {kind.name!r}: reader')
  if not isinstance(made, type) or not issubclass(made, FileReader):
    raise ConfigError(f'kind {kind.name!r}: its reader must be a class of dl.data.readers.FileReader, got {made!r}')
  return made(info, column, kind)


def _files(path: str | pathlib.Path, reader: FileReader) -> list[tuple[pathlib.Path, str | None]]:
  """(file, name of an array or None) of what one path stands for."""
  name = None
  if f'{NPZ}:' in str(path) and not pathlib.Path(path).exists():
    path, _, name = str(path).rpartition(':')
  expanded = files.expand(path, (*reader.suffixes, NPZ))
  for file in expanded if len(expanded) == 1 else ():  # one of several is named and left out when its turn comes
    _check_suffix(file, reader)
  return [(file, name) for file in expanded]


def _check_suffix(file: pathlib.Path, reader: FileReader) -> None:
  """Raises ConfigError for a file which is not what the model reads."""
  if not reader.any_suffix and file.suffix.lower() not in (*reader.suffixes, NPZ):
    what = file.suffix or 'a file without a suffix'
    raise ConfigError(f'{file}: the model reads {reader.reads} or .npz, not {what}')


def _batches(
  inputs: Sequence[tuple[pathlib.Path, str | None]],
  reader: FileReader,
  batch_size: int,
  lines: bool,
  unreadable: Callable[[str], None] | None,
) -> Iterator[tuple[list[str], np.ndarray]]:
  names, values = [], []
  for name, value in _rows(inputs, reader, lines, unreadable):
    names.append(name)
    values.append(value)
    if len(values) == batch_size:
      yield names, reader.join(values)
      names, values = [], []
  if values:
    yield names, reader.join(values)


def _rows(
  inputs: Sequence[tuple[pathlib.Path, str | None]],
  reader: FileReader,
  lines: bool,
  unreadable: Callable[[str], None] | None,
) -> Rows:
  for path, array in inputs:
    try:
      _check_suffix(path, reader)
      yield from _from_npz(path, array, reader) if path.suffix.lower() == NPZ else reader.rows(path, lines)
    except ConfigError as e:
      if unreadable is None:
        raise
      unreadable(str(e))


def _from_npz(path: pathlib.Path, name: str | None, reader: FileReader) -> Rows:
  loaded = arrays.load_npz(path)
  if name is None:
    name = next((n for n in ('x', reader.column) if n in loaded), None)
    if name is None and len(loaded) != 1:
      choice = f'choose one as {path}:{min(loaded)}' if loaded else 'save one'
      raise ConfigError(f'{path} has no array x, but {", ".join(sorted(loaded)) or "none at all"}; {choice}')
    name = name or next(iter(loaded))
  if name not in loaded:
    raise ConfigError(f'{path} has no array {name!r}; {nearest(name, loaded)}')
  for number, row in enumerate(reader.array(loaded[name], f'{path}:{name}')):
    yield f'{path}:{number}', row
