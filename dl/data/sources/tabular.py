"""Tables in CSV files."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from dl.config.bounds import Whole
from dl.contract.info import Info
from dl.data import files, splits, statistics
from dl.data.dates import PARTS, as_features, fitting, in_words, instants
from dl.data.source import Arrays
from dl.data.tables import EMPTY, Format, Table, read_table
from dl.errors import ConfigError

MAX_CATEGORIES = 100
"""A text column with more distinct values than this is refused: it is a name or a key rather than a category."""

MAX_CLASSES = 20
"""A target of whole numbers with at most this many distinct values is taken for classes."""


class Csv(Arrays):
  """A table: `features` [f], and `label` or `target`.

  A column of numbers is one feature; a column of text is one feature a distinct value (`colour=red` is 1 or 0); one of
  dates is several, where `dates` asks for it. A run keeps how its tables were read, so that `dl.predict` reads others
  alike.

  Attributes:
    paths: file and row of each example.
    times: when each example was, where `time` says so; then parts are cut by time.
  """

  default_test = 0.2

  def __init__(
    self,
    path: str | dict,
    target: str | Whole,
    *,
    features: list[str | Whole] | None = None,
    kind: Literal['classification', 'regression'] | None = None,
    delimiter: str = ',',
    decimal: Literal['.', ','] = '.',
    header: Literal['infer', 0] | list[str] | None = 'infer',
    time: str | Whole | None = None,
    dates: list[str | Whole] | dict[str, list[str]] | None = None,
    date_format: str | None = None,
  ):
    """Reads the file.

    Args:
      path: a CSV file; or a dict of split -> file, such as dict(train='a.csv', test='b.csv').
      target: the column to predict: its name, or its number, from 0, or from -1 for the last.
      features: the columns to predict from; None takes all but the target and `time`.
      kind: None infers it: text, or whole numbers with at most 20 distinct values, are classes.
      delimiter: what separates two cells.
      decimal: the decimal sign.
      header: 0 if the first row names the columns; 'infer' also refuses one that holds a number. None where the first
        row is data: columns are column_0, column_1, ...; or a list of names for them.
      time: a column of numbers or dates, by which parts are cut (`dl.data.splits.select`).
      dates: columns of dates that become features: a list of them; or a dict of column -> what of it, of 'days' (since
        1970) and its place in the 'year', the 'week' and the 'day', each as sine and cosine. A list takes them all,
        without 'day' where no date has a time.
      date_format: of dates, as in `datetime.strptime`, such as '%d.%m.%Y'; None for ISO 8601, such as '2024-01-31
        13:00'.

    Raises:
      ConfigError: an unreadable file, a missing column, or a cell which cannot be used, by its row and column.
    """
    if isinstance(header, bool):
      raise ConfigError(f"header: expected 'infer', 0, None or a list of names, got {header}")
    read = Format(delimiter=delimiter, decimal=decimal, header=header, date_format=date_format)
    paths = files.by_split(path) if isinstance(path, dict) else {None: path}
    tables = {name: read_table(p, read) for name, p in paths.items()}
    table = _join(list(tables.values()))
    target = table.named(target, 'target')
    time = None if time is None else table.named(time, 'time')
    read = dataclasses.replace(read, dates=_dates(table, dates))
    of_dates = dict(read.dates)
    if features is None:
      names = [c for c in table.header if c != target and (c != time or c in of_dates)]
    else:
      names = [table.named(name, 'features') for name in features]
    if target in (*names, *of_dates, time):
      raise ConfigError(f'{"time" if target == time else "features"}: {target!r} is the target')
    if not names or len(set(names)) < len(names):
      raise ConfigError(f'features: expected distinct columns besides the target, got {names}')
    if unused := of_dates.keys() - {*names}:
      raise ConfigError(f'dates: {min(unused)!r} is not among the features')
    blocks = [_encode(table, name, of_dates.get(name)) for name in names]
    columns = {'features': np.concatenate([values for values, _ in blocks], axis=1)}
    label, class_names, y = _target(table, target, kind)
    columns |= {'target': y} if label is None else {'label': label}
    info = Info(
      feature_names=tuple(n for _, ns in blocks for n in ns),
      class_names=class_names,
      target_name=target,
      table=read.record(table.header, target),
    )
    super().__init__(columns, info)
    self.paths, self.times = table.places, None if time is None else table.times(time)
    if isinstance(path, dict):
      self.parts = splits.ranges({split: len(t.rows) for split, t in tables.items()})


def _join(tables: list[Table]) -> Table:
  first = tables[0]
  rows = list(first.rows)
  for table in tables[1:]:
    columns = [table.column(name) for name in first.header]
    rows += [list(cells) for cells in zip(*columns, strict=True)]
  return Table(first.header, rows, [p for t in tables for p in t.places], first.format)


def _dates(table: Table, asked: Sequence[str | int] | Mapping[str, Any] | None) -> tuple[tuple[str, tuple], ...]:
  """(column, what it becomes) of each column of dates that becomes features."""
  asked = asked if isinstance(asked, Mapping) else dict.fromkeys(asked or ())
  found = []
  for name, parts in asked.items():
    name = table.named(name, 'dates')
    if parts is None:
      parts = PARTS if instants(table.dates(name)).dtype != 'datetime64[D]' else [p for p in PARTS if p != 'day']
    if isinstance(parts, str) or not parts or not all(part in PARTS for part in parts):
      raise ConfigError(f'dates.{name}: expected some of {", ".join(PARTS)}, got {parts!r}')
    found.append((name, tuple(parts)))
  return tuple(found)


def _encode(table: Table, name: str, parts: Sequence[str] | None) -> tuple[Float[np.ndarray, 'n k'], list[str]]:
  """(features of a column, their names); `parts` are those of a column of dates."""
  if parts is not None:
    values, names = as_features(table.dates(name), parts, name)
    return values.astype(np.float32), names
  if table.is_numeric(name):
    return table.numbers(name).astype(np.float32)[:, None], [name]
  cells = table.column(name)
  if found := fitting(cells):
    hint = in_words(found)
    raise ConfigError(
      f'{table.places[0]}, column {name!r}: {cells[0]!r} is a date; set dates=[{name!r}]{hint and f", {hint}"} for '
      f'features of it (days, and its place in the year, week and day), or leave the column out with features='
    )
  categories = sorted(set(cells))
  if '' in categories:
    raise ConfigError(f'{table.places[cells.index("")]}, column {name!r}: {EMPTY}')
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
    raise ConfigError(f'{table.places[cells.index("")]}, column {name!r}: {EMPTY}')
  numeric = table.is_numeric(name)
  if kind is None:
    numbers = table.numbers(name) if numeric else None
    whole = numeric and (numbers == np.round(numbers)).all() and len(np.unique(numbers)) <= MAX_CLASSES
    kind = 'classification' if whole or not numeric else 'regression'
  if kind == 'regression':
    return None, None, table.numbers(name).astype(np.float32)
  label, class_names = statistics.encode_labels(table.numbers(name) if numeric else cells)
  return label, class_names, None
