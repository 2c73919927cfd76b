"""What the input costs: python -m benchmarks.input

Examples per second of dl's pipeline and of others, side by side in one process, in turns, and ratios of medians:

1. In memory: 60,000 28x28 images of bytes in batches of 256, gathered by one index, and Grain's per-example pipeline
   (`MapDataset.source.shuffle.map.batch`) on the same arrays, with its default threads, and with none, as Grain
   advises for data in memory.
2. By example: a source of one's own, `__getitem__(index)` of the same arrays, in batches of 64 to 8,192.
3. Files: a folder of 64x64 JPEG images in the same batches.

In 2 and 3 the others are Grain, whose two threads each read a batch ahead, and PyTorch's DataLoader, which reads in the
calling process, and with two worker processes. At least 16 batches are measured, many more than any of them has ready.
"""

import functools
import itertools
import pathlib
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import grain
import numpy as np
from absl import app, flags

from dl.data.pipeline import Pipeline
from dl.data.source import Arrays
from dl.data.sources.images import Folder

flags.DEFINE_integer('examples', 8192, 'Examples of a measurement by example, but at least 16 batches.')
flags.DEFINE_integer('rounds', 3, 'Measurements of each side.')
flags.DEFINE_list('batches', ['64', '256', '1024', '2048', '8192'], 'Sizes of batches.')

IN_MEMORY, WORKERS = 256, 2
Batches = Callable[[int], Iterator[Any]]


class Rows:
  """A source as a user writes it: one example at a time."""

  def __init__(self, columns: Mapping[str, np.ndarray]):
    self.columns = columns

  def __len__(self) -> int:
    return len(self.columns['label'])

  def __getitem__(self, index: int) -> dict[str, Any]:
    return {name: values[index] for name, values in self.columns.items()}


def ours(source: Any, batch: int) -> Iterator[Any]:
  """Batches of dl's pipeline."""
  return Pipeline(source, batch, seed=0).iterate(0)


def by_grain(source: Any, batch: int, threads: int | None = None) -> Iterator[Any]:
  """Batches of Grain's per-example pipeline, with its default number of threads or another."""
  with_mask = lambda example: example | {'mask': np.float32(1)}
  data = grain.MapDataset.source(source).shuffle(seed=0).repeat().map(with_mask).batch(batch, drop_remainder=True)
  options = None if threads is None else grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads)
  return iter(data.to_iter_dataset(options))


def by_torch(source: Any, batch: int, workers: int) -> Iterator[Any]:
  """Batches of PyTorch's DataLoader, epoch after epoch, as tensors."""
  from torch.utils.data import DataLoader

  loader = DataLoader(
    source, batch, shuffle=True, drop_last=True, num_workers=workers, persistent_workers=workers > 0,
    multiprocessing_context='spawn' if workers else None,
  )  # fmt: skip
  return itertools.chain.from_iterable(itertools.repeat(loader))


def rate(batches: Iterator[Any], batch: int, count: int, warmup: int) -> float:
  """Examples per second, once the first batches have come (threads and permutations are then ready)."""
  for _ in range(warmup):
    next(batches)
  began = time.perf_counter()
  for _ in range(count):
    next(batches)
  seconds = time.perf_counter() - began
  if hasattr(batches, 'close'):
    batches.close()
  return count * batch / seconds


def compare(title: str, sides: Mapping[str, Batches], batch: int, count: int, warmup: int) -> dict[str, float]:
  """Prints the median rate of each side, and the median ratio of the first to the others; returns the rates."""
  rounds = [
    {side: rate(batches(batch), batch, count, warmup) for side, batches in sides.items()}
    for _ in range(flags.FLAGS.rounds)
  ]
  first, *others = sides
  rates = {side: statistics.median(r[side] for r in rounds) for side in sides}
  ratios = {side: statistics.median(r[first] / r[side] for r in rounds) for side in others}
  shown = [f'{first} {rates[first]:,.0f}/s']
  shown += [f'{side} {rates[side]:,.0f}/s ({first} / {side}: {ratios[side]:.2f})' for side in others]
  print(f'{title}, batch {batch:,}: {"; ".join(shown)}', flush=True)
  return rates


def write_images(folder: pathlib.Path, count: int) -> None:
  """A folder of JPEG images of two classes."""
  from PIL import Image

  rng = np.random.default_rng(0)
  for name in ('a', 'b'):
    (folder / name).mkdir(parents=True)
  for i in range(count):
    low = rng.integers(0, 256, (8, 8, 3), np.uint8)
    Image.fromarray(low).resize((64, 64)).save(folder / 'ab'[i % 2] / f'{i:05}.jpg')


def by_example(title: str, source: Any) -> None:
  """Compares the pipelines of single examples in batches of each size, and says how the rates hold up."""
  sides = {
    'dl': functools.partial(ours, source),
    'Grain': functools.partial(by_grain, source, threads=WORKERS),
    'DataLoader': functools.partial(by_torch, source, workers=0),
    f'DataLoader of {WORKERS} workers': functools.partial(by_torch, source, workers=WORKERS),
  }
  sizes = [int(size) for size in flags.FLAGS.batches]
  rates = [compare(title, sides, size, max(flags.FLAGS.examples // size, 16), warmup=1) for size in sizes]
  held = ', '.join(f'{side} {rates[-1][side] / rates[0][side]:.2f}' for side in sides)
  print(f'{title}: rate at batch {sizes[-1]:,} / at batch {sizes[0]:,}: {held}', flush=True)


def main(_: Sequence[str]) -> None:
  """Prints the measurements and their ratios."""
  rng = np.random.default_rng(0)
  columns = dict(image=rng.integers(0, 256, (60_000, 28, 28, 1), np.uint8), label=rng.integers(0, 10, 60_000, np.int32))
  rows = Rows(columns)
  sides = {
    'dl': functools.partial(ours, Arrays(columns)),
    'Grain': functools.partial(by_grain, rows),
    'Grain without threads': functools.partial(by_grain, rows, threads=0),
  }
  compare('in memory, 28x28', sides, IN_MEMORY, count=200, warmup=10)
  by_example('by example, 28x28', rows)
  with tempfile.TemporaryDirectory() as folder:
    write_images(pathlib.Path(folder), 16_384)
    by_example('files, 64x64 JPEG', Folder(folder, (64, 64)))


if __name__ == '__main__':
  app.run(main)
