"""The report on a sweep: its runs ranked, seeds as mean and deviation, and the metric against each swept key."""

import csv
import dataclasses
import io
import json
import os
import pathlib
import statistics
import urllib.parse
from collections import Counter
from collections.abc import Sequence
from typing import Any

from dl.config import Experiment
from dl.contract.metrics import BY_SEED
from dl.errors import ConfigError, nearest
from dl.report import page, runs, scatter
from dl.report.markup import COLOURS, escape
from dl.show.words import duration, number, spread
from dl.store import atomic
from dl.sweeps import sweeping

PAGE, TABLE = 'sweep.html', 'sweep.csv'

_MOST_SERIES = 6  # combinations of the other keys which a chart can tell apart by colour


@dataclasses.dataclass(frozen=True)
class Row:
  """One run of a sweep.

  Attributes:
    name: of its directory.
    values: swept key -> its value in this run.
    status: as in `run.json`; 'waiting' if it has not begun.
    step: the last one that was logged.
    seconds: of training, if it has begun.
    metrics: 'split/metric' -> its latest value, where it is a finite number.
  """

  name: str
  values: dict[str, Any]
  status: str
  step: int
  seconds: float | None
  metrics: dict[str, float]


@dataclasses.dataclass(frozen=True)
class Group:
  """The runs which differ in their seed alone."""

  values: dict[str, Any]
  rows: tuple[Row, ...]

  def numbers(self, metric: str) -> list[float]:
    """The metric of each run that has it."""
    return [row.metrics[metric] for row in self.rows if metric in row.metrics]

  def text(self, metric: str) -> str:
    """'0.9878', or '0.9878 ± 0.0031': the mean over the seeds and their standard deviation."""
    numbers = self.numbers(metric)
    if not numbers:
      return ''
    return number(statistics.fmean(numbers)) + (spread(statistics.stdev(numbers)) if len(numbers) > 1 else '')

  @property
  def status(self) -> str:
    counts = Counter(row.status for row in self.rows)
    return next(iter(counts)) if len(counts) == 1 else ', '.join(f'{n} {status}' for status, n in counts.items())

  @property
  def steps(self) -> str:
    low, high = min(row.step for row in self.rows), max(row.step for row in self.rows)
    return f'{low:,}' if low == high else f'{low:,}-{high:,}'


@dataclasses.dataclass(frozen=True)
class Summary:
  """A sweep, read.

  Attributes:
    name: of its directory.
    keys: the swept keys, the seed last.
    metrics: 'split/metric' names; the first one ranks.
    mode: 'max' or 'min', whichever is better; None if neither is.
    rows: in the sweep's order.
    groups: the best first.
  """

  name: str
  keys: list[str]
  metrics: list[str]
  mode: str | None
  rows: list[Row]
  groups: list[Group]

  @property
  def shown(self) -> list[str]:
    """The keys which groups differ by: all but the seed."""
    return [key for key in self.keys if key != 'seed']


def write(workdir: pathlib.Path, sweep: sweeping.Sweep, metrics: Sequence[str] = ()) -> str:
  """Writes `sweep.html` and `sweep.csv`; returns the table as Markdown.

  Raises:
    ConfigError: a metric which no run has, a damaged run, or files which cannot be written.
  """
  summary = load(workdir, sweep, metrics)
  try:
    atomic.write(workdir / TABLE, _csv(summary))
    atomic.write(workdir / PAGE, _page(summary))
  except OSError as e:
    raise ConfigError(f'cannot write to {str(workdir)!r}: {e.strerror}') from e
  return markdown(summary)


def load(workdir: str | os.PathLike, sweep: sweeping.Sweep, metrics: Sequence[str] = ()) -> Summary:
  """Reads the runs of a sweep.

  Args:
    workdir: its directory.
    sweep: the sweep.
    metrics: 'split/metric' names; by default those which the config claims or keeps by, else those of evaluations.

  Raises:
    ConfigError: a metric which no run has, or a damaged run.
  """
  workdir = pathlib.Path(workdir)
  rows, loaded = [], []
  keys = [key for key in sweep.keys if key not in ('seed', 'seeds')]
  if 'seed' in sweep.keys or any(run.experiment.seeds for run in sweep.runs):
    keys.append('seed')
  for run in sweep.runs:
    folder = workdir / run.name
    (known,) = runs.load([folder]) if (folder / 'config.json').is_file() else [None]
    loaded += [known] if known else []
    rows += _rows(run, known, keys)
  chosen = list(metrics) or _metrics(sweep.base, loaded)
  valid = list(dict.fromkeys('/'.join(key) for known in loaded for key in runs.rows([known])))
  for metric in metrics:
    if valid and metric not in valid:
      raise ConfigError(f'--metric: no run has {metric!r}; {nearest(metric, valid)}')
  facts = next((known.facts for known in loaded if 'better' in known.facts), {})
  judge = runs.StoredRun(workdir, workdir.name, sweep.base.to_json(), facts, [])
  mode = judge.mode(*chosen[0].split('/', 1)) if chosen else None
  groups: dict[str, list[Row]] = {}
  for row in rows:
    same = json.dumps({k: v for k, v in row.values.items() if k != 'seed'})
    groups.setdefault(same, []).append(row)
  made = [Group({k: v for k, v in g[0].values.items() if k != 'seed'}, tuple(g)) for g in groups.values()]
  return Summary(workdir.absolute().name, keys, chosen, mode, rows, _ranked(made, chosen, mode))


