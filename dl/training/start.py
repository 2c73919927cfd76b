"""Weights from elsewhere: tensors named as torchvision, timm or Hugging Face name them, into this code's variables.

Models here name their parts as their reference does (torchvision, or timm where it has no such model), so that one
rule converts them: `layer1.0.conv1.weight` is `layer1_0/conv1/kernel`. Other names are a layout of the model's class
(`dl.contract.weights`).
Files are .safetensors or .npz, which hold arrays alone: nothing in them is executed.
"""

import inspect
import pathlib
import re
from collections.abc import Callable, Iterable, Mapping, Sized
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from jaxtyping import PyTree

from dl.config.bounds import Count
from dl.config.build import build, resolve
from dl.config.patterns import compile_pattern
from dl.contract.info import Info
from dl.contract.weights import Tensors, rename, resampled
from dl.errors import ConfigError, nearest
from dl.nn import lora
from dl.nn.stack import unstacked
from dl.training import adapters as adapters_of
from dl.training import restore
from dl.training.assemble import Parts, state_path
from dl.training.given import Given

NAMED = 20
"""Tensors which do not fit, of which an error line names so many."""

_LEAVES = {'kernel': 'weight', 'scale': 'weight', 'embedding': 'weight', 'mean': 'running.mean', 'var': 'running.var'}
_AXES = {4: (2, 3, 1, 0), 3: (2, 1, 0), 2: (1, 0)}  # of a kernel: ours from PyTorch's


def load(spec: Mapping[str, Any] | None, parts: Parts) -> dict[str, np.ndarray]:
  """The arrays that `config.init_from` gives a run, by their path in its state; empty where it gives none.

  Raises:
    ConfigError: an unknown name, an unreadable file, or tensors which do not fit.
  """
  if spec is None:
    return {}
  if isinstance(spec, Mapping) and 'name' in spec:
    target = resolve(spec['name'], 'dl.training.start', 'config.init_from')
    if not inspect.isfunction(target) or 'parts' not in inspect.signature(target).parameters:
      raise ConfigError(
        f'config.init_from: {spec["name"]!r} gives a run no weights; see `tensors` and `run` of dl.training.start'
      )
  return build(spec, 'dl.training.start', 'config.init_from', dict, parts=parts)


def tensors(
  path: str,
  parts: Parts,
  layout: str | None = None,
  exclude: tuple[str, ...] = (),
  player: str = 'model',
  adapters: str | None = None,
) -> Given:
  """Weights of a file, as torchvision, timm or Hugging Face name them.

  Args:
    path: a .safetensors or .npz file.
    parts: the run.
    layout: None for the names that the model follows (see its docstring), or one of the `layouts` of its class.
    exclude: regular expressions of tensors not to read and of variables to leave fresh, such as '^fc' (a new head).
    player: whose weights they are, where there are several networks.
    adapters: file or folder of those that `dl.export --adapters` has written, for the network's own (`dl.nn.lora`),
      which begin anew without.
  """
  models = parts.task.players
  if player not in models:
    raise ConfigError(f'config.init_from.player: there is none called {player!r}; {nearest(player, models)}')
  like = {'params': lora.without(parts.state.params[player]), **parts.state.extra.get(player, {})}
  arrays = read(pathlib.Path(path))
  variables = convert(arrays, like, model=models[player], layout=layout, exclude=exclude)
  leaves = jax.tree_util.tree_leaves_with_path(variables)
  under = lambda name: f'params/{player}{name[6:]}' if name.startswith('params/') else f'extra/{player}/{name}'
  given = Given((under(state_path(p)), value) for p, value in leaves)
  given.unused = tuple(filter(_excluded(exclude), arrays))
  _add_adapters(given, adapters, parts, player)
  return given


