"""Where arrays live: the device mesh, and partition rules for the state."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import PyTree

from dl.errors import ConfigError, nearest
from dl.patterns import assign

MIN_SHARDED_SIZE = 2**14
"""Arrays with fewer elements stay replicated under 'fsdp': splitting them costs more than it saves."""


def make_mesh(spec: Mapping[str, int], devices: Sequence[jax.Device] | None = None) -> Mesh:
  """A mesh of named axes; one size may be -1, for all the devices that the others leave.

  Sizes which multiply to fewer than all devices take the first ones.

  Raises:
    ConfigError: no 'data' axis, or sizes which do not multiply to the number of devices.
  """
  devices = list(devices if devices is not None else jax.devices())
  if 'data' not in spec:
    raise ConfigError(f"config.mesh: needs an axis 'data', over which batches are split; got {dict(spec)}")
  for name, size in spec.items():
    if not isinstance(size, int) or isinstance(size, bool) or (size < 1 and size != -1):
      raise ConfigError(f'config.mesh.{name}: expected a number of devices or -1, got {size!r}')
  sizes = list(spec.values())
  known = int(np.prod([s for s in sizes if s != -1]))
  if sizes.count(-1) > 1:
    raise ConfigError('config.mesh: only one axis can be -1')
  if sizes.count(-1) == 1:
    if len(devices) % known:
      raise ConfigError(f'config.mesh: {len(devices)} devices cannot be divided by {known}')
    sizes[sizes.index(-1)] = len(devices) // known
  count = int(np.prod(sizes))
  if count > len(devices) or (count < len(devices) and jax.process_count() > 1):
    raise ConfigError(f'config.mesh: {dict(spec)} takes {count} devices, and there are {len(devices)}')
  devices = devices[:count]
  return Mesh(np.asarray(devices).reshape(sizes), tuple(spec), axis_types=(AxisType.Auto,) * len(sizes))


def fitting(spec: Mapping[str, int], count: int) -> dict[str, int]:
  """A config's mesh if it fits this many devices; else all of them along 'data': for a run which trained on others."""
  known = int(np.prod([s for s in spec.values() if s != -1]))
  fits = count % known == 0 if -1 in spec.values() else count == known
  return dict(spec) if fits else dict.fromkeys(spec, 1) | {'data': -1}


