"""CSV files as tables of text, and features by the names which training gave them."""

import csv
import dataclasses
import datetime
import pathlib
import re
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from jaxtyping import Float, Shaped

from dl.config import build
from dl.contract.info import Info
from dl.data import files
from dl.data.dates import ISO, Part, as_features, fitting, in_words, instants, parser, uneven
from dl.errors import ConfigError, first_line, nearest

EMPTY = 'the cell is empty; fill it in, or leave out the row or the column'
DELIMITERS = (';', '\t', '|', ',')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Format:
  """How the text of tables is read.

  Attributes:
    delimiter: what separates two cells.
    decimal: the decimal sign, '.' or ','.
    header: 0 where the first row names the columns; 'infer' also refuses one that holds a number; None where there are
      no names, which are then column_0, column_1, ...; or these names.
    date_format: of dates, as in `datetime.strptime`; None for ISO 8601.
    dates: (column, the parts of `dl.data.dates.PARTS` that it becomes) of each column of dates.
    columns: names of all the columns that training read.
    target: the one of them that is predicted; it may be missing in a table without a header.
    recorded: whether a run recorded this, so that it is no longer for the user to say.
  """

  delimiter: str = ','
  decimal: str = '.'
  header: str | int | Sequence[str] | None = 'infer'
  date_format: str | None = None
  dates: tuple[tuple[str, tuple[Part, ...]], ...] = ()
  columns: tuple[str, ...] | None = None
  target: str | None = None
  recorded: bool = False

  @classmethod
  def of_run(cls, info: Info) -> Self:
    """As a run's own tables were read; raises ConfigError where what it recorded of that is damaged."""
    where = 'run.json: data.info.table'
    try:
      values = {'header': 0} | dict(info.table or ())
    except (TypeError, ValueError) as e:
      raise ConfigError(f'{where}: is damaged: {first_line(e)}') from e
    build.check_arguments(cls, values, where, given=('recorded',))
    return cls(**values, recorded=True)

  def record(self, columns: Sequence[str], target: str | None) -> tuple[tuple[str, Any], ...]:
    """For `Info.table`, from which `of_run` makes it again: for tables of these columns."""
    header = 0 if self.header in (0, 'infer') else None
    whole = dataclasses.replace(self, columns=tuple(columns), target=target, header=header)
    values = ((field, getattr(whole, field.name)) for field in dataclasses.fields(self))
    return tuple((field.name, value) for field, value in values if value != field.default)

  def set(self, argument: str, value: Any) -> str:
    """What to do about a table that looks as if an argument were to be `value`."""
    if not self.recorded:
      return f'set {argument}={value!r}'
    return f'the tables of the run were read with {argument}={getattr(self, argument)!r}'

  def number(self, cell: str) -> float:
    """A cell as a number; NaN where it is none."""
    if self.decimal != '.':
      cell = 'nan' if '.' in cell else cell.replace(self.decimal, '.')
    try:
      return float(cell)
    except ValueError:
      return float('nan')


