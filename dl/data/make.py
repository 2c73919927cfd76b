"""From the `data` part of a config to a pipeline."""

import inspect
import pathlib
import sys
import sysconfig
from collections.abc import Mapping
from typing import Any

import jax

from dl.config import build
from dl.contract.info import to_float
from dl.data import augment, statistics, transforms
from dl.data.parts import RULES, STATED, Part, part
from dl.data.pipeline import Pipeline
from dl.data.source import Arrays, Source, stated, title
from dl.errors import ConfigError, first_line, nearest

RESERVED = ('batch_size', 'augment', 'transform', 'prefetch', 'shuffle', 'num_threads', 'on_error', 'timeout')
"""Keys of the data which are the pipeline's; all but `name`, `split`, `RULES` and `STATED` are arguments of the source.

`batch_size`: examples of a step, over all processes. `augment`: list of on-device augmentations, each a dict with a
`name` (`dl.data.augment`); training alone. `transform`: list of host transforms, likewise (`dl.data.transforms`).
`prefetch`: batches kept on the devices ahead of the step. `shuffle`: False for the source's own order. `num_threads`:
threads which read sources that are not in memory. `on_error`: 'stop' (the default) or 'skip', for an example that
cannot be read. `timeout`: seconds to wait for a batch which threads read, 600 by default.
"""


def make(
  spec: Mapping[str, Any],
  *,
  split: str | None = None,
  seed: int = 0,
  train: bool = True,
  batch_size: int | None = None,
  process_index: int = 0,
  process_count: int = 1,
  where: str = 'config.data',
  own_data: bool = False,
  facts: Mapping[str, Any] | None = None,
) -> Pipeline:
  """Builds the source which `spec` names, and its pipeline.

  Args:
    spec: plain data: `name` below `dl.data.sources` or from the top, its arguments, `split`, and `RESERVED` keys.
    split: which part of the source; None takes the spec's `split`, or 'train'.
    seed: of the order.
    train: endless, shuffled and augmented; False is one pass, in order.
    batch_size: in place of the spec's.
    process_index: this process.
    process_count: how many processes share a batch.
    where: the config path, for error lines.
    own_data: whether the spec names other data than the training's; then all of it is evaluated, unless it is cut by
      the spec or the source.
    facts: of the data, which others than the source say (`dl.contract.info.Info`).

  Raises:
    ConfigError: anything in the spec that cannot be used.
  """
  if not isinstance(spec, Mapping) or 'name' not in spec:
    raise ConfigError(f"{where}: expected a dict with a 'name', such as sklearn.Digits, got {spec!r}")
  if batch_size is None and 'batch_size' not in spec:
    raise ConfigError(f'{where}.batch_size: is needed, such as batch_size=64')
  options = {k: spec[k] for k in RESERVED if k in spec}
  options['batch_size'] = options.get('batch_size') if batch_size is None else batch_size
  function = augment.make(options.pop('augment', ()), f'{where}.augment')
  augmented = train and bool(spec.get('augment'))
  transform = transforms.make(options.pop('transform', ()), f'{where}.transform')
  source = _source(spec, spec.get('split', 'train') if split is None else split, where, own_data, facts)
  if getattr(source, 'ordered', False):
    if options.get('shuffle'):
      raise ConfigError(f'{where}.shuffle: batches of {title(source)} follow each other here; leave it out')
    options['shuffle'] = False
  pipeline = Pipeline(
    source,
    **options,
    seed=seed,
    train=train,
    augment=function if augmented else None,
    transform=transform,
    process_index=process_index,
    process_count=process_count,
    facts=facts,
    where=where,
  )
  if train and pipeline.batch_size > len(pipeline.source):
    raise ConfigError(
      f'{where}.batch_size: a batch of {pipeline.batch_size:,} is more than the {len(pipeline.source):,} examples '
      f'which there are; take at most so many'
    )
  if augmented:
    _check_augment(pipeline, f'{where}.augment')
  if train and process_index == 0:
    _warn(pipeline.source, where)
  return pipeline


def keys(name: str, where: str) -> tuple[str, ...] | None:
  """The keys of the data which go with a source's `name`; None where its class takes any argument."""
  parameters = _parameters(build.resolve(name, 'dl.data.sources', where), where)
  if any(p.kind == p.VAR_KEYWORD for p in parameters.values()):
    return None
  return 'name', 'split', *RESERVED, *(parameters if 'split' in parameters else (*parameters, *RULES, *STATED))


