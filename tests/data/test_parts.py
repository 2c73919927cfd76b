"""Parts of any source: how they are cut, the facts of the training part, and labels that are none."""

import numpy as np
import pytest

from dl.contract.info import Info
from dl.data.make import make
from dl.data.parts import part
from dl.data.source import Arrays
from dl.data.sources.sklearn import Digits
from dl.data.splits import select
from dl.errors import ConfigError

HERE = __name__
N = 60
IMAGES = np.random.default_rng(0).integers(0, 256, (N, 5, 6, 3), np.uint8)
CLASSES = np.arange(N) % 3


class Mine:
  """A user's own source: an example at a time, and nothing else."""

  def __init__(self, size: int = N):
    self.size = size

  def __len__(self):
    return self.size

  def __getitem__(self, index):
    assert type(index) is int
    return {'image': IMAGES[index], 'label': CLASSES[index], 'id': index}


class Known(Mine):
  """One which knows the classes of its examples."""

  info = Info(class_names=('a', 'b', 'c'), mean=(0.5, 0.5, 0.5))
  labels = CLASSES


class Gathered(Mine):
  """One in memory."""

  vectorized = True
  info = Info(num_classes=3)

  def __getitem__(self, index):
    return {'image': IMAGES[index], 'label': CLASSES[index], 'id': np.asarray(index)}


class InParts(Mine):
  """One which comes in parts."""

  parts = {'train': np.arange(10, 40), 'test': np.arange(40, 60)}


class Targets:
  """Numbers to predict."""

  def __len__(self):
    return 20

  def __getitem__(self, index):
    return {'features': np.float32([index, 7]), 'target': float(index)}


class Holed:
  """Features, one of which is missing."""

  def __len__(self):
    return 8

  def __getitem__(self, index):
    return {'features': np.array([1.0, np.nan if index == 1 else 2.0])}


class Wrong(Mine):
  """Labels which are none, in one place."""

  info = Info(num_classes=3)

  def __init__(self, label: int, known: bool = False):
    super().__init__()
    self._classes = CLASSES.copy()
    self._classes[17] = label
    if known:
      self.labels = self._classes

  def __getitem__(self, index):
    return super().__getitem__(index) | {'label': self._classes[index]}


class Blank(Mine):
  """Images as floats, with a pixel that is none."""

  def __init__(self, pixel: float = np.nan):
    super().__init__()
    self.pixel = pixel

  def __getitem__(self, index):
    image = np.ones((5, 6, 3)) + 1e-5  # as resizing rounds
    image[2, 3] = self.pixel if index == 4 else 0.5
    return {'image': image, 'label': CLASSES[index]}


class ChannelsFirst(Mine):
  """Images as PyTorch has them."""

  def __getitem__(self, index):
    return {'image': IMAGES[index].transpose(2, 0, 1).repeat(2, 2), 'label': CLASSES[index]}


def ids(name, split, **rules):
  pipeline = make(dict(name=f'{HERE}.{name}', batch_size=4, **rules), split=split, train=False)
  return np.concatenate([batch['id'][batch['mask'] > 0] for batch in pipeline])


@pytest.mark.parametrize(('name', 'labels'), [('Mine', None), ('Known', CLASSES), ('Gathered', CLASSES)])
def test_any_source_is_cut_by_the_config(name, labels):
  """Stratified where the classes are known without reading examples."""
  for split in ('train', 'validation', 'test', 'all'):
    expected = select(split, N, labels, test=0.2, validation=6, seed=5)
    np.testing.assert_array_equal(ids(name, split, test=0.2, validation=6, split_seed=5), expected)
  folds = [ids(name, 'test', folds=3, fold=fold) for fold in range(3)]
  np.testing.assert_array_equal(np.sort(np.concatenate(folds)), np.arange(N))


def test_a_source_without_a_test_part_is_trained_on_whole_and_evaluated_whole_as_other_data():
  assert len(ids('Mine', 'train')) == len(ids('Mine', 'all')) == N
  with pytest.raises(ConfigError, match=r"the 'test' part is empty; set test=0\.1, say"):
    ids('Mine', 'test')
  assert len(make(dict(name=f'{HERE}.Mine', batch_size=4), split='other', train=False, own_data=True).source) == N
  with pytest.raises(ConfigError, match="takes no argument 'tset'; did you mean 'test'"):
    ids('Mine', 'test', tset=0.2)
  with pytest.raises(ConfigError, match=r'config.data.folds: must be'):
    ids('Mine', 'test', folds=-1)


def test_a_source_says_that_it_comes_in_parts():
  np.testing.assert_array_equal(ids('InParts', 'test'), np.arange(40, 60))
  assert len(ids('InParts', 'train', validation=0.1)) == 27 and len(ids('InParts', 'validation', validation=0.1)) == 3
  with pytest.raises(ConfigError, match='in parts already'):
    ids('InParts', 'train', folds=3)


