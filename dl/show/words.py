"""Numbers, sizes and times in words, for people."""

import math
from collections.abc import Mapping
from typing import Any

_PREFIXES = (('P', 1e15), ('T', 1e12), ('G', 1e9), ('M', 1e6), ('k', 1e3))


def number(value: float | None) -> str:
  """A metric: four decimals where they mean something, four digits elsewhere, and all those before the point up to
  ten million; None is one that was not finite."""
  if value is None:
    return 'not finite'
  if isinstance(value, int) or float(value).is_integer():
    return f'{int(value):,}' if abs(value) < 1e7 else f'{value:.3g}'
  if 1e3 <= abs(value) < 1e7:
    return f'{value:,.0f}'
  return f'{value:.4f}' if 1e-2 <= abs(value) < 10 else f'{value:.4g}'


def numbers(values: Mapping[str, Any]) -> list[str]:
  """'accuracy 0.9750' of each of the values which is a number."""
  return [f'{name} {number(value)}' for name, value in values.items() if isinstance(value, int | float)]


def rounded(value: float, digits: int) -> float:
  """A number to so many significant digits, for a table; one that has no decimals then is whole."""
  short = float(f'{value:.{digits}g}')
  return int(short) if 10 ** (digits - 1) <= abs(short) < math.inf else short


def tenths(value: float) -> str:
  """A count which need not be whole, such as epochs: '22.5', '1,000'."""
  return f'{round(value, 1):,.10g}'


def difference(value: float) -> str:
  """By how much a number is more than another: '+0.0123'."""
  return f'{value:+,.0f}' if 1e3 <= abs(value) < 1e7 else f'{value:+.4g}'


def spread(value: float) -> str:
  """A standard deviation, to be set behind its mean: ' ± 0.0031'."""
  return f' ± {value:.2g}'


def percent(share: float, decimals: int = 1) -> str:
  """A share of a whole: '22.5%'."""
  return f'{share:.{decimals}%}'


def rate(value: float, unit: str) -> str:
  """How many a second: '1.2 steps/s', '1,234 steps/s'."""
  return f'{value:.3g} {unit}/s' if value < 100 else f'{value:,.0f} {unit}/s'


def tick(value: float) -> str:
  """A place on an axis, in full: 0.25, 1,500, 20k, 3M or 1e-05."""
  if value and (abs(value) < 1e-4 or abs(value) >= 1e9):
    return f'{value:.3g}'
  for least, unit, scale in ((1e6, 'M', 1e6), (1e4, 'k', 1e3)):
    if abs(value) >= least:
      return f'{value / scale:.10g}{unit}'
  return f'{value:,.10g}' if abs(value) >= 1 else f'{value:.6g}'


def amount(count: float, unit: str = '') -> str:
  """A large number in three digits: '1.2 TFLOP', or '4.1 G' without a unit."""
  for prefix, scale in _PREFIXES:
    if count >= scale:
      return f'{count / scale:.3g} {prefix}{unit}'
  return f'{count:.3g} {unit}'.rstrip()


def size(count: float) -> str:
  """Bytes: '1.2 GB'."""
  return amount(count, 'B')


def seconds(value: float) -> str:
  """A short time: '1.2 s' or '35 ms'."""
  return f'{value:.3g} s' if value >= 1 else f'{1e3 * value:.3g} ms'


def duration(value: float) -> str:
  """Seconds as 'h:mm:ss', with days before them where there are any."""
  minutes, s = divmod(round(value), 60)
  hours, m = divmod(minutes, 60)
  days, h = divmod(hours, 24)
  return (f'{days}d ' if days else '') + f'{h}:{m:02}:{s:02}'
