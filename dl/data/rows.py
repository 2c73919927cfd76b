"""Texts in the rows of files: of tables (CSV and TSV), of JSON, and of lines that a pattern takes apart."""

import csv
import dataclasses
import gzip
import io
import json
import pathlib
import re
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int

from dl.config.bounds import Whole
from dl.data import files
from dl.errors import ConfigError, nearest

Column = str | Whole

JSON = ('.json', '.jsonl')

TABLES = ('.csv', '.tsv', *JSON)
"""Endings of files in which `dl.predict` looks for the column of texts; the lines of others are texts themselves."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Format:
  """Where the texts of a file are.

  Attributes:
    text: the column, by its name or its number: from 0, or from -1 for the last.
    header: whether the first row of a table names the columns.
    delimiter: what separates two cells; None for a comma in a .csv, and a tab in others.
    pattern: a regular expression which fits each line, and whose named groups are the columns; None for a table.
  """

  text: Column
  header: bool = True
  delimiter: str | None = None
  pattern: str | None = None

  def facts(self) -> tuple[tuple[str, Any], ...]:
    """What a run keeps of it, to read tables as those of the training were."""
    return tuple((name, value) for name, value in dataclasses.asdict(self).items() if name != 'pattern')


@dataclasses.dataclass(frozen=True)
class Row:
  """A text, its label where one was asked for, and 'FILE, row N'."""

  text: str
  label: str | None
  place: str


def read(path: str | pathlib.Path, where: Format, label: Column | None = None) -> Iterator[Row]:
  """The texts of a file, and their labels.

  Args:
    path: a table, .json, .jsonl, any of them with .gz behind it, FILE.json:NAME, or FILE.zip:MEMBER.
    where: the texts are.
    label: the column of the labels; None for none.

  Raises:
    ConfigError: no such file, not UTF-8, or a row without the column.
  """
  file, _, name = str(path).rpartition(':') if '.json:' in str(path) else (str(path), '', '')
  content, ending = contents(file), pathlib.Path(file.removesuffix('.gz')).suffix.lower()
  if where.pattern is not None:
    rows, names = _of_lines(content, _compiled(where.pattern), file), None
  elif ending in JSON:
    rows, names = _of_json(content, file, name, ending), None
  else:
    delimiter = where.delimiter or (',' if ending == '.csv' else '\t')
    rows = _of_table(content, delimiter)
    names = next(rows, (1, []))[1] if where.header else None
  found = False
  for number, row in rows:
    place = f'{file}{name and ":"}{name}, row {number}'
    cell = lambda column, row=row, place=place: _cell(row, column, names, place)
    found = True
    yield Row(cell(where.text), None if label is None else cell(label).strip(), place)
  if not found:
    raise ConfigError(f'{path} has no rows')


def by_split(path: str | Mapping[str, Any], where: str = 'path') -> dict[str, list[str]]:
  """Split -> its paths, of one path or a mapping; raises ConfigError, which begins with `where`, for anything else."""
  if isinstance(path, str):
    return {'train': [path]}
  if 'train' not in path:
    raise ConfigError(f"{where}: needs a file for the split 'train'")
  found = {}
  for name, given in path.items():
    found[name] = [given] if isinstance(given, str) else list(given)
    if name == 'all' or not found[name] or not all(isinstance(one, str) for one in found[name]):
      raise ConfigError(f'{where}.{name}: expected a path or a list of them, got {given!r}')
  return found


def collect(
  splits: Mapping[str, Sequence[Any]], read: Callable[[Any], Iterable[Row]]
) -> tuple[list[Row], dict[str, Int[np.ndarray, ' n']]]:
  """(rows of the files of all splits, split -> which are its own); `read` gives those of one file."""
  found: list[Row] = []
  own = {}
  for name, files_of_split in splits.items():
    begin = len(found)
    for one in files_of_split:
      found += read(one)
    own[name] = np.arange(begin, len(found))
  return found, own


def contents(path: str) -> str:
  """The text of a file in UTF-8, of one in .gz, or of FILE.zip:MEMBER; raises ConfigError if there is none."""
  archive, _, member = path.rpartition(':') if '.zip:' in path else (path, '', '')
  file = files.existing(archive)
  try:
    if not member:
      data = file.read_bytes()
    else:
      with zipfile.ZipFile(file) as opened:
        if member not in opened.namelist():
          raise ConfigError(f'{archive} has no {member!r}; {nearest(member, opened.namelist())}')
        data = opened.read(member)
    return (gzip.decompress(data) if path.endswith('.gz') else data).decode('utf-8-sig')
  except (zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, EOFError) as e:
    raise ConfigError(f'{path} cannot be unpacked: it is damaged') from e
  except (OSError, UnicodeDecodeError) as e:
    raise ConfigError(f'{path} cannot be read as UTF-8 text') from e


def _compiled(pattern: str) -> re.Pattern:
  try:
    return re.compile(pattern)
  except re.error as e:
    raise ConfigError(f'pattern: {pattern!r} is no regular expression: {e}') from e


def _of_lines(content: str, pattern: re.Pattern, file: str) -> Iterator[tuple[int, dict[str, str]]]:
  """(number, groups) of each line that is not blank."""
  for number, line in enumerate(content.split('\n'), 1):
    if line.strip():
      found = pattern.fullmatch(line.rstrip('\r'))
      if found is None:
        raise ConfigError(f'{file}, row {number}: does not fit the pattern {pattern.pattern!r}')
      yield number, {name: text or '' for name, text in found.groupdict().items()}


def _of_table(content: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
  """(number, cells) of each row that is not blank."""
  if delimiter == '\t':  # and by '\n' alone: a text may hold other ends of lines
    rows = (line.rstrip('\r').split('\t') for line in content.split('\n'))
  else:
    rows = csv.reader(io.StringIO(content, newline=''), delimiter=delimiter)
  return ((number, row) for number, row in enumerate(rows, 1) if any(row))


def _of_json(content: str, file: str, name: str, ending: str) -> Iterator[tuple[int, Any]]:
  """(number, row) of each."""
  if ending == '.jsonl':
    for number, line in enumerate(content.split('\n'), 1):
      if line.strip():
        yield number, _parsed(line, f'{file}, row {number}')
    return
  found = _parsed(content, file)
  if isinstance(found, Mapping):
    if name not in found:
      choice = nearest(name, found) if name else f'name one, as in {file}:{next(iter(found), "NAME")}'
      raise ConfigError(f'{file} has no list {name!r}; {choice}' if name else f'{file} has lists by name; {choice}')
    found = found[name]
  if not isinstance(found, list):
    raise ConfigError(f'{file}: expected a list of rows')
  yield from enumerate(found, 1)


def _parsed(text: str, where: str) -> Any:
  try:
    return json.loads(text)
  except json.JSONDecodeError as e:
    raise ConfigError(f'{where} is not JSON: {e}') from e


def _cell(row: Any, column: Column, names: Sequence[str] | None, place: str) -> str:
  """A cell, as text."""
  if isinstance(row, Mapping):
    if column not in row:
      raise ConfigError(f'{place} has no {column!r}; {nearest(str(column), row)}')
    return str(row[column])
  if names is not None and len(row) != len(names):
    raise ConfigError(f'{place}: {len(row)} cells, and {len(names)} columns')
  if isinstance(column, str):
    if names is None:
      raise ConfigError(f'{place}: the columns have no names; give the number of {column!r}, from 0')
    if column not in names:
      raise ConfigError(f'{place}: there is no column {column!r}; {nearest(column, names)}')
    column = names.index(column)
  if not isinstance(row, list) or not -len(row) <= column < len(row):
    raise ConfigError(f'{place}: there is no column number {column}')
  return str(row[column])