def run(
  path: str,
  parts: Parts,
  step: Count | str | None = None,
  exclude: tuple[str, ...] = (),
  averaged: bool = True,
  adapters: str | None = None,
) -> Given:
  """Weights of another run, from its work directory; adapters that it has are merged into the weights.

  Args:
    path: the work directory.
    parts: the run which starts from them.
    step: which checkpoint: a step, 'best', or None for the newest.
    exclude: regular expressions of variables ('out/kernel') to leave fresh, such as a new head.
    averaged: whether to take the running averages of the parameters, where there are any.
    adapters: as of `tensors`.

  Raises:
    ConfigError: no such run, variables which do not fit, or embeddings of another vocabulary than the data's.
  """
  task, state = restore.load(path, step, averaged)
  state = adapters_of.merged(task, state)
  kept = lambda state: {k: v for k, v in state.extra.items() if k not in parts.task.by_row}  # which is of its batches
  flat = lambda state: {
    state_path(p): x for p, x in jax.tree_util.tree_leaves_with_path({'params': state.params, 'extra': kept(state)})
  }
  fresh = {player: lora.without(params) for player, params in parts.state.params.items()}  # but for adapters
  mine, theirs = flat(parts.state.replace(params=fresh)), flat(state)
  # As `tensors` and `mask` of an optimizer have it: without the collection, and without the only network's name.
  depth = {'params': 2, 'extra': 3}  # params/PLAYER/..., extra/PLAYER/COLLECTION/...
  only = not isinstance(parts.task.model, Mapping)

  def short(path: str) -> str:
    keys = path.split('/')
    return '/'.join(([] if only else keys[1:2]) + keys[depth[keys[0]] :])

  left_out = _excluded(exclude, {short(k) for k in [*mine, *theirs]})
  unused = tuple(short(k) for k in theirs if left_out(short(k)))
  mine, theirs = ({k: v for k, v in tree.items() if not left_out(short(k))} for tree in (mine, theirs))
  _refuse_nothing(mine, 'config.init_from')
  _check_vocabulary(task.info, parts.task.info, [short(k) for k in theirs], path)
  missing = [short(k) for k in mine if k not in theirs]
  other = f'{path} is a run of another network'
  _refuse_other(missing, len(mine), parts.task.model, 'config.init_from', other)
  wrong = [f'missing {name}' for name in missing]
  wrong += [f'extra {short(k)}' for k in theirs if k not in mine]
  both = mine.keys() & theirs.keys()
  for k in both:
    collection, player, *_ = keys = k.split('/')
    within = '/'.join(keys[depth[collection] :])
    try:
      theirs[k] = resampled(parts.task.players.get(player), within, np.asarray(theirs[k]), mine[k].shape)
    except ValueError as e:
      wrong.append(f'{short(k)}: {e}')
  wrong += [
    f'{short(k)} has shape {theirs[k].shape}, not {mine[k].shape}'
    for k in mine
    if k in both and theirs[k].shape != mine[k].shape
  ]
  _refuse(wrong, 'config.init_from')
  given = Given((k, np.asarray(v)) for k, v in theirs.items())
  given.step, given.unused = int(state.step), unused
  _add_adapters(given, adapters, parts, 'model')
  return given


def _add_adapters(given: Given, path: str | None, parts: Parts, player: str) -> None:
  """Adds what a file of adapters holds, if there is one."""
  if path is None:
    return
  if player not in parts.task.players:
    raise ConfigError(f'config.init_from.adapters: are of one network, and there are {", ".join(parts.task.players)}')
  loaded = adapters_of.load(path, parts.task.players[player], parts.state.params[player])
  given.update({f'params/{player}/{name}': value for name, value in loaded.items()})


