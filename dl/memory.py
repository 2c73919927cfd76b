"""What does not fit the memory of this machine: refused before it is tried."""

import math
import os
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree

from dl.errors import ConfigError


def check_batch(example: Mapping[str, np.ndarray], rows: int, where: str) -> None:
  """Raises ConfigError for a batch of so many rows, each as large as `example` (a batch of one), that no host holds."""
  size = rows * sum(v.nbytes for v in example.values())
  if size > _host():
    raise ConfigError(f'{where}: a batch of {rows:,} takes {_text(size)}, and this machine has {_text(_host())}')


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
        f'config.model: with the optimizer it takes {_text(size)} of a device which has {_text(limit)}; make the '
        f"network smaller, or spread it (config.sharding='fsdp' on more devices); python -m dl.plan finds what fits"
      )


def _device(device: Any) -> int:
  found = (device.memory_stats() or {}) if device.platform != 'cpu' else {}
  return found.get('bytes_limit') or (_host() if device.platform == 'cpu' else 2**63)


def _host() -> int:
  return os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')


def _text(size: float) -> str:
  return f'{size / 1e9:,.1f} GB'
