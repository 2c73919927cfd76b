"""Keeping the memory that a step on a CPU gives back, for the next one.

XLA asks for the buffers of a step anew each time. The C library of Linux gives large ones back to the system at once,
which then clears each page again: a quarter to a third of a small network's training.
"""

import ctypes
import os
import sys

VARIABLES = ('MALLOC_ARENA_MAX', 'MALLOC_MMAP_THRESHOLD_', 'MALLOC_TRIM_THRESHOLD_', 'GLIBC_TUNABLES')
_ARENA_MAX, _MMAP_THRESHOLD, _TRIM_THRESHOLD = -8, -3, -1  # <malloc.h>
_KEPT, _SMALL = 2**31 - 1, 2**30  # bytes which stay at the top of the heap; buffers that come from it


def keep_memory() -> bool:
  """Sets this process to do so; False where there is no such setting, or the user's own variables have one."""
  if sys.platform != 'linux' or any(name in os.environ for name in VARIABLES):
    return False
  mallopt = getattr(ctypes.CDLL(None), 'mallopt', None)  # not in every C library
  settings = ((_ARENA_MAX, 1), (_MMAP_THRESHOLD, _SMALL), (_TRIM_THRESHOLD, _KEPT))  # only one heap can grow at will
  return mallopt is not None and all([mallopt(*pair) for pair in settings])