@dataclasses.dataclass(frozen=True)
class Table:
  """The cells of a CSV file, as text.

  Attributes:
    header: column names.
    rows: the cells of each row, stripped.
    places: 'FILE, row N' of each row, as spreadsheets count: a header is row 1.
    format: how they are read.
  """

  header: list[str]
  rows: list[list[str]]
  places: list[str]
  format: Format = Format()

  def column(self, name: str) -> list[str]:
    """The cells of a column; raises ConfigError with the nearest names if there is no such column."""
    if name not in self.header:
      source = self.places[0].rpartition(', row')[0]
      other = _other_delimiter(self.header, self.format)
      hint = f'its header is {self.format.delimiter.join(self.header)!r}: {other}' if other else None
      raise ConfigError(f'{source} has no column {name!r}; {hint or nearest(name, self.header)}')
    index = self.header.index(name)
    return [row[index] for row in self.rows]

  def named(self, name: str | int, where: str) -> str:
    """The name of a column, which may be given by its number, from 0, or from -1 for the last.

    Args:
      name: name or number.
      where: the argument, for error lines.

    Raises:
      ConfigError: there is no such column.
    """
    if isinstance(name, int):
      if not -len(self.header) <= name < len(self.header):
        raise ConfigError(f'{where}: there is no column number {name}; {self.places[0]} has {len(self.header)}')
      return self.header[name]
    self.column(name)
    return name

  def is_numeric(self, name: str) -> bool:
    """Whether most cells are numbers, or would be with another decimal sign, so that one which is not is a mistake."""
    distinct = set(self.column(name))
    comma = self.format.decimal == '.'
    number = lambda c: np.isfinite(self.format.number(c)) or not c or (comma and comma_number(c))
    return 2 * sum(map(number, distinct)) > len(distinct)

  def times(self, name: str) -> Shaped[np.ndarray, ' n']:
    """When each row was, as numbers or dates; raises ConfigError with the row of the first cell which is neither."""
    if self.format.date_format is None and self.is_numeric(name):
      return self.numbers(name)
    return instants(self.dates(name))

  def numbers(self, name: str) -> Float[np.ndarray, ' n']:
    """A column as numbers; raises ConfigError with the row of the first cell which is not a finite one."""
    cells = self.column(name)
    try:
      if self.format.decimal != '.':
        raise ValueError
      values = np.asarray(cells, dtype=np.float64)
    except ValueError:
      values = np.asarray([self.format.number(c) for c in cells])
    bad = ~np.isfinite(values)
    if bad.any():
      row = int(bad.argmax())
      raise ConfigError(f'{self.places[row]}, column {name!r}: {self._no_number(cells[row])}')
    return values

  def dates(self, name: str) -> list[datetime.datetime]:
    """A column as dates; raises ConfigError with the row of the first cell which is none."""
    cells, parse, parsed = self.column(name), parser(self.format.date_format), []
    for place, cell in zip(self.places, cells, strict=True):
      try:
        parsed.append(parse(cell))
      except ValueError as e:
        right = repr(self.format.date_format) if self.format.date_format else ISO
        hint = '' if self.format.recorded else in_words(fitting(cells))
        raise ConfigError(f'{place}, column {name!r}: {cell!r} is no date of {right}{hint and f"; set {hint}"}') from e
    zones = {date.tzinfo is None for date in parsed}
    if len(zones) > 1:
      raise ConfigError(f'{self.places[0]}, column {name!r}: some times have a time zone, and others none')
    return parsed

  def _no_number(self, cell: str) -> str:
    if not cell:
      return EMPTY
    said = f'{cell!r} is not a finite number'
    if self.format.decimal != '.':
      thousands = re.fullmatch(r'[-+]?\d{1,3}(\.\d{3})+(,\d*)?', cell)
      return f'{said} with decimal={self.format.decimal!r}' + ('; leave out the dots of thousands' if thousands else '')
    if re.fullmatch(r'[-+]?\d{1,3}(,\d{3})+', cell):
      return f'{said}; {self.format.set("decimal", ",")} if that is the decimal sign, or leave out the commas'
    return f'{said}; {self.format.set("decimal", ",")}' if comma_number(cell) else said


def check_even(table: Table, name: str, otherwise: str = '') -> None:
  """Raises ConfigError, which ends in `otherwise`, unless the times in a column go up from row to row in even steps."""
  times = table.times(name)
  if found := uneven(times):
    row, distance, usual = found
    said = (
      f'{table.column(name)[row]!r} comes {_distance(distance)} after the row before it, and others {_distance(usual)}'
    )
    end = otherwise and f', {otherwise}'
    raise ConfigError(f'{table.places[row]}, column {name!r}: {said}; fill in what is missing{end}')


def _distance(value: Any) -> str:
  """Between two times: '2:00:00', '1 day, 0:00:00' or a number."""
  return str(value.item()) if isinstance(value, np.timedelta64) else f'{value:g}'


