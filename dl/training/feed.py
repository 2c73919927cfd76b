"""The batches of the steps on their way to the devices, and how far the host may run ahead of them."""

import collections
import itertools
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from dl.data.pipeline import prefetch
from dl.parallel import meshes
from dl.training import seeds
from dl.training.assemble import Parts

QUEUE_BYTES = 2**26
"""How much memory the batches of dispatched steps may take, which is little beside any model's activations."""

QUEUE_SECONDS = 0.3
"""How far the host may run ahead of the device: a signal or an error is noticed that much later."""


def queue_depth(batch: Any) -> int:
  """How many steps may be under way at most, given the (shapes of the) batch of one."""
  size = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(batch))
  return min(max(QUEUE_BYTES // max(size, 1), 4), 64)


def bounded(depth: int) -> Callable[[Any], None]:
  """A function to call with a result of each dispatched step, which keeps the host from running too far ahead.

  It lets up to `depth` steps be under way (fewer, but 4, where they take longer than `QUEUE_SECONDS`), and then waits
  for half of them: so batches do not pile up in the device's memory, and the host, which on a CPU takes its time from
  the device, wakes once in many steps.
  """
  waiting: collections.deque = collections.deque()
  limit, since = 4, time.monotonic()

  def push(result: Any) -> None:
    nonlocal limit, since
    waiting.append(result)
    if len(waiting) < limit:
      return
    half = (len(waiting) + 1) // 2
    jax.block_until_ready([waiting.popleft() for _ in range(half)][-1])
    now = time.monotonic()
    limit = min(max(int(QUEUE_SECONDS * half / max(now - since, 1e-9)), 4), depth)
    since = now

  return push


def device_batches(parts: Parts, mesh: Mesh, start: int, lengths: Iterator[int]) -> Iterator[tuple[int, Any]]:
  """(number of steps, batch on the devices) of each compiled call from a step on; a batch of several is stacked."""
  batches = itertools.repeat({})
  if parts.pipeline is not None:
    batches = seeds.batches(parts.pipeline, start, parts.experiment.seed, parts.experiment.seeds)
  one, many = (meshes.batch_sharding(mesh, leading) for leading in (0, 1))

  def place(host: list[Any]) -> tuple[int, Any]:
    if len(host) == 1:
      return 1, meshes.place(host[0], one)
    return len(host), meshes.place(jax.tree.map(lambda *x: np.stack(x), *host), many)

  calls = ([next(batches) for _ in range(length)] for length in lengths)
  return prefetch(calls, place, size=1 if parts.pipeline is None else parts.pipeline.prefetch)