def summary(workdir: pathlib.Path, sweep: sweeping.Sweep, run: sweeping.Trial, metrics: Sequence[str] = ()) -> str:
  """The metrics of one run in a few words; nothing for a run which cannot be read."""
  try:
    (known,) = runs.load([workdir / run.name])
  except ConfigError:
    return ''
  chosen = list(metrics) or _metrics(sweep.base, [known])
  group = Group({}, tuple(_rows(run, known, ())))
  return '   '.join(f'{metric} {group.text(metric)}' for metric in chosen if group.numbers(metric))


def _rows(run: sweeping.Trial, known: runs.StoredRun | None, keys: Sequence[str]) -> list[Row]:
  """A row for each seed of a run, of which most have one."""
  seeds = run.experiment.seeds
  values = {key: sweeping.value(run.experiment.to_json(), key) for key in keys}
  row = Row(run.name, values, 'waiting', 0, None, {})
  if known is not None:
    metrics = {'/'.join(key): v.value for key, v in known.final().items() if v.value is not None}
    row = Row(run.name, values, known.status, known.step, known.seconds, metrics)
  if seeds is None:
    return [row]
  lists = {'/'.join(key): numbers for key, (_, numbers) in (known.lists() if known else {}).items()}
  of = lambda i: {m: each[i] for m in row.metrics if (each := lists.get(m + BY_SEED)) and each[i] is not None}
  seed = run.experiment.seed
  return [dataclasses.replace(row, values=values | {'seed': seed + i}, metrics=of(i)) for i in range(seeds)]


def _metrics(base: Experiment, loaded: Sequence[runs.StoredRun]) -> list[str]:
  """What the config claims, keeps or stops by; else the metrics of evaluations, those with a better side first."""
  said = [*base.expect, base.keep.get('metric'), (base.early_stop or {}).get('metric')]
  if any(said):
    return list(dict.fromkeys(metric for metric in said if metric))
  keys = runs.rows(loaded)
  keys = [key for key in keys if key[0] != 'train'] or keys
  keys.sort(key=lambda key: loaded[0].mode(*key) is None)
  return ['/'.join(key) for key in keys]


def _ranked(groups: list[Group], metrics: Sequence[str], mode: str | None) -> list[Group]:
  """The best first; those without a number last, in the sweep's order, and all of them where nothing is better."""
  if not metrics or mode is None:
    return groups
  sign = 1 if mode == 'min' else -1

  def rank(group: Group) -> tuple[bool, float]:
    numbers = group.numbers(metrics[0])
    return (not numbers, sign * statistics.fmean(numbers) if numbers else 0.0)

  return sorted(groups, key=rank)


def short(keys: Sequence[str]) -> dict[str, str]:
  """Key -> its last parts, as many as it takes to tell the keys apart."""
  result = {}
  for key in keys:
    parts = key.split('.')
    ends = ['.'.join(parts[-n:]) for n in range(1, len(parts) + 1)]
    alone = lambda end, key=key: not any(k != key and (k == end or k.endswith(f'.{end}')) for k in keys)
    result[key] = next((end for end in ends if alone(end)), key)
  return result


def text(value: Any) -> str:
  """A config value as people write it."""
  return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _header(summary: Summary) -> list[str]:
  names = short(summary.shown)
  seeds = ['seeds'] if 'seed' in summary.keys else []
  return [*names.values(), 'status', *seeds, 'step', *(metric.replace('/', ' ') for metric in summary.metrics)]


def _cells(summary: Summary, group: Group) -> list[str]:
  seeds = [str(len(group.rows))] if 'seed' in summary.keys else []
  values = [text(group.values[key]) for key in summary.shown]
  return [*values, group.status, *seeds, group.steps, *(group.text(metric) for metric in summary.metrics)]


def markdown(summary: Summary) -> str:
  """The groups as a Markdown table, the best first."""
  body = [_cells(summary, group) for group in summary.groups]
  return runs.table(_header(summary), body, len(summary.shown) + 1)


def _csv(summary: Summary) -> str:
  """A line a run."""
  file = io.StringIO(newline='')
  writer = csv.writer(file, lineterminator='\n')
  writer.writerow(['run', *summary.keys, 'status', 'step', 'seconds', *summary.metrics])
  for row in summary.rows:
    values = [text(row.values[key]) for key in summary.keys]
    numbers = [row.metrics.get(metric, '') for metric in summary.metrics]
    seconds = '' if row.seconds is None else round(row.seconds, 3)
    writer.writerow([row.name, *values, row.status, row.step, seconds, *numbers])
  return file.getvalue()


