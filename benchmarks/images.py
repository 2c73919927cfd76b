"""Random images in memory, for benchmarks."""

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from dl.data.source import Arrays
from dl.info import Info


class RandomImages(Arrays):
  """10,000 random 28x28 images.

  Attributes:
    on_read: called before each batch is read, for a benchmark to take its turns by.
  """

  on_read: ClassVar[Callable[[], None] | None] = None

  def __init__(self, split: str):
    rng = np.random.default_rng(0)
    super().__init__(
      dict(image=rng.integers(0, 256, (10_000, 28, 28, 1), np.uint8), label=rng.integers(0, 10, 10_000, np.int32)),
      info=Info(num_classes=10),
    )

  def __getitem__(self, index: Any) -> Any:
    if self.on_read:
      type(self).on_read()
    return super().__getitem__(index)
