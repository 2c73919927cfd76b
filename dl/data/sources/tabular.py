"""Tables in CSV files."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from jaxtyping import Float

from dl.contract.info import Info
from dl.data import files, splits, statistics
from dl.data.source import Arrays
from dl.data.tables import Table, number, read_table
from dl.errors import ConfigError

MAX_CATEGORIES = 100
"""A text column with more distinct values than this is refused: it is a name or a key rather than a category."""

MAX_CLASSES = 20
"""A target of whole numbers with at most this many distinct values is taken for classes."""


class Csv(Arrays):
  """A table with a header row: `features` [f], and `label` or `target`.

  A column of numbers is one feature; a column of text is one feature a distinct value (`colour=red` is 1 or 0).

  Attributes:
    paths: file and row of each example.
  """

  default_test = 0.2

  def __init__(
    self,
    path: str | dict,
    target: str,
    *,
    features: list[str] | None = None,
    kind: Literal['classification', 'regression'] | None = None,
    delimiter: str = ',',
  ):
    """Reads the file.

    Args:
      path: a CSV file; or a dict of split -> file, such as dict(train='a.csv', test='b.csv').
      target: name of the column to predict.
      features: names of the columns to predict from; None takes all the others.
      kind: None infers it: text, or whole numbers with at most 20 distinct values, are classes.
      delimiter: what separates two cells.

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
    columns = {'features': np.concatenate([values for values, _ in blocks], axis=1)}
    label, class_names, y = _target(table, target, kind)
    columns |= {'target': y} if label is None else {'label': label}
    feature_names = tuple(n for _, ns in blocks for n in ns)
    super().__init__(columns, Info(feature_names=feature_names, class_names=class_names, target_name=target))
    self.paths = table.places
    if isinstance(path, dict):
      self.parts = splits.ranges({split: len(t.rows) for split, t in tables.items()})


def _join(tables: list[Table]) -> Table:
  first = tables[0]
  rows = list(first.rows)
  for table in tables[1:]:
    columns = [table.column(name) for name in first.header]
    rows += [list(cells) for cells in zip(*columns, strict=True)]
  return Table(first.header, rows, [p for t in tables for p in t.places])


def _is_numeric(cells: Sequence[str]) -> bool:
  """Whether most cells are numbers, so that one which is not is a mistake."""
  distinct = set(cells)
  return 2 * sum(np.isfinite(number(c)) or not c for c in distinct) > len(distinct)


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
