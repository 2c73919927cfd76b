"""How the state and the activations of a run are split over a mesh: strategies by name, and rules by pattern."""

import dataclasses
import functools
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import PyTree

from dl.config.patterns import assign
from dl.contract.axes import Axes
from dl.contract.state import ParamsEmaState, State
from dl.errors import ConfigError, nearest
from dl.parallel.meshes import BATCH_AXES, batch_axes, replicated
from dl.parallel.rules import RULES

STRATEGIES = {
  'replicated': 'every device has all of the state; alone',
  'fsdp': 'parameters and optimizer states are split over the axes of the batch (ZeRO stage 3, arXiv 1910.02054)',
  'zero1': 'optimizer states alone are split over the axes of the batch (ZeRO stage 1)',
  'tensor': "layers are split over the axis 'model', by the rules of the model's family (arXiv 1909.08053)",
  'sequence': "tokens between sublayers are split over the axis 'sequence', or else 'model' (arXiv 2205.05198)",
  'expert': "experts are split over the axis 'expert' (GShard, arXiv 2006.16668)",
  'offload': "optimizer states but running averages of parameters lie in the host's memory between steps",
}
"""What `sharding` may name; several are joined by '+'."""

MIN_SHARDED_SIZE = 2**14
"""Arrays with fewer elements are not split over the batch's axes, nor missed by others: it costs more than it saves."""

AXES = (*BATCH_AXES, 'model', 'sequence')
"""Mesh axes which strategies split over; pairs of one's own may name others."""

_NEEDS = {'tensor': ('model',), 'expert': ('expert',), 'sequence': ('sequence', 'model')}


@dataclasses.dataclass(frozen=True)
class Strategy:
  """A config's `sharding`, read.

  Attributes:
    names: of `STRATEGIES`.
    pairs: (regex, axes) rules which come first; parameters that they leave follow `names`.
    complete: whether the pairs cover every parameter.
  """

  names: frozenset[str] = frozenset()
  pairs: tuple[Any, ...] = ()
  complete: bool = False

  def __contains__(self, name: str) -> bool:
    return name in self.names


def strategy(rule: str | Sequence[Any], mesh: Mesh) -> Strategy:
  """Reads a config's `sharding`.

  Args:
    rule: names of `STRATEGIES` joined by '+'; or ordered (regex, axes) pairs over parameter paths such as
      'model/dense_0/kernel', where axes is a list of mesh axis names, lists of them, or None, one a dimension. Such a
      list covers every parameter, or ends with names for the rest.
    mesh: the device mesh.

  Raises:
    ConfigError: an unknown name, names which exclude each other, a mesh without the axes that they need, or with one
      which splits nothing.
  """
  chosen = _read(rule, mesh)
  axes = [list(pair[1:]) for pair in chosen.pairs if isinstance(pair, list | tuple)]
  used = {*batch_axes(mesh), *_names(axes)}
  used |= {'model'} if 'tensor' in chosen else set()
  used |= {_sequence_axis(mesh)} if 'sequence' in chosen else set()
  for axis, size in mesh.shape.items():
    if axis not in used and (size > 1 or axis not in AXES):
      hint = 'leave it out' if axis in AXES else nearest(axis, AXES)
      raise ConfigError(f'config.mesh.{axis}: nothing is split over this axis by config.sharding, {rule!r}; {hint}')
  return chosen


def _read(rule: str | Sequence[Any], mesh: Mesh) -> Strategy:
  if not isinstance(rule, str):
    rest = rule[-1] if len(rule) and isinstance(rule[-1], str) else None
    found = _read(rest, mesh) if rest is not None else Strategy()
    return dataclasses.replace(found, pairs=tuple(rule[:-1] if rest is not None else rule), complete=rest is None)
  names = rule.split('+')
  for name in names:
    if name not in STRATEGIES:
      raise ConfigError(f'config.sharding: no strategy is called {name!r}; {nearest(name, STRATEGIES)}')
  for one, other in (('replicated', names), ('fsdp', ['zero1'])):
    if one in names and len(names) > 1 and set(other) & set(names):
      raise ConfigError(f'config.sharding: {rule!r} is a contradiction: {one!r} is {STRATEGIES[one]}')
  for name in names:
    if name in _NEEDS and not set(_NEEDS[name]) & set(mesh.shape):
      raise ConfigError(
        f'config.sharding: {name!r} needs an axis {" or ".join(map(repr, _NEEDS[name]))}; '
        f'config.mesh has {dict(mesh.shape)}'
      )
  return Strategy(frozenset(names) - {'replicated'})


