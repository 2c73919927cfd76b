"""Experiments as data: the top-level keys, loading a config file, overriding it, saving it and comparing two."""

import ast
import copy
import dataclasses
import importlib.util
import math
import os
import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import ml_collections

from dl.config.bounds import Seed, Size, Whole
from dl.config.build import check_arguments
from dl.errors import ConfigError, first_line, nearest

CONFIG_FILE = 'config-file'
"""The package, which no import statement can name, that modules loaded from config files are in."""

Duration = str | Whole
"""What a number of steps has to be depends on the training; `dl.config.duration` says it."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Experiment:
  """A config, resolved: its top-level keys, their types and defaults; what lies below them is plain data.

  Raises ConfigError for a value of a wrong type, also where `dataclasses.replace` makes it of another.

  Attributes:
    task: what is learned: `name` below `dl.tasks`, and its hyperparameters.
    model: one module (`name` below `dl.models`) or a dict player -> module. With `lora`, the arguments of
      `dl.nn.lora.LoRA`, low-rank adapters of its layers are trained and the rest stays as it is.
    optim: named optax stages, or a dict player -> named stages (see `dl.optim`).
    train_for: length of the training: '20 epochs', '500 steps', '1e6 examples'.
    seed: of parameters, data order, augmentation and all else that is random.
    seeds: train so many seeds, `seed` and those after it, as one program (`dl.training.seeds`); None: the one.
    init_from: weights to start from (`dl.training.start`): `name`, 'tensors' of a file or another 'run'; `path`, ...
    data: the training data: `name` below `dl.data.sources`, its arguments, `batch_size`, ...; None for a task without.
    eval: evaluation name -> changes to `data`, such as dict(split='test'); the name is the split in `metrics.jsonl`.
      With `by`, it is made by that evaluator (a name below `dl.evaluators`), whose arguments stand beside it, or in
      dict(name=..., ...) in its place; without, by the task. With `of='best'` it is made once, at the end, of the best
      checkpoint by `keep`.
    eval_every: how often to evaluate; always at the end too. None: at the end alone.
    log_every: how often to write training metrics.
    checkpoint_every: how often to save; always at the end too.
    artifacts_every: how often to write samples and pictures; None: at the end alone.
    keep: which checkpoints to keep: `last` newest and `best` best ones by `metric` ('test/accuracy'); `mode`, 'min' or
      'max', is needed where the metric does not say itself which is better.
    early_stop: stop when `metric` has not improved for `patience` (a duration), by more than `min_delta`; `mode`.
    steps_per_call: steps fused into one compiled call by `lax.scan`.
    precision: compute in this dtype; parameters, optimizer states and statistics stay float32.
    mesh: device mesh axis -> size; -1 is all the devices that are left.
    sharding: strategies of `dl.parallel.strategy` joined by '+', such as 'fsdp' or 'tensor+sequence'; or ordered
      (regex, axes) rules over parameter paths, which may end with strategies for the rest.
    expect: 'split/metric' -> (value, tolerance), the claim that the config makes.
    baselines: 'split/metric' -> {method (no dots): its value}, which the report states the margin over.
    cite: BibTeX keys beyond those which the parts themselves name.
  """

  task: dict
  optim: dict
  train_for: Duration
  model: dict | None = None
  data: dict | None = None
  seed: Seed = 0
  seeds: Size | None = None
  init_from: dict | None = None
  eval: dict = dataclasses.field(default_factory=dict)
  eval_every: Duration | None = None
  log_every: Duration = '1%'
  checkpoint_every: Duration = '10%'
  artifacts_every: Duration | None = None
  keep: dict = dataclasses.field(default_factory=dict)
  early_stop: dict | None = None
  steps_per_call: Size = 1
  precision: Literal['float32', 'bfloat16'] = 'float32'
  mesh: dict = dataclasses.field(default_factory=lambda: {'data': -1})
  sharding: str | list = 'replicated'
  expect: dict = dataclasses.field(default_factory=dict)
  baselines: dict = dataclasses.field(default_factory=dict)
  cite: Sequence[str] = ()

  def __post_init__(self):
    check_arguments(type(self), vars(self), 'config')

  def to_json(self) -> dict[str, Any]:
    """All keys as plain data, a copy: `resolve` of it is this experiment again."""
    return dataclasses.asdict(self)


def config(**keys: Any) -> ml_collections.ConfigDict:
  """A config with the defaults of `Experiment` filled in; what a config file's `get_config` returns."""
  keys = {k: to_plain(v) if isinstance(v, ml_collections.ConfigDict) else v for k, v in keys.items()}  # as another has
  check_arguments(Experiment, keys, 'config')
  defaults = {
    f.name: f.default_factory() if f.default_factory is not dataclasses.MISSING else f.default
    for f in dataclasses.fields(Experiment)
    if f.name not in keys
  }
  return ml_collections.ConfigDict(keys | defaults)


