"""Texts with labels, in tables (CSV and TSV) and JSON: a row a text."""

import collections
import csv
import dataclasses
import io
import json
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from dl.config.bounds import BelowOne, Count, Seed, Size, Whole
from dl.contract.info import Info
from dl.data import files, splits, statistics
from dl.data.source import Arrays
from dl.data.tokenizers import subwords
from dl.data.tokenizers.vocabulary import UNKNOWN, UNKNOWN_CHARACTER, encode, pad, prepared
from dl.errors import ConfigError, nearest

Column = str | Whole

VOCABULARIES = ('words', 'characters', 'bytes')

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
  """

  text: Column
  header: bool = True
  delimiter: str | None = None


class Labelled(Arrays):
  """Texts as `tokens` [length], and the `label` of each.

  Between tabs a cell is what it is; elsewhere quotes hold cells together, as in any CSV. JSON is a list of rows, or of
  objects whose keys are the columns; a .jsonl has one a line. A shorter text ends in tokens of -1.

  The class cuts the data itself, since the vocabulary is that of the training part.

  Attributes:
    paths: file and row of each text.
  """

  def __init__(
    self,
    path: str | dict,
    split: str = 'train',
    *,
    text: Column = 'text',
    label: Column = 'label',
    header: bool = True,
    delimiter: str | None = None,
    vocabulary: str | Mapping[str, Any] = 'words',
    lowercase: bool = False,
    punctuation: bool = True,
    min_count: Size = 1,
    size: Size | None = None,
    length: Size | None = None,
    test: BelowOne | Count = 0.2,
    validation: BelowOne | Count = 0.0,
    stratify: bool = True,
    split_seed: Seed = 0,
  ):
    """Reads the files.

    Args:
      path: a file; FILE.json:NAME for the list of that name in it; or a dict of split -> such a path, or a list of
        them, of a set that comes in parts.
      split: 'train', 'validation', 'test', 'all', or another name in `path`.
      text: the column of the texts, by its name or its number.
      label: the column of the classes, likewise; they are numbered in the order of their names.
      header: False where the first row of a table is data; then columns have numbers alone.
      delimiter: what separates two cells; None for a comma in a .csv, and a tab in others.
      vocabulary: what a token is: one of the 'words' or 'characters' of the training part, the most frequent first,
        with one more for any other; one of the 'bytes' of UTF-8; or of subwords (`dl.data.sources.text.TextFiles`),
        also of those of another run, by its folder.
      lowercase: whether capitals become small letters.
      punctuation: whether signs are words of their own; otherwise a word is what stands between spaces.
      min_count: how often a word or character is in the training part at least; others are unknown.
      size: the most words or characters, the unknown one among them; None for no limit.
      length: the most tokens of a text, which is cut behind them; None for the longest text of all.
      test: size of the test part, a share or a number; unused where `path` names the parts.
      validation: size of the validation part; of a set that comes in parts without one, a share of its training part.
      stratify: whether each part has the classes' shares.
      split_seed: of the shuffle which decides; it is not the run's seed.

    Raises:
      ConfigError: an unreadable file, a missing column, an empty text, or a class without an example to learn from.
    """
    where = Format(text=text, header=header, delimiter=delimiter)
    rows, given = [], {}
    for name, paths in _by_split(path).items():
      begin = len(rows)
      rows += [row for one in paths for row in read(one, where, label)]
      given[name] = np.arange(begin, len(rows))
    labels, classes = statistics.encode_labels([row.label for row in rows])
    rules = dict(seed=split_seed, test=test, validation=validation, stratify=stratify, names=classes)
    parts = given if isinstance(path, dict) else None
    index, trained = splits.choose(split, len(rows), labels, parts, **rules)
    lacking = np.setdiff1d(np.arange(len(classes)), labels[trained])
    if len(lacking):
      first = int(np.argmax(labels == lacking[0]))
      raise ConfigError(f'{rows[first].place}: there is no text of the class {classes[lacking[0]]!r} to learn from')
    facts = {'texts': tuple(dataclasses.asdict(where).items()), 'lowercase': lowercase}
    facts['punctuation'] = punctuation and vocabulary == 'words'
    info = Info(
      class_names=classes,
      target_name=label if isinstance(label, str) else None,
      more=tuple((name, value) for name, value in facts.items() if value),
    )
    info = _with_vocabulary(info, vocabulary, [rows[i].text for i in trained], min_count, size)
    encoded = [encode(row.text, info, row.place) for row in rows]
    for row, tokens in zip(rows, encoded, strict=True):
      if not len(tokens):
        raise ConfigError(f'{row.place}: the text is empty; leave it out')
    length = length or max(map(len, encoded))
    info = statistics.complete(info.completed({'length': length}), {'label': labels[trained]})
    super().__init__({'tokens': pad([encoded[i] for i in index], length), 'label': labels[index]}, info)
    self.paths = [rows[i].place for i in index]


@dataclasses.dataclass(frozen=True)
class Row:
  """A text, its label where one was asked for, and 'FILE, row N'."""

  text: str
  label: str | None
  place: str


def read(path: str | pathlib.Path, where: Format, label: Column | None = None) -> Iterator[Row]:
  """The texts of a file, and their labels.

  Args:
    path: a table, .json, .jsonl, or FILE.json:NAME.
    where: the texts are.
    label: the column of the labels; None for none.

  Raises:
    ConfigError: no such file, not UTF-8, or a row without the column.
  """
  file, _, name = str(path).rpartition(':') if '.json:' in str(path) else (str(path), '', '')
  content = _content(files.existing(file))
  ending = pathlib.Path(file).suffix.lower()
  if ending in JSON:
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


def frequent(counts: Mapping[str, int], unknown: str, min_count: int, size: int | None) -> tuple[str, ...]:
  """The vocabulary of what is counted, the most frequent first, and what stands for any other at the end."""
  known = [token for token, count in counts.items() if count >= min_count and token != unknown]
  known.sort(key=lambda token: (-counts[token], token))
  return (*known[: None if size is None else size - 1], unknown)


def _with_vocabulary(
  info: Info, vocabulary: str | Mapping[str, Any], texts: Sequence[str], min_count: int, size: int | None
) -> Info:
  """With the vocabulary of these texts."""
  if vocabulary == 'bytes':
    return info.completed({'vocab_size': 256})
  texts = [prepared(text, info) for text in texts]
  if vocabulary in ('words', 'characters'):
    of_words = vocabulary == 'words'
    counts = collections.Counter(token for text in texts for token in (text.split() if of_words else text))
    named = frequent(counts, UNKNOWN if of_words else UNKNOWN_CHARACTER, min_count, size)
    return info.completed({'vocab_size': len(named), 'vocabulary': named})
  return info.completed(subwords.of_config(vocabulary, texts, VOCABULARIES))


def _by_split(path: str | Mapping[str, Any]) -> dict[str, list[str]]:
  """Split -> its paths."""
  if isinstance(path, str):
    return {'train': [path]}
  if 'train' not in path:
    raise ConfigError("path: needs a file for the split 'train'")
  found = {}
  for name, given in path.items():
    found[name] = [given] if isinstance(given, str) else list(given)
    if name == 'all' or not found[name] or not all(isinstance(one, str) for one in found[name]):
      raise ConfigError(f'path.{name}: expected a path or a list of them, got {given!r}')
  return found


def _content(file: pathlib.Path) -> str:
  try:
    return file.read_bytes().decode('utf-8-sig')
  except (OSError, UnicodeDecodeError) as e:
    raise ConfigError(f'{file} cannot be read as UTF-8 text') from e


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
