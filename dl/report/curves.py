"""The curves of the report page: a chart a metric, with every run and split in it."""

import json
from collections.abc import Callable, Sequence

from dl.report import chart
from dl.report.markup import COLOURS, escape, swatch, title
from dl.report.runs import StoredRun, metric_order


def curves(runs: Sequence[StoredRun]) -> str:
  """The charts, below a legend whose buttons show and hide runs and splits."""
  series = [run.series() for run in runs]
  splits = list(dict.fromkeys(split for s in series for split, _ in s))
  splits.sort(key=lambda split: split != 'train')
  metrics = sorted({metric for s in series for _, metric in s} - {'seconds', 'epoch'}, key=metric_order(runs))
  style = lambda i, split: _style(i, splits.index(split), len(runs), len(splits))
  charts = []
  for metric in metrics:
    here = [split for split in splits if any((split, metric) in s for s in series)]
    whole = ' whole' if len(here) == 1 else ''  # dashes would tell nothing apart
    lines = [
      (chart.Line(s[split, metric], style(i, split) + whole, i, split), runs[i].name)
      for split in here
      for i, s in enumerate(series)
      if (split, metric) in s
    ]
    charts.append(_chart(metric, lines, len(runs)))
  if not charts:
    return ''
  return f'{_legend(runs, splits, style)}<div class="charts">{"".join(charts)}</div>'


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


def _chart(metric: str, lines: list[tuple[chart.Line, str]], runs: int) -> str:
  drawn = [line for line, _ in lines]
  data = []
  for line, run in lines:
    points = chart.thin(line.points)
    data.append(
      dict(
        name=line.split if runs == 1 else f'{run} · {line.split}',
        style=line.style.split()[0],
        run=line.run,
        split=line.split,
        x=[x for x, *_ in points],
        y=[None if y is None else float(f'{y:.6g}') for _, y, *_ in points],
      )
    )
  name = title(metric)
  log = chart.wants_log(drawn)
  button = '<button aria-pressed="false" title="logarithmic axis">log</button>' if log else ''
  return (
    f'<figure class="chart" data-lines="{escape(json.dumps(data, separators=(",", ":")))}">'
    f'<figcaption><h3>{escape(name)}</h3>{button}</figcaption>'
    f'{chart.svg(drawn, name)}{chart.svg(drawn, name, log=True) if log else ""}</figure>'
  )
