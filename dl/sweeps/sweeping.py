"""Sweeps as data: from grids, distributions and files to named runs of one config, and `sweep.json`, their record."""

import contextlib
import copy
import dataclasses
import hashlib
import importlib.util
import itertools
import json
import math
import pathlib
import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import numpy as np

from dl import config as configs
from dl.config import Experiment
from dl.errors import ConfigError, first_line, nearest
from dl.store import atomic, records
from dl.store.workdir import FREE_TO_CHANGE

FILE = 'sweep.json'

Point = dict[str, str]
"""Config key -> the text of its value: what one run overrides."""

_SAFE = re.compile(r'[A-Za-z0-9._+-]+')
_LONGEST = 160  # characters of a name; file systems stop at 255 bytes


@dataclasses.dataclass(frozen=True)
class Trial:
  """One run of a sweep.

  Attributes:
    name: of its work directory below the sweep's: a function of `overrides` alone.
    overrides: dotted config key -> value.
    experiment: the config with them.
  """

  name: str
  overrides: dict[str, Any]
  experiment: Experiment

  def flags(self) -> list[str]:
    """The overrides as flags of `dl.train`."""
    return [f'--override={key}={value!r}' for key, value in self.overrides.items()]

  @property
  def trains(self) -> set[str]:
    """What it trains, a config of one seed each: equal for a run of several `seeds` and the runs of each."""
    swept = {key.split('.')[0] for key in self.overrides}
    config = {k: v for k, v in self.experiment.to_json().items() if k not in FREE_TO_CHANGE or k in swept}
    first, count = self.experiment.seed, self.experiment.seeds or 1
    return {json.dumps(config | {'seed': seed, 'seeds': None}) for seed in range(first, first + count)}


@dataclasses.dataclass(frozen=True)
class Sweep:
  """A config and the runs which vary it.

  Attributes:
    path: the config file, as `dl.config.load` takes it.
    shared: overrides ('a.b=value') of all runs.
    base: the config with the shared overrides.
    runs: in the order in which they were added, which is what an index counts.
  """

  path: str
  shared: tuple[str, ...]
  base: Experiment
  runs: tuple[Trial, ...]

  @property
  def keys(self) -> list[str]:
    """The swept config keys, in the order of their first appearance."""
    return list(dict.fromkeys(key for run in self.runs for key in run.overrides))

  def joined(self, new: Self, vectorize: bool = False) -> Self:
    """This sweep and, after its own runs, those of another which train what none of its own does.

    Args:
      new: the other sweep.
      vectorize: whether added runs whose seeds follow one another, and which differ in nothing else, become one.

    Raises:
      ConfigError: the base configs differ.
    """
    check_base(self.base, new.base)
    have = set().union(*(run.trains for run in self.runs))
    added = tuple(run for run in new.runs if not run.trains <= have)
    return dataclasses.replace(new, runs=self.runs + (_vectorized(new.base, added) if vectorize else added))

  def chosen(self, runs: Sequence[Trial]) -> list[Trial]:
    """The runs of this sweep which train what `runs` do."""
    wanted = set().union(*(run.trains for run in runs))
    return [run for run in self.runs if run.trains & wanted]


def make(path: str, shared: Sequence[str], points: Sequence[Point]) -> Sweep:
  """The sweep of a config over points, each resolved and checked by its top-level keys.

  Raises:
    ConfigError: a config which cannot be loaded, an unknown key, a key both shared and swept, or two equal runs.
  """
  base = configs.load(path, shared)
  for text in shared:
    key = text.partition('=')[0]
    for swept in dict.fromkeys(k for point in points for k in point):
      if swept == key or swept.startswith(f'{key}.') or key.startswith(f'{swept}.'):
        raise ConfigError(f'--config.{key}: is given for all runs, and {swept} is swept; leave one of them out')
  runs = tuple(_run(base, point) for point in points)
  seen: dict[str, str] = {}
  for run in runs:
    for one in sorted(run.trains & seen.keys()):
      raise ConfigError(f'sweep: {seen[one]} and {run.name} train the same; leave one out')
    seen |= dict.fromkeys(run.trains, run.name)
  return Sweep(path, tuple(shared), base, runs)


