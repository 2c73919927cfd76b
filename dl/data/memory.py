"""Batches that do not fit the memory of this machine: refused before they are tried."""

import os
from collections.abc import Mapping

import numpy as np

from dl.errors import ConfigError
from dl.show.words import size as in_words


def check_batch(example: Mapping[str, np.ndarray], rows: int, where: str) -> None:
  """Raises ConfigError for a batch of so many rows, each as large as `example` (a batch of one), that no host holds."""
  size = rows * sum(v.nbytes for v in example.values())
  if size > host_memory():
    raise ConfigError(
      f'{where}: a batch of {rows:,} takes {in_words(size)}, and this machine has {in_words(host_memory())}'
    )


def host_memory() -> int:
  """Bytes of this machine's memory."""
  return os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')