def _check_vocabulary(theirs: Info, ours: Info, loaded: Iterable[str], path: str) -> None:
  """Raises ConfigError for embeddings, among what is loaded, of tokens which are others here."""
  if (theirs.vocabulary, theirs.tokenizer) == (ours.vocabulary, ours.tokenizer):
    return
  tables = [name for name in loaded if re.search('(^|/)token/embedding$', name)]
  if tables:
    same = f'; data.vocabulary={path!r} takes its own' if theirs.tokenizer is not None else ''
    raise ConfigError(
      f'config.init_from: {tables[0]} of {path} is of another vocabulary than that of the data{same}; '
      f"exclude=['token/embedding$'] leaves it out"
    )


def read(path: pathlib.Path) -> dict[str, np.ndarray]:
  """The arrays of a .safetensors or .npz file; raises ConfigError for another or a damaged one."""
  path = pathlib.Path(path)
  if not path.is_file():
    raise ConfigError(f'config.init_from.path: no file {str(path)!r}')
  try:
    if path.suffix == '.safetensors':
      from safetensors.numpy import load_file

      return load_file(path)
    if path.suffix == '.npz':
      with np.load(path, allow_pickle=False) as file:
        arrays = dict(file)
        if not all(isinstance(v, np.ndarray) for v in arrays.values()):
          raise ValueError('it holds something else than arrays')
        return arrays
  except Exception as e:  # each library has errors of its own for a damaged file
    raise ConfigError(f'config.init_from.path: cannot read {path}: {e}') from e
  raise ConfigError(
    f'config.init_from.path: {path.name} is neither .safetensors nor .npz; a pickled file may run code, so convert it: '
    f"safetensors.torch.save_file(model.state_dict(), 'model.safetensors')"
  )


def convert(
  tensors: Mapping[str, np.ndarray],
  like: PyTree,
  *,
  model: nn.Module,
  layout: str | None = None,
  exclude: Iterable[str] = (),
  where: str = 'config.init_from',
) -> PyTree:
  """Variables from named tensors.

  Args:
    tensors: name -> array, as a PyTorch state dict names and lays them out.
    like: shapes of the variables: {'params': ..., 'batch_stats': ...}.
    model: whose variables they become.
    layout: None for the names that the model itself follows, or one of the `layouts` of its class.
    exclude: regular expressions of tensors that are not read, and of variables ('head/kernel') which stay as they are.
    where: the config path, for error lines.

  Returns:
    `like` with arrays; a variable which is left out is None.

  Raises:
    ConfigError: a missing, an extra or a mis-shaped tensor, the first of them named; weights of another network; or
      `exclude` leaves no variable.
  """
  variables = [state_path(p).partition('/')[2] for p, _ in jax.tree_util.tree_leaves_with_path(like)]
  left_out = _excluded(exclude, [*tensors, *variables], where)
  _refuse_nothing([v for v in variables if not left_out(v)], where)
  named = _named_as(model, {k: v for k, v in tensors.items() if not left_out(k)}, layout, where)
  named = {_canonical(k): (k, v) for k, v in named.items() if not k.endswith('num_batches_tracked')}
  wrong, used = [], set()

  name_of = lambda keys: _canonical('.'.join([*keys[:-1], _LEAVES.get(keys[-1], keys[-1])]))

  def scanned(keys: tuple[str, ...], count: int) -> list[tuple[str, ...]] | None:
    """The paths in each of `count` unrolled blocks of which these are the parameters one upon another, if they are."""
    paths = zip(*(unstacked(keys, i) for i in range(count)))
    return next((list(each) for each in paths if name_of(each[0]) in named), None)

  def leaf(path: tuple[Any, ...], like: Any) -> np.ndarray | None:
    keys = tuple(str(k.key) for k in path)[1:]  # without the name of the collection
    blocks = scanned(keys, like.shape[0]) if name_of(keys) not in named and like.shape else None
    used.update(map(name_of, blocks or [keys]))
    if left_out('/'.join(keys)):
      return None
    values = [one(block, like.shape[1:]) for block in blocks] if blocks else [one(keys, like.shape)]
    if any(value is None for value in values):
      return None
    return np.ascontiguousarray((np.stack(values) if blocks else values[0]).astype(like.dtype))

  def one(keys: tuple[str, ...], shape: tuple[int, ...]) -> np.ndarray | None:
    name = name_of(keys)
    if name not in named:
      wrong.append(f'missing {"/".join(keys)}')
      return None
    source, value = named[name]
    value = np.asarray(value)
    if keys[-1] == 'kernel' and value.ndim in _AXES:
      value = value.transpose(_AXES[value.ndim])
    try:
      value = resampled(model, '/'.join(keys), value, shape)
    except ValueError as e:
      wrong.append(f'{source}: {e}')
      return None
    if value.shape != shape and np.squeeze(value).shape == tuple(n for n in shape if n != 1):
      value = value.reshape(shape)  # a vector as [n, 1, 1]
    if value.shape != shape:
      wrong.append(f'{source} has shape {tensors.get(source, value).shape}, which does not fit {shape}')
      return None
    return value

  filled = jax.tree_util.tree_map_with_path(leaf, like)
  missing = [w.removeprefix('missing ') for w in wrong if w.startswith('missing ')]
  others = ' or '.join(repr(name) for name in getattr(model, 'layouts', {}) if name != layout)
  found = f'the {len(tensors)} tensors, such as {next(iter(tensors))}, are' if tensors else 'the file is'
  found += ' of another network' + (f', or named as in layout={others}' if others else '')
  _refuse_other(missing, sum(not left_out(v) for v in variables), model, where, found)
  wrong += [f'extra {named[name][0]}' for name in named if name not in used]
  _refuse(wrong, where)
  return filled


