"""The curves of the report page: a chart a metric, with every run and split in it."""

import bisect
import itertools
import json
from collections.abc import Callable, Sequence

from dl.report import chart
from dl.report.markup import COLOURS, escape, swatch, title
from dl.report.runs import StoredRun, metric_order, split_order
from dl.show.words import number
from dl.store import logs


def curves(runs: Sequence[StoredRun]) -> str:
  """The charts of what is learned, below a legend and controls, and those of the machine, folded."""
  series = [run.series() for run in runs]
  splits = list(dict.fromkeys(split for s in series for split, _ in s))
  splits.sort(key=split_order)
  metrics = sorted({metric for s in series for _, metric in s} - {'seconds', 'epoch'}, key=metric_order(runs))
  looks = _looks(splits)
  style = lambda i, split: _style(i, looks[split], len(runs), len(splits))
  charts: dict[bool, list[str]] = {False: [], True: []}
  for metric in metrics:
    here = [split for split in splits if any((split, metric) in s for s in series)]
    whole = ' whole' if len(here) == 1 else ''  # dashes would tell nothing apart
    lines = [
      (chart.Line(s[split, metric], style(i, split) + whole, i, split), runs[i])
      for split in here
      for i, s in enumerate(series)
      if (split, metric) in s
    ]
    charts[metric in logs.MACHINE].append(_chart(metric, lines, len(runs)))
  if not metrics:
    return ''
  grid = lambda figures: f'<div class="charts">{"".join(figures)}</div>'
  machine = f'<details><summary>The machine</summary>{grid(charts[True])}</details>' if charts[True] else ''
  controls = f'<div class="above">{_legend(runs, splits, style)}{_controls(runs)}</div>'
  return f'{controls}{grid(charts[False])}{machine}'


def _controls(runs: Sequence[StoredRun]) -> str:
  """What the script changes the charts by; without it they are not there."""
  axes = ['step']
  axes += ['epoch'] if any(run.steps_per_epoch for run in runs) else []
  axes += ['time'] if any(run.clock() for run in runs) else []
  options = ''.join(f'<option value="{axis}">{axis}{"" if axis == "time" else "s"}</option>' for axis in axes)
  return (
    f'<div class="controls" hidden=""><label>axis <select data-control="axis">{options}</select></label>'
    '<label>smoothing <input data-control="smoothing" type="range" min="0" max="0.98" step="0.02" value="0"> '
    '<output>none</output></label><button data-control="reset" disabled="">whole range</button>'
    '<span class="muted">drag over a chart to zoom</span></div>'
  )


def _looks(splits: Sequence[str]) -> dict[str, int]:
  """A number for the colour and the dashes of each split: of those of every run the same on every page."""
  usual = {'test': 0, 'train': 1, 'validation': 2}
  others = itertools.count(3)
  return {split: usual[split] if split in usual else next(others) for split in splits}


def _style(run: int, split: int, runs: int, splits: int) -> str:
  """Colours tell runs apart and dashes splits; the splits of a single run have the colours."""
  if runs == 1:
    return f'c{split % COLOURS} s1'
  return f'c{run % COLOURS} s{1 if splits == 1 else min(split, 3)}'


def _legend(runs: Sequence[StoredRun], splits: Sequence[str], style: Callable[[int, str], str]) -> str:
  buttons = []
  if len(runs) > 1:
    buttons = [
      f'<button aria-pressed="true" data-kind="run" data-value="{i}">{swatch(i, runs)}{escape(run.name)}</button>'
      for i, run in enumerate(runs)
    ]
    buttons.append('<span class="gap"></span>')
  for split in splits:
    sample = (
      f'<i class="swatch {style(0, split)}"></i>'
      if len(runs) == 1
      else f'<svg viewBox="0 0 26 10"><g class="line c7 {style(0, split).split()[1]}">'
      '<polyline points="1,5 25,5"/></g></svg>'
    )
    buttons.append(
      f'<button aria-pressed="true" data-kind="split" data-value="{escape(split)}">{sample}{escape(split)}</button>'
    )
  return f'<div class="legend">{"".join(buttons)}</div>'


def _chart(metric: str, lines: list[tuple[chart.Line, StoredRun]], runs: int) -> str:
  drawn = [line for line, _ in lines]
  data, says = [], []
  short = lambda y: None if y is None else float(f'{y:.6g}')
  for line, run in lines:
    points = chart.thin(line.points)
    name = line.split if runs == 1 else f'{run.name} · {line.split}'
    clock, xs = run.clock(), [x for x, *_ in points]
    band = {'low': [short(p[2]) for p in points], 'high': [short(p[3]) for p in points]}
    data.append(
      dict(
        name=name,
        style=line.style.split()[0],
        drawn=line.style,
        run=line.run,
        split=line.split,
        x=xs,
        y=[short(y) for _, y, *_ in points],
        epoch=run.steps_per_epoch,
        s=[round(_between(clock, x), 2) for x in xs] if clock else None,
      )
      | (band if len(points) < len(line.points) else {})
    )
    says.append(_in_words(name, line.points, run.mode(line.split, metric)))
  name = title(metric)
  button = '<button aria-pressed="false" title="logarithmic axis">log</button>' if chart.positive(drawn) else ''
  return (
    f'<figure class="chart" data-lines="{escape(json.dumps(data, separators=(",", ":")))}">'
    f'<figcaption><h3>{escape(name)}</h3>{button}</figcaption>{chart.svg(drawn, name, "; ".join(says))}</figure>'
  )


def _in_words(name: str, points: Sequence[tuple[float, float | None]], mode: str | None) -> str:
  """'test from 2.301 at step 22 to 0.0312 at step 898, least 0.03 at step 880': what a line shows."""
  known = [(x, y) for x, y in points if y is not None]
  if not known:
    return f'{name} not finite'
  at = lambda point: f'{number(point[1])} at step {int(point[0]):,}'
  text = f'{name} {at(known[0])}' if len(known) == 1 else f'{name} from {at(known[0])} to {at(known[-1])}'
  if mode is None or len(known) < 3:
    return text
  best = (min if mode == 'min' else max)(known, key=lambda point: point[1])
  return f'{text}, {"least" if mode == "min" else "most"} {at(best)}'


def _between(clock: Sequence[tuple[int, float]], step: float) -> float:
  """Seconds at a step, from the times of some steps."""
  right = bisect.bisect_left(clock, (step, 0.0))
  if right == len(clock):
    return clock[-1][1]
  (a, s), (b, t) = clock[right - 1] if right else (0, 0.0), clock[right]
  return s + (t - s) * (step - a) / (b - a) if b > a else t