def load(spec: str, overrides: Sequence[str] = ()) -> Experiment:
  """Loads `FILE[:ARGUMENT]`, applies 'a.b=value' overrides, and checks the top-level keys.

  The file is Python, and is executed; `config.json` of a work directory is data, and is not.

  Raises:
    ConfigError: no such file, a file that fails or is no config, an unknown key or a wrong type.
  """
  path, argument = _split(spec)
  if not os.path.isfile(path):
    folder = pathlib.Path(path).parent
    names = [str(p) for p in folder.glob('*.py')] if os.path.isdir(folder) else []
    raise ConfigError(f'--config: no file {path[:200]!r}; {nearest(path, names)}')
  module_spec = importlib.util.spec_from_file_location(f'{CONFIG_FILE}.{pathlib.Path(path).stem}', path)
  if module_spec is None:
    raise ConfigError(f'--config: {path!r} is not a Python file')
  module = importlib.util.module_from_spec(module_spec)
  try:
    module_spec.loader.exec_module(module)
    if not hasattr(module, 'get_config'):
      raise ConfigError(f'--config: {path} defines no get_config()')
    result = module.get_config() if argument is None else module.get_config(argument)
  except ConfigError:
    raise
  except (Exception, SystemExit) as e:
    line = _line_in(path, e)
    raise ConfigError(f'--config: {path}{line}: {type(e).__name__}: {first_line(e)}') from e
  if not isinstance(result, Mapping | ml_collections.ConfigDict):
    raise ConfigError(f'--config: get_config() of {path} returned a {type(result).__name__}, not a config')
  sys.modules[module_spec.name] = module  # for `dl.store.provenance`
  try:
    experiment = resolve(result)
  except RecursionError as e:
    raise ConfigError(f'--config: get_config() of {path} returned a dict which holds itself') from e
  return override(experiment, overrides)


def file_of(spec: str) -> str:
  """The file of `FILE[:ARGUMENT]`."""
  return _split(spec)[0]


def _split(spec: str) -> tuple[str, str | None]:
  """(file, argument) of a --config, whose file may have a colon in its name."""
  if os.path.isfile(spec) or ':' not in spec:  # which takes any text, even one that is no path
    return spec, None
  path, _, argument = spec.rpartition(':')
  return path, argument


def resolve(value: Mapping[str, Any] | ml_collections.ConfigDict | Experiment) -> Experiment:
  """The experiment that a config is, with its top-level keys checked and defaults filled in; raises ConfigError."""
  value = value.to_json() if isinstance(value, Experiment) else value
  return Experiment(**to_plain(config(**to_plain(value))))


def override(experiment: Experiment, texts: Sequence[str]) -> Experiment:
  """The experiment with each 'a.b=value'; the last name may be new (the part it belongs to checks it), others not.

  A part which is None is made by its keys: 'init_from.name=run'.
  """
  plain = experiment.to_json()
  for text in texts:
    _assign(plain, text)
  return Experiment(**plain)


def _assign(plain: dict[str, Any], text: str) -> None:
  path, separator, value = text.partition('=')
  if not separator:
    raise ConfigError(f'--config.{path}: needs a value, as in --config.{path}=VALUE')
  *parents, last = path.split('.')
  node, where = plain, 'config'
  for name in parents:
    node = _child(node, name, where)
    where += f'.{name}'
  if isinstance(node, list):
    _child(node, last, where)
    node[int(last)] = parse_value(value, node[int(last)])
  elif isinstance(node, dict):
    valid = [f.name for f in dataclasses.fields(Experiment)]
    if node is plain and last not in valid:
      raise ConfigError(f'{where}: no key {last!r}; {nearest(last, valid)}')
    node[last] = parse_value(value, node.get(last))
  else:
    raise ConfigError(f'{where}: is {node!r}, which has no key {last!r}')


