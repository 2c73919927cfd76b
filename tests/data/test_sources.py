"""Sources: what each yields, and that its statistics are of the training part."""

import numpy as np
import pytest
from sklearn import datasets

from dl.data.make import make
from dl.data.parts import part
from dl.data.source import Arrays, standard
from dl.data.sources import sklearn as bundled
from dl.data.sources.arrays import Npz
from dl.errors import ConfigError

RNG = np.random.default_rng(0)


def test_arrays_gather_one_or_many():
  source = Arrays({'features': np.arange(12.0).reshape(6, 2), 'label': np.arange(6)})
  assert len(source) == 6
  np.testing.assert_array_equal(source[4]['features'], [8, 9])
  many = source[np.array([5, 0, 5])]
  np.testing.assert_array_equal(many['label'], [5, 0, 5])
  assert many['features'].dtype == np.float32 and many['label'].dtype == np.int32


@pytest.mark.parametrize(
  ('name', 'values', 'dtype'),
  [
    ('image', np.zeros(3, np.uint8), np.uint8),
    ('image', np.zeros(3, np.float64), np.float32),
    ('image', np.full(3, 65535, np.uint16), np.float32),
    ('label', np.zeros(3, np.uint8), np.int32),
    ('label', np.zeros(3, bool), np.int32),
    ('tokens', np.zeros(3, np.uint16), np.int32),
    ('other', np.zeros(3, bool), np.uint8),
    ('other', np.zeros(3, np.float16), np.float32),
    ('other', 3, np.int32),
  ],
)
def test_a_batch_has_few_dtypes(name, values, dtype):
  assert standard(name, values).dtype == dtype
  if np.asarray(values).dtype == np.uint16 and name == 'image':
    assert standard(name, values).max() == 1


@pytest.mark.parametrize(
  ('columns', 'says'),
  [
    ({}, 'same length, got none'),
    ({'a': np.zeros(3), 'b': np.zeros(4)}, "same length, got {'a': 3, 'b': 4}"),
    ({'a': np.array(['x'])}, "column 'a' holds <U1"),
    ({'a': np.array([2**40])}, 'beyond 32 bits'),
    ({'mask': np.zeros(3)}, "pipeline's own column"),
  ],
)
def test_columns_which_a_batch_cannot_hold(columns, says):
  with pytest.raises(ConfigError) as e:
    Arrays(columns)
  assert says in str(e.value)


def test_digits():
  train, test = part(bundled.Digits()), part(bundled.Digits(), 'test')
  assert (len(train), len(test)) == (1437, 360)
  raw = datasets.load_digits()
  whole = part(bundled.Digits(), 'all')
  np.testing.assert_allclose(whole.columns['image'][..., 0] * 16, raw.images, atol=1e-5)
  np.testing.assert_array_equal(whole.columns['label'], raw.target)
  assert train.columns['image'].shape == (1437, 8, 8, 1) and train.columns['image'].dtype == np.float32
  assert train.info == test.info == whole.info
  assert train.info.num_classes == 10 and train.info.image_size == (8, 8) and train.info.channels == 1
  np.testing.assert_array_equal(train.info.class_counts, np.bincount(train.columns['label']))
  np.testing.assert_allclose(train.info.mean, train.columns['image'].mean(), rtol=1e-5)
  np.testing.assert_allclose(train.info.std, train.columns['image'].std(), rtol=1e-5)