def state_shardings(rule: str | Sequence[Any], mesh: Mesh, state: State, families: Mapping[str, str]) -> State:
  """A sharding for each array of the (abstract) state. Optimizer states follow the parameters they belong to.

  Args:
    rule: see `strategy`.
    mesh: the device mesh.
    state: shapes of the state.
    families: player -> class of its model, whose rules (`dl.parallel.rules`) are meant by 'tensor' and 'expert'.

  Raises:
    ConfigError: an unknown axis, axes which do not fit a parameter, a parameter that no rule covers, or a strategy
      which splits nothing.
  """
  chosen, whole = strategy(rule, mesh), replicated(mesh)
  specs = _by_pairs(chosen, mesh, state.params)
  for path, leaf in jax.tree_util.tree_leaves_with_path(state.params):
    if _keys(path) not in specs:
      spec = _evenly(_by_family(chosen, families, path, leaf), leaf, mesh)
      specs[_keys(path)] = (leaf.shape, _over_batch(spec, leaf, mesh) if 'fsdp' in chosen else spec)
  for name in {'tensor', 'expert'} & chosen.names:
    if not any(_NEEDS[name][0] in _axes_of(spec) for _, spec in specs.values()):
      raise ConfigError(
        f'config.sharding: {name!r} splits no weights of {", ".join(sorted(set(families.values())))} over '
        f'{mesh.shape[_NEEDS[name][0]]} devices; give [regex, axes] pairs, or take another strategy'
      )

  is_average = lambda x: isinstance(x, ParamsEmaState)  # which evaluations and artifacts read
  leaves = jax.tree_util.tree_leaves_with_path(state.opt, is_leaf=is_average)
  averages = [path for path, leaf in leaves if is_average(leaf)]

  def of_optimizer(path: Any, leaf: Any) -> NamedSharding:
    keys, spec = _keys(path), P()
    for n in range(1, len(keys)):  # an optimizer's moment ends in the path of its parameter
      shape, found = specs.get((keys[0], *keys[n:]), (None, P()))
      if shape == leaf.shape:
        spec = found
        break
    if {'zero1', 'fsdp'} & chosen.names:
      spec = _over_batch(spec, leaf, mesh)
    away = 'offload' in chosen and leaf.ndim and not any(path[: len(p)] == p for p in averages)
    kind = {'memory_kind': _host_memory(mesh)} if away else {}
    return NamedSharding(mesh, spec, **kind)

  return jax.tree.map(lambda _: whole, state).replace(
    params=jax.tree_util.tree_map_with_path(lambda p, _: NamedSharding(mesh, specs[_keys(p)][1]), state.params),
    opt=jax.tree_util.tree_map_with_path(of_optimizer, state.opt),
  )


def left_whole(rule: str | Sequence[Any], mesh: Mesh, state: State, families: Mapping[str, str]) -> str | None:
  """A line on the larger weights which 'tensor' or 'expert' would split, and devices cannot share; None without any.

  Arguments: those of `state_shardings`.
  """
  chosen = strategy(rule, mesh)
  covered, found = _by_pairs(chosen, mesh, state.params), []
  for path, leaf in jax.tree_util.tree_leaves_with_path(state.params):
    if leaf.size < MIN_SHARDED_SIZE or _keys(path) in covered:
      continue
    asked = _by_family(chosen, families, path, leaf)
    if _evenly(asked, leaf, mesh) != asked:
      found.append(f'{"/".join(_keys(path))} ({" x ".join(f"{n:,}" for n in leaf.shape)})')
  if not found:
    return None
  more = f' and {len(found) - 3} more' if len(found) > 3 else ''
  return f'config.sharding: devices cannot share {", ".join(found[:3])}{more} evenly, so these are not split as asked'


def families(model: nn.Module | Mapping[str, nn.Module]) -> dict[str, str]:
  """Player -> class of its model, of the model(s) of a task."""
  models = model if isinstance(model, Mapping) else {'model': model}
  return {player: type(part).__name__ for player, part in models.items()}


