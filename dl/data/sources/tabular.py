"""Tables in CSV files."""

import csv
import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Literal

import numpy as np
from jaxtyping import Float

from dl.contract.info import Info
from dl.data import files, splits, statistics
from dl.data.source import Arrays
from dl.errors import ConfigError, nearest

MAX_CATEGORIES = 100
"""A text column with more distinct values than this is refused: it is a name or a key rather than a category."""

MAX_CLASSES = 20
"""A target of whole numbers with at most this many distinct values is taken for classes."""


class Csv(Arrays):
  """A table with a header row: `features` [f], and `label` or `target`.

  A column of numbers is one feature; a column of text is one feature a distinct value (`colour=red` is 1 or 0).
  """

  def __init__(
    self,
    path: str | dict,
    target: str,
    split: str = 'train',
    *,
    features: list[str] | None = None,
    kind: Literal['classification', 'regression'] | None = None,
    delimiter: str = ',',
    test: float | int = 0.2,
    validation: float | int = 0.0,
    stratify: bool = True,
    folds: int | None = None,
    fold: int = 0,
    split_seed: int = 0,
  ):
    """Reads the file.

    Args:
      path: a CSV file; or a dict of split -> file, such as dict(train='a.csv', test='b.csv').
      target: name of the column to predict.
      split: which part: 'train', 'validation', 'test' or 'all'.
      features: names of the columns to predict from; None takes all the others.
      kind: None infers it: text, or whole numbers with at most 20 distinct values, are classes.
      delimiter: what separates two cells.
      test: see `dl.data.splits.select`, as for the other arguments; `split_seed` is its `seed`.
      validation: of a set which comes in parts without a validation part: a share of its training part.
      stratify: see `select`.
      folds: see `select`.
      fold: see `select`.
      split_seed: see `select`.

    Raises:
      ConfigError: an unreadable file, a missing column, or a cell which cannot be used, by its row and column.
    """
    paths = files.by_split(path) if isinstance(path, dict) else {None: path}
    tables = {name: read_table(p, delimiter) for name, p in paths.items()}
    table = _join(list(tables.values()))
    names = [c for c in table.header if c != target] if features is None else list(features)
    for name in [target, *names]:
      table.column(name)
    if target in names:
      raise ConfigError(f'features: {target!r} is the target')
    if not names or len(set(names)) < len(names):
      raise ConfigError(f'features: expected distinct columns besides the target, got {names}')
    blocks = [_encode(table, name) for name in names]
    x = np.concatenate([values for values, _ in blocks], axis=1)
    facts = {'feature_names': tuple(n for _, ns in blocks for n in ns), 'target_name': target}
    label, class_names, y = _target(table, target, kind)
    given = None
    if isinstance(path, dict):
      ends = np.cumsum([len(t.rows) for t in tables.values()])
      given = {k: np.arange(e - len(t.rows), e) for (k, t), e in zip(tables.items(), ends, strict=True)}
    rules = dict(seed=split_seed, test=test, validation=validation, stratify=stratify, folds=folds, fold=fold)
    chosen, train = splits.choose(split, len(x), label, given, **rules)
    facts |= statistics.of_features(x[train])
    facts |= statistics.of_target(y[train]) if label is None else statistics.of_labels(label[train], class_names)
    columns = {'features': x} | ({'target': y} if label is None else {'label': label})
    super().__init__({k: v[chosen] for k, v in columns.items()}, Info(**facts))


@dataclasses.dataclass(frozen=True)
class Table:
  """The cells of a CSV file, as text.

  Attributes:
    header: column names.
    rows: the cells of each row, stripped.
    places: 'FILE, row N' of each row, as spreadsheets count: the header is row 1.
  """

  header: list[str]
  rows: list[list[str]]
  places: list[str]

  def column(self, name: str) -> list[str]:
    """The cells of a column; raises ConfigError with the nearest names if there is no such column."""
    if name not in self.header:
      source = self.places[0].rpartition(', row')[0]
      other = next((d for d in (';', '\t', '|') if len(self.header) == 1 and d in self.header[0]), None)
      hint = f'its header is {self.header[0]!r}: set delimiter={other!r}' if other else nearest(name, self.header)
      raise ConfigError(f'{source} has no column {name!r}; {hint}')
    index = self.header.index(name)
    return [row[index] for row in self.rows]

  def numbers(self, name: str) -> Float[np.ndarray, ' n']:
    """A column as numbers; raises ConfigError with the row of the first cell which is not a finite one."""
    cells = self.column(name)
    try:
      values = np.asarray(cells, dtype=np.float64)
    except ValueError:
      values = np.asarray([_number(c) for c in cells])
    bad = ~np.isfinite(values)
    if bad.any():
      row = int(bad.argmax())
      what = f'{cells[row]!r} is not a finite number' if cells[row] else 'the cell is empty'
      raise ConfigError(f'{self.places[row]}, column {name!r}: {what}')
    return values


