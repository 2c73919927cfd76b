"""The training metrics on their way from the device to the log, without a step that waits for them."""

import concurrent.futures
import time
from collections.abc import Callable
from typing import Any, Self

import jax
import numpy as np

from dl.contract import metrics
from dl.optim.chain import Optimizer
from dl.store.logs import Logs
from dl.training.meter import Meter
from dl.training.progress import Hidden, Progress
from dl.training.steps import Sums


class Recorder:
  """Writes each interval's sums once the device has them; until then the next steps are already under way."""

  def __init__(
    self,
    log: Logs,
    progress: Progress | Hidden,
    meter: Meter,
    optimizer: Optimizer,
    not_finite: Callable[[str, int], None],
    step: int,
    seconds: float,
  ):
    """Starts the clock.

    Args:
      log: where the numbers go.
      progress: shows them too.
      meter: counts what the machine did.
      optimizer: whose learning rates are logged.
      not_finite: called with (what, step) of the first number that is not finite; it must raise.
      step: which training starts at.
      seconds: of training before, in earlier sessions of the run.
    """
    self._log, self._progress, self._meter = log, progress, meter
    self._optimizer, self._not_finite = optimizer, not_finite
    self._step, self._written, self._seconds = step, time.monotonic(), seconds
    self._began = self._written
    self._pending: tuple[int, Sums, concurrent.futures.Future] | None = None
    self._watch = concurrent.futures.ThreadPoolExecutor(1, 'recorder')  # it notes when the device is that far

  def __enter__(self) -> Self:
    return self

  def __exit__(self, *error: Any) -> None:
    self._watch.shutdown()

  def put(self, step: int, sums: Sums) -> None:
    """Takes the sums of the interval that ends with `step`; they must not be donated any more."""
    self.flush()
    self._pending = (step, sums, self._watch.submit(_ready_at, sums.bad_step))

  def poll(self) -> None:
    """Writes what is pending if that costs no waiting; to be called each step."""
    if self._pending and self._pending[2].done():
      self.flush()

  def flush(self) -> None:
    """Writes what is pending, waiting for the device if need be; to be called before anything else is logged."""
    if not self._pending:
      return
    (step, sums, ready_at), self._pending = self._pending, None
    sums = jax.device_get(sums)
    self.check(sums)
    now = ready_at.result()
    values = metrics.compute(sums.metrics) | self._optimizer.rates(step)
    self._progress.update(values=values)
    values |= self._meter.numbers(step - self._step, now - self._written)
    values |= {'seconds': self._seconds + now - self._began}
    self._log.write(step, 'train', values)
    self._step, self._written = step, now

  def check(self, sums: Sums) -> None:
    """Calls `not_finite` if a metric of a step was not finite."""
    sums = jax.device_get(sums)
    bad_steps = np.atleast_1d(sums.bad_step)  # there may be several seeds
    if (bad_steps >= 0).any():
      bad = [k for k, m in sums.metrics.items() if not all(np.isfinite(x).all() for x in jax.tree.leaves(m))]
      self._not_finite(', '.join(bad), int(bad_steps[bad_steps >= 0].min()))


def _ready_at(array: Any) -> float:
  jax.block_until_ready(array)
  return time.monotonic()