def onto_devices(train: Callable, rule: str | Sequence[Any], shardings: State) -> Callable:
  """A training step that brings optimizer states from the host's memory and back, where 'offload' says so."""
  mesh = shardings.step.mesh
  if 'offload' not in strategy(rule, mesh):
    return train
  here = jax.tree.map(lambda s: NamedSharding(mesh, s.spec, memory_kind='device'), shardings.opt)

  @functools.wraps(train)
  def wrapped(state: State, *arguments: Any) -> Any:
    new, *rest = train(state.replace(opt=jax.device_put(state.opt, here)), *arguments)
    return new.replace(opt=jax.device_put(new.opt, shardings.opt)), *rest

  return wrapped


def split_activations(function: Callable, mesh: Mesh, argument: int, rule: str | Sequence[Any]) -> Callable:
  """A function whose modules keep what they take and give split over the mesh, as the batch is and as `Axes` say.

  Without it XLA may split activations along features, as weights are under 'fsdp', and move them rather than weights.
  Modules need not know of it: their calls are intercepted. Other dimensions are left to XLA.

  Args:
    function: to be jitted; it calls modules.
    mesh: the device mesh; on a single device the function stays as it is.
    argument: which argument is the batch.
    rule: see `strategy`.

  Raises:
    ConfigError: when the function is traced, if 'sequence' splits nothing.
  """
  if mesh.size == 1:
    return function
  chosen = strategy(rule, mesh)
  axes = _activations(chosen, mesh)

  @functools.wraps(function)
  def wrapped(*arguments: Any) -> Any:
    shared: set[str | None] = set()
    rows = max((len(x) for x in jax.tree.leaves(arguments[argument]) if x.ndim), default=0)

    def constrain(x: Any) -> Any:
      if not isinstance(x, jax.Array) or x.ndim < 2 or not rows or len(x) % rows:
        return x
      return place(x, ('batch', *[None] * (x.ndim - 1)))

    def place(x: jax.Array, names: Sequence[str | None]) -> jax.Array:
      spec = [axes.get(name, P.UNCONSTRAINED) for name in names]
      spec = [s if _divides(x.shape[i], s, mesh) else P.UNCONSTRAINED for i, s in enumerate(spec)]
      shared.update(name for name, s in zip(names, spec) if s is not P.UNCONSTRAINED)
      return jax.lax.with_sharding_constraint(x, NamedSharding(mesh, P(*spec)))

    def intercept(method: Callable, args: Any, kwargs: Any, context: Any) -> Any:
      if context.method_name != '__call__':
        return method(*args, **kwargs)
      if isinstance(context.module, Axes):
        return place(method(*args), context.module.names)
      return jax.tree.map(constrain, method(*jax.tree.map(constrain, args), **kwargs))

    with nn.intercept_methods(intercept):
      result = function(*arguments)
    if 'sequence' in chosen and 'length' not in shared:
      raise ConfigError(
        f"config.sharding: 'sequence' splits nothing here: the model has no tokens, or a number of them that "
        f'{mesh.shape[_sequence_axis(mesh)]} devices cannot share'
      )
    return result

  return wrapped


def _activations(chosen: Strategy, mesh: Mesh) -> dict[str, Any]:
  """Name of a dimension -> the mesh axes that split it; None where it is kept whole."""
  axes: dict[str, Any] = {'batch': batch_axes(mesh)}
  if 'tensor' in chosen:
    axes |= dict.fromkeys(('heads', 'hidden', 'vocab'), 'model')
  if 'expert' in chosen:
    axes |= {'expert': 'expert', 'group': tuple(a for a in batch_axes(mesh) if a != 'expert') or None}
  if 'sequence' in chosen:
    own = _sequence_axis(mesh)
    axes |= {'length': own, 'query': own if own == 'sequence' else None, 'key': None}
  return axes


def _sequence_axis(mesh: Mesh) -> str:
  return 'sequence' if 'sequence' in mesh.shape else 'model'


def _names(axes: Any) -> set[str]:
  """The texts in lists of lists."""
  if isinstance(axes, str):
    return {axes}
  return {name for part in axes for name in _names(part)} if isinstance(axes, list | tuple) else set()