def _run(base: Experiment, point: Point) -> Trial:
  # In the order of the names, `model` comes before `model.hidden`, and the order of the flags means nothing.
  experiment, overrides = base, {}
  for key in sorted(point):
    experiment = configs.override(experiment, [f'{key}={point[key]}'])
    overrides[key] = value(experiment.to_json(), key)
  return Trial(name(overrides), overrides, experiment)


def value(config: Mapping[str, Any], key: str) -> Any:
  """The value under a dotted key of a config; None where there is none."""
  node: Any = config
  for part in key.split('.'):
    if isinstance(node, Mapping):
      node = node.get(part)
    elif isinstance(node, list) and part.isdecimal() and int(part) < len(node):
      node = node[int(part)]
    else:
      return None
  return copy.deepcopy(node)


def name(overrides: Mapping[str, Any]) -> str:
  """A file name for a run: 'optim.adam.learning_rate=0.001,seed=0'.

  Where a value has other characters than a name may have, or the whole is too long, a hash of the overrides tells
  apart what the name cannot.
  """
  if not overrides:
    return 'base'
  parts, whole = [], True
  for key, v in sorted(overrides.items()):
    text = v if isinstance(v, str) else json.dumps(v, separators=(',', ':'))
    exact = bool(_SAFE.fullmatch(key) and _SAFE.fullmatch(text)) and configs.parse_value(text, None) == v
    whole &= exact and type(configs.parse_value(text, None)) is type(v)
    parts.append(f'{_cleaned(key)}={_cleaned(text)}')
  text = ','.join(parts)
  if whole and len(text) <= _LONGEST:
    return text
  digest = hashlib.sha256(json.dumps(overrides, sort_keys=True).encode()).hexdigest()[:8]
  return f'{text[:_LONGEST]}-{digest}'


def _cleaned(text: str) -> str:
  return re.sub(r'[^A-Za-z0-9._+-]+', '-', text).strip('-')


def _vectorized(base: Experiment, runs: Sequence[Trial]) -> tuple[Trial, ...]:
  """The runs, those whose seeds follow one another as one."""
  rows: dict[str, list[Trial]] = {}
  for run in runs:
    rest = {key: repr(v) for key, v in run.overrides.items() if key != 'seed'}
    rows.setdefault(json.dumps(rest), []).append(run)
  result = []
  for rest, row in rows.items():
    row.sort(key=lambda run: run.experiment.seed)
    follows = lambda a, b: b.seed == a.seed + 1 and a.seeds is b.seeds is None
    starts = [i for i, run in enumerate(row) if i == 0 or not follows(row[i - 1].experiment, run.experiment)]
    for start, end in zip(starts, [*starts[1:], len(row)]):
      several = {'seed': str(row[start].experiment.seed), 'seeds': str(end - start)}
      result.append(_run(base, json.loads(rest) | several) if end - start > 1 else row[start])
  return tuple(result)


# -- Points: what a sweep is made of.


def product(*parts: Sequence[Point]) -> list[Point]:
  """Each point of one part with each of the others; raises ConfigError for a key which two parts have."""
  for a, b in itertools.combinations(parts, 2):
    for key in {k for point in a for k in point} & {k for point in b for k in point}:
      raise ConfigError(f'sweep: {key} is swept twice; give all of its values in one place')
  return [{k: v for point in points for k, v in point.items()} for points in itertools.product(*parts)]


def grid(texts: Sequence[str]) -> list[Point]:
  """The product of 'key=value,value,...' texts; a comma inside brackets or quotes belongs to its value."""
  axes = []
  for text in texts:
    key, rest = _assignment(text, '--grid', 'optim.adam.learning_rate=1e-4,1e-3')
    axes.append([{key: v} for v in split(rest, f'--grid {key}')])
  return product(*axes)