def _page(summary: Summary) -> str:
  title = f'Sweep: {summary.name}'
  counts = Counter(row.status for row in summary.rows)
  subject = f'{len(summary.rows)} runs: ' + ', '.join(f'{n} {status}' for status, n in counts.items())
  if summary.metrics and summary.mode:
    word = 'highest' if summary.mode == 'max' else 'lowest'
    subject += f'; ranked by {summary.metrics[0]}, the {word} first'
  return page.document(
    title,
    ''.join(
      [
        f'<h1>{escape(title)}</h1><p class="muted">{escape(subject)}</p>',
        page.section('Results', _group_table(summary)),
        page.section('What each key does', _charts(summary)),
        page.section('Runs', _run_table(summary)),
        '<footer>Made by <code>python -m dl.sweep</code>.</footer>',
      ]
    ),
  )


def _group_table(summary: Summary) -> str:
  header, rows = _header(summary), [_cells(summary, group) for group in summary.groups]
  numbers = range(len(summary.shown) + 1, len(header))
  ranked = len(rows) > 1 and summary.mode is not None and summary.groups[0].numbers(summary.metrics[0])
  body = [
    _table_row(row, numbers, win=len(header) - len(summary.metrics) if ranked and i == 0 else None)
    for i, row in enumerate(rows)
  ]
  note = '<p class="muted">Mean ± standard deviation over the seeds.</p>' if 'seed' in summary.keys else ''
  return _table(_table_row(header, numbers, tag='th'), body) + note


def _run_table(summary: Summary) -> str:
  names = short(summary.keys)
  header = [*names.values(), 'status', 'step', 'time', *(m.replace('/', ' ') for m in summary.metrics), 'directory']
  numbers, body = range(len(names) + 1, len(header) - 1), []
  for row in summary.rows:
    cells = [*(text(row.values[key]) for key in names), row.status, f'{row.step:,}']
    cells.append('' if row.seconds is None else duration(row.seconds))
    cells += [number(row.metrics[m]) if m in row.metrics else '' for m in summary.metrics]
    link = urllib.parse.quote(f'{row.name}/report.html', safe='/=,+') if row.step else None
    body.append(_table_row([*cells, row.name], numbers, link=link))
  return _table(_table_row(header, numbers, tag='th'), body)


def _table(head: str, body: Sequence[str]) -> str:
  return f'<div class="scroll tall"><table><thead>{head}</thead><tbody>{"".join(body)}</tbody></table></div>'


def _table_row(
  cells: Sequence[str], numbers: range, tag: str = 'td', win: int | None = None, link: str | None = None
) -> str:
  """A row of cells, those of `numbers` to the right; the cell `win` stands out, and the last one may be a link."""
  shown = [escape(cell) for cell in cells]
  if link:
    shown[-1] = f'<small><a href="{escape(link)}">{shown[-1]}</a></small>'
  kind = lambda j: '' if j not in numbers else ' class="n win"' if j == win else ' class="n"'
  return f'<tr>{"".join(f"<{tag}{kind(j)}>{cell}</{tag}>" for j, cell in enumerate(shown))}</tr>'


def _charts(summary: Summary) -> str:
  """A chart for each metric and key: a series for each combination of the other keys, or one where those are many."""
  figures = []
  for metric in summary.metrics:
    rows = [row for row in summary.rows if metric in row.metrics]
    keys = [k for k in summary.shown or summary.keys if len({text(row.values[k]) for row in rows}) > 1]
    figures += [_chart(summary, rows, metric, key) for key in keys]
  missing = sum(summary.metrics[0] not in row.metrics for row in summary.rows) if summary.metrics else 0
  note = (
    f'<p class="muted">{missing} of {len(summary.rows)} runs: no {escape(summary.metrics[0])} yet.</p>'
    if missing
    else ''
  )
  return f'<div class="charts">{"".join(figures)}</div>{note}' if figures else ''


def _chart(summary: Summary, rows: Sequence[Row], metric: str, key: str) -> str:
  others = [k for k in summary.shown if k != key]
  names = short(summary.keys)
  series: dict[str, list[scatter.Point]] = {}
  for row in rows:
    label = ', '.join(f'{names[k]} {text(row.values[k])}' for k in others)
    point = scatter.Point(row.values[key], row.metrics[metric], f'{row.name}: {number(row.metrics[metric])}')
    series.setdefault(label, []).append(point)
  varied = any(len({text(p.at) for p in points}) > 1 for points in series.values())
  legend = ''
  if len(series) > _MOST_SERIES or not varied:
    series = {'': [point for points in series.values() for point in points]}
  elif len(series) > 1:
    marks = (f'<span><i class="swatch c{i % COLOURS}"></i>{escape(label)}</span>' for i, label in enumerate(series))
    legend = f'<p class="marks">{"".join(marks)}</p>'
  x = scatter.axis([row.values[key] for row in rows])
  title = f'{metric.replace("/", " ")} by {names[key]}'
  picture = scatter.svg(list(series.values()), x, key, title)
  return f'<figure class="chart"><figcaption><h3>{escape(title)}</h3></figcaption>{legend}{picture}</figure>'
