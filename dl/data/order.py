"""Which examples a step reads: a function of (seed, step, process) alone."""

import functools

import numpy as np
from jaxtyping import Float32, Int


class Order:
  """The stream of examples of this process, by their places in a source of `n`.

  Training is endless: every epoch is a permutation, which depends on (seed, epoch), and batches go across the ends of
  epochs, so no example is left out. Evaluation reads the source once, in order, and repeats the last example.

  Where the examples are in buckets, the batches of an epoch are cut from the buckets, each of which is permuted, and
  are then permuted themselves. What is left of a bucket shares a batch with the beginning of the next bucket; what is
  left of all, chosen at random, shares one with the beginning of the next epoch. So each example still comes once an
  epoch, and all but one batch an epoch and one a bucket are of a single bucket.

  Attributes:
    n: number of examples.
    rows: examples of a step, of this process.
    train: whether the stream is endless.
  """

  def __init__(
    self,
    n: int,
    batch_size: int,
    *,
    seed: int,
    train: bool,
    shuffle: bool,
    process_index: int,
    process_count: int,
    buckets: Int[np.ndarray, ' n'] | None = None,
  ):
    """Keeps the arguments; see `dl.data.pipeline.Pipeline`."""
    self.n, self.train = n, train
    self.rows = batch_size // process_count
    self._batch_size, self._seed, self._shuffle = batch_size, seed, train and shuffle
    self._offset, self._buckets = process_index * self.rows, buckets
    self._permutation = functools.lru_cache(maxsize=2)(self._permute)

  def reseeded(self, seed: int) -> 'Order':
    """The same examples in the order of another seed."""
    other = Order.__new__(Order)
    other.__dict__.update(self.__dict__, _seed=seed)
    other._permutation = functools.lru_cache(maxsize=2)(other._permute)
    return other

  def batch(self, step: int, rows: int) -> tuple[Int[np.ndarray, ' b'], Float32[np.ndarray, ' b']]:
    """(places of the first examples of a step, 1 for each which is real and 0 for a repetition)."""
    stream = step * self._batch_size + self._offset + np.arange(rows)
    return self._places(stream), (self.train | (stream < self.n)).astype(np.float32)

  def everyone(self, step: int) -> Int[np.ndarray, ' b']:
    """Places of the examples of a step, of all processes."""
    return self._places(step * self._batch_size + np.arange(self._batch_size))

  def _places(self, stream: Int[np.ndarray, ' b']) -> Int[np.ndarray, ' b']:
    """Places of the examples at numbers, ascending, of the stream of all processes."""
    if not self.train:
      return np.minimum(stream, self.n - 1)
    epochs, index = np.divmod(stream, self.n)
    if self._shuffle and epochs[0] == epochs[-1]:
      index = self._permutation(int(epochs[0]))[index]
    elif self._shuffle:
      for epoch in range(int(epochs[0]), int(epochs[-1]) + 1):
        of_epoch = epochs == epoch
        index[of_epoch] = self._permutation(epoch)[index[of_epoch]]
    return index

  def candidates(self, position: int) -> tuple[int, bool, map]:
    """Of a position of this process's stream: (number in the stream of all, whether it is real, places).

    The first place is the example's own; the others follow it in the order, for where it cannot be read.
    """
    step, row = divmod(position, self.rows)
    stream = step * self._batch_size + self._offset + row
    epoch, place = divmod(stream, self.n) if self.train else (0, min(stream, self.n - 1))
    order = self._permutation(epoch) if self._shuffle else range(self.n)
    return stream, self.train or stream < self.n, map(lambda i: int(order[(place + i) % self.n]), range(self.n))

  def position(self, place: int) -> int:
    """The position in this process's stream of the example at a place of an evaluation."""
    return (place // self._batch_size) * self.rows + place % self._batch_size - self._offset

  def _permute(self, epoch: int) -> Int[np.ndarray, ' n']:
    index = np.arange(self.n, dtype=np.int32 if self.n < 2**31 else np.int64)
    rng = np.random.default_rng([self._seed, epoch])
    index = rng.permutation(index)
    return index if self._buckets is None else self._by_bucket(index, epoch, rng)

  def _by_bucket(self, index: Int[np.ndarray, ' n'], epoch: int, rng: np.random.Generator) -> Int[np.ndarray, ' n']:
    """A permutation with the examples of a bucket together, in the whole batches which the epoch has."""
    size = self._batch_size
    first = min(-epoch * self.n % size, self.n)  # the end of a batch that the epoch before has begun
    last = self.n - (self.n - first) % size
    whole = index[first:last]
    whole = whole[np.argsort(self._buckets[whole], kind='stable')].reshape(-1, size)
    return np.concatenate([index[:first], rng.permutation(whole).ravel(), index[last:]])