def sample(texts: Sequence[str], count: int, seed: int) -> list[Point]:
  """Points drawn from 'key=distribution(arguments)' texts.

  The first points do not depend on `count`, so that a sweep can be made longer; no point comes twice. Numbers of the
  continuous distributions have four digits.

  Raises:
    ConfigError: an unknown distribution, or arguments which it cannot have; fewer than `count` different points.
  """
  if count < 1:
    raise ConfigError(f'--samples: must be at least 1, got {count}')
  draws: dict[str, Callable[[], str]] = {}
  for text in texts:
    key, rest = _assignment(text, '--random', 'optim.adam.learning_rate=log_uniform(1e-4,1e-1)')
    if key in draws:
      raise ConfigError(f'sweep: {key} is swept twice; give all of its values in one place')
    # Each key has its own stream, so the order of the flags means nothing.
    draws[key] = _distribution(rest, f'--random {key}', np.random.default_rng([seed, zlib.crc32(key.encode())]))
  points: list[Point] = []
  for _ in range(100 * count + 1000):
    point = {key: draw() for key, draw in draws.items()}
    if point not in points:
      points.append(point)
    if len(points) == count:
      return points
  raise ConfigError(f'--samples: only {len(points)} different points were found, fewer than {count}; use --grid')


def _distribution(text: str, where: str, rng: np.random.Generator) -> Callable[[], str]:
  match = re.fullmatch(r'\s*(\w+)\s*\((.*)\)\s*', text, re.DOTALL)
  kind, inside = (match[1], match[2]) if match else ('', '')
  kinds = ('uniform', 'log_uniform', 'int_uniform', 'choice')
  if kind not in kinds:
    hint = nearest(kind, kinds) if kind else f'valid: {", ".join(kinds)}'
    raise ConfigError(f'{where}: expected a distribution such as log_uniform(1e-4,1e-1), got {text!r}; {hint}')
  arguments = split(inside, where)
  if kind == 'choice':
    return lambda: arguments[rng.integers(len(arguments))]
  number = int if kind == 'int_uniform' else float
  try:
    low, high = map(number, arguments)
  except ValueError as e:
    raise ConfigError(f'{where}: {kind} needs two numbers, the lowest and the highest, got ({inside})') from e
  if not (math.isfinite(low) and math.isfinite(high) and low < high) or (kind == 'log_uniform' and low <= 0):
    positive = ' positive' if kind == 'log_uniform' else ''
    raise ConfigError(f'{where}: {kind} needs a lowest{positive} number and a higher one, got ({inside})')
  if kind == 'int_uniform':
    return lambda: str(rng.integers(low, high, endpoint=True))
  if kind == 'uniform':
    return lambda: f'{rng.uniform(low, high):.4g}'
  return lambda: f'{math.exp(rng.uniform(math.log(low), math.log(high))):.4g}'


def from_file(path: str) -> list[Point]:
  """The points of a JSON file, a list of {key: value}, or of `get_sweep()` of a Python file, which returns the same.

  Raises:
    ConfigError: no such file, or one which holds something else.
  """
  file = pathlib.Path(path)
  if not file.is_file():
    raise ConfigError(f'--file: no file {path!r}')
  points = _run_file(file) if file.suffix == '.py' else _read(file, '--file', object)
  if not isinstance(points, list | tuple) or not points or not all(isinstance(p, Mapping) for p in points):
    raise ConfigError(f'--file: {path} must hold a list of overrides such as [{{"seed": 0}}, {{"seed": 1}}]')
  plain = [configs.to_plain(p) for p in points]
  return [{key: repr(v) for key, v in point.items()} for point in plain]


def _run_file(path: pathlib.Path) -> Any:
  spec = importlib.util.spec_from_file_location(f'dl_sweep_{path.stem}', path)
  module = importlib.util.module_from_spec(spec)
  try:
    spec.loader.exec_module(module)
    return module.get_sweep()
  except ConfigError:
    raise
  except Exception as e:
    raise ConfigError(f'--file: {path}: get_sweep(): {type(e).__name__}: {first_line(e)}') from e


