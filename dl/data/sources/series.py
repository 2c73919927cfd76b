"""Long time series, as windows: a look-back, and the horizon after it."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
from jaxtyping import Float, Int

from dl.config.bounds import Count, NotNegative, Size, Whole
from dl.contract.info import Info
from dl.data import statistics
from dl.data.dates import PARTS, as_features, fitting, in_words
from dl.data.source import Example
from dl.data.splits import SPLITS
from dl.data.tables import Format, Table, check_even, read_table
from dl.errors import ConfigError, nearest


class Windows:
  """One long series, as windows of `length` steps and the `horizon` after them, beginning every `stride` steps.

  Batches hold `series` [length, channels], the look-back, and `target` [horizon, targets], what comes after it, in
  the units of the series. A batch is one index into the series, which is kept once.

  Attributes:
    values: the series.
    info: facts about the data; `more` has `length`, `horizon` and the names of the `targets`.
    vectorized: a batch is one gather.
  """

  vectorized: ClassVar[bool] = True

  def __init__(
    self,
    values: Float[np.ndarray, 'n channels'],
    length: Size,
    horizon: Size,
    part: tuple[Count, Count],
    stride: Size,
    targets: Sequence[int],
    info: Info,
  ):
    """Takes the series as it is.

    Args:
      values: the series, with the parts before and after this one.
      length: steps of the look-back.
      horizon: steps that are forecast.
      part: (first, end) of the steps that are forecast; the look-back may lie before it.
      stride: steps from one window to the next.
      targets: which channels are forecast.
      info: facts about the data.

    Raises:
      ConfigError: the part is too short for one window.
    """
    self.values, self.length, self.horizon, self.info = values, length, horizon, info
    self._targets = None if list(targets) == list(range(values.shape[1])) else np.asarray(targets)
    self._starts = np.arange(max(part[0], length), part[1] - horizon + 1, stride)  # of what is forecast
    if not len(self._starts):
      before = length if part[0] < length else 0
      raise ConfigError(
        f'length and horizon: a window takes {before + horizon} steps of this part, which has {part[1] - part[0]}'
      )

  def __len__(self) -> int:
    return len(self._starts)

  @property
  def contents(self) -> dict[str, Float[np.ndarray, 'n channels']]:
    """What the windows are of, by which a run knows its data."""
    return {'values': self.values}

  def __getitem__(self, index: int | Int[np.ndarray, ' b']) -> Example:
    start = self._starts[index]
    series = self.values.take(np.add.outer(start, np.arange(-self.length, 0)), axis=0)
    target = self.values.take(np.add.outer(start, np.arange(self.horizon)), axis=0)
    return {'series': series, 'target': target if self._targets is None else target[..., self._targets]}


class Csv(Windows):
  """A table whose rows are the steps of a series, one after another, and whose columns are its channels.

  It is cut by position: its beginning is the training part, then comes the validation part, then the test part. What
  is forecast lies in its part wholly; the look-back may reach into the part before. Mean and deviation in `info` are
  those of the rows of the training part.

  Attributes:
    span: the first and the last time which are forecast, where there are times.
  """

  def __init__(
    self,
    path: str,
    length: Size,
    horizon: Size,
    split: str = 'train',
    *,
    columns: list[str | Whole] | None = None,
    targets: list[str | Whole] | None = None,
    time: str | Whole | None = None,
    dates: list[Literal['days', 'year', 'week', 'day']] | None = None,
    irregular: bool = False,
    train: NotNegative | Count | None = None,
    validation: NotNegative | Count = 0.1,
    test: NotNegative | Count = 0.2,
    stride: Size = 1,
    delimiter: str = ',',
    decimal: Literal['.', ','] = '.',
    header: Literal['infer', 0] | list[str] | None = 'infer',
    date_format: str | None = None,
  ):
    """Reads the file.

    Args:
      path: a CSV file.
      length: steps of the look-back.
      horizon: steps that are forecast.
      split: which part: 'train', 'validation', 'test' or 'all'.
      columns: the channels, by name or number; None takes all but `time`.
      targets: which of them are forecast; None for all.
      time: a column of numbers or dates, which has to go up in even steps.
      dates: what of the time of a step becomes further channels: its place in the 'year', the 'week' and the 'day',
        each as sine and cosine, and the 'days' since 1970.
      irregular: whether rows count as steps though their times are uneven.
      train: size of the training part: a share of the rows, or how many; None for all that the others leave. What is
        left over after the test part is not used.
      validation: size of the validation part, likewise.
      test: size of the test part, likewise.
      stride: steps from one window to the next.
      delimiter: what separates two cells.
      decimal: the decimal sign.
      header: 0 if the first row names the columns, None where there are no names, or a list of them; see `tabular.Csv`.
      date_format: of dates, as in `datetime.strptime`; None for ISO 8601.

    Raises:
      ConfigError: an unreadable file, a missing column, a cell which is no number, a gap in the times, or parts that
        cannot be.
    """
    if split not in SPLITS:
      raise ConfigError(f'split: there is no split {split!r}; {nearest(split, SPLITS)}')
    if isinstance(header, bool):
      raise ConfigError(f"header: expected 'infer', 0, None or a list of names, got {header}")
    read = Format(delimiter=delimiter, decimal=decimal, header=header, date_format=date_format)
    table = read_table(path, read)
    time = None if time is None else table.named(time, 'time')
    names = [c for c in table.header if c != time] if columns is None else [table.named(c, 'columns') for c in columns]
    wanted = names if targets is None else [table.named(c, 'targets') for c in targets]
    _check_columns(table, names, wanted, time)
    values, of_dates = np.stack([table.numbers(name) for name in names], axis=1), []
    if dates:
      parts = _date_parts(dates, time)
      more, of_dates = as_features(table.dates(time), parts, time)
      values, read = np.concatenate([values, more], axis=1), dataclasses.replace(read, dates=((time, parts),))
    times = None if time is None else table.times(time)
    if times is not None and not irregular:
      check_even(table, time, 'or set irregular=True to count rows as steps')
    bounds = _parts(len(values), train, validation, test)
    if split != 'all' and bounds[split][0] == bounds[split][1]:
      raise ConfigError(f'split: the {split!r} part is empty; set {split}=0.1, say')
    part = (0, bounds['test'][1]) if split == 'all' else bounds[split]
    values, channels = values.astype(np.float32), (*names, *of_dates)
    info = Info(
      feature_names=channels,
      table=read.record(table.header, None),
      more=(('length', length), ('horizon', horizon), ('targets', tuple(wanted)), ('time', time)),
      **statistics.of_features(values[slice(*bounds['train'])], Info()),
    )
    super().__init__(values, length, horizon, part, stride, [channels.index(c) for c in wanted], info)
    self.span = None if times is None else (str(times[self._starts[0]]), str(times[self._starts[-1] + horizon - 1]))
    self._places = table.places

  @functools.cached_property
  def paths(self) -> list[str]:
    """File and row of the first step which is forecast, of each window."""
    return [self._places[start] for start in self._starts]


def _check_columns(table: Table, names: Sequence[str], targets: Sequence[str], time: str | None) -> None:
  """Raises ConfigError for channels or targets which cannot be."""
  if time in names:
    raise ConfigError(f'columns: {time!r} is the time; dates= makes channels of it')
  for where, chosen in (('columns', names), ('targets', targets)):
    if not chosen or len(set(chosen)) < len(chosen):
      raise ConfigError(f'{where}: expected distinct columns besides the time, got {chosen}')
  if other := set(targets) - set(names):
    raise ConfigError(f'targets: {min(other)!r} is not among the columns that are read')
  for name in names:
    if found := fitting(table.column(name)):
      hint = in_words(found)
      raise ConfigError(
        f'{table.places[0]}, column {name!r}: {table.column(name)[0]!r} is a date; set time={name!r}'
        f'{hint and f", {hint}"}, or leave the column out with columns='
      )


def _date_parts(dates: Sequence[str], time: str | None) -> tuple[str, ...]:
  if time is None:
    raise ConfigError('dates: are those of a column; name it, such as time=0')
  if isinstance(dates, str) or not all(part in PARTS for part in dates):
    raise ConfigError(f'dates: expected some of {", ".join(PARTS)}, got {dates!r}')
  return tuple(dates)


def _parts(n: int, train: float | None, validation: float, test: float) -> dict[str, tuple[int, int]]:
  """(first, end) of the rows of each part; shares are rounded down, as those of the benchmarks are."""
  sizes = {}
  for name, size in (('train', train), ('validation', validation), ('test', test)):
    if isinstance(size, bool) or (size is not None and (size < 0 or (isinstance(size, float) and size > 1))):
      raise ConfigError(f'{name}: expected a share of the rows, up to 1, or how many, got {size!r}')
    sizes[name] = int(size * n) if isinstance(size, float) else size
  if train is None:
    sizes['train'] = n - sizes['validation'] - sizes['test']
  if sizes['train'] <= 0 or sum(sizes.values()) > n:
    asked = ', '.join(f'{name} {size:,}' for name, size in sizes.items() if name != 'train' or train is not None)
    raise ConfigError(f'train, validation and test: of {n:,} rows there cannot be {asked}')
  ends = np.cumsum(list(sizes.values())).tolist()
  return {name: (end - size, end) for (name, size), end in zip(sizes.items(), ends, strict=True)}
