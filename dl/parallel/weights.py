"""How the state of a run is split over a mesh: by the config's own pairs, or by the rules of its networks' classes."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import PyTree

from dl.config.patterns import assign, compile_pattern
from dl.contract.state import ParamsEmaState, State
from dl.contract.weights import Rules
from dl.errors import ConfigError, nearest
from dl.parallel.meshes import batch_axes, batch_sharding, replicated
from dl.parallel.strategy import NEEDS, Strategy, divides, strategy

Model = nn.Module | Mapping[str, nn.Module]
"""The network of a task, or player -> network."""

MIN_SHARDED_SIZE = 2**14
"""Arrays with fewer elements are not split over the batch's axes, nor missed by others: it costs more than it saves."""
_BY_RULES = ('tensor', 'expert')  # strategies that follow the rules of a network's class
_RULED = [NEEDS[name][0] for name in _BY_RULES]  # the axes that these may name


def state_shardings(
  rule: str | Sequence[Any], mesh: Mesh, state: State, model: Model, by_row: Sequence[str] = ()
) -> State:
  """A sharding for each array of the (abstract) state. Optimizer states follow the parameters they belong to.

  Args:
    rule: see `strategy`.
    mesh: the device mesh.
    state: shapes of the state.
    model: the network(s), whose classes have the rules that 'tensor' and 'expert' mean (`dl.contract.weights`).
    by_row: keys of `extra` which are split as a batch is (`dl.contract.task.Task.by_row`).

  Raises:
    ConfigError: an unknown axis, axes which do not fit a parameter, a parameter that no pair covers, or a strategy
      which splits nothing.
  """
  chosen, whole = strategy(rule, mesh), replicated(mesh)
  specs = _by_pairs(chosen, mesh, state.params)
  networks = _networks(model)
  for path, leaf in jax.tree_util.tree_leaves_with_path(state.params):
    if _keys(path) not in specs:
      spec = _evenly(_by_rules(chosen, networks, path, leaf), leaf, mesh)
      specs[_keys(path)] = (leaf.shape, _over_batch(spec, leaf, mesh) if 'fsdp' in chosen else spec)
  for name in _BY_RULES:
    axis = NEEDS[name][0]
    if name in chosen and not any(axis in _axes_of(spec) for _, spec in specs.values()):
      classes = ', '.join(sorted({type(network).__name__ for network in networks.values()}))
      raise ConfigError(
        f'config.sharding: {name!r} splits no weights of {classes} over {mesh.shape[axis]} devices; '
        'give [regex, axes] pairs, state `sharding_rules` in its class, or take another strategy'
      )

  is_average = lambda x: isinstance(x, ParamsEmaState)  # which evaluations and artifacts read
  leaves = jax.tree_util.tree_leaves_with_path(state.opt, is_leaf=is_average)
  averages = [path for path, leaf in leaves if is_average(leaf)]

  def of_optimizer(path: Any, leaf: Any) -> NamedSharding:
    keys, spec = _keys(path), P()
    for n in range(1, len(keys)):  # an optimizer's moment ends in the path of its parameter
      shape, of_parameter = specs.get((keys[0], *keys[n:]), (None, P()))
      if shape == leaf.shape:
        spec = of_parameter
        break
    if {'zero1', 'fsdp'} & chosen.names:
      spec = _over_batch(spec, leaf, mesh)
    away = 'offload' in chosen and leaf.ndim and not any(path[: len(p)] == p for p in averages)
    kind = {'memory_kind': _host_memory(mesh)} if away else {}
    return NamedSharding(mesh, spec, **kind)

  result = jax.tree.map(lambda _: whole, state)
  rows = {key: jax.tree.map(lambda _: batch_sharding(mesh), state.extra[key]) for key in by_row if key in state.extra}
  return result.replace(
    extra={**result.extra, **rows} if rows else result.extra,
    params=jax.tree_util.tree_map_with_path(lambda p, _: NamedSharding(mesh, specs[_keys(p)][1]), state.params),
    opt=jax.tree_util.tree_map_with_path(of_optimizer, state.opt),
  )


