"""One line chart as SVG text, which a page shows without a library, a script or a network."""

import dataclasses
import html
import math
from collections.abc import Sequence

from dl.show.words import tick

WIDTH, HEIGHT = 480, 284
LEFT, RIGHT, TOP, BOTTOM = 56, 12, 10, 42
_POINTS = 400  # drawn for a line; a longer series is drawn as means of bins, with a band from minimum to maximum


@dataclasses.dataclass(frozen=True)
class Line:
  """A series to draw.

  Attributes:
    points: (x, y) pairs by ascending x; a y of None breaks the line.
    style: CSS classes: colour and dashes.
    run: index of the run, by which a script shows and hides lines.
    split: name of the split, likewise.
  """

  points: Sequence[tuple[float, float | None]]
  style: str
  run: int
  split: str


@dataclasses.dataclass(frozen=True)
class Frame:
  """The data coordinates of the plot's edges."""

  x0: float
  x1: float
  y0: float
  y1: float
  log: bool = False

  def x(self, value: float) -> float:
    """Data to pixels from the left."""
    return LEFT + (value - self.x0) / (self.x1 - self.x0) * (WIDTH - LEFT - RIGHT)

  def y(self, value: float) -> float:
    """Data to pixels from the top."""
    low, high, at = (math.log10(v) if self.log else v for v in (self.y0, self.y1, value))
    return HEIGHT - BOTTOM - (at - low) / (high - low) * (HEIGHT - TOP - BOTTOM)


def frame(lines: Sequence[Line], log: bool = False) -> Frame:
  """A frame around all finite points, with a margin; x starts at 0."""
  xs = [x for line in lines for x, _ in line.points]
  ys = [y for line in lines for _, y in line.points if y is not None]
  x1 = max(xs, default=1) or 1
  if log:
    low, high = math.log10(min(ys)), math.log10(max(ys))
    margin = 0.05 * (high - low) or 0.5
    return Frame(0, x1, 10 ** (low - margin), 10 ** (high + margin), True)
  low, high = min(ys, default=0), max(ys, default=1)
  margin = 0.05 * (high - low) or 0.05 * abs(high) or 0.5
  # A number that is never negative (a loss, a rate) gets no axis below zero.
  return Frame(0, x1, max(low - margin, 0) if low >= 0 else low - margin, high + margin)


def wants_log(lines: Sequence[Line]) -> bool:
  """Whether a logarithmic axis would show more: all points positive, over more than a factor of 20."""
  ys = [y for line in lines for _, y in line.points if y is not None]
  return bool(ys) and min(ys) > 0 and max(ys) / min(ys) > 20


def positive(lines: Sequence[Line]) -> bool:
  """Whether a logarithmic axis can show all points, and not all the same."""
  ys = [y for line in lines for _, y in line.points if y is not None]
  return bool(ys) and 0 < min(ys) < max(ys)


def svg(lines: Sequence[Line], title: str, says: str = '') -> str:
  """The chart: axes with round ticks, and each line with dots where there are few points.

  Args:
    lines: what is drawn.
    title: what it is of.
    says: what it shows, for those who cannot see it.
  """
  f = frame(lines)
  label = html.escape(f'{title}: {says}' if says else title)
  parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">']
  bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
  for y in ticks(f.y0, f.y1):
    at = f.y(y)
    parts.append(f'<path class="grid" d="M{LEFT} {at:.1f}H{right}"/>')
    parts.append(f'<text x="{LEFT - 6}" y="{at + 3.5:.1f}" text-anchor="end">{tick(y)}</text>')
  for x in ticks(f.x0, f.x1):
    at = f.x(x)
    parts.append(f'<path class="tick" d="M{at:.1f} {bottom}v4"/>')
    parts.append(f'<text x="{at:.1f}" y="{bottom + 18}" text-anchor="{_anchor(at)}">{tick(x)}</text>')
  parts.append(f'<text x="{(LEFT + right) / 2}" y="{HEIGHT - 5}" text-anchor="middle">step</text>')
  parts.append(f'<path class="axis" d="M{LEFT} {bottom}H{right}"/>')
  return ''.join([*parts, *(_line(line, f) for line in lines), '</svg>'])


def thin(
  points: Sequence[tuple[float, float | None]], limit: int = _POINTS
) -> list[tuple[float, float | None, float, float]]:
  """(x, y, lowest, highest) of at most `limit` points: means over bins of equally many points where there are more.

  A bin with a missing y has none: a break in a line is never smoothed away.
  """
  if len(points) <= limit:
    return [(x, y, y, y) for x, y in points]
  result = []
  for i in range(limit):
    part = points[i * len(points) // limit : (i + 1) * len(points) // limit]
    xs, ys = [x for x, _ in part], [y for _, y in part]
    if None in ys:
      result.append((xs[-1], None, 0.0, 0.0))
    else:
      result.append((xs[-1], sum(ys) / len(ys), min(ys), max(ys)))
  return result


def ticks(low: float, high: float, count: int = 5) -> list[float]:
  """About `count` round numbers (1, 2 or 5 times a power of ten apart) in [low, high]."""
  rough = (high - low) / count
  power = 10.0 ** math.floor(math.log10(rough))
  step = next((m * power for m in (1, 2, 5) if m * power >= rough), 10 * power)
  first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
  return [i * step for i in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
  """Powers of ten in [low, high], every few over many decades; with 2 and 5 times them over few."""
  first, last = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
  if last - first >= 3:
    stride = -(-(last - first) // 6)
    return [10.0**i for i in range(first, last + 1, stride)]
  return [m * 10.0**i for i in range(first - 1, last + 1) for m in (1, 2, 5) if low <= m * 10.0**i <= high]


def _line(line: Line, f: Frame) -> str:
  """A group of the band, the line (one piece between breaks) and dots."""
  pieces: list[list[tuple[float, float, float, float]]] = [[]]
  thinned = thin(line.points)
  for x, y, low, high in thinned:
    if y is None:
      pieces.append([])
    else:
      pieces[-1].append((f.x(x), f.y(y), f.y(low), f.y(high)))
  pieces = [piece for piece in pieces if piece]
  parts = [f'<g class="line {line.style}" data-run="{line.run}" data-split="{html.escape(line.split)}">']
  if len(thinned) < len(line.points):
    for piece in pieces:
      upper = ' '.join(f'{x:.1f},{high:.1f}' for x, _, _, high in piece)
      lower = ' '.join(f'{x:.1f},{low:.1f}' for x, _, low, _ in reversed(piece))
      parts.append(f'<polygon points="{upper} {lower}"/>')
  for piece in pieces:
    parts.append(f'<polyline points="{" ".join(f"{x:.1f},{y:.1f}" for x, y, _, _ in piece)}"/>')
    if len(piece) == 1 or len(thinned) <= 30:
      parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.4"/>' for x, y, _, _ in piece]
  return ''.join(parts) + '</g>'


def _anchor(at: float) -> str:
  return 'end' if at > WIDTH - RIGHT - 12 else 'middle'
