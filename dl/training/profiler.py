"""A trace of some training steps, which Perfetto and TensorBoard open."""

import pathlib
import re
import sys
from typing import Any, Self

import jax

from dl.errors import ConfigError

FOLDER = 'profile'


class Profiler:
  """Traces the steps of a span into `profile/` of a work directory; for use as a context."""

  def __init__(self, directory: pathlib.Path, span: str | None, total: int):
    """Checks the span and traces nothing yet.

    Args:
      directory: the work directory.
      span: 'first:last', the steps to trace; None for none.
      total: steps of the training.

    Raises:
      ConfigError: a text which is not such a span, or one beyond the training.
    """
    self._folder, self._span, self._first, self._last = directory / FOLDER, span, 0, 0
    self._began: int | None = None  # the first step that is traced
    self._step = 0
    self._on = False
    if span is not None:
      match = re.fullmatch(r'(\d+):(\d+)', span)
      if not match or not 1 <= int(match[1]) <= int(match[2]) <= total:
        raise ConfigError(f'--profile: expected the first and last step, such as 20:30, of {total:,}; got {span!r}')
      self._first, self._last = int(match[1]), int(match[2])

  def before(self, step: int, length: int) -> None:
    """To be called when `step` steps are done, and the next `length` are about to begin."""
    if self._span and self._began is None and self._first <= step + length and step < self._last:
      jax.profiler.start_trace(str(self._folder), create_perfetto_trace=True)
      self._on, self._began = True, step + 1

  def after(self, step: int, done: Any) -> None:
    """To be called when `step` steps have been started; waits for `done` where the span ends."""
    self._step = step
    if self._on and step >= self._last:
      jax.block_until_ready(done)
      self._stop()

  def __enter__(self) -> Self:
    return self

  def __exit__(self, *error: Any) -> None:
    if self._on:
      self._stop()
    elif self._span and self._began is None and error[0] is None:
      print(f'--profile={self._span}: nothing was traced, as this session trained no such step', file=sys.stderr)

  def _stop(self) -> None:
    self._on = False
    jax.profiler.stop_trace()
    if (self._began, self._step) != (self._first, self._last):  # it was cut short, or calls are of several steps
      print(f'--profile={self._span}: traced the steps {self._began} to {self._step}', file=sys.stderr)
