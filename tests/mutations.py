"""Mistakes in configs: each a change to a resolved config which must be refused."""

import copy
import dataclasses
import inspect
import math
import random
import re
from collections.abc import Iterator, Mapping
from typing import Any

import optax

from dl.config import build
from dl.optim import names

Path = tuple[str | int, ...]
DELETE = object()
"""In place of a value: the key is left out."""


@dataclasses.dataclass(frozen=True)
class Mutation:
  """One mistake, or two at once.

  Attributes:
    kind: 'type', 'unknown', 'missing', 'absurd', 'regex', 'file' or 'two'.
    changes: (path in the config, the value there) pairs.
  """

  kind: str
  changes: tuple[tuple[Path, Any], ...]

  def apply(self, config: Mapping[str, Any]) -> dict[str, Any]:
    """The config with the mistake."""
    new = copy.deepcopy(dict(config))
    for path, value in self.changes:
      node = new
      for key in path[:-1]:
        node = node[key]
      if value is DELETE:
        del node[path[-1]]
      else:
        node[path[-1]] = value
    return new

  def __str__(self) -> str:
    said = lambda value: 'left out' if value is DELETE else source(value)
    return f'{self.kind}: ' + ', '.join(f'{".".join(map(str, p))} = {said(v)}' for p, v in self.changes)


def source(value: Any) -> str:
  """A value as Python source; `nan` and `inf` are names there."""
  if isinstance(value, dict):
    return '{' + ', '.join(f'{source(k)}: {source(v)}' for k, v in value.items()) + '}'
  if isinstance(value, list | tuple):
    return '[' + ', '.join(map(source, value)) + ']'
  return repr(value)


# What must be refused of a value, by the name of its key. A key that is not here is tried with wrong types, and numbers
# that are none, alone.
SIZES = re.compile(
  r'num_\w+|\w+_size|hidden|features|width|depth|heads|layers|length|channels|base|patch|size|tile|blocks|'
  r'convolutions|rollout_length|epochs|minibatches|eval_episodes|folds|ngrams|top_k|ngram_buckets|steps_per_call|'
  r'sample_length|grid|discriminator_steps|last'
)
BELOW_ONE = re.compile(r'dropout|label_smoothing|stochastic_depth|momentum|b1|b2|decay')
SHARES = re.compile(r'probability|discount|gae_lambda|central|fold_share')
NOT_NEGATIVE = re.compile(
  r'learning_rate|init_value|peak_value|end_value|weight_decay|eps|alpha|std|temperature|\w+_weight|r1|degrees|'
  r'pixels|pad|shear|gradient_penalty|gamma|seed|fold|magnitude|split_seed|count|test|validation|prefetch'
)
DURATIONS = re.compile(r'train_for|\w+_every|warmup|patience|decay_steps|transition_steps')
PATTERNS = re.compile(r'mask')
PATHS = re.compile(r'path|data_dir')
FREE = re.compile(r'prompt|class_names|cite|path|data_dir|mask')
"""Texts that may be any, or that have mistakes of their own."""

TYPOS = ('bacth_size', 'learning_rat', 'x', 'naem', 'Name', 'dtype_', 'weight_deccay', 'n_layers', 'lr', 'wd', '')
NONSENSE = ('nothing_of_this_name', 'no.such.Thing', 'dl', 'classify', 'ü', ' ', 'None', '../x', 'DROP TABLE', '\n')
BROKEN = (
  '(',
  '[',
  '*a',
  'kernel(?',
  '(?P<',
  'a{2,1}',
  '\\',
  '(?P<1>x)',
  '[z-a]',
  'no_such_parameter$',
  '^$x',
  '(?<=a+)b',
)
OTHERS = (
  'os.system', 'builtins.print', 'subprocess.Popen', 'math.pi', 'dl.training.loop.train', 'jax.numpy.zeros',
  'dl.tasks.classify', 'dl.errors.ConfigError', 'numpy.load',
)  # fmt: skip
SPANS = (
  '', ' ', '5', 'ten steps', '5 parsecs', 'epochs', '-5 steps', '1e400 steps', 'nan steps', 'inf epochs', '101 %',
  '200%', '5 steps 5', '1,000 steps', '% 5', '1e30 steps', '0x10 steps', '5 epochss', '--5 steps',
)  # fmt: skip
MESHES = (
  {'data': 0}, {'data': -2}, {'data': 1.5}, {'data': 10**6}, {}, {'model': 1}, {'data': 'all'},
  {'data': -1, 'model': -1}, {'data': 2**62, 'model': 4}, {'data': True},
)  # fmt: skip
PLACES = (
  '/no/such/place', '', 'pyproject.toml', 'dl', '/dev/null', '~nobody/x', 'a\0b', '/', 'README.md/x', 'x' * 5000,
)  # fmt: skip
WRONG = (b'bytes', {1, 2}, {'zzz': 1}, ['a', {'b': 1}], 1 + 1j)
NUMBERS = (math.nan, math.inf, -math.inf, 10**30, -(10**30))