def check_batch(batch_size: int, mesh: Mesh, where: str) -> None:
  """Raises ConfigError unless the data axis can share the batch evenly."""
  ways = mesh.shape['data']
  if batch_size % ways:
    near = max(batch_size // ways, 1) * ways
    raise ConfigError(f'{where}: a batch of {batch_size} cannot be shared by {ways} devices; try {near}')


def replicated(mesh: Mesh) -> NamedSharding:
  """The same array on every device."""
  return NamedSharding(mesh, P())


def batch_sharding(mesh: Mesh, leading: int = 0) -> NamedSharding:
  """Split over the data axis along the batch dimension, which follows `leading` other dimensions."""
  return NamedSharding(mesh, P(*[None] * leading, 'data'))


def split_activations(function: Callable, mesh: Mesh, argument: int) -> Callable:
  """A function whose modules keep what they take and give split over the data axis, as the batch is.

  Without it XLA may split activations along features, as weights are under 'fsdp', and move them rather than weights.
  Modules need not know of it: their calls are intercepted. Other dimensions are left to XLA.

  Args:
    function: to be jitted; it calls modules.
    mesh: the device mesh; on a single device the function stays as it is.
    argument: which argument is the batch.
  """
  if mesh.size == 1:
    return function

  @functools.wraps(function)
  def wrapped(*arguments: Any) -> Any:
    rows = max((len(x) for x in jax.tree.leaves(arguments[argument]) if x.ndim), default=0)

    def constrain(x: Any) -> Any:
      if not isinstance(x, jax.Array) or x.ndim < 2 or not rows or len(x) % rows:
        return x
      spec = P('data', *[P.UNCONSTRAINED] * (x.ndim - 1))
      return jax.lax.with_sharding_constraint(x, NamedSharding(mesh, spec))

    def intercept(method: Callable, args: Any, kwargs: Any, context: Any) -> Any:
      if context.method_name != '__call__':
        return method(*args, **kwargs)
      return jax.tree.map(constrain, method(*jax.tree.map(constrain, args), **kwargs))

    with nn.intercept_methods(intercept):
      return function(*arguments)

  return wrapped


def state_shardings(rule: str | Sequence[Any], mesh: Mesh, state: PyTree) -> PyTree:
  """A sharding for each array of the (abstract) state.

  Args:
    rule: 'replicated'; 'fsdp', which splits each large array over the data axis along its largest divisible
      dimension; or ordered (regex, axes) pairs over parameter paths such as 'model/Dense_0/kernel', where axes is
      a list of mesh axis names or None, one a dimension. Optimizer states follow the parameters they belong to.
    mesh: the device mesh.
    state: `dl.state.State` of shapes.

  Raises:
    ConfigError: an unknown axis, axes which do not fit a parameter, or a parameter that no rule covers.
  """
  whole = replicated(mesh)
  if rule == 'replicated':
    return jax.tree.map(lambda _: whole, state)
  if rule == 'fsdp':
    placed = jax.tree.map(lambda x: NamedSharding(mesh, _fsdp(x, mesh.shape['data'])), (state.params, state.opt))
    return jax.tree.map(lambda _: whole, state).replace(params=placed[0], opt=placed[1])
  index = assign(rule, state.params, 'config.sharding')
  specs = {}
  for (path, leaf), i in zip(jax.tree_util.tree_leaves_with_path(state.params), jax.tree.leaves(index), strict=True):
    spec = _spec(rule[i][1], mesh, f'config.sharding.{i}')
    _check_fits(spec, leaf, mesh, f'config.sharding.{i}', jax.tree_util.keystr(path, simple=True, separator='/'))
    specs[_keys(path)] = (leaf.shape, NamedSharding(mesh, spec))

  def follow(path, leaf):
    keys = _keys(path)
    for n in range(len(keys)):  # an optimizer's moment ends in the path of its parameter
      found = specs.get((keys[0], *keys[n:])) if keys else None
      if found and found[0] == leaf.shape:
        return found[1]
    return whole

  return jax.tree.map(lambda _: whole, state).replace(
    params=jax.tree_util.tree_map_with_path(lambda p, _: specs[_keys(p)][1], state.params),
    opt=jax.tree_util.tree_map_with_path(follow, state.opt),
  )


def place(batch: PyTree, sharding: NamedSharding) -> PyTree:
  """Host arrays (this process's rows) to one global device array each.

  On a mesh of one CPU device they stay as they are: a compiled function takes them so, and a copy would cost time.
  """
  if sharding.mesh.size == 1 and sharding.mesh.devices.item().platform == 'cpu':
    return batch
  if jax.process_count() == 1:
    return jax.device_put(batch, sharding)
  return jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, x), batch)


def _fsdp(leaf: Any, ways: int) -> P:
  if leaf.size < MIN_SHARDED_SIZE or ways == 1:
    return P()
  for dim in sorted(range(leaf.ndim), key=lambda d: -leaf.shape[d]):
    if leaf.shape[dim] % ways == 0:
      return P(*[None] * dim, 'data')
  return P()


def _spec(axes: Any, mesh: Mesh, where: str) -> P:
  axes = [] if axes is None else axes
  if not isinstance(axes, list | tuple):
    raise ConfigError(f'{where}: expected a list of mesh axes, one a dimension, got {axes!r}')
  for axis in axes:
    if axis is not None and (not isinstance(axis, str) or axis not in mesh.shape):
      raise ConfigError(f'{where}: no mesh axis {axis!r}; {nearest(axis, mesh.shape)}')
  return P(*axes)


def _check_fits(spec: P, leaf: Any, mesh: Mesh, where: str, path: str) -> None:
  if len(spec) > leaf.ndim:
    raise ConfigError(f'{where}: {len(spec)} axes for {path!r}, which has {leaf.ndim} dimensions')
  for size, axis in zip(leaf.shape, spec, strict=False):
    if axis is not None and size % mesh.shape[axis]:
      raise ConfigError(f'{where}: {path!r} has a dimension of {size}, which {mesh.shape[axis]} devices cannot share')


def _keys(path: Sequence[Any]) -> tuple[str, ...]:
  return tuple(jax.tree_util.keystr((k,), simple=True) for k in path)
