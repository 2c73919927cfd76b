"""Random images in memory, for benchmarks."""

import numpy as np

from dl.data.source import Arrays
from dl.info import Info


class RandomImages(Arrays):
  """10,000 random 28x28 images."""

  def __init__(self, split: str):
    rng = np.random.default_rng(0)
    super().__init__(
      dict(image=rng.integers(0, 256, (10_000, 28, 28, 1), np.uint8), label=rng.integers(0, 10, 10_000, np.int32)),
      info=Info(num_classes=10),
    )