def _named_as(model: nn.Module, tensors: Tensors, layout: str | None, where: str) -> Tensors:
  """The tensors of a layout under the names that a model follows."""
  if layout is None:
    return tensors
  layouts, kind = getattr(model, 'layouts', {}), type(model).__name__
  if layout not in layouts:
    hint = nearest(layout, layouts) if layouts else f'layouts are a class attribute of {kind}, which has none'
    raise ConfigError(f'{where}.layout: {kind} has no layout {layout!r}; {hint}')
  how = layouts[layout]
  return how(tensors, model) if callable(how) else rename(tensors, how)


def _refuse_nothing(variables: Sized, where: str) -> None:
  if not len(variables):
    raise ConfigError(f'{where}.exclude: it leaves no variable to load; leave init_from out, or exclude less')


def _refuse(wrong: list[str], where: str) -> None:
  if wrong:
    more = f'; and {len(wrong) - NAMED} more' if len(wrong) > NAMED else ''
    raise ConfigError(f'{where}: {"; ".join(wrong[:NAMED])}{more}; exclude=[regular expressions] leaves some out')


def _refuse_other(missing: list[str], wanted: int, model: Any, where: str, otherwise: str) -> None:
  """Raises ConfigError, which says `otherwise`, where more than half of the variables are not there."""
  if 2 * len(missing) > wanted:
    kind = 'the networks' if isinstance(model, Mapping) else type(model).__name__
    raise ConfigError(
      f'{where}: of {wanted} variables of {kind} {len(missing)} are not there, such as {missing[0]}; {otherwise}; '
      'exclude=[regular expressions] leaves some out'
    )


def _excluded(
  exclude: Iterable[str], names: Iterable[str] | None = None, where: str = 'config.init_from'
) -> Callable[[str], bool]:
  """Whether a name is left out; raises ConfigError for a pattern that is none, or that matches none of some names."""
  patterns = [compile_pattern(e, f'{where}.exclude') for e in exclude]
  for pattern in patterns if names is not None else ():
    if not any(pattern.search(name) for name in names):
      raise ConfigError(f'{where}.exclude: {pattern.pattern!r} matches nothing; {nearest(pattern.pattern, names)}')
  return lambda name: any(pattern.search(name) for pattern in patterns)


def _canonical(name: str) -> str:
  return re.sub(r'[._/]+', '.', name)
