"""A state that does not fit the memory of its devices: refused before it is tried."""

import math
from collections.abc import Iterable
from typing import Any

import jax
from jaxtyping import PyTree

from dl.data.memory import host_memory
from dl.errors import ConfigError
from dl.show.words import size as in_words


def check_state(like: PyTree, devices: Iterable[jax.Device]) -> None:
  """Raises ConfigError for a state that its devices cannot hold, whatever else a step needs.

  Args:
    like: shapes with shardings.
    devices: those of this process which hold it.
  """
  devices = list(devices)
  size = sum(
    x.dtype.itemsize * math.prod(x.sharding.shard_shape(x.shape))
    for x in jax.tree.leaves(like)
    if 'host' not in (x.sharding.memory_kind or '') or devices[0].platform == 'cpu'
  )
  for device in devices:
    limit = _device(device) // (len(devices) if device.platform == 'cpu' else 1)  # CPU devices share the host's memory
    if size > limit:
      raise ConfigError(
        f'config.model: with the optimizer it takes {in_words(size)} of a device which has {in_words(limit)}; '
        f"make the network smaller, or spread it (config.sharding='fsdp' on more devices); "
        f'python -m dl.plan finds what fits'
      )


def _device(device: Any) -> int:
  stats = (device.memory_stats() or {}) if device.platform != 'cpu' else {}
  return stats.get('bytes_limit') or (host_memory() if device.platform == 'cpu' else 2**63)