def _by_pairs(chosen: Strategy, mesh: Mesh, params: PyTree) -> dict[tuple[str, ...], tuple[Any, P]]:
  """Path -> (shape, spec) of the parameters that the config's own rules cover."""
  if not chosen.pairs and not chosen.complete:
    return {}
  pairs = chosen.pairs if chosen.complete else (*chosen.pairs, ['', None])
  index = jax.tree.leaves(assign(pairs, params, 'config.sharding'))
  specs = {}
  for (path, leaf), i in zip(jax.tree_util.tree_leaves_with_path(params), index, strict=True):
    if i < len(chosen.pairs):
      spec = _spec(pairs[i][1], mesh, f'config.sharding.{i}')
      _check_fits(spec, leaf, mesh, f'config.sharding.{i}', jax.tree_util.keystr(path, simple=True, separator='/'))
      specs[_keys(path)] = (leaf.shape, spec)
  return specs


def _by_family(chosen: Strategy, families: Mapping[str, str], path: Sequence[Any], leaf: Any) -> P:
  """What the rules of a parameter's model say, of the axes which are asked for."""
  kept = {_NEEDS[name][0] for name in ('tensor', 'expert') if name in chosen}
  player, *below = _keys(path)
  name = '/'.join(below)
  for regex, axes in RULES.get(families[player], ()) if kept else ():
    if re.search(regex, name):
      return P(*[None] * (leaf.ndim - len(axes)), *[a if a in kept else None for a in axes])
  return P()


def _evenly(spec: P, leaf: Any, mesh: Mesh) -> P:
  """A spec, for each dimension or none, without those axes whose devices cannot share their dimension."""
  if not len(spec):
    return spec
  return P(*[a if _divides(size, a, mesh) else None for size, a in zip(leaf.shape, spec, strict=True)])


def _over_batch(spec: P, leaf: Any, mesh: Mesh) -> P:
  """A spec which also splits the largest dimension that can be over those axes of the batch which it does not use."""
  axes = tuple(a for a in batch_axes(mesh) if a not in _axes_of(spec))
  if leaf.size < MIN_SHARDED_SIZE or not axes:
    return spec
  whole = (*spec, *[None] * (leaf.ndim - len(spec)))
  for dim in sorted(range(leaf.ndim), key=lambda d: -leaf.shape[d]):
    if whole[dim] is None and _divides(leaf.shape[dim], axes, mesh):
      return P(*whole[:dim], axes if len(axes) > 1 else axes[0], *whole[dim + 1 :])
  return spec


def _axes_of(spec: P) -> set[str]:
  return {a for axes in spec for a in ((axes,) if isinstance(axes, str) else axes or ())}


def _divides(size: int, axes: Any, mesh: Mesh) -> bool:
  """Whether the devices along mesh axes can share a dimension evenly."""
  if axes is None or axes is P.UNCONSTRAINED:
    return True
  ways = 1
  for axis in (axes,) if isinstance(axes, str) else axes:
    ways *= mesh.shape[axis]
  return size % ways == 0


def _host_memory(mesh: Mesh) -> str:
  device = mesh.devices.flat[0]
  if 'pinned_host' not in {m.kind for m in device.addressable_memories()}:
    raise ConfigError(f"config.sharding: 'offload' needs pinned host memory, which {device.platform} devices lack here")
  return 'pinned_host'


def _spec(axes: Any, mesh: Mesh, where: str) -> P:
  axes = [] if axes is None else axes
  if not isinstance(axes, list | tuple):
    raise ConfigError(f'{where}: expected a list of mesh axes, one a dimension, got {axes!r}')
  axes = [tuple(a) if isinstance(a, list | tuple) else a for a in axes]
  for axis in (a for entry in axes for a in (entry if isinstance(entry, tuple) else (entry,))):
    if axis is not None and (not isinstance(axis, str) or axis not in mesh.shape):
      raise ConfigError(f'{where}: no mesh axis {axis!r}; {nearest(axis, mesh.shape)}')
  return P(*axes)


def _check_fits(spec: P, leaf: Any, mesh: Mesh, where: str, path: str) -> None:
  if len(spec) > leaf.ndim:
    raise ConfigError(f'{where}: {len(spec)} axes for {path!r}, which has {leaf.ndim} dimensions')
  for size, axes in zip(leaf.shape, spec, strict=False):
    if not _divides(size, axes, mesh):
      raise ConfigError(
        f'{where}: {path!r} has a dimension of {size}, which {axes!r} of {dict(mesh.shape)} cannot share'
      )


def _keys(path: Sequence[Any]) -> tuple[str, ...]:
  return tuple(jax.tree_util.keystr((k,), simple=True) for k in path)
