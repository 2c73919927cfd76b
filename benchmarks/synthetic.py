"""Random images and tokens in memory, for benchmarks."""

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from dl.contract.info import Info
from dl.data.source import Arrays


class RandomImages(Arrays):
  """Random images of bytes.

  Attributes:
    on_read: called before each batch is read, for a benchmark to take its turns by.
  """

  on_read: ClassVar[Callable[[], None] | None] = None

  def __init__(self, split: str, count: int = 10_000, size: int = 28, channels: int = 1, classes: int = 10):
    rng = np.random.default_rng(0)
    shape = (count, size, size, channels)
    super().__init__(
      dict(image=rng.integers(0, 256, shape, np.uint8), label=rng.integers(0, classes, count, np.int32)),
      info=Info(num_classes=classes),
    )

  def __getitem__(self, index: Any) -> Any:
    if self.on_read and np.size(index) > 1:  # and not a single one, for its shape
      type(self).on_read()
    return super().__getitem__(index)


class RandomTokens(Arrays):
  """Windows of random tokens."""

  def __init__(self, split: str, count: int = 1_000, length: int = 64, vocab_size: int = 256):
    rng = np.random.default_rng(0)
    super().__init__(
      dict(tokens=rng.integers(0, vocab_size, (count, length + 1), np.int32)), Info(vocab_size=vocab_size)
    )
