"""Random examples of any shape: to plan and to measure with, not to learn from. All splits are the same examples."""

import numpy as np
from jaxtyping import Int

from dl.config.bounds import Size
from dl.contract.info import Info
from dl.data.source import Arrays, Example
from dl.data.splits import SPLITS
from dl.errors import ConfigError, nearest


class Tokens:
  """Sequences of random token ids, each a function of its index.

  Args:
    length: tokens that a model reads; a sequence has one more.
    vocab_size: number of token ids.
    count: number of sequences.
    split: 'train', 'validation', 'test' or 'all', which are all the same.
  """

  vectorized = True

  def __init__(self, length: Size, vocab_size: Size, count: Size = 2**20, split: str = 'train'):
    _check(split)
    self.info = Info(vocab_size=vocab_size)
    self._length, self._vocab_size, self._count = length, vocab_size, count

  def __len__(self) -> int:
    return self._count

  def __getitem__(self, index: int | Int[np.ndarray, ' b']) -> Example:
    # A multiplicative hash of the place: as good as random for a benchmark, and much cheaper.
    at = np.asarray(index, np.uint64)[..., None] * np.uint64(self._length + 1)
    at = at + np.arange(self._length + 1, dtype=np.uint64)
    mixed = (at * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(33)
    return {'tokens': (mixed % np.uint64(self._vocab_size)).astype(np.int32)}


class Images(Arrays):
  """Random images with random labels.

  Args:
    size: height and width.
    channels: of an image.
    num_classes: number of labels.
    count: number of images, which are held in memory.
    split: 'train', 'validation', 'test' or 'all', which are all the same.
  """

  def __init__(self, size: Size, num_classes: Size, channels: Size = 3, count: Size = 1024, split: str = 'train'):
    _check(split)
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (count, size, size, channels), np.uint8)
    label = rng.integers(0, num_classes, count, np.int32)
    super().__init__(dict(image=image, label=label), Info(num_classes=num_classes, channels=channels))


def _check(split: str) -> None:
  if split not in SPLITS:
    raise ConfigError(f'split: there is no split {split!r}; {nearest(split, SPLITS)}')
