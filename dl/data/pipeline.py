"""The input as a pure function of the step: `pipeline[step]` is the batch of that step."""

import collections
import copy
import itertools
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Self, TypeVar

import numpy as np
from jaxtyping import Array, Int, Key

from dl.contract.info import Info
from dl.contract.kinds import compact, stack
from dl.data import memory
from dl.data.buckets import Buckets
from dl.data.fetch import OnError, Reader, ahead
from dl.data.order import Order
from dl.data.source import Example, Source, as_batch, info_of, places, title
from dl.data.transforms import Transform
from dl.errors import ConfigError, TrainingError, first_line, nearest

HostBatch = dict[str, np.ndarray]
Augment = Callable[[Key[Array, ''], dict[str, Array]], dict[str, Array]]
T = TypeVar('T')
FOREVER = 2**62
CHUNK = 64
"""Most examples that a thread reads in one go: to hand one over costs more than to read a small one."""


class Pipeline:
  """Batches of a source: each a function of (seed, step, process) alone, so the step is all the state there is.

  Training reads an endless stream: every epoch is a permutation of the source, which depends on (seed, epoch), and
  batches go across the ends of epochs, so no example is left out. Evaluation reads the source once, in order; the last
  batch is filled up with copies of the last example, whose `mask` is 0. Every batch has `mask` [b] float32.

  A source with `vectorized = True` is gathered by one index a batch; any other is read example by example, when
  iterating by threads, through Grain. One with `buckets` gives batches of several shapes (`dl.data.buckets`), by an
  order of its own (`dl.data.order`).

  Attributes:
    source: the examples.
    batch_size: examples of one step, over all processes.
    train: whether this is an endless stream of training batches.
    augment: on-device augmentation, for the training step to apply; None for none.
    prefetch: batches to keep on the devices ahead of the step.
    timeout: seconds to wait for a batch which threads read, as long as none of its examples comes.
    buckets: of the source; None where all batches have one shape.
  """

  def __init__(
    self,
    source: Source,
    batch_size: int,
    *,
    seed: int = 0,
    train: bool = True,
    shuffle: bool = True,
    augment: Augment | None = None,
    transform: Transform | None = None,
    prefetch: int = 2,
    num_threads: int = 16,
    on_error: OnError = 'stop',
    timeout: float = 600.0,
    process_index: int = 0,
    process_count: int = 1,
    facts: Mapping[str, Any] | None = None,
    where: str = 'config.data',
  ):
    """Checks and keeps the arguments; reads nothing.

    Args:
      source: the examples.
      batch_size: examples of one step, over all processes.
      seed: of the order, and of `transform`.
      train: an endless stream; False is one pass, in order.
      shuffle: False is the source's own order in every epoch.
      augment: on-device augmentation of training batches.
      transform: host transform of each example, given a NumPy generator (None in evaluation).
      prefetch: batches to keep on the devices ahead of the step.
      num_threads: threads which read and transform examples; 0 reads in the calling thread.
      on_error: what to do about an example that cannot be read: 'stop' ends the run, and names it; 'skip' takes the
        next one of the order in its place, which in evaluation does not count.
      timeout: seconds to wait for a batch which threads read, as long as none of its examples comes; then the run ends.
      process_index: which contiguous slice of each batch is this process's.
      process_count: number of processes; it must divide `batch_size`.
      facts: of the data, which others than the source say (`dl.contract.info.Info`).
      where: the config path, for error lines.

    Raises:
      ConfigError: an empty source, or numbers which cannot be.
    """
    for name, value, least in (
      ('batch_size', batch_size, 1),
      ('seed', seed, 0),
      ('prefetch', prefetch, 0),
      ('num_threads', num_threads, 0),
    ):
      if isinstance(value, bool) or not isinstance(value, int) or value < least:
        at = 'config.seed' if name == 'seed' else f'{where}.{name}'
        raise ConfigError(f'{at}: expected a whole number of at least {least}, got {value!r}')
    if on_error not in ('stop', 'skip'):
      raise ConfigError(f'{where}.on_error: {on_error!r} is not known; {nearest(on_error, ("stop", "skip"))}')
    if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not 0 < timeout <= threading.TIMEOUT_MAX:
      raise ConfigError(f'{where}.timeout: expected a number of seconds above 0, got {timeout!r}')
    if not isinstance(shuffle, bool):
      raise ConfigError(f'{where}.shuffle: expected True or False, got {shuffle!r}')
    if batch_size % process_count:
      raise ConfigError(f'{where}.batch_size: a batch of {batch_size} cannot be shared by {process_count} processes')
    if not len(source):
      raise ConfigError(f'{where}: {title(source)} is empty')
    self.source, self.batch_size, self.train, self.augment, self.prefetch = source, batch_size, train, augment, prefetch
    self._n, self._seed = len(source), seed
    self._num_threads, self.timeout, self._where = num_threads, timeout, where
    self._gathers = bool(getattr(source, 'vectorized', False)) and transform is None
    self.buckets: Buckets | None = getattr(source, 'buckets', None)
    if self.buckets is not None and not (self._gathers and on_error == 'stop' and len(self.buckets.of) == self._n):
      raise ConfigError(
        f'{where}: {title(source)} has buckets, so it has to be vectorized, with one for each of its examples, and '
        f"takes no transform, nor on_error='skip'"
      )
    self._order = Order(
      self._n,
      batch_size,
      seed=seed,
      train=train,
      shuffle=shuffle,
      process_index=process_index,
      process_count=process_count,
      buckets=None if self.buckets is None else self.buckets.of,
    )
    self._rows = self._order.rows
    try:
      self._reader = Reader(source, transform, on_error, where, facts or {})
    except ConfigError as e:
      raise ConfigError(f'{where}: {e}') from e

  @property
  def skipped(self) -> dict[int, str]:
    """Examples that were skipped so far: index in the source -> why."""
    return self._reader.skipped

  def places(self, index: Any) -> Any:
    """Where examples of the source stand in the user's own, of which it may be a part."""
    return places(self.source, index)

  @property
  def info(self) -> Info:
    """What the source says about itself."""
    try:
      return info_of(self.source)
    except ConfigError as e:
      raise ConfigError(str(e) if self._where in str(e) else f'{self._where}: {e}') from e

  @property
  def steps_per_epoch(self) -> float:
    """Steps which one pass over the source takes; not a whole number where the batch size does not divide it."""
    return self._n / self.batch_size

  def __bool__(self) -> bool:
    return True  # and not whether it has a length

  def __len__(self) -> int:
    """Number of evaluation batches; a training stream has no end, and so no length."""
    if self.train:
      raise TypeError('a training pipeline is endless: index it by step, or use iterate(start)')
    return -(-self._n // self.batch_size)

  def __getitem__(self, step: int) -> HostBatch:
    """This process's rows of the batch of a step.

    Raises:
      IndexError: a negative step, or one past the end of an evaluation.
      ConfigError: an example which cannot be read, or does not fit a batch.
      TrainingError: the source failed with an error of its own.
    """
    if step < 0 or (not self.train and step >= len(self)):
      raise IndexError(f'no batch for step {step}')
    if self._gathers:
      return self._trimmed(step)
    return self._stack([self._example(step * self._rows + row) for row in range(self._rows)])

  def example(self) -> HostBatch:
    """The first example of the stream as a batch of one, for its shapes: those of the last bucket, where there are."""
    try:
      return self._gather(0, 1) if self._gathers else self._stack([self._example(0)])
    except TrainingError as e:
      raise ConfigError(str(e)) from e  # nothing has begun yet

  def check_memory(self) -> None:
    """Raises ConfigError where a batch of this process is more than the machine can hold."""
    memory.check_batch(self.example(), self._rows, f'{self._where}.batch_size')

  def expecting(self, limits: Mapping[str, Any]) -> Self:
    """The same batches, held to what a model says of the data where that says nothing (`Task.limits`)."""
    other = self._copy()
    other._reader = self._reader.expecting(limits)
    return other

  def _copy(self) -> Self:
    return copy.copy(self)

  def reseeded(self, seed: int) -> Self:
    """The same examples in the order of another seed."""
    other = self._copy()
    other._seed, other._order = seed, self._order.reseeded(seed)
    return other

  def examples(self, index: Int[np.ndarray, ' k']) -> HostBatch:
    """Single examples of an evaluation, by their place in it, as a batch."""
    if self._gathers:
      return self._columns(np.asarray(index)) | {'mask': np.ones(len(index), np.float32)}
    return self._stack([self._example(self._order.position(int(i))) for i in index])

  def __iter__(self) -> Iterator[HostBatch]:
    return self.iterate(0)

  def iterate(self, start: int = 0) -> Iterator[HostBatch]:
    """The batches from a step on: the same as `pipeline[start]`, `pipeline[start + 1]`, ..., read ahead by threads.

    Raises:
      StuckError: `timeout` has passed without an example, which the threads read ahead.
    """
    steps = itertools.count(start) if self.train else range(start, len(self))
    if self._gathers:
      yield from map(self._trimmed, steps)
      return
    late = lambda: (
      f'{self._where}: no batch came for {self.timeout:g} s ({self._where}.timeout): {self._reader.reading()}'
    )
    yield from ahead(self._read_ahead(start), self.timeout, late, lambda: self._reader.done)

  def _read_ahead(self, start: int) -> Iterator[HostBatch]:
    import grain

    # Threads take chunks of a batch in turn. A batch, and a chunk for each of them, is read ahead, so that reading
    # never waits for a step. A chunk has as many examples as give each thread one: of small examples in large batches
    # the threads would otherwise spend their time in waiting for Python's lock.
    size = min(max(self._rows // max(self._num_threads, 1), 1), CHUNK)
    parts = -(-self._rows // size)
    steps = (FOREVER // self._rows if self.train else len(self)) - start
    if steps <= 0:
      return

    def read(number: int) -> list[Example]:
      step, at = divmod(number, parts)
      first = (start + step) * self._rows
      return [self._example(first + row) for row in range(at * size, min((at + 1) * size, self._rows))]

    ahead = parts + self._num_threads if self._num_threads else 0
    options = grain.ReadOptions(num_threads=self._num_threads, prefetch_buffer_size=ahead)
    chunks = grain.MapDataset.range(0, steps * parts).map(read).to_iter_dataset(options)
    batches = iter(chunks.batch(parts, batch_fn=lambda of_batch: self._stack([*itertools.chain(*of_batch)])))
    try:
      yield from batches
    finally:
      batches.close()

  def _trimmed(self, step: int) -> HostBatch:
    """The batch of a step, no longer than the bucket that it is from, which is the same in all processes."""
    batch = self._gather(step)
    return batch if self.buckets is None else self.buckets.trim(batch, self._order.everyone(step))

  def _gather(self, step: int, rows: int | None = None) -> HostBatch:
    """The batch of a step, or its first rows, by one vectorized index into the source."""
    index, mask = self._order.batch(step, self._rows if rows is None else rows)
    try:
      return self._columns(index) | {'mask': mask}
    except (Exception, SystemExit) as e:  # a source is anybody's code
      return self._one_by_one(step, index, e)

  def _columns(self, index: Int[np.ndarray, ' b']) -> HostBatch:
    return as_batch(self.source[index], self._reader.info)

  def _one_by_one(self, step: int, index: Int[np.ndarray, ' b'], error: BaseException) -> HostBatch:
    """A batch which the source could not gather, by its examples: finds the one which is to blame."""
    examples = [self._example(step * self._rows + row) for row in range(len(index))]
    if not self.skipped.keys() & set(index.tolist()):
      what = f'{type(error).__name__}: {first_line(error)}'
      raise TrainingError(f'{self._where}: examples cannot be read by an array of indices: {what}') from error
    return self._stack(examples)

  def _example(self, position: int) -> Example:
    """The example at a position of this process's stream."""
    stream, real, candidates = self._order.candidates(int(position))
    generator = lambda: np.random.default_rng([self._seed, stream, 1]) if self.train else None
    example, is_itself = self._reader.read(candidates, generator)
    return example | {'mask': np.float32(self.train or (real and is_itself))}

  def _stack(self, examples: list[Example]) -> HostBatch:
    first = examples[0]
    for example in examples[1:]:
      if example.keys() != first.keys():
        raise ConfigError(f'{self._where}: examples have different keys: {sorted(first)} and {sorted(example)}')
    return {name: self._join(name, [example[name] for example in examples]) for name in first}

  def _join(self, name: str, values: list[np.ndarray]) -> np.ndarray:
    join = self._reader.info.kind(name).join
    try:
      joined = compact(np.asarray(join(values)))
      alone = joined.shape if join is stack else (len(values), *np.shape(join(values[:1]))[1:])
    except ConfigError as e:
      raise ConfigError(f'{self._where}: {name!r}: {e}') from e
    except Exception as e:  # a kind is anybody's code
      raise TrainingError(f'{self._where}: {name!r}: cannot be joined: {type(e).__name__}: {first_line(e)}') from e
    if joined.shape != alone:
      raise ConfigError(
        f'{self._where}: {name!r}: {len(values)} examples are joined to the shape {joined.shape}, and the first alone '
        f'would fit one of {alone}; join all to one shape, such as the largest that there can be'
      )
    return joined


def prefetch(batches: Iterable[Any], put: Callable[[Any], T], size: int = 2) -> Iterator[T]:
  """Yields `put(batch)` of each batch, having put `size` more already: device transfers run ahead of their use."""
  ready: collections.deque[T] = collections.deque()
  for batch in batches:
    ready.append(put(batch))
    if len(ready) > size:
      yield ready.popleft()
  while ready:
    yield ready.popleft()
