"""The device mesh, and where batches lie on it."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import PyTree

from dl.errors import ConfigError

BATCH_AXES = ('data', 'expert')
"""Mesh axes over which batches are split; experts are split over the second one as well, where layers have them."""


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
  known = math.prod(s for s in sizes if s != -1)
  if sizes.count(-1) > 1:
    raise ConfigError('config.mesh: only one axis can be -1')
  if sizes.count(-1) == 1:
    if len(devices) % known:
      raise ConfigError(f'config.mesh: {len(devices)} devices cannot be divided by {known}')
    sizes[sizes.index(-1)] = len(devices) // known
  count = math.prod(sizes)
  if count > len(devices) or (count < len(devices) and jax.process_count() > 1):
    raise ConfigError(f'config.mesh: {dict(spec)} takes {count} devices, and there are {len(devices)}')
  devices = devices[:count]
  return Mesh(np.asarray(devices).reshape(sizes), tuple(spec), axis_types=(AxisType.Auto,) * len(sizes))


def fitting(spec: Mapping[str, int], count: int) -> dict[str, int]:
  """A config's mesh if it fits this many devices; else all of them along 'data': for a run which trained on others."""
  known = math.prod(s for s in spec.values() if s != -1)
  fits = count % known == 0 if -1 in spec.values() else count == known
  return dict(spec) if fits else dict.fromkeys(spec, 1) | {'data': -1}


def batch_axes(mesh: Mesh) -> tuple[str, ...]:
  """The axes of a mesh over which batches are split."""
  return tuple(axis for axis in BATCH_AXES if axis in mesh.shape)


def check_batch(batch_size: int, mesh: Mesh, where: str) -> None:
  """Raises ConfigError unless the axes of the batch can share it evenly."""
  ways = math.prod(mesh.shape[axis] for axis in batch_axes(mesh))
  if batch_size % ways:
    near = max(batch_size // ways, 1) * ways
    raise ConfigError(f'{where}: a batch of {batch_size} cannot be shared by {ways} devices; try {near}')


def check_evals(pipelines: Mapping[str, Any], mesh: Mesh) -> None:
  """`check_batch` of each evaluation: name -> its data, or None for a task without."""
  for name, pipeline in pipelines.items():
    if pipeline is not None:
      check_batch(pipeline.batch_size, mesh, f'config.eval.{name}.batch_size')


def replicated(mesh: Mesh) -> NamedSharding:
  """The same array on every device."""
  return NamedSharding(mesh, P())


def batch_sharding(mesh: Mesh, leading: int = 0) -> NamedSharding:
  """Split over the axes of the batch along its dimension, which follows `leading` other dimensions."""
  return NamedSharding(mesh, P(*[None] * leading, batch_axes(mesh)))


def share(mesh: Mesh, process: int) -> tuple[int, int]:
  """(index, count): a process reads the index-th of `count` equal parts of each batch.

  Processes whose devices differ along other axes than those of the batch read the same part.

  Raises:
    ConfigError: parts which are not contiguous or not equal.
  """
  ways = math.prod(mesh.shape[axis] for axis in batch_axes(mesh))
  blocks: dict[int, set[int]] = {}
  for device, (rows,) in batch_sharding(mesh).devices_indices_map((ways,)).items():
    blocks.setdefault(device.process_index, set()).update(range(ways)[rows])
  mine = sorted(blocks[process])
  if any(len(b) != len(mine) or min(b) % len(b) or max(b) - min(b) >= len(b) for b in blocks.values()):
    raise ConfigError(f"config.mesh: the batch axes of {dict(mesh.shape)} cross processes; name 'data' first")
  return mine[0] // len(mine), ways // len(mine)


def place(batch: PyTree, sharding: NamedSharding) -> PyTree:
  """Host arrays (this process's rows) to one global device array each.

  On a mesh of one CPU device they stay as they are: a compiled function takes them so, and a copy would cost time.
  """
  if sharding.mesh.size == 1 and sharding.mesh.devices.item().platform == 'cpu':
    return batch
  if jax.process_count() == 1:
    return jax.device_put(batch, sharding)
  return jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, x), batch)