def left_whole(rule: str | Sequence[Any], mesh: Mesh, state: State, model: Model) -> str | None:
  """A line on the larger weights which 'tensor' or 'expert' would split, and devices cannot share; None without any.

  Arguments: those of `state_shardings`.
  """
  chosen = strategy(rule, mesh)
  covered, networks, whole = _by_pairs(chosen, mesh, state.params), _networks(model), []
  for path, leaf in jax.tree_util.tree_leaves_with_path(state.params):
    if leaf.size < MIN_SHARDED_SIZE or _keys(path) in covered:
      continue
    asked = _by_rules(chosen, networks, path, leaf)
    if _evenly(asked, leaf, mesh) != asked:
      whole.append(f'{"/".join(_keys(path))} ({" x ".join(f"{n:,}" for n in leaf.shape)})')
  if not whole:
    return None
  more = f' and {len(whole) - 3} more' if len(whole) > 3 else ''
  return f'config.sharding: devices cannot share {", ".join(whole[:3])}{more} evenly, so these are not split as asked'


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


def _networks(model: Model) -> Mapping[str, nn.Module]:
  return model if isinstance(model, Mapping) else {'model': model}


def _by_rules(chosen: Strategy, networks: Mapping[str, nn.Module], path: Sequence[Any], leaf: Any) -> P:
  """What the class of a parameter's network says, of the axes which are asked for.

  Raises:
    ConfigError: the rule which is for it is none.
  """
  kept = {NEEDS[name][0] for name in _BY_RULES if name in chosen}
  player, *below = _keys(path)
  rules: Rules = getattr(networks.get(player), 'sharding_rules', ()) if kept else ()
  name = '/'.join(below)
  for regex, axes in rules:
    where = f'{type(networks[player]).__name__}.sharding_rules'
    if not compile_pattern(regex, where).search(name):
      continue
    for axis in axes:
      if axis not in (None, *_RULED):
        raise ConfigError(f'{where}: no axis is called {axis!r}; {nearest(axis, _RULED)}')
    if len(axes) > leaf.ndim:
      raise ConfigError(f'{where}: {len(axes)} axes for {name!r}, which has {leaf.ndim} dimensions')
    return P(*[None] * (leaf.ndim - len(axes)), *[a if a in kept else None for a in axes])
  return P()


def _evenly(spec: P, leaf: Any, mesh: Mesh) -> P:
  """A spec, for each dimension or none, without those axes whose devices cannot share their dimension."""
  if not len(spec):
    return spec
  return P(*[a if divides(size, a, mesh) else None for size, a in zip(leaf.shape, spec, strict=True)])


def _over_batch(spec: P, leaf: Any, mesh: Mesh) -> P:
  """A spec which also splits the largest dimension that can be over those axes of the batch which it does not use."""
  axes = tuple(a for a in batch_axes(mesh) if a not in _axes_of(spec))
  if leaf.size < MIN_SHARDED_SIZE or not axes:
    return spec
  whole = (*spec, *[None] * (leaf.ndim - len(spec)))
  for dim in sorted(range(leaf.ndim), key=lambda d: -leaf.shape[d]):
    if whole[dim] is None and divides(leaf.shape[dim], axes, mesh):
      return P(*whole[:dim], axes if len(axes) > 1 else axes[0], *whole[dim + 1 :])
  return spec


def _axes_of(spec: P) -> set[str]:
  return {a for axes in spec for a in ((axes,) if isinstance(axes, str) else axes or ())}


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
    if not divides(size, axes, mesh):
      raise ConfigError(
        f'{where}: {path!r} has a dimension of {size}, which {axes!r} of {dict(mesh.shape)} cannot share'
      )


def _keys(path: Sequence[Any]) -> tuple[str, ...]:
  return tuple(jax.tree_util.keystr((k,), simple=True) for k in path)
