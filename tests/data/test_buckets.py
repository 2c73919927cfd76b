"""Batches of buckets: every example once an epoch, of one bucket each but for few, as pure functions of the step."""

import collections

import numpy as np
import pytest

from dl.data.buckets import by_length
from dl.data.parts import part
from dl.data.pipeline import Pipeline
from dl.data.source import Arrays
from dl.errors import ConfigError

ROOMS = [dict(x=4, y=5), dict(x=8, y=5), dict(x=20, y=9)]


class Texts(Arrays):
  """Rows of two columns of different lengths, in buckets; `id` is the number of the row."""

  def __init__(self, n=103, seed=0):
    rng = np.random.default_rng(seed)
    sizes = dict(x=rng.integers(1, 21, n), y=rng.integers(1, 10, n))
    self.buckets = by_length(sizes, ROOMS)
    padded = {k: np.where(np.arange(ROOMS[-1][k]) < v[:, None], v[:, None], -1) for k, v in sizes.items()}
    super().__init__(padded | {'id': np.arange(n)})


def test_first_bucket_that_holds_all_columns():
  sizes = dict(x=np.array([4, 5, 1, 20]), y=np.array([5, 5, 6, 1]))
  assert by_length(sizes, ROOMS).of.tolist() == [0, 1, 2, 2]


@pytest.mark.parametrize('batch', [8, 7, 103, 64])
def test_every_example_once_an_epoch_and_nothing_is_cut(batch):
  source, epochs = Texts(), 5
  pipeline = Pipeline(source, batch, seed=3)
  steps = [pipeline[i] for i in range(-(-103 * epochs // batch))]
  ids = np.concatenate([b['id'] for b in steps])
  mixed, shapes = 0, collections.Counter()
  for epoch in range(epochs):
    assert sorted(ids[epoch * 103 : (epoch + 1) * 103]) == list(range(103))
  for b in steps:
    np.testing.assert_array_equal((b['x'] >= 0).sum(1), (source.columns['x'][b['id']] >= 0).sum(1))
    np.testing.assert_array_equal((b['y'] >= 0).sum(1), (source.columns['y'][b['id']] >= 0).sum(1))
    assert b['mask'].tolist() == [1.0] * batch
    of = source.buckets.of[b['id']]
    room = ROOMS[of.max()]
    assert b['x'].shape == (batch, room['x']) and b['y'].shape == (batch, room['y'])
    shapes[b['x'].shape] += 1
    mixed += len(set(of)) > 1
  assert mixed <= epochs * 3  # the end of an epoch, and of two buckets
  assert len(shapes) == (3 if batch < 10 else len(shapes))


def test_orders_differ_and_are_functions_of_seed_and_step():
  ids = lambda seed, step: Pipeline(Texts(), 8, seed=seed)[step]['id'].tolist()
  assert ids(0, 20) == ids(0, 20) != ids(1, 20)
  first, *_ = batches = [b['x'].shape[1] for b in (Pipeline(Texts(), 8, seed=0)[i] for i in range(12))]
  assert batches != sorted(batches) and len(set(batches)) == 3, first
  resumed = Pipeline(Texts(), 8, seed=0).iterate(9)
  assert next(resumed)['id'].tolist() == ids(0, 9)
  assert Pipeline(Texts(), 8, seed=0).reseeded(1)[20]['id'].tolist() == ids(1, 20)


def test_processes_share_batches_of_one_shape():
  whole = Pipeline(Texts(), 8, seed=1)
  halves = [Pipeline(Texts(), 8, seed=1, process_index=i, process_count=2) for i in range(2)]
  for step in range(30):
    parts = [half[step] for half in halves]
    for name, values in whole[step].items():
      np.testing.assert_array_equal(np.concatenate([p[name] for p in parts]), values)


def test_evaluation_is_in_order_and_trimmed():
  source = Texts()
  pipeline = Pipeline(source, 8, train=False)
  batches = list(pipeline)
  assert np.concatenate([b['id'] for b in batches])[:103].tolist() == list(range(103))
  assert sum(b['mask'].sum() for b in batches) == 103
  assert all(b['x'].shape[1] == ROOMS[source.buckets.of[b['id']].max()]['x'] for b in batches)
  assert pipeline.example()['x'].shape == (1, 20) and pipeline.examples(np.array([0]))['x'].shape == (1, 20)


def test_a_part_keeps_the_buckets_of_its_examples():
  cut = part(Texts(), 'test', test=0.3)
  assert cut.buckets.of.tolist() == Texts().buckets.of[cut.index].tolist()
  assert {Pipeline(cut, 1, seed=0)[i]['x'].shape[1] for i in range(31)} == {4, 8, 20}


def test_what_buckets_do_not_go_with():
  source = Texts()
  for options in (dict(on_error='skip'), dict(transform=lambda example, rng: example)):
    with pytest.raises(ConfigError, match='data: Texts has buckets, so it has to be vectorized'):
      Pipeline(source, 8, where='data', **options)
  source.buckets = source.buckets.take(np.arange(5))
  with pytest.raises(ConfigError, match='one for each of its examples'):
    Pipeline(source, 8)