def _source(spec: Mapping[str, Any], split: Any, where: str, own_data: bool, facts: Mapping[str, Any] | None) -> Any:
  if not isinstance(split, str):
    raise ConfigError(f'{where}.split: expected the name of a split, got {split!r}')
  arguments = {k: v for k, v in spec.items() if k not in (*RESERVED, 'split')}
  target = build.resolve(spec['name'], 'dl.data.sources', where)
  if not is_source(target):
    raise ConfigError(f'{where}: {spec["name"]!r} is not a class of sources: see dl.data.source')
  parameters = _parameters(target, where)
  any_name = any(p.kind == p.VAR_KEYWORD for p in parameters.values())
  given = {'on_error': spec['on_error']} if 'on_error' in spec and 'on_error' in parameters else {}
  if 'split' in parameters or any_name:  # it is cut by its own class
    return build.build(arguments, 'dl.data.sources', where, object, split=split, **given)
  for name in arguments:
    if name not in ('name', *parameters, *RULES, *STATED):
      known = nearest(name, [*parameters, *RULES, *STATED, *RESERVED, 'split'])
      raise ConfigError(f'{where}.{name}: {target.__name__} takes no argument {name!r}; {known}')
  rules = {k: v for k, v in arguments.items() if k in (*RULES, *STATED) and k not in parameters}
  build.check_arguments(part, rules, where, given=('source', 'split', 'timeout', 'facts'))
  rest = {k: v for k, v in arguments.items() if k not in rules}
  source = build.build(rest, 'dl.data.sources', where, object, **given)
  if (
    own_data
    and not rules.keys() & {*RULES}
    and not getattr(source, 'default_test', 0)
    and getattr(source, 'parts', None) is None
  ):
    split = 'all'
  if split == 'time':  # parts are cut by it; of these the one to train on
    if getattr(source, 'times', None) is None:
      raise ConfigError(f"{where}.split: 'time' needs to know when each example was; name the column: time='date', say")
    split = 'train'
  try:
    return part(source, split, **rules, timeout=spec.get('timeout', 600.0), facts=facts)
  except ConfigError as e:
    raise ConfigError(str(e) if where in str(e) else f'{where}: {e}') from e


def _warn(source: Any, where: str) -> None:
  """Says on stderr which columns of a table in memory tell nothing."""
  if isinstance(source, Part) and isinstance(source.whole, Arrays) and 'features' in source.columns:
    features = source.columns['features']
    if features.ndim == 2:
      names = source.stated.feature_names or tuple(map(str, range(features.shape[1])))
      goes_on = [not name.endswith('.days') for name in names]  # as a row number does, but it is none
      features, names = features[:, goes_on], [name for name, kept in zip(names, goes_on, strict=True) if kept]
      if said := statistics.useless(features, names):
        print(f'warning: {where}: features: {said}', file=sys.stderr)


def is_source(target: Any) -> bool:
  """Whether what a config names is a class of sources: checked before it is called.

  Of an installed package it has to say so, by `vectorized` or by inheriting from `dl.data.source.Source`: much else has
  a length and items, and some of it (`h5py.File`, `numpy.memmap`) overwrites the file that its arguments name.
  """
  if not isinstance(target, type) or not hasattr(target, '__len__') or not hasattr(target, '__getitem__'):
    return False
  if hasattr(target, 'vectorized') or Source in target.__mro__ or target.__module__.startswith('dl.'):
    return True
  folders = {pathlib.Path(sysconfig.get_path(kind)).resolve() for kind in ('purelib', 'platlib')}
  file = getattr(sys.modules[target.__module__], '__file__', None)  # None of what is built in
  return file is not None and not folders & set(pathlib.Path(file).resolve().parents)


def _parameters(target: Any, where: str) -> Mapping[str, inspect.Parameter]:
  try:
    return inspect.signature(target).parameters
  except ValueError as e:  # some builtins
    raise ConfigError(f'{where}: {target!r} is not a class of sources') from e


def _check_augment(pipeline: Pipeline, where: str) -> None:
  """Traces the augmentation on the shape of a batch, so that a mistake shows before anything is compiled."""
  rows = {k: jax.ShapeDtypeStruct(v.shape, v.dtype) for k, v in pipeline.example().items()}

  def run(key: Any, batch: dict[str, Any]) -> dict[str, Any]:
    return pipeline.augment(key, to_float(batch, stated(pipeline.source)))

  try:
    augmented = jax.eval_shape(run, jax.eval_shape(lambda: jax.random.key(0)), rows)
  except ConfigError as e:
    raise ConfigError(f'{where}: {e}') from e
  except (TypeError, ValueError, AttributeError, LookupError, ArithmeticError) as e:
    raise ConfigError(f'{where}: does not fit the data: {first_line(e)}') from e
  if not isinstance(augmented, Mapping) or not rows.keys() <= augmented.keys():
    raise ConfigError(f'{where}: an augmentation returns the batch with all its keys, {", ".join(rows)}')
