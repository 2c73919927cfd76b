"""CSV files as tables of text, and features by the names which training gave them."""

import csv
import dataclasses
import pathlib
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from dl.data import files
from dl.errors import ConfigError, nearest


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
      values = np.asarray([number(c) for c in cells])
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


def number(cell: str) -> float:
  """A cell as a number; NaN where it is none."""
  try:
    return float(cell)
  except ValueError:
    return float('nan')