def read_table(path: str | pathlib.Path, delimiter: str = ',') -> Table:
  """Reads a CSV file with a header row; blank lines are skipped.

  Raises:
    ConfigError: no such file, not UTF-8 text, no rows, repeated column names, or a row of another length.
  """
  path = files.existing(path)
  if len(delimiter) != 1:
    raise ConfigError(f'delimiter: expected a single character, got {delimiter!r}')
  header, rows, places = None, [], []
  try:
    with path.open(newline='', encoding='utf-8-sig') as file:
      for number, cells in enumerate(csv.reader(file, delimiter=delimiter), 1):
        cells = [c.strip() for c in cells]
        if not any(cells):
          continue
        if header is None:
          header = cells
          continue
        if len(cells) != len(header):
          raise ConfigError(f'{path}, row {number}: {len(cells)} cells, but the header has {len(header)} columns')
        rows.append(cells)
        places.append(f'{path}, row {number}')
  except UnicodeDecodeError as e:
    raise ConfigError(f'{path} is not UTF-8 text') from e
  except csv.Error as e:
    raise ConfigError(f'{path}: {e}') from e
  if not rows:
    raise ConfigError(f'{path} has no rows below a header')
  if len(set(header)) < len(header):
    raise ConfigError(f'{path}: the column {max(header, key=header.count)!r} appears more than once')
  return Table(header, rows, places)


def features_for(table: Table, feature_names: Sequence[str]) -> Float[np.ndarray, 'n f']:
  """The features of a table by the names which training gave them; other columns are ignored.

  Raises:
    ConfigError: a missing column, a bad cell, or a category which training never saw.
  """
  values, seen = [], {}
  for name in feature_names:
    if name in table.header or '=' not in name:
      values.append(table.numbers(name))
      continue
    column, category = _split_name(name, table, feature_names)
    cells = table.column(column)
    seen.setdefault(column, set()).add(category)
    values.append(np.asarray([c == category for c in cells], np.float64))
  for column, categories in seen.items():
    for place, cell in zip(table.places, table.column(column), strict=True):
      if cell not in categories:
        raise ConfigError(f'{place}, column {column!r}: training never saw {cell!r}; {nearest(cell, categories)}')
  return np.stack(values, axis=1).astype(np.float32)


def _split_name(name: str, table: Table, feature_names: Sequence[str]) -> tuple[str, str]:
  """('colour', 'red') of 'colour=red'; either side may itself hold '='."""
  cuts = [i for i, c in enumerate(name) if c == '=']
  for i in cuts:
    if name[:i] in table.header:
      return name[:i], name[i + 1 :]
  return name[: cuts[0]], name[cuts[0] + 1 :]


def _join(tables: list[Table]) -> Table:
  first = tables[0]
  rows = list(first.rows)
  for table in tables[1:]:
    columns = [table.column(name) for name in first.header]
    rows += [list(cells) for cells in zip(*columns, strict=True)]
  return Table(first.header, rows, [p for t in tables for p in t.places])


def _number(cell: str) -> float:
  try:
    return float(cell)
  except ValueError:
    return float('nan')


def _is_numeric(cells: Sequence[str]) -> bool:
  """Whether most cells are numbers, so that one which is not is a mistake."""
  distinct = set(cells)
  return 2 * sum(np.isfinite(_number(c)) or not c for c in distinct) > len(distinct)


def _encode(table: Table, name: str) -> tuple[Float[np.ndarray, 'n k'], list[str]]:
  """(features of a column, their names)."""
  cells = table.column(name)
  if _is_numeric(cells):
    return table.numbers(name).astype(np.float32)[:, None], [name]
  categories = sorted(set(cells))
  if '' in categories:
    raise ConfigError(f'{table.places[cells.index("")]}, column {name!r}: the cell is empty')
  if len(categories) > MAX_CATEGORIES:
    raise ConfigError(
      f'{table.places[0]}, column {name!r}: {cells[0]!r} is not a number, and {len(categories)} different texts are '
      f'too many for categories; leave the column out with features='
    )
  index = np.searchsorted(categories, cells)
  return np.eye(len(categories), dtype=np.float32)[index], [f'{name}={c}' for c in categories]


def _target(
  table: Table, name: str, kind: str | None
) -> tuple[np.ndarray | None, tuple[str, ...] | None, np.ndarray | None]:
  """(labels, class names, None) or (None, None, target)."""
  cells = table.column(name)
  if '' in cells:
    raise ConfigError(f'{table.places[cells.index("")]}, column {name!r}: the cell is empty')
  numeric = _is_numeric(cells)
  if kind is None:
    numbers = table.numbers(name) if numeric else None
    whole = numeric and (numbers == np.round(numbers)).all() and len(np.unique(numbers)) <= MAX_CLASSES
    kind = 'classification' if whole or not numeric else 'regression'
  if kind == 'regression':
    return None, None, table.numbers(name).astype(np.float32)
  label, class_names = statistics.encode_labels(table.numbers(name) if numeric else cells)
  return label, class_names, None