def comma_number(cell: str) -> bool:
  """Whether a cell may be a number with a decimal comma."""
  return re.fullmatch(r'[-+]?\d+,\d+(e[-+]?\d+)?', cell, re.IGNORECASE) is not None


def read_table(path: str | pathlib.Path, read: Format = Format()) -> Table:
  """Reads a CSV file; blank lines are skipped.

  Raises:
    ConfigError: no such file, not UTF-8 text, no rows, repeated column names, names that look like data, or a row of
      another length.
  """
  path = files.existing(path)
  if len(read.delimiter) != 1:
    raise ConfigError(f'delimiter: expected a single character, got {read.delimiter!r}')
  named = read.header in (0, 'infer')
  header, rows, places = None, [], []
  try:
    with path.open(newline='', encoding='utf-8-sig') as file:
      for number, cells in enumerate(csv.reader(file, delimiter=read.delimiter), 1):
        cells = [c.strip() for c in cells]
        if not any(cells):
          continue
        if header is None:
          header = _header(cells, read, f'{path}, row {number}')
          if named:
            continue
        if len(cells) != len(header):
          other = _other_delimiter(header, read) if named else ''
          what = 'the header has' if named else 'there are names for'
          least = (
            f' (or {len(header) - 1}, without {read.target!r})' if read.columns and read.target and not named else ''
          )
          raise ConfigError(
            f'{path}, row {number}: {len(cells)} cells, but {what} {len(header)} columns{least}{other and f"; {other}"}'
          )
        rows.append(cells)
        places.append(f'{path}, row {number}')
  except UnicodeDecodeError as e:
    raise ConfigError(
      f'{path} is not UTF-8 text; save it so (iconv -f LATIN1 -t UTF-8, if it is of Western Europe)'
    ) from e
  except csv.Error as e:
    raise ConfigError(f'{path}: {e}') from e
  if not rows:
    raise ConfigError(f'{path} has no rows{" below a header" if named else ""}')
  if len(set(header)) < len(header):
    raise ConfigError(f'{path}: the column {max(header, key=header.count)!r} appears more than once')
  return Table(header, rows, places, read)


def _header(cells: list[str], read: Format, place: str) -> list[str]:
  """The names of the columns, given the first row."""
  if read.header == 'infer':
    numbers = [c for c in cells if np.isfinite(read.number(c))]
    if numbers and (other := _other_delimiter(cells, read)):
      raise ConfigError(f'{place}: {numbers[0]!r} stands where a column should have its name; {other}')
    if numbers:
      raise ConfigError(
        f'{place}: {numbers[0]!r} stands where a column should have its name; set header=None if the first row is not '
        'one of names, or header=0 if it is'
      )
  if read.header in (0, 'infer'):
    return cells
  if read.columns is not None:  # of a run
    without = [name for name in read.columns if name != read.target]
    return without if len(cells) == len(without) else list(read.columns)
  return [f'column_{i}' for i in range(len(cells))] if read.header is None else list(read.header)


def _other_delimiter(cells: Sequence[str], read: Format) -> str:
  """What to do about cells which hold as many of another delimiter as stand between them; '' where they do not."""
  for other in DELIMITERS:
    if other != read.delimiter and sum(c.count(other) for c in cells) >= max(len(cells) - 1, 1):
      return read.set('delimiter', other)
  return ''


def features_for(table: Table, feature_names: Sequence[str]) -> Float[np.ndarray, 'n f']:
  """The features of a table by the names which training gave them; other columns are ignored.

  Raises:
    ConfigError: a missing column, a bad cell, or a category which training never saw.
  """
  values, seen, of_dates = [], {}, {}
  for column, parts in table.format.dates:
    numbers, names = as_features(table.dates(column), parts, column)
    of_dates |= zip(names, numbers.T, strict=True)
  for name in feature_names:
    if name in of_dates:
      values.append(of_dates[name])
      continue
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
