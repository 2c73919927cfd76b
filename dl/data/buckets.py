"""Examples in buckets by their length, so that a batch is hardly longer than what is in it."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Self

import numpy as np
from jaxtyping import Int, Num


@dataclasses.dataclass(frozen=True)
class Buckets:
  """Which bucket each example of a source is in, and how long its columns are there.

  A batch has the shape of the last bucket that any of its examples is in, so a step is compiled once a bucket.

  Attributes:
    of: the bucket of each example, from 0.
    lengths: bucket -> column -> the most entries of it; each bucket has room for those before it.
  """

  of: Int[np.ndarray, ' n']
  lengths: Sequence[Mapping[str, int]]

  def take(self, index: Int[np.ndarray, ' k']) -> Self:
    """Those of some examples."""
    return dataclasses.replace(self, of=self.of[index])

  def trim(
    self, columns: Mapping[str, Num[np.ndarray, 'b ...']], index: Int[np.ndarray, ' b']
  ) -> dict[str, Num[np.ndarray, 'b ...']]:
    """The columns of a batch of which these are the examples, without what pads all of them."""
    room = self.lengths[int(self.of[index].max())]
    return {name: values[:, : room[name]] if name in room else values for name, values in columns.items()}


def by_length(columns: Mapping[str, Int[np.ndarray, ' n']], lengths: Sequence[Mapping[str, int]]) -> Buckets:
  """The first bucket that each example fits in: column -> how long it is; the last bucket has room for all."""
  fits = [np.all([values <= room[name] for name, values in columns.items()], axis=0) for room in lengths]
  return Buckets(np.argmax(fits, axis=0).astype(np.int32), tuple(lengths))