def parse_value(text: str, old: Any) -> Any:
  """A flag's text as a value: a Python literal where it is one (text stays text where text was), else a string.

  A dict may be written as in a config file: dict(name='adam', learning_rate=1e-3).
  """
  if text.lower() in ('true', 'false'):
    return text.lower() == 'true'
  try:
    value = ast.literal_eval(_Dicts().visit(ast.parse(text.strip(), mode='eval')))
  except (ValueError, SyntaxError, MemoryError, RecursionError):
    return text
  if isinstance(old, str) and isinstance(value, int | float) and not isinstance(value, bool):
    return value if isinstance(value, int) else text
  return to_plain(value)


class _Dicts(ast.NodeTransformer):
  """Makes dict(a=1) the literal {'a': 1}; nothing else is called."""

  def visit_Call(self, node: ast.Call) -> ast.AST:
    self.generic_visit(node)
    keys = [keyword.arg for keyword in node.keywords]
    if not isinstance(node.func, ast.Name) or node.func.id != 'dict' or node.args or None in keys:
      return node
    return ast.Dict([ast.Constant(key) for key in keys], [keyword.value for keyword in node.keywords])


def _child(node: Any, name: str, where: str) -> Any:
  if isinstance(node, list):
    if not name.isdecimal() or int(name) >= len(node):
      raise ConfigError(f'{where}: has {len(node)} items, so {name!r} must be a number from 0 to {len(node) - 1}')
    return node[int(name)]
  if isinstance(node, dict):
    if name not in node:
      raise ConfigError(f'{where}: no key {name!r}; {nearest(name, node)}')
    if node[name] is None:
      node[name] = {}  # a part which there is none of yet
    return node[name]
  raise ConfigError(f'{where}: is {node!r}, which has no key {name!r}')


def to_plain(value: Any, where: str = 'config') -> Any:
  """Plain JSON data from a ConfigDict or nested containers; raises ConfigError for anything else.

  Numbers are those that JSON can hold, and integers have 64 bits at most.
  """
  if isinstance(value, ml_collections.ConfigDict):
    # Its own iteration is sorted by name, and the order of optimizer stages counts.
    return {k: to_plain(value[k], f'{where}.{k}') for k in value._fields}
  if isinstance(value, Mapping):
    bad = [k for k in value if not isinstance(k, str) or not k]
    if bad:
      raise ConfigError(f'{where}: keys must be names, got {bad[0]!r}')
    return {k: to_plain(v, f'{where}.{k}') for k, v in value.items()}
  if isinstance(value, list | tuple):
    return [to_plain(v, f'{where}.{i}') for i, v in enumerate(value)]
  if isinstance(value, int | float) and not (abs(value) < 2**63 if isinstance(value, int) else math.isfinite(value)):
    raise ConfigError(f'{where}: must be a finite number of at most 64 bits, got {value!r}')
  if value is None or isinstance(value, bool | int | float | str):
    return copy.copy(value)
  raise ConfigError(f'{where}: must hold plain values, got {value!r} ({type(value).__name__})')


def flatten(plain: Any, prefix: str = '') -> dict[str, Any]:
  """Dotted path -> value of every leaf."""
  if isinstance(plain, Mapping) and plain:
    items = plain.items()
  elif isinstance(plain, list | tuple) and any(isinstance(v, Mapping | list | tuple) for v in plain):
    items = enumerate(plain)
  else:
    return {prefix: plain}
  return {k: v for name, child in items for k, v in flatten(child, f'{prefix}.{name}'.lstrip('.')).items()}


def differences(a: Experiment, b: Experiment) -> dict[str, tuple[Any, Any]]:
  """Dotted path -> (value in a, value in b) where two configs differ; None where one has no such key."""
  a, b = flatten(a.to_json()), flatten(b.to_json())
  return {k: (a.get(k), b.get(k)) for k in sorted(a.keys() | b.keys()) if a.get(k) != b.get(k)}


def _line_in(path: str, error: BaseException) -> str:
  """':LINE' of the deepest frame of an error which lies in the config file, if any."""
  if isinstance(error, SyntaxError):
    return f':{error.lineno}'
  line, frame, path = '', error.__traceback__, os.path.abspath(path)
  while frame is not None:
    if os.path.abspath(frame.tb_frame.f_code.co_filename) == path:
      line = f':{frame.tb_lineno}'
    frame = frame.tb_next
  return line
