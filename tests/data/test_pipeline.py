"""The pipeline is a pure function of (seed, step, process); Grain's iteration is the same as random access."""

import collections
import itertools
import threading
import time

import numpy as np
import pytest

from dl.contract.info import Info
from dl.data.make import make
from dl.data.pipeline import Pipeline, prefetch
from dl.data.source import Arrays
from dl.errors import ConfigError

N = 23


class Slow:
  """A user's own source: an example at a time."""

  def __init__(self, split: str = 'train', n: int = N):
    self.n = n

  def __len__(self):
    return self.n

  def __getitem__(self, index):
    assert isinstance(index, int)
    return {'id': index, 'features': [index, 0.5], 'label': index % 3}


class Whole:
  """A user's own source which has no splits."""

  info = Info(num_classes=3)

  def __len__(self):
    return 5

  def __getitem__(self, index):
    return {'features': np.full(2, index), 'label': index % 3}


class Odd:
  """Sources that are wrong in some way."""

  def __init__(self, kind: str, split: str):
    self.kind = kind

  def __len__(self):
    return 0 if self.kind == 'empty' else 4

  def __getitem__(self, index):
    return {
      'tuple': (1, 2),
      'shape': {'features': np.zeros(1 + index % 2)},
      'keys': {'features': 0, f'k{index}': 0},
      'text': {'features': 'abc'},
      'mask': {'mask': 1},
    }[self.kind]


def memory(n=N):
  ids = np.arange(n)
  return Arrays({'id': ids, 'features': np.stack([ids, np.full(n, 0.5)], 1), 'label': ids % 3})


def source_of(kind, n=N):
  return memory(n) if kind == 'memory' else Slow(n=n)


def equal(a, b):
  assert a.keys() == b.keys()
  for name in a:
    np.testing.assert_array_equal(a[name], b[name])
    assert a[name].dtype == b[name].dtype


@pytest.mark.parametrize('kind', ['memory', 'slow'])
def test_each_example_exactly_once_an_epoch(kind):
  pipeline = Pipeline(source_of(kind), 4, seed=7)
  assert pipeline.steps_per_epoch == N / 4
  stream = np.concatenate([pipeline[s]['id'] for s in range(N)])  # four epochs, with batches across their ends
  epochs = stream.reshape(4, N)
  for epoch in epochs:
    np.testing.assert_array_equal(np.sort(epoch), np.arange(N))
  assert len({tuple(e) for e in epochs}) == 4
  np.testing.assert_array_equal(
    pipeline.source[int(stream[5])]['features'], pipeline[1]['features'][1].astype(np.float64)
  )


@pytest.mark.parametrize('kind', ['memory', 'slow'])
def test_any_order_of_access_and_any_restart_give_the_same(kind):
  first = Pipeline(source_of(kind), 5, seed=1)
  straight = [first[s] for s in range(14)]
  again = Pipeline(source_of(kind), 5, seed=1)
  for s in (13, 2, 9, 0, 9):
    equal(again[s], straight[s])
  for start in (0, 3, 11):
    iterator = Pipeline(source_of(kind), 5, seed=1).iterate(start)
    for s, batch in zip(range(start, 14), iterator, strict=False):
      equal(batch, straight[s])
    iterator.close()
  other = Pipeline(source_of(kind), 5, seed=2)
  assert not np.array_equal(other[0]['id'], straight[0]['id'])


@pytest.mark.parametrize('train', [True, False])
def test_memory_and_per_example_sources_give_the_same_batches(train):
  a, b = (Pipeline(source_of(k), 4, seed=3, train=train) for k in ('memory', 'slow'))
  for s in range(6):
    equal(a[s], b[s])
  equal(a.example(), {k: v[:1] for k, v in b.example().items()})


