"""Progress with the time left: a bar on a terminal, a line every ten seconds anywhere else."""

import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, Self, TextIO

from tqdm import tqdm

from dl.show.words import duration, numbers, rate, tenths


class Progress:
  """Shows how far a run is. It is given numbers and never asks a device for one.

  On a terminal it is a tqdm bar. Elsewhere (a pipe, a file, a cluster's log) it is one plain line at the first
  numbers, then at most one every `every` seconds, and one at the end:

      500/2,000   epoch 22.3   25%   412 steps/s   0:00:03 elapsed   0:00:04 left   loss 0.3124   accuracy 0.9125

  The rate, and the time left, leave out the first step, which holds the compilation.
  """

  def __init__(
    self,
    total: int,
    start: int = 0,
    steps_per_epoch: float | None = None,
    stream: TextIO | None = None,
    every: float = 10.0,
    clock: Callable[[], float] = time.monotonic,
  ):
    """Starts the clock.

    Args:
      total: steps of the whole run.
      start: the step which a resumed run starts at.
      steps_per_epoch: steps of a pass over the data; None where there is none to pass over.
      stream: where to write; sys.stderr if None.
      every: seconds between plain lines.
      clock: seconds, from any origin.
    """
    self._stream = sys.stderr if stream is None else stream
    self._total, self._step, self._every, self._clock = total, start, every, clock
    self._began = self._shown = clock()
    self._anchor: tuple[int, float] | None = None
    self._printed_step: int | None = None
    self._values: dict[str, Any] = {}
    self._steps_per_epoch = steps_per_epoch
    self._closed = False
    self._bar = None
    if self._stream.isatty():
      self._bar = tqdm(
        total=total, initial=start, file=self._stream, unit='step', dynamic_ncols=True, smoothing=0.05, mininterval=0.2
      )

  def update(self, step: int | None = None, values: Mapping[str, Any] | None = None) -> None:
    """Tells the number of completed steps, or the latest numbers, or both; cheap to call each step."""
    step = self._step if step is None else step
    advanced, self._step = step - self._step, step
    first = values is not None and not self._values
    if values is not None:
      self._values.update(values)
    if self._bar is not None:
      if values is not None:
        self._bar.set_postfix_str(' '.join([*self._epoch(), *numbers(self._values)]), refresh=False)
      self._bar.update(advanced)
      return
    now = self._clock()
    if self._anchor is None:
      self._anchor = (step, now)
    if first or now - self._shown >= self._every:
      self._line(now)

  def note(self, text: str) -> None:
    """Writes a line of its own, which a bar makes room for."""
    if self._bar is not None:
      self._bar.write(text, file=self._stream)
    else:
      print(text, file=self._stream, flush=True)

  def close(self) -> None:
    """Writes the last state; may be called twice."""
    if self._closed:
      return
    self._closed = True
    if self._bar is not None:
      self._bar.close()
    elif self._printed_step != self._step and self._anchor is not None:
      self._line(self._clock())

  def __enter__(self) -> Self:
    return self

  def __exit__(self, *error: object) -> None:
    self.close()

  def _epoch(self) -> list[str]:
    """'epoch 22.3', the passes over the data so far, where there are any."""
    return [f'epoch {tenths(self._step / self._steps_per_epoch)}'] if self._steps_per_epoch else []

  def _line(self, now: float) -> None:
    self._shown, self._printed_step = now, self._step
    percent = 100 * self._step // self._total if self._total else 100
    parts = [f'{self._step:,}/{self._total:,}', *self._epoch(), f'{percent}%']
    steps, seconds = self._step - self._anchor[0], now - self._anchor[1]
    if steps > 0 and seconds > 0:
      parts.append(rate(steps / seconds, 'steps'))
    parts.append(f'{duration(now - self._began)} elapsed')
    if steps > 0 and seconds > 0 and self._step < self._total:
      parts.append(f'{duration((self._total - self._step) * seconds / steps)} left')
    print('   '.join(parts + numbers(self._values)), file=self._stream, flush=True)


class Hidden:
  """Progress that nobody sees: of a process which is not the first, or for a caller who wants quiet."""

  def update(self, step: int | None = None, values: Mapping[str, Any] | None = None) -> None:
    """Nothing."""

  def note(self, text: str) -> None:
    """Nothing."""

  def __enter__(self) -> Self:
    return self

  def __exit__(self, *error: object) -> None:
    pass
