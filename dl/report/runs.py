"""What a work directory says about its run: facts, metric series, final and best values, in plain data."""

import dataclasses
import os
import pathlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from dl import config as configs
from dl.contract.metrics import Better
from dl.errors import ConfigError, nearest, one_line
from dl.report import older
from dl.show.words import duration, number
from dl.store import logs, records

Series = list[tuple[int, float | None]]

HOUSEKEEPING = ('learning_rate', 'epoch', *logs.MACHINE)
"""Names in `metrics.jsonl` which say how a run went, not how well."""


_NOT_OF_RESULTS = ('seed', 'mesh', 'sharding', 'expect', 'baselines', 'cite', 'log_every', 'checkpoint_every')
"""Keys of a config which change nothing of what it claims."""


class Value(NamedTuple):
  """A metric's value and the step it was measured at; None stands for a number that was not finite."""

  step: int
  value: float | None


@dataclasses.dataclass(frozen=True)
class StoredRun:
  """One work directory, read.

  Attributes:
    path: the directory.
    name: what to call it beside the other runs.
    config: the resolved config.
    facts: what `run.json` says; empty if there is none.
    records: the lines of `metrics.jsonl`.
  """

  path: pathlib.Path
  name: str
  config: dict[str, Any]
  facts: dict[str, Any]
  records: list[dict[str, Any]]

  def series(self) -> dict[tuple[str, str], Series]:
    """(split, metric) -> its (step, number) pairs by step, for metrics which are single numbers."""
    return {
      key: [(s, v) for s, v in sorted(points.items()) if not isinstance(v, list)]
      for key, points in self._points().items()
      if not any(isinstance(v, list) for v in points.values()) and any(v is not None for v in points.values())
    }

  def lists(self) -> dict[tuple[str, str], tuple[int, list[float | None]]]:
    """(split, metric) -> (last step, list of numbers), for metrics which are lists: one number a class, say."""
    last = {key: max(points.items()) for key, points in self._points().items()}
    return {key: pair for key, pair in last.items() if isinstance(pair[1], list)}

  def final(self) -> dict[tuple[str, str], Value]:
    """(split, metric) -> the last value."""
    return {key: Value(*points[-1]) for key, points in self.series().items()}

  def best(self) -> dict[tuple[str, str], Value]:
    """(split, metric) -> the best value, the earliest of equals, where more or less is better."""
    best_values = {}
    for (split, metric), points in self.series().items():
      mode = self.mode(split, metric)
      finite = [Value(s, v) for s, v in points if v is not None]
      if mode and finite:
        best_values[split, metric] = (min if mode == 'min' else max)(finite, key=lambda value: value.value)
    return best_values

  def mode(self, split: str, metric: str) -> Better:
    """'max' or 'min', whichever is better: as the config says, else the metric itself; None if neither is."""
    for part in ('keep', 'early_stop'):
      said = self.config.get(part) or {}
      if said.get('metric') == f'{split}/{metric}' and said.get('mode') in ('min', 'max'):
        return said['mode']
    if metric in HOUSEKEEPING:
      return None
    said = self.facts.get('better')
    return older.direction(metric) if said is None else said.get(split, {}).get(metric)

  def expected(self, split: str, metric: str) -> tuple[float, float] | None:
    """(value, tolerance) which the config claims for a metric."""
    claim = (self.config.get('expect') or {}).get(f'{split}/{metric}')
    return (float(claim[0]), float(claim[1])) if isinstance(claim, list | tuple) and len(claim) == 2 else None

  def baselines(self, split: str, metric: str) -> dict[str, float]:
    """Method -> value, what the config compares a metric with."""
    said = (self.config.get('baselines') or {}).get(f'{split}/{metric}')
    return dict(said) if isinstance(said, Mapping) else {}

  @property
  def steps_per_epoch(self) -> float | None:
    """Steps of a pass over the data; None where there is none."""
    said = self.facts.get('data')
    said = said.get('steps_per_epoch') if isinstance(said, Mapping) else None
    return float(said) if isinstance(said, int | float) and said else None

  def clock(self) -> list[tuple[int, float]]:
    """(step, seconds of training until then), by step, of the lines of training."""
    return sorted({r['step']: float(r['seconds']) for r in self.records if _has_seconds(r)}.items())

  def chooses(self, split: str) -> bool:
    """Whether checkpoints may be chosen by an evaluation: of training, of validation, or that the config names and
    which is not of the test part.

    The best of other numbers, those of a test part, is no result: it would have been chosen by them.
    """
    named = {(self.config.get(part) or {}).get('metric', '').partition('/')[0] for part in ('keep', 'early_stop')}
    entry = (self.config.get('eval') or {}).get(split)
    of_part = str(entry.get('split', split) if isinstance(entry, Mapping) else split)
    return split == 'train' or of_part.startswith('val') or (split in named and of_part != 'test')

  @property
  def changed(self) -> list[str]:
    """Keys of the config which the command has set, but for where and with what seed it runs."""
    keys = re.findall(r'--(?:config\.|override[= ])([\w.]+)', str(self.facts.get('command', '')))
    return [key for key in dict.fromkeys(keys) if key.split('.')[0] not in _NOT_OF_RESULTS]

  @property
  def status(self) -> str:
    return str(self.facts.get('status', 'unknown'))

  @property
  def step(self) -> int:
    """The last step that was logged."""
    return max((r['step'] for r in self.records), default=0)

  @property
  def seconds(self) -> float | None:
    """Seconds of training, over all its restarts."""
    said = self.facts.get('seconds')
    if isinstance(said, int | float):
      return float(said)
    return max((r['seconds'] for r in self.records if isinstance(r.get('seconds'), int | float)), default=None)

  def _points(self) -> dict[tuple[str, str], dict[int, Any]]:
    points: dict[tuple[str, str], dict[int, Any]] = {}
    for record in self.records:
      for name, value in record.items():
        if name not in ('step', 'split') and (value is None or isinstance(value, int | float | list)):
          points.setdefault((str(record.get('split', 'train')), name), {})[record['step']] = value
    return points


