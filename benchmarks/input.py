"""What the input costs: python -m benchmarks.input

Side by side in one process, in turns: examples per second of the in-memory pipeline, over those of Grain's
per-example pipeline (`MapDataset.source.shuffle.map.batch`, iterated with its default threads; then with none,
as Grain advises for data in memory) on the same arrays: 60,000 28x28 images of bytes in batches of 256.
"""

import statistics
import time
from collections.abc import Iterator, Sequence
from typing import Any

import grain
import numpy as np
from absl import app, flags

from dl.data.pipeline import Pipeline
from dl.data.source import Arrays

flags.DEFINE_integer('batches', 2000, 'Batches of a measurement of the pipeline; a tenth of it for Grain.')
flags.DEFINE_integer('rounds', 5, 'Measurements of each side.')

BATCH = 256


def ours(columns: dict[str, np.ndarray]) -> Iterator[Any]:
  """Batches of the in-memory pipeline."""
  return Pipeline(Arrays(columns), BATCH, seed=0).iterate(0)


def theirs(columns: dict[str, np.ndarray], threads: int | None = None) -> Iterator[Any]:
  """Batches of Grain's per-example pipeline, with its default number of threads or another."""

  class Rows:
    def __len__(self):
      return len(columns['label'])

    def __getitem__(self, index):
      return {name: values[index] for name, values in columns.items()}

  with_mask = lambda example: example | {'mask': np.float32(1)}
  data = grain.MapDataset.source(Rows()).shuffle(seed=0).repeat().map(with_mask).batch(BATCH, drop_remainder=True)
  options = None if threads is None else grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads)
  return iter(data.to_iter_dataset(options))


def rate(batches: Iterator[Any], count: int) -> float:
  """Examples per second, once the first ten batches have come (threads and permutations are then ready)."""
  for _ in range(10):
    next(batches)
  began = time.perf_counter()
  for _ in range(count):
    next(batches)
  return count * BATCH / (time.perf_counter() - began)


def main(_: Sequence[str]) -> None:
  """Prints the measurements and their ratio."""
  rng = np.random.default_rng(0)
  columns = dict(image=rng.integers(0, 256, (60_000, 28, 28, 1), np.uint8), label=rng.integers(0, 10, 60_000, np.int32))
  measured = []
  for i in range(flags.FLAGS.rounds):
    few = max(flags.FLAGS.batches // 10, 1)
    rates = rate(ours(columns), flags.FLAGS.batches), rate(theirs(columns), few), rate(theirs(columns, threads=0), few)
    measured.append(rates)
    a, b, c = (f'{r:,.0f} examples/s ({BATCH / r * 1e3:.3f} ms a batch)' for r in rates)
    print(f'round {i + 1}: dl {a}; Grain per example {b}, without threads {c}', flush=True)
  threads, none = (statistics.median(r[0] / r[i] for r in measured) for i in (1, 2))
  print(f'in memory, 28x28, batch {BATCH}: median ratio dl / Grain {threads:.1f}, without threads {none:.1f}')


if __name__ == '__main__':
  app.run(main)
