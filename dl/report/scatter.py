"""A number against a config key as SVG text: each run a point, and the mean of the runs at a value."""

import dataclasses
import itertools
import math
import statistics
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from dl.report import chart
from dl.report.markup import COLOURS, escape
from dl.show.words import number, tick

_FEW = 12  # different values of a key up to which a line through the means says something


class Point(NamedTuple):
  """One run: the key's value, the metric, and what a pointer over it is told."""

  at: Any
  y: float
  text: str


@dataclasses.dataclass(frozen=True)
class Axis:
  """Where the values of a key lie.

  Attributes:
    kind: numbers at their place, numbers at their logarithm, or categories side by side.
    values: the different ones, in order.
  """

  kind: Literal['linear', 'log', 'category']
  values: tuple[Any, ...]

  def place(self, value: Any) -> float:
    """Position of a value, in units of this axis."""
    if self.kind == 'category':
      return float(self.values.index(value))
    return math.log10(value) if self.kind == 'log' else float(value)

  def range(self) -> tuple[float, float]:
    """The positions of the edges."""
    if self.kind == 'category':
      return -0.5, len(self.values) - 0.5
    low, high = self.place(self.values[0]), self.place(self.values[-1])
    margin = 0.06 * (high - low) or 0.5
    return low - margin, high + margin

  def ticks(self) -> list[tuple[float, str]]:
    """(position, text): the values themselves where they are few and far enough apart, else round numbers."""
    if self.kind == 'category':
      room = max(int(62 / len(self.values)), 3)  # characters beside each other below the axis
      return [(self.place(v), _cut(_text(v), room)) for v in self.values]
    low, high = self.range()
    places = [self.place(v) for v in self.values]
    apart = min((b - a for a, b in itertools.pairwise(places)), default=high - low)
    if len(places) <= 7 and apart > 0.11 * (high - low):
      return [(p, tick(v)) for p, v in zip(places, self.values)]
    if self.kind == 'log':
      return [(math.log10(v), tick(v)) for v in chart.log_ticks(10**low, 10**high)]
    return [(v, tick(v)) for v in chart.ticks(low, high)]


def axis(values: Sequence[Any]) -> Axis:
  """The axis on which values are told apart best: logarithmic for numbers which are spaced so, categories for words."""
  different = list({_text(v): v for v in values}.values())
  if not all(isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v) for v in different):
    return Axis('category', tuple(different))
  different.sort()
  positive = [v for v in different if v > 0]
  if different[0] < 0 or not _log_spaced(positive):
    return Axis('linear', tuple(different))
  # Zero has no logarithm: 0, 1e-4, 1e-3, 1e-2 stand side by side.
  return Axis('log' if len(positive) == len(different) else 'category', tuple(different))


def _log_spaced(values: Sequence[float]) -> bool:
  """Whether ascending positive numbers are spaced more evenly as logarithms, or span more than a factor of 20."""
  if len(values) < 2:
    return False
  if values[-1] / values[0] > 20:
    return True
  if len(values) < 3 or values[-1] / values[0] < 4:
    return False
  uneven = lambda xs: statistics.pstdev(gaps := [b - a for a, b in itertools.pairwise(xs)]) / statistics.mean(gaps)
  return uneven([math.log(v) for v in values]) < uneven(values)


def svg(series: Sequence[Sequence[Point]], x: Axis, label: str, title: str) -> str:
  """The chart; each series has the colour of its number, and where runs share a value their mean stands out."""
  ys = [p.y for points in series for p in points]
  lines = [chart.Line([(0, y) for y in ys], '', 0, '')]
  log = chart.wants_log(lines)
  f = dataclasses.replace(chart.frame(lines, log), x0=x.range()[0], x1=x.range()[1])
  bottom, right = chart.HEIGHT - chart.BOTTOM, chart.WIDTH - chart.RIGHT
  parts = [f'<svg viewBox="0 0 {chart.WIDTH} {chart.HEIGHT}" role="img" aria-label="{escape(title)}">']
  for y in chart.log_ticks(f.y0, f.y1) if log else chart.ticks(f.y0, f.y1):
    parts.append(f'<path class="grid" d="M{chart.LEFT} {f.y(y):.1f}H{right}"/>')
    parts.append(f'<text x="{chart.LEFT - 6}" y="{f.y(y) + 3.5:.1f}" text-anchor="end">{tick(y)}</text>')
  for place, text in x.ticks():
    parts.append(f'<path class="tick" d="M{f.x(place):.1f} {bottom}v4"/>')
    parts.append(f'<text x="{f.x(place):.1f}" y="{bottom + 18}" text-anchor="middle">{escape(text)}</text>')
  middle = (chart.LEFT + right) / 2
  parts.append(f'<text x="{middle}" y="{chart.HEIGHT - 5}" text-anchor="middle">{escape(label)}</text>')
  parts.append(f'<path class="axis" d="M{chart.LEFT} {bottom}H{right}"/>')
  for i, points in enumerate(series):
    # Categories leave room to set series side by side.
    shift = 0.5 * (i - (len(series) - 1) / 2) / len(series) if x.kind == 'category' else 0.0
    parts.append(_series(points, x, f, i, shift))
  return ''.join([*parts, '</svg>'])


def _series(points: Sequence[Point], x: Axis, f: chart.Frame, colour: int, shift: float) -> str:
  at: dict[float, list[Point]] = {}
  for point in points:
    at.setdefault(x.place(point.at), []).append(point)
  means = [(place, statistics.fmean(p.y for p in here)) for place, here in sorted(at.items())]
  shared = any(len(here) > 1 for here in at.values())
  parts = [f'<g class="line c{colour % COLOURS} scatter">']
  if x.kind != 'category' and 1 < len(means) <= _FEW:
    parts.append(f'<polyline points="{" ".join(f"{f.x(p):.1f},{f.y(y):.1f}" for p, y in means)}"/>')
  for place, here in sorted(at.items()):
    kind, r = ('seed', 3.2) if shared else ('mean', 4)
    parts += [_dot(kind, f.x(place + shift), f.y(p.y), r, p.text) for p in here]
  if shared and len(means) <= _FEW:
    for place, y in means:
      count = len(at[place])
      text = f'mean of {count}: {number(y)}' if count > 1 else at[place][0].text
      left = f.x(place + shift) - 8
      parts.append(f'<path class="bar" d="M{left:.1f} {f.y(y):.1f}h16"><title>{escape(text)}</title></path>')
  return ''.join([*parts, '</g>'])


def _dot(kind: str, cx: float, cy: float, r: float, text: str) -> str:
  return f'<circle class="{kind}" cx="{cx:.1f}" cy="{cy:.1f}" r="{r}"><title>{escape(text)}</title></circle>'


def _text(value: Any) -> str:
  return value if isinstance(value, str) else tick(value) if _is_number(value) else repr(value)


def _is_number(value: Any) -> bool:
  return isinstance(value, int | float) and not isinstance(value, bool)


def _cut(text: str, room: int) -> str:
  return text if len(text) <= room else text[: room - 1] + '…'