def split(text: str, where: str) -> list[str]:
  """The parts between commas which lie in no brackets and no quotes; raises ConfigError for an empty one."""
  parts, depth, quote = [''], 0, ''
  for c in text:
    if quote:
      quote = '' if c == quote else quote
    elif c in '"\'':
      quote = c
    else:
      depth += (c in '([{') - (c in ')]}')
    if c == ',' and not depth and not quote:
      parts.append('')
    else:
      parts[-1] += c
  if quote or depth:
    raise ConfigError(f'{where}: a bracket or a quote is not closed in {text!r}')
  parts = [part.strip() for part in parts]
  if '' in parts:
    raise ConfigError(f'{where}: a value is empty in {text!r}; values are separated by single commas')
  return parts


def _assignment(text: str, flag: str, example: str) -> tuple[str, str]:
  key, separator, rest = text.partition('=')
  if not separator or not key.strip():
    raise ConfigError(f"{flag}: expected KEY=VALUES such as '{example}', got {text!r}")
  return key.strip().removeprefix('config.'), rest


# -- What a directory remembers.


def write(workdir: pathlib.Path, sweep: Sweep) -> None:
  """Writes `sweep.json`; raises ConfigError if it cannot."""
  record = {
    'config': sweep.path,
    'shared': list(sweep.shared),
    'base': sweep.base.to_json(),
    'runs': [{'name': run.name, 'overrides': run.overrides} for run in sweep.runs],
  }
  try:
    workdir.mkdir(parents=True, exist_ok=True)
    atomic.write(workdir / FILE, json.dumps(record, indent=2) + '\n')
  except OSError as e:
    raise ConfigError(f'--workdir: cannot write to {workdir}: {e.strerror}') from e


def content(workdir: pathlib.Path) -> bytes | None:
  """What `sweep.json` of a directory holds now; None if there is none to read."""
  with contextlib.suppress(OSError):
    return (workdir / FILE).read_bytes()
  return None


def read(workdir: pathlib.Path) -> Sweep:
  """The sweep of a directory; raises ConfigError if it holds none."""
  path = workdir / FILE
  if not path.is_file():
    raise ConfigError(f'--workdir: {workdir} holds no sweep (it has no {FILE}); start one with --config and --grid')
  record = _read(path, '--workdir', dict)
  try:
    base = configs.resolve(record['base'])
    runs = []
    for run in record['runs']:
      known = _run(base, {key: repr(v) for key, v in run['overrides'].items()})
      runs.append(dataclasses.replace(known, name=_file_name(run['name'])))
    return Sweep(str(record['config']), tuple(map(str, record['shared'])), base, tuple(runs))
  except (KeyError, TypeError, AttributeError, ValueError) as e:
    raise ConfigError(f'{path} is damaged: {type(e).__name__}: {first_line(e)}') from e


def check_base(before: Experiment, now: Experiment) -> None:
  """Raises ConfigError, which names the keys, if a directory's sweep has another base config."""
  changed = {k: v for k, v in configs.differences(before, now).items() if k.split('.')[0] not in FREE_TO_CHANGE}
  if changed:
    shown = ', '.join(f'{k} ({a!r}, now {b!r})' for k, (a, b) in list(changed.items())[:3])
    raise ConfigError(f'--workdir: holds a sweep of another config: {shown}; choose another directory, or delete it')


def _file_name(text: str) -> str:
  if not re.fullmatch(r'[A-Za-z0-9._+=,-]+', text) or not text.strip('.'):
    raise ValueError(f'{text!r} is no name of a run')
  return text


def _read(path: pathlib.Path, flag: str, kind: type) -> Any:
  try:
    return records.read(path, kind)
  except (ConfigError, OSError) as e:
    raise ConfigError(f'{flag}: {e}') from e