@pytest.mark.parametrize('kind', ['memory', 'slow'])
@pytest.mark.parametrize('train', [True, False])
@pytest.mark.parametrize('count', [2, 4])
def test_the_slices_of_processes_tile_the_batch(kind, train, count):
  whole = Pipeline(source_of(kind), 8, seed=5, train=train)
  parts = [
    Pipeline(source_of(kind), 8, seed=5, train=train, process_index=i, process_count=count) for i in range(count)
  ]
  for s in range(3):
    equal({k: np.concatenate([p[s][k] for p in parts]) for k in whole[s]}, whole[s])
  for part in parts:
    for s, batch in zip(range(3), part.iterate(0), strict=False):
      equal(batch, part[s])


@pytest.mark.parametrize('kind', ['memory', 'slow'])
@pytest.mark.parametrize(('n', 'batch_size'), [(23, 5), (20, 5), (3, 8), (1, 1)])
def test_evaluation_counts_each_example_once(kind, n, batch_size):
  pipeline = Pipeline(source_of(kind, n), batch_size, train=False)
  assert len(pipeline) == -(-n // batch_size)
  batches = list(pipeline)
  assert len(batches) == len(pipeline)
  for s, batch in enumerate(batches):
    equal(batch, pipeline[s])
    assert len(batch['id']) == batch_size and batch['mask'].dtype == np.float32
  ids, mask = (np.concatenate([b[k] for b in batches]) for k in ('id', 'mask'))
  np.testing.assert_array_equal(ids[mask > 0], np.arange(n))
  assert (ids[mask == 0] == n - 1).all()
  assert len(list(pipeline.iterate(len(pipeline) - 1))) == 1 and list(pipeline.iterate(len(pipeline))) == []
  with pytest.raises(IndexError):
    pipeline[len(pipeline)]
  with pytest.raises(IndexError):
    pipeline[-1]


@pytest.mark.parametrize('kind', ['memory', 'slow'])
def test_a_batch_larger_than_the_set(kind):
  pipeline = Pipeline(source_of(kind, 3), 8, seed=0)
  counts = collections.Counter(np.concatenate([pipeline[s]['id'] for s in range(3)]).tolist())
  assert counts == {0: 8, 1: 8, 2: 8}
  assert (pipeline[0]['mask'] == 1).all() and pipeline.steps_per_epoch == 3 / 8


def test_without_shuffling_the_order_is_the_sources():
  pipeline = Pipeline(memory(), 10, shuffle=False)
  np.testing.assert_array_equal(pipeline[2]['id'], [20, 21, 22, 0, 1, 2, 3, 4, 5, 6])


def test_far_steps_are_as_cheap_as_near_ones():
  pipeline = Pipeline(memory(), 4, seed=0)
  far = 10**9
  equal(pipeline[far], Pipeline(memory(), 4, seed=0)[far])
  slow = Pipeline(Slow(), 4, seed=0)
  equal(slow[far], pipeline[far])
  equal(next(slow.iterate(far)), pipeline[far])


def test_a_random_transform_depends_on_the_place_in_the_stream_alone():
  def transform(example, generator):
    noise = 0.0 if generator is None else generator.normal()
    return example | {'features': np.asarray(example['features'], np.float32) + np.float32(noise)}

  make_one = lambda kind, **k: Pipeline(source_of(kind), 4, transform=transform, **k)
  a, b = make_one('slow', seed=1), make_one('memory', seed=1, num_threads=0)
  for s, batch in zip(range(2, 8), b.iterate(2), strict=False):
    equal(batch, a[s])
  noise = np.concatenate([a[s]['features'][:, 1] for s in range(12)])
  assert len(set(noise.tolist())) == len(noise)
  np.testing.assert_array_equal(make_one('slow', train=False)[0]['features'][:, 1], 0.5)
  halves = [make_one('slow', seed=1, process_index=i, process_count=2)[3] for i in range(2)]
  equal({k: np.concatenate([h[k] for h in halves]) for k in a[3]}, a[3])


@pytest.mark.parametrize(('rows', 'chunk'), [(8, 1), (40, 10), (300, 64)])
def test_threads_take_chunks_of_a_batch_and_the_order_stays(rows, chunk):
  """The rate falls with the batch where each example goes from thread to thread on its own."""
  by = {}

  class Noted(Slow):
    def __getitem__(self, index):
      by[index] = threading.get_ident()
      return super().__getitem__(index)

  noted = Noted(n=10**6)
  batches = Pipeline(noted, rows, shuffle=False, num_threads=4).iterate(3)
  ids = [next(batches)['id'] for _ in range(3)]
  np.testing.assert_array_equal(ids, np.arange(3 * rows, 6 * rows).reshape(3, rows))
  for batch in ids:
    for first in range(0, rows, chunk):
      assert len({by[i] for i in batch[first : first + chunk].tolist()}) == 1
  parts = -(-rows // chunk)
  assert len(by) <= 3 * rows + (3 * parts + 4 + 1) * chunk  # two at hand, and what is read ahead of them
  assert threading.get_ident() not in by.values()
  batches.close()


def test_threads_end_with_the_iterator():
  import gc

  before = threading.active_count()
  iterator = Pipeline(Slow(), 4).iterate(0)
  next(iterator)
  assert threading.active_count() > before
  iterator.close()
  del iterator
  gc.collect()
  deadline = time.monotonic() + 600
  while threading.active_count() > before and time.monotonic() < deadline:
    time.sleep(0.01)
  assert threading.active_count() <= before


@pytest.mark.parametrize('size', [0, 1, 3])
def test_prefetch_puts_ahead_and_keeps_the_order(size):
  put = []
  iterator = prefetch(range(6), lambda x: put.append(x) or -x, size)
  assert next(iterator) == 0
  assert len(put) == size + 1
  assert list(iterator) == [-1, -2, -3, -4, -5] and put == list(range(6))


def test_a_training_pipeline_has_no_length_but_is_true():
  pipeline = Pipeline(memory(), 4)
  with pytest.raises(TypeError, match='endless'):
    len(pipeline)
  assert pipeline
  assert len(list(itertools.islice(pipeline, 3))) == 3


def test_a_users_own_classes():
  here = __name__
  pipeline = make(dict(name=f'{here}.Slow', n=9, batch_size=4), train=False, split='test')
  assert len(pipeline) == 3 and pipeline.info == Info()
  assert pipeline[0]['features'].dtype == np.float32 and pipeline[0]['label'].dtype == np.int32
  whole = make(dict(name=f'{here}.Whole', batch_size=2))
  assert whole.info.num_classes == 3 and whole[0]['features'].shape == (2, 2)
  with pytest.raises(ConfigError, match=r"config\.data: split: the 'test' part is empty; set test=0\.1, say"):
    make(dict(name=f'{here}.Whole', batch_size=2), split='test', train=False)
  assert len(make(dict(name=f'{here}.Whole', batch_size=2), split='test', train=False, own_data=True)) == 3


@pytest.mark.parametrize(
  ('kind', 'says'),
  [
    ('empty', 'is empty'),
    ('tuple', 'must be a dict of arrays, got tuple'),
    ('shape', "'features': examples differ in shape: (1,) and (2,); resize them"),
    ('keys', 'have different keys'),
    ('text', "'features' holds <U3"),
    ('mask', "pipeline's own column"),
  ],
)
def test_what_is_wrong_with_a_source_is_one_line(kind, says):
  with pytest.raises(ConfigError) as e:
    make(dict(name=f'{__name__}.Odd', kind=kind, batch_size=4), train=False)[0]
  assert says in str(e.value) and '\n' not in str(e.value)


@pytest.mark.parametrize(
  ('spec', 'says'),
  [
    (dict(batch_size=0), 'config.data.batch_size: expected a whole number of at least 1, got 0'),
    (dict(batch_size=-4), 'config.data.batch_size'),
    (dict(batch_size='many'), "got 'many'"),
    (dict(batch_size=2.5), 'got 2.5'),
    (dict(batch_size=True), 'got True'),
    (dict(prefetch=-1), 'config.data.prefetch'),
    (dict(num_threads=-1), 'config.data.num_threads'),
    (dict(shuffle='no'), 'config.data.shuffle'),
    (dict(split=3), 'config.data.split'),
    (dict(split='trian'), "did you mean 'train'"),
    (dict(name='sklearn.Digit'), "did you mean 'Digits'"),
    (dict(name='sklern.Digits'), "did you mean 'sklearn.Digits'"),
    (dict(tset=0.2), "did you mean 'test'"),
    (dict(augment=[dict(name='random_shif')]), "did you mean 'random_shift'"),
    (dict(augment=[dict(name='random_shift', pixels=1, pixel=2)]), "did you mean 'pixels'"),
    (dict(augment=[dict(name='random_shift')]), "needs an argument 'pixels'"),
    (dict(augment=[dict(name='random_shift', pixels=-1)]), 'pixels: must be at least 0'),
    (dict(augment='random_shift'), 'expected a list'),
    (dict(augment=['random_shift']), "config.data.augment.0: expected a dict with a 'name'"),
    (dict(name='sklearn.Iris', augment=[dict(name='random_flip')]), 'random_flip needs image in a batch'),
    (dict(transform=[dict(name='random_resized_crop')]), "needs an argument 'size'"),
    (dict(transform=[dict(name='crop')]), 'config.data.transform.0'),
  ],
)
def test_mistakes_are_one_line(spec, says):
  with pytest.raises(ConfigError) as e:
    make(dict(name='sklearn.Digits', batch_size=8) | spec)
  assert says in str(e.value) and '\n' not in str(e.value)


def test_other_mistakes():
  for spec, options, says in (
    (dict(name='sklearn.Digits'), {}, 'batch_size: is needed'),
    (dict(name='sklearn.Digits', batch_size=8), dict(seed=-1), 'config.seed'),
    (dict(name='sklearn.Digits', batch_size=9), dict(process_count=2), 'cannot be shared by 2 processes'),
    (dict(batch_size=9), {}, "expected a dict with a 'name'"),
    (None, {}, "expected a dict with a 'name'"),
    (dict(name='collections.OrderedDict', batch_size=2), {}, 'is of Python itself'),
    (dict(name='numpy.memmap', batch_size=2), {}, 'is not a class of sources'),
    (dict(name='dl.data.make.make', batch_size=2), {}, 'is not a class of sources'),
    (dict(name='sklearn.Digits', batch_size=8), dict(where='config.eval.a', split='tets'), 'config.eval.a: split'),
  ):
    with pytest.raises(ConfigError, match=says):
      make(spec, **options)


def test_the_reserved_keys_reach_the_pipeline():
  spec = dict(
    name='sklearn.Digits', batch_size=8, prefetch=5, shuffle=False, num_threads=3, split='test', test=0.5,
    augment=[dict(name='random_flip')],
  )  # fmt: skip
  pipeline = make(spec, batch_size=16)
  assert (pipeline.batch_size, pipeline.prefetch, len(pipeline.source)) == (16, 5, 899)
  assert pipeline.augment is not None
  np.testing.assert_array_equal(pipeline[0]['label'], pipeline.source.columns['label'][:16])
  assert make(spec, train=False).augment is None
  assert len(make(spec, split='train').source) == 898


def test_importing_the_data_layer_is_cheap():
  import subprocess
  import sys

  heavy = ('tensorflow_datasets', 'grain', 'sklearn', 'PIL', 'tqdm')
  code = f'import sys, dl.data.make, dl.data.reading\nprint([m for m in {heavy} if m in sys.modules])'
  done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
  assert done.stdout.strip() == '[]'


@pytest.mark.parametrize('vectorized', [True, False])
def test_single_examples_of_an_evaluation_by_their_place(vectorized):
  source = Arrays({'features': np.arange(10, dtype=np.float32)[:, None], 'label': np.arange(10, dtype=np.int32)})
  source.vectorized = vectorized
  pipeline = Pipeline(source, 4, train=False)
  found = pipeline.examples(np.asarray([9, 0, 6]))
  np.testing.assert_array_equal(found['label'], [9, 0, 6])
  np.testing.assert_array_equal(found['mask'], 1)
