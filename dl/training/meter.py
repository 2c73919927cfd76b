"""How fast a run trains, what it waits for and what it uses: the numbers of a log that depend on the machine."""

import math
import resource
import sys
import time
from collections.abc import Iterator
from typing import Any, TypeVar

import jax
from jax.sharding import Mesh

from dl.contract import keys
from dl.contract.info import to_float
from dl.contract.kinds import TOKENS
from dl.contract.task import Task
from dl.parallel import datasheet
from dl.training import flops
from dl.training.assemble import Parts

T = TypeVar('T')


class Meter:
  """Counts what happens between two logs; time spent aside, as on an evaluation, is not training's."""

  def __init__(self, parts: Parts, mesh: Mesh):
    """Starts the clock.

    Args:
      parts: whose steps are counted.
      mesh: which they run on; model FLOP utilization is known where `dl.parallel.datasheet` has its devices.
    """
    seeds, columns = parts.experiment.seeds or 1, parts.task.info.of_kind(TOKENS, parts.batch)
    predicted = sum(math.prod(parts.batch[c].shape) - parts.batch[c].shape[0] for c in columns)  # all but the first
    self._examples = parts.examples_per_step and parts.examples_per_step * seeds
    alike = parts.pipeline is None or parts.pipeline.buckets is None  # else a step's shape varies
    self._tokens = predicted * seeds if alike else 0
    device = datasheet.of_kind(mesh.devices.flat[0].device_kind)
    self._peak = device and alike and device.rate(parts.experiment.precision) * mesh.size
    self._flops = model_flops(parts) * seeds if self._peak else None  # traces the model: a second
    self._device = mesh.local_devices[0]
    self._waited = self._aside = 0.0

  def waiting(self, batches: Iterator[T]) -> Iterator[T]:
    """The batches, counting the time until each is there."""
    while True:
      began = time.perf_counter()
      try:
        batch = next(batches)
      except StopIteration:
        return
      self._waited += time.perf_counter() - began
      yield batch

  def __enter__(self) -> None:
    """What follows is not training."""
    self._left = time.perf_counter()

  def __exit__(self, *error: Any) -> None:
    self._aside += time.perf_counter() - self._left

  def numbers(self, steps: int, seconds: float) -> dict[str, float]:
    """What to log of so many steps, since the last call."""
    training = max(seconds - self._aside, 1e-9)
    rate = steps / training
    numbers = {'steps_per_second': rate, 'step_seconds': training / max(steps, 1)}
    if self._examples:
      numbers['examples_per_second'] = rate * self._examples
    if self._tokens:
      numbers['tokens_per_second'] = rate * self._tokens
    numbers['data_wait'] = min(self._waited / training, 1.0)
    numbers['memory_gb'] = _memory(self._device) / 1e9
    if self._peak:
      numbers['mfu'] = rate * self._flops / self._peak
    self._waited = self._aside = 0.0
    return numbers


def model_flops(parts: Parts) -> float:
  """FLOPs of a step over the whole batch without what is computed twice; for tasks with steps of their own, with it."""
  task, key = parts.task, keys.shape()
  if type(task).step is not Task.step:
    step = lambda state, batch, key: task.step(state, to_float(batch, task.info), key, parts.optimizer.chains)
    return sum(flops.count(step, parts.state, parts.batch, key).values())
  loss = lambda state, batch, key: task.loss(state.params, state.extra, to_float(batch, task.info), key, True)
  return 3 * sum(flops.count(loss, parts.state, parts.batch, key).values())


def _memory(device: jax.Device) -> float:
  """The most bytes that were in use on a device; on a CPU, by this process."""
  stats = device.memory_stats()
  if stats and 'peak_bytes_in_use' in stats:
    return stats['peak_bytes_in_use']
  unit = 1 if sys.platform == 'darwin' else 1024
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