def leaves(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
  """(path, value) of every leaf, and of every dict and list."""
  if path:
    yield path, value
  items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
  for key, child in items:
    yield from leaves(child, (*path, key))


def name_of(path: Path) -> str:
  """The last key of a path that is a name."""
  return next((p for p in reversed(path) if isinstance(p, str)), '')


def free_form(path: Path) -> bool:
  """Whether a dict has keys of the user's own choice."""
  return (
    path in (('eval',), ('expect',), ('baselines',), ('mesh',))
    or path[:1] in (('baselines',), ('expect',))
    or (path[-1:] in (('splits',), ('builder_kwargs',)))
  )


def required(path: Path, node: Mapping[str, Any]) -> list[str]:
  """The keys of a dict which must be there, by the signature of what it names."""
  if not path:
    return ['task', 'optim', 'train_for', 'model']
  if free_form(path) or 'name' not in node:
    return []
  if name_of(path).endswith('vocabulary'):
    return ['name']  # of a tokenizer
  if path[0] == 'optim':
    target = getattr(optax.schedules, node['name'], None) or names.stage(node['name'], 'x')
    derived = ('decay_steps', 'transition_steps', 'warmup_steps', 'init_value', 'inner')
  else:
    package = {
      'task': 'dl.tasks',
      'model': 'dl.models',
      'init_from': 'dl.training.start',
      'data': 'dl.data.sources',
      'eval': 'dl.data.sources',
    }
    inside = {'augment': 'dl.data.augment', 'transform': 'dl.data.transforms'}.get(name_of(path[1:]))
    target = build.resolve(node['name'], inside or package[path[0]], 'x')
    derived = ('key', 'batch', 'example', 'generator', 'parts', 'split', 'model', 'info')
  needed = [
    n for n, p in inspect.signature(target).parameters.items() if p.default is p.empty and p.kind != p.VAR_KEYWORD
  ]
  return [
    'name',
    *(n for n in needed if n in node and n not in derived),
    *(['batch_size'] if path == ('data',) else []),
  ]


def of_node(path: Path, value: Any, rng: random.Random, evaluated: bool) -> Iterator[tuple[str, Any]]:
  """(kind, value in its place) of the mistakes that can be made at one place."""
  name, whole = name_of(path), not isinstance(path[-1], int)
  if not (whole and free_form(path) and isinstance(value, dict)):
    yield from (('type', w) for w in WRONG if not (isinstance(w, dict) and name in ('eval', 'mesh')))
  if isinstance(value, bool):
    yield from (('type', v) for v in ('yes', 2, 0.5, [], None, 'nan', -1))
  elif isinstance(value, dict):
    yield from _of_dict(path, value, rng, evaluated)
  elif isinstance(value, list):
    yield from _of_list(path, value)
  elif isinstance(value, int | float):
    yield from _of_number(path, value, rng)
  elif isinstance(value, str):
    yield from _of_text(path, value, rng)
  elif value is None:
    if name == 'model':
      yield 'type', 3
    yield from (('type', v) for v in ([1, {'a': 2}], -0.5) if not _means(name, v))


def _of_dict(path: Path, value: dict, rng: random.Random, evaluated: bool) -> Iterator[tuple[str, Any]]:
  yield from (('type', v) for v in (3, 'text', [], True, -0.5, ['name'], None) if not _means_node(path, v))
  if not free_form(path):
    for typo in rng.sample(TYPOS, 4):
      yield 'unknown', value | {typo: rng.choice([1, 0.5, 'x', {'name': 'x'}, None])}
    if value:
      key = rng.choice(list(value))
      yield 'unknown', {(k + rng.choice('xs_')) if k == key else k: v for k, v in value.items()} | {key + 'Q': 1}
  elif path == ('eval',):
    yield from (('absurd', value | {'train': {}}), ('type', value | {'more': 3}), ('type', value | {'more': 'test'}))
    yield 'unknown', value | {'more': {'splitt': 'test'}}
    yield 'absurd', value | {'no_such_split': {'split': 'no_such_split'}}
    yield from (('absurd', value | {bad: {}}) for bad in ('../x', 'a/b', 'a b', '.x', 'a\n', '<b>'))
  elif path == ('mesh',):
    yield from (('absurd', bad) for bad in MESHES)
  elif path in (('expect',), ('baselines',)) and evaluated:
    claim = [0.5, 0.1] if path == ('expect',) else {'other': 0.5}
    for split in ('tset/accuracy', 'test', '', 'test/acuracy', 'accuracy/test', 'test/accuracy/x'):
      yield 'unknown', value | {split: claim}


def _of_list(path: Path, value: list) -> Iterator[tuple[str, Any]]:
  name = name_of(path)
  yield from (('type', v) for v in (7, True, 0.5, {'a': 1}))
  if name not in ('cite', 'sharding', 'mask', 'criterion', 'layers'):
    yield 'type', 'text'
  if value and not isinstance(value[0], dict) and len(path) > 1:
    yield 'type', [*value, {'a': 1}]
    yield 'type', [None, *value]
    yield 'type', [value]


def _of_number(path: Path, value: float, rng: random.Random) -> Iterator[tuple[str, Any]]:
  name = name_of(path)
  yield from (('type', v) for v in ('many', [], '', 'None', [value, {}], ' 1'))
  yield from (('absurd', v) for v in NUMBERS)
  below = lambda: rng.choice([-1, -0.1, -1e-6, -rng.random() - 1e-3, -rng.randint(2, 10**9)])
  above = lambda: rng.choice([1.5, 2, 1.001 + rng.random(), rng.uniform(2, 1e6), 100])
  if name in ('num_classes', 'num_outputs', 'num_actions'):
    yield 'absurd', value + rng.choice([1, 7])  # than the data have
  if name in ('heads', 'minibatches'):
    yield 'absurd', 7  # which divides none of the sizes
  if path[0] == 'expect' and path[-1] == 1:
    yield 'absurd', -rng.random()
  for rule, bad in (
    (SIZES, lambda: rng.choice([0, below(), rng.randint(10**12, 10**15), rng.random(), 1.5])),
    (BELOW_ONE, lambda: rng.choice([below(), above()])),
    (SHARES, lambda: rng.choice([below(), above()])),
    (NOT_NEGATIVE, below),
    (DURATIONS, lambda: rng.choice([-1, -rng.randint(2, 10**6), 0.5, 1.5, *SPANS])),
  ):
    if rule.fullmatch(name) and not (rule is SIZES and path[0] == 'expect'):
      yield from (('absurd', bad()) for _ in range(6))


def _of_text(path: Path, value: str, rng: random.Random) -> Iterator[tuple[str, Any]]:
  name = name_of(path)
  yield from (('type', v) for v in (3.7, [], True, -1, math.nan, [value, value]) if not _means(name, v))
  if DURATIONS.fullmatch(name):
    yield from (('absurd', v) for v in rng.sample(SPANS, 12))
    yield 'absurd', f'-{rng.randint(1, 99)} epochs'
  elif PATTERNS.fullmatch(name) or 'layers' in path:
    yield from (('regex', v) for v in rng.sample(BROKEN, 8))
  elif PATHS.fullmatch(name):
    # A folder of sources is a text, too.
    yield from (('file', bad) for bad in PLACES if bad != 'dl' or not value.endswith('.txt'))
  elif not FREE.fullmatch(name):
    yield from (('unknown', v) for v in ('', *rng.sample(NONSENSE, 5), value + 'x', 'q' + value, value.swapcase()))
    yield 'unknown', ''.join(rng.choices('abcdefghij_.', k=8))
  if path[-1] == 'name':
    yield from (('unknown', v) for v in OTHERS)


NULLABLE = ('data', 'model', 'early_stop', 'init_from')


def _means_node(path: Path, value: Any) -> bool:
  """Whether something else than a dict means something in its place: no evaluation, a rate that is no schedule."""
  schedule = path[0] == 'optim' and path[-1] in ('learning_rate', 'weight_decay') and value == 3
  return schedule or (value is None and path[0] in NULLABLE and len(path) == 1)


def _means(name: str, value: Any) -> bool:
  """Whether a value of another type means something under this name."""
  number = isinstance(value, int | float) and not isinstance(value, bool) and value >= 0
  return (name == 'sharding' and value == []) or (bool(DURATIONS.fullmatch(name)) and number and isinstance(value, int))


def mutations(config: Mapping[str, Any], count: int, seed: str) -> list[Mutation]:
  """So many distinct mistakes, the same for the same seed, of as many kinds and places as there are."""
  rng = random.Random(seed)
  found: dict[str, Mutation] = {}
  places = [(p, v) for p, v in leaves(dict(config))]

  def add(kind: str, *changes: tuple[Path, Any]) -> None:
    mutation = Mutation(kind, changes)
    found.setdefault(str(mutation), mutation)

  for typo in TYPOS[:-1]:
    add('unknown', ((typo,), 1))
  for path, node in [((), dict(config)), *((p, v) for p, v in places if isinstance(v, dict))]:
    for key in required(path, node):
      add('missing', ((*path, key), DELETE))
  for _ in range(9):
    for path, value in places:
      for kind, new in of_node(path, value, rng, bool(config['eval'])):
        if repr(new) != repr(value):
          add(kind, (path, new))
    if len(found) >= 4 * count:
      break
  chosen = list(found.values())
  rng.shuffle(chosen)
  kinds: dict[str, list[Mutation]] = {}
  for mutation in chosen:
    kinds.setdefault(mutation.kind, []).append(mutation)
  # In turn from each kind, so that a small sample has all of them; then two mistakes at once where there are too few.
  mixed = [
    m for row in zip(*(v + [None] * (len(chosen) - len(v)) for v in kinds.values())) for m in row if m is not None
  ]
  while len(mixed) < count:
    one, two = rng.sample(chosen, 2)
    if one.changes[0][0][0] != two.changes[0][0][0]:
      mixed.append(Mutation('two', one.changes + two.changes))
  return mixed[:count]