def load(workdirs: Sequence[str | os.PathLike]) -> list[StoredRun]:
  """Reads work directories.

  Raises:
    ConfigError: one is missing, is no work directory, or holds a damaged file.
  """
  paths = [pathlib.Path(w) for w in workdirs]
  for path in paths:
    if not path.is_dir():
      runs = [str(p.parent) for p in path.parent.glob('*/config.json')]
      raise ConfigError(f'no work directory {str(path)!r}; {nearest(str(path), runs)}')
    if not (path / 'config.json').is_file():
      inside = sorted(str(p.parent) for p in path.glob('*/config.json'))
      hint = f'; there are runs in it: {", ".join(inside[:5])}' if inside else ''
      raise ConfigError(f'{str(path)!r} is not a work directory: it has no config.json{hint}')
  return [
    StoredRun(path, name, records.read(path / 'config.json'), _facts(path), logs.read(path))
    for path, name in zip(paths, short_names(paths), strict=True)
  ]


def _has_seconds(record: Mapping[str, Any]) -> bool:
  return record['split'] == 'train' and isinstance(record.get('seconds'), int | float)


def _facts(path: pathlib.Path) -> dict[str, Any]:
  try:
    return records.read(path / 'run.json')
  except FileNotFoundError:
    return {}


def short_names(paths: Sequence[pathlib.Path]) -> list[str]:
  """The last parts of each path, as many as it takes to tell the paths apart."""
  parts = [p.resolve().parts for p in paths]
  for depth in range(1, max(map(len, parts), default=1) + 1):
    names = ['/'.join(p[-depth:]) for p in parts]
    if len(set(names)) == len(set(parts)):
      return names
  return [str(p) for p in paths]


def rows(runs: Sequence[StoredRun]) -> list[tuple[str, str]]:
  """The (split, metric) pairs of all runs, as a reader wants them: validation, test, training, loss first."""
  keys = {key for run in runs for key in run.series() if key[1] not in HOUSEKEEPING}
  order = metric_order(runs)
  return sorted(keys, key=lambda key: (*split_order(key[0]), *order(key[1])))


def split_order(split: str) -> tuple[int, str]:
  """What splits are sorted by: validation, which choices are made by, before test; training last."""
  return (0 if split.startswith('val') else 2 if split == 'train' else 1), split


def metric_order(runs: Sequence[StoredRun]) -> Callable[[str], tuple[int, str]]:
  """What metrics are sorted by: the loss, those of which more is better, the rest, and housekeeping at the end."""
  more = {metric for run in runs for split, metric in run.series() if run.mode(split, metric) == 'max'}
  rank = lambda metric: 0 if metric == 'loss' else 3 if metric in HOUSEKEEPING else 1 if metric in more else 2
  return lambda metric: (rank(metric), metric)


def differences(runs: Sequence[StoredRun]) -> dict[str, list[Any]]:
  """Dotted config key -> each run's value, for the keys which differ; `MISSING` where a run has no such key."""
  flat = [configs.flatten(run.config) for run in runs]
  keys = dict.fromkeys(key for config in flat for key in config)
  values = {key: [config.get(key, MISSING) for config in flat] for key in keys}
  return {key: row for key, row in values.items() if any(value != row[0] for value in row)}


class _Missing:
  def __repr__(self) -> str:
    return '(none)'


MISSING = _Missing()


def markdown(runs: Sequence[StoredRun]) -> str:
  """A Markdown table: a run a row, with its steps, time and final evaluation metrics (or training's, without any)."""
  keys = rows(runs)
  keys = [key for key in keys if key[0] != 'train'] or keys
  header = ['run', 'status', 'steps', 'time', *(f'{split} {metric}' for split, metric in keys)]
  body = []
  for run in runs:
    final = run.final()
    seconds = '' if run.seconds is None else duration(run.seconds)
    values = [number(final[key].value) if key in final else '' for key in keys]
    body.append([run.name, run.status, f'{run.step:,}', seconds, *values])
  return table(header, body, 2)


def table(header: Sequence[str], body: Sequence[Sequence[str]], left: int) -> str:
  """A Markdown table; the first `left` columns are words, the others numbers."""
  cells = [[one_line(cell).replace('|', '\\|') for cell in row] for row in [header, *body]]
  widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
  lines = [
    '| ' + ' | '.join(c.ljust(w) if i < left else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths))) + ' |'
    for row in cells
  ]
  rule = '|' + '|'.join('-' * (w + 2) if i < left else '-' * (w + 1) + ':' for i, w in enumerate(widths)) + '|'
  return '\n'.join([lines[0], rule, *lines[1:]])