@pytest.mark.parametrize('name', ['Mine', 'Known', 'Gathered'])
def test_facts_are_of_the_training_part(name):
  """What the source does not say itself."""
  train, test = (make(dict(name=f'{HERE}.{name}', batch_size=4, test=0.2), split=s) for s in ('train', 'test'))
  assert train.info == test.info
  shown = IMAGES[ids(name, 'train', test=0.2)] / 255
  mean = (0.5, 0.5, 0.5) if name == 'Known' else shown.mean((0, 1, 2))
  np.testing.assert_allclose(train.info.mean, mean, rtol=1e-6)
  np.testing.assert_allclose(train.info.std, shown.std((0, 1, 2)), rtol=1e-6)
  assert (train.info.image_size, train.info.channels) == ((5, 6), 3)
  counts = {'Mine': (None, None), 'Known': (3, (16, 16, 16)), 'Gathered': (3, (16, 16, 16))}
  assert (train.info.num_classes, train.info.class_counts) == counts[name]


def test_facts_of_numbers():
  info = make(dict(name=f'{HERE}.Targets', batch_size=4)).info
  np.testing.assert_allclose(info.mean, [9.5, 7])
  assert info.std[1] == 1 and info.target_mean is None  # not of a sample: it may have outliers


def test_parts_in_python():
  test = part(Digits(), 'test', test=100, split_seed=3)
  assert len(test) == 100 and test.columns['image'].shape == (100, 8, 8, 1) and test.whole.info.mean is None
  np.testing.assert_array_equal(test.columns['label'], Digits().columns['label'][test.index])
  np.testing.assert_array_equal(test.labels, test.columns['label'])
  assert test[3]['label'] == test.labels[3] and part(Mine(), 'test', test=4)[0]['id'] in range(N)


def test_a_label_between_classes_and_features_which_are_no_numbers_are_refused():
  with pytest.raises(ConfigError, match=r'example 2: the label is 1.5, which is no class'):
    part(Arrays({'label': np.asarray([0, 1, 1.5])}, Info(num_classes=3)))
  with pytest.raises(ConfigError, match=r'example 2: the label is 3.0; classes are numbered from 0 to 2'):
    part(Arrays({'label': np.asarray([0, 1, 3.0])}, Info(num_classes=3)))
  with pytest.raises(ConfigError, match=r'example 1: the label_map holds 0.5, which is no class'):
    part(Arrays({'label_map': np.asarray([[[0.0]], [[0.5]]])}, Info(num_classes=3)))
  for column, values in (('label', np.asarray([0.0, 1.0])), ('label_map', np.asarray([[[0.0]], [[1.0]]]))):
    with pytest.raises(
      ConfigError, match=rf'example 0: the {column} .* 0.0, a float32; store classes as whole numbers'
    ):
      part(Arrays({column: values}))
  for spec, says in (
    (dict(name='Holed'), 'example 1: the features hold nan'),
    (dict(name='Blank'), 'example 4: the image holds nan'),
    (dict(name='Blank', pixel=7.5), r'example 4: the image holds 7.5; store bytes \(uint8\), or floats from 0 to 1'),
  ):
    with pytest.raises(ConfigError, match=says):
      [make(spec | dict(name=f'{HERE}.{spec["name"]}', batch_size=2, shuffle=False))[step] for step in range(3)]


@pytest.mark.parametrize('label', [-1, 3])
def test_labels_outside_of_the_classes_are_refused(label):
  """At the start where they are known, or else by the batch which has one: with the place in the user's own source."""
  says = rf'config.data: example 17: the label is {label}; classes are numbered from 0 to 2'
  with pytest.raises(ConfigError, match=says):
    make(dict(name=f'{HERE}.Wrong', label=label, known=True, batch_size=4))
  for read in (lambda p: [p[step] for step in range(20)], lambda p: list(zip(range(20), p.iterate(0), strict=False))):
    with pytest.raises(ConfigError, match=says):
      read(make(dict(name=f'{HERE}.Wrong', label=label, batch_size=4, stratify=False, test=6)))
  skipping = make(dict(name=f'{HERE}.Wrong', label=label, batch_size=4, on_error='skip'))
  assert all((skipping[step]['label'] >= 0).all() for step in range(15)) and list(skipping.skipped) == [17]
  with pytest.raises(ConfigError, match=rf'example 2: the label is {label}'):
    part(Arrays({'label': np.asarray([0, 1, label])}, Info(num_classes=3)))


def test_images_stored_channels_first_are_refused():
  with pytest.raises(ConfigError, match=r'shape \(3, 5, 12\) is stored channels-first.*\(5, 12, 3\)'):
    make(dict(name=f'{HERE}.ChannelsFirst', batch_size=4)).example()


@pytest.mark.parametrize('name', ['Mine', 'Gathered'])
def test_a_training_batch_larger_than_the_set_is_refused(name):
  spec = dict(name=f'{HERE}.{name}', batch_size=49, test=0.2)
  with pytest.raises(ConfigError, match='batch_size: a batch of 49 is more than the 48 examples'):
    make(spec)
  assert len(make(spec, split='test', train=False)) == 1  # padded
  assert make(spec | {'batch_size': 48})[0]['mask'].sum() == 48