@pytest.mark.parametrize(
  ('name', 'shape', 'target'),
  [
    ('BreastCancer', (569, 30), 'label'),
    ('Wine', (178, 13), 'label'),
    ('Iris', (150, 4), 'label'),
    ('Diabetes', (442, 10), 'target'),
  ],
)
def test_bundled_tables(name, shape, target):
  make = getattr(bundled, name)
  train, test, whole = (part(make(), split) for split in ('train', 'test', 'all'))
  assert whole.columns['features'].shape == shape and len(train) + len(test) == shape[0]
  assert len(test) == -(-shape[0] // 5)
  assert len(train.info.feature_names) == shape[1] == len(train.info.mean)
  np.testing.assert_allclose(test.info.mean, train.columns['features'].mean(0, dtype=np.float64), rtol=1e-5)
  if target == 'label':
    assert train.info.num_classes == len(train.info.class_names) == whole.columns['label'].max() + 1
  else:
    assert whole.columns['features'][:, 0].max() > 70  # ages in years: not scaled
    np.testing.assert_allclose(test.info.target_mean, train.columns['target'].mean(), rtol=1e-5)
    np.testing.assert_allclose(test.info.target_std, train.columns['target'].std(), rtol=1e-5)


def test_folds_of_a_bundled_set():
  seen = np.concatenate([part(bundled.Iris(), 'test', folds=5, fold=i).columns['features'] for i in range(5)])
  whole = bundled.Iris().columns['features']
  np.testing.assert_array_equal(np.sort(seen, 0), np.sort(whole, 0))


@pytest.mark.parametrize(('name', 'options'), [('Tokens', dict(length=4)), ('Images', dict(size=4, num_classes=2))])
def test_splits_of_random_examples_are_the_same_but_for_unknown_ones(name, options):
  options = dict(name=f'synthetic.{name}', batch_size=2, count=4, **options) | (
    {'vocab_size': 9} if name == 'Tokens' else {}
  )
  train, test = (make(options, split=split, train=False)[0] for split in ('train', 'test'))
  assert all(np.array_equal(train[column], test[column]) for column in train)
  with pytest.raises(ConfigError, match=r"there is no split 'nonsense'; valid: all, test, train, validation"):
    make(options, split='nonsense')


def save(path, **arrays):
  np.savez(path, **arrays)
  return str(path)


def test_npz_which_comes_in_parts(tmp_path):
  x, y = RNG.integers(0, 256, (50, 4, 5), np.uint8), np.arange(50) % 3 + 7
  path = save(tmp_path / 'mnist.npz', x_train=x[:40], y_train=y[:40], x_test=x[40:], y_test=y[40:])
  train, test = part(Npz(path)), part(Npz(path), 'test')
  np.testing.assert_array_equal(train.columns['image'], x[:40, ..., None])
  np.testing.assert_array_equal(test.columns['label'], y[40:] - 7)
  assert test.info.class_names == ('7', '8', '9') and test.info.class_counts == (14, 13, 13)
  np.testing.assert_allclose(test.info.mean, [x[:40].mean() / 255])
  np.testing.assert_allclose(test.info.std, [x[:40].std() / 255])
  assert len(part(Npz(path), validation=0.25)) == 30 and len(part(Npz(path), 'validation', validation=0.25)) == 10
  with pytest.raises(ConfigError, match="no 'validation' part"):
    part(Npz(path), 'validation')


def test_npz_which_is_split_and_npz_of_files(tmp_path):
  x, y = RNG.normal(size=(50, 3)), RNG.normal(size=(50, 1))
  whole = part(Npz(save(tmp_path / 'a.npz', data=x, out=y), inputs='data', targets='out'))
  assert len(whole) == 40 and whole.columns['features'].shape == (40, 3) and whole.columns['target'].shape == (40,)
  np.testing.assert_allclose(whole.info.target_std, whole.columns['target'].std(), rtol=1e-5)
  files = dict(train=save(tmp_path / 'b.npz', x=x[:30], y=y[:30]), test=save(tmp_path / 'c.npz', x=x[30:], y=y[30:]))
  np.testing.assert_array_equal(part(Npz(files), 'test').columns['features'], x[30:].astype(np.float32))
  alone = part(Npz(save(tmp_path / 'd.npz', x=x), targets=None))
  assert list(alone.columns) == ['features']


def test_npz_targets_as_classes(tmp_path):
  x = RNG.random((6, 2))
  for y in (np.array(list('bababa')), np.array([True, False] * 3), np.array([9, 4] * 3)):
    source = Npz(save(tmp_path / 'a.npz', x=x, y=y))
    np.testing.assert_array_equal(source.columns['label'], [1, 0] * 3)
  regression = Npz(save(tmp_path / 'b.npz', x=x, y=np.array([9, 4] * 3)), kind='regression')
  np.testing.assert_array_equal(regression.columns['target'], [9, 4] * 3)


@pytest.mark.parametrize(
  ('arrays', 'options', 'says'),
  [
    (dict(xs=np.zeros((4, 2)), y=np.zeros(4)), {}, "no array 'x'; did you mean 'xs'"),
    (dict(x=np.zeros((4, 2))), {}, "no array 'y'"),
    (dict(x=np.zeros((4, 2)), y=np.zeros(5)), {}, "'x' has 4 rows and 'y' 5"),
    (dict(x=np.zeros((4, 2)), y=np.zeros((4, 3))), {}, 'one number or class a row'),
    (dict(x=np.zeros((4, 2)), y=np.zeros(4, int)), {}, 'nothing to classify'),
    (dict(x=np.full((4, 8, 8), 200.0), y=np.zeros(4)), {}, 'floats from 0 to 1'),
    (dict(x=np.zeros((4, 1, 2, 3, 4)), y=np.zeros(4)), {}, 'has shape (4, 1, 2, 3, 4)'),
    (dict(x=np.array([[1.0], [np.nan]]), y=np.zeros(2)), {}, 'example 1: the features hold nan'),
    (dict(x=np.zeros((2, 1)), y=np.array([0.5, np.inf])), {}, 'example 1: the target is inf'),
    (dict(x=np.full((2, 8, 8), np.nan), y=np.zeros(2)), {}, "'x': example 0: the image holds nan; fill in"),
    (dict(x=np.full((2, 8, 8), 300), y=np.zeros(2)), {}, "'x': example 0: the image holds 300; store bytes"),
    (dict(x=np.zeros((9, 3, 32, 32)), y=np.arange(9) % 2), {}, 'stored channels-first'),
    (dict(x=np.float32(3), y=np.zeros(2)), {}, 'a single number'),
    (dict(x=np.zeros((4, 2)), y=np.zeros(4)), dict(split='tset'), "did you mean 'test'"),
    (dict(x=np.array([[None], [{}]], object), y=np.zeros(2)), {}, 'cannot be read as .npz'),
    (dict(x=np.zeros((0, 2)), y=np.zeros(0)), {}, "'x' has no rows"),
    (dict(x_train=np.zeros((4, 2)), y_train=np.zeros(4), x_test=np.zeros((0, 2)), y_test=np.zeros(0)), {}, 'no rows'),
    (dict(x=np.zeros((5, 2)), y=np.array([0, 1, -1, 2, 3])), {}, 'the label of row 2 is -1, beside the classes from 0'),
    (dict(x=np.zeros((9, 3, 32, 32), np.uint8), y=np.arange(9) % 2), {}, 'stored channels-first'),
  ],
)
def test_npz_mistakes_are_one_line(tmp_path, arrays, options, says):
  with pytest.raises(ConfigError) as e:
    part(Npz(save(tmp_path / 'a.npz', **arrays)), **options)
  assert says in str(e.value) and '\n' not in str(e.value)


def test_npz_files_which_are_not_there(tmp_path):
  save(tmp_path / 'mnist.npz', x=np.zeros(3))
  (tmp_path / 'text.npz').write_text('hello')
  np.save(tmp_path / 'single.npy', np.zeros(3))
  for path, says in (
    ('mnits.npz', "did you mean 'mnist.npz'"),
    ('text.npz', 'cannot be read'),
    ('single.npy', 'np.savez'),
    ('', 'is a folder'),
    ('no/x.npz', 'no folder'),
  ):
    with pytest.raises(ConfigError, match=says):
      Npz(str(tmp_path / path))
  with pytest.raises(ConfigError, match="did you mean 'train'"):
    Npz({'trian': 'x'})


def test_whole_numbers_as_pixels_are_bytes_or_black_and_white(tmp_path):
  """In an .npz; a source of one's own stores them so itself."""
  gray, binary = np.arange(18).reshape(2, 3, 3) * 15, np.arange(18).reshape(2, 3, 3) % 2
  for images, dtype in ((gray, np.uint8), (binary, np.float32)):
    columns = Npz(save(tmp_path / 'a.npz', x=images, y=np.arange(2))).columns
    assert columns['image'].dtype == dtype and columns['image'].max() == images.max()
  with pytest.raises(ConfigError, match=r'example 0: the image holds 15; store bytes \(uint8\), or floats'):
    part(Arrays({'image': gray[..., None]}))
