"""Dates and times as text: parsed, recognized, and as numbers which a model can learn from."""

import datetime
import typing
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Shaped

Part = Literal['days', 'year', 'week', 'day']
PARTS = typing.get_args(Part)
"""What a date can become: `days` since 1970, and places in the year, the week and the day, each as sine and cosine."""

ISO = "ISO 8601, such as '2024-01-31' or '2024-01-31 13:00'"

_FORMATS = [
  date + time
  for date in ('%d.%m.%Y', '%d/%m/%Y', '%m/%d/%Y', '%Y/%m/%d', '%d-%m-%Y', '%m-%d-%Y', '%d.%m.%y', '%m/%d/%y')
  for time in ('', ' %H:%M', ' %H:%M:%S')
]
_DAY = 86_400.0
_WEEK = 7 * _DAY


def parser(date_format: str | None) -> Callable[[str], datetime.datetime]:
  """Reads one date, of a format of `datetime.strptime` or (None) of ISO 8601; it raises ValueError."""
  if date_format is None:
    return datetime.datetime.fromisoformat
  return lambda text: datetime.datetime.strptime(text, date_format)


def fitting(cells: Sequence[str]) -> list[str | None]:
  """The formats, None being ISO 8601, in which each of the cells is a date; none where they are something else."""
  some = [cell for cell in dict.fromkeys(cells) if cell]
  return [f for f in (None, *_FORMATS) if some and all(_is_date(cell, f) for cell in some)]


def in_words(formats: Iterable[str | None]) -> str:
  """The argument that asks for one of the formats, as the end of an error line; '' where ISO 8601 is one."""
  formats = list(formats)
  return '' if None in formats else ' or '.join(f'date_format={f!r}' for f in formats)


def instants(dates: Iterable[datetime.datetime]) -> Shaped[np.ndarray, ' n']:
  """Dates as an array that can be sorted, in days where none has a time; of times with a zone, by UTC."""
  utc = [d if d.tzinfo is None else d.astimezone(datetime.UTC).replace(tzinfo=None) for d in dates]
  times = np.asarray(utc, 'datetime64[s]')
  days = times.astype('datetime64[D]')
  return days if (days == times).all() else times


def as_features(
  dates: Sequence[datetime.datetime], parts: Iterable[str], name: str
) -> tuple[Float[np.ndarray, 'n k'], list[str]]:
  """(numbers, their names) of dates, by the clock that they are written by.

  Args:
    dates: of one column.
    parts: some of `PARTS`.
    name: of the column, which those of the numbers begin with: 'when.days', 'when.year_sin'.
  """
  local = np.asarray([d.replace(tzinfo=None) for d in dates], 'datetime64[s]')
  seconds = local.astype(np.int64).astype(np.float64)
  year = local.astype('datetime64[Y]')
  start, end = (y.astype('datetime64[s]').astype(np.int64) for y in (year, year + 1))
  shares = {
    'year': (seconds - start) / (end - start),
    'week': (seconds - 4 * _DAY) % _WEEK / _WEEK,  # 1970 began on a Thursday; from Monday on
    'day': seconds % _DAY / _DAY,
  }
  columns, names = [], []
  for part in parts:
    if part == 'days':
      columns, names = [*columns, seconds / _DAY], [*names, f'{name}.days']
      continue
    angle = 2 * np.pi * shares[part]
    columns, names = [*columns, np.sin(angle), np.cos(angle)], [*names, f'{name}.{part}_sin', f'{name}.{part}_cos']
  return np.stack(columns, axis=1), names


def uneven(times: Shaped[np.ndarray, ' n']) -> tuple[int, Any, Any] | None:
  """(row, its distance from the row before, the usual one) of the first row off the beat; None where there is none.

  Dates may also be of months, quarters or years, whose lengths differ.

  Args:
    times: numbers or dates, in the order of the rows.
  """
  distance = np.diff(times)
  if not len(distance):
    return None
  usual = np.sort(distance)[len(distance) // 2]
  off = ~np.isclose(distance, usual, rtol=1e-6) if times.dtype.kind == 'f' else distance != usual
  off |= distance <= distance.dtype.type(0)
  if not off.any():
    return None
  if times.dtype.kind == 'M':
    months = times.astype('datetime64[M]')
    apart = np.diff(months.astype(np.int64))
    if len(np.unique(times - months.astype(times.dtype))) == 1 and apart[0] > 0 and (apart == apart[0]).all():
      return None
  row = int(off.argmax())
  return row + 1, distance[row], usual


def _is_date(cell: str, date_format: str | None) -> bool:
  try:
    parser(date_format)(cell)
  except ValueError:
    return False
  return True
