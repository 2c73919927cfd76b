"""Reading single examples where that may fail or never end: what failed is named, and counted or left out."""

import contextlib
import copy
import dataclasses
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Literal, Self, TypeVar

import numpy as np

from dl.data.source import Example, Source, as_batch, places, stated, title
from dl.data.transforms import Transform
from dl.errors import ConfigError, StuckError, TrainingError, first_line
from dl.show.words import seconds as in_words

OnError = Literal['stop', 'skip']
TRIES = 100
"""So many examples in a row are tried before the data counts as unreadable: a disk that is gone ends the run."""

T = TypeVar('T')


class Reader:
  """Reads the examples of a source one by one, from any thread.

  Attributes:
    info: what the source says itself, the kinds of its columns among it, and what it is held to.
    skipped: index in the source -> why the example could not be read.
    done: how many examples were read or failed.
  """

  def __init__(
    self, source: Source, transform: Transform | None, on_error: OnError, where: str, facts: Mapping[str, Any]
  ):
    """Keeps the arguments.

    Args:
      source: the examples.
      transform: host transform of each example.
      on_error: 'stop' raises the first error; 'skip' takes the next example that can be read.
      where: the config path, for error lines.
      facts: of the data, which others than the source say.
    """
    self._source, self._transform, self._skips, self._where = source, transform, on_error == 'skip', where
    self._files = getattr(source, 'paths', None)
    self.info = dataclasses.replace(stated(source), **facts)
    self._reading: dict[int, tuple[int, float]] = {}
    self.skipped: dict[int, str] = {}
    self.done = 0

  def expecting(self, limits: Mapping[str, Any]) -> Self:
    """The same, which holds examples to further facts, where it knows none of these."""
    other = copy.copy(self)
    other.info = self.info.completed(limits)
    return other

  def read(
    self, candidates: Iterable[int], generator: Callable[[], np.random.Generator | None]
  ) -> tuple[Example, bool]:
    """(the first of the candidates that can be read, whether it is the very first); the first alone unless skipping.

    Args:
      candidates: indices in the source.
      generator: makes the generator which the transform draws from.

    Raises:
      ConfigError: the source says itself what is wrong with the example.
      TrainingError: anything else went wrong with it, or with all of the candidates.
    """
    error: Exception | None = None
    for tries, index in enumerate(candidates):
      if tries == TRIES:
        break
      try:
        return self._read(index, generator), tries == 0
      except (ConfigError, TrainingError) as e:
        if not self._skips or isinstance(e.__cause__, MemoryError):
          raise
        self.skipped[index], error = str(e), error or e
    raise TrainingError(f'{self._where}: of {tries} examples in a row none can be read; the first: {error}') from error

  def reading(self) -> str:
    """What has been read for longest, for an error line."""
    waiting = sorted((since, index) for index, since in list(self._reading.values()))
    if not waiting:
      return 'nothing is being read'
    since, index = waiting[0]
    return f'{self.name(index)} has been read for {in_words(time.monotonic() - since)}'

  def name(self, index: int) -> str:
    """What an error line calls an example."""
    files = self._files
    return self._number(index) + (f' ({files[index]})' if files is not None and index < len(files) else '')

  def _number(self, index: int) -> str:
    """Its place in the user's own source, be that cut into parts or not."""
    return f'example {places(self._source, index)}'

  def _read(self, index: int, generator: Callable[[], np.random.Generator | None]) -> Example:
    thread = threading.get_ident()
    self._reading[thread] = (index, time.monotonic())
    try:
      example = self._source[index]
      if not isinstance(example, Mapping):
        raise ConfigError(f'{title(self._source)}[{index}] must be a dict of arrays, got {type(example).__name__}')
      if self._transform is not None:
        example = self._transform(dict(example), generator())
      batch = as_batch({name: np.asarray(value)[None] for name, value in example.items()}, self.info)
      return {name: values[0] for name, values in batch.items()}
    except ConfigError as e:
      raise ConfigError(f'{self._where}: {self._number(index)}: {e}') from e
    except (Exception, SystemExit) as e:  # a source is anybody's code
      what = f'{type(e).__name__}: {first_line(e)}' if str(e) else type(e).__name__
      raise TrainingError(f'{self._where}: {self.name(index)} cannot be read: {what}') from e
    finally:
      self._reading.pop(thread, None)
      self.done += 1  # threads may lose one; all that is asked is whether it changes


def ahead(
  items: Iterator[T], seconds: float, late: Callable[[], str], progress: Callable[[], int] = lambda: 0
) -> Iterator[T]:
  """The items, each taken by a thread, so that one which does not come can be given up.

  Args:
    items: what may hang; it is closed at the end, if it can be.
    seconds: how long to wait for each, and again while there is progress.
    late: what to say of one that did not come.
    progress: a number which changes as long as an item is on its way.

  Raises:
    StuckError: an item did not come in time.
  """
  results: queue.Queue[tuple[str, Any]] = queue.Queue(maxsize=1)
  stop = threading.Event()

  def put(kind: str, value: Any = None) -> None:
    while not stop.is_set():
      with contextlib.suppress(queue.Full):
        return results.put((kind, value), timeout=1)

  def take() -> None:
    try:
      for item in items:
        put('item', item)
        if stop.is_set():
          return
      put('end')
    except BaseException as e:  # to be raised where the items are used
      put('error', e)
    finally:
      if hasattr(items, 'close'):
        items.close()

  threading.Thread(target=take, name='batches', daemon=True).start()
  try:
    while True:
      before = progress()
      try:
        kind, value = results.get(timeout=seconds)
      except queue.Empty:
        if progress() != before:
          continue
        raise StuckError(late()) from None
      if kind == 'error':
        raise value
      if kind == 'end':
        return
      yield value
  finally:
    stop.set()
