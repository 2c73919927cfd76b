"""TFDS through array_record: real sets where they are, and what is said where they are not."""

import pathlib
import subprocess
import sys

import numpy as np
import pytest

from dl.data.make import make
from dl.data.sources.tfds import Tfds
from dl.errors import ConfigError

DATA = pathlib.Path(__file__).parents[2] / '../shared/data/tfds'
MNIST = dict(dataset='mnist', data_dir=str(DATA), builder_kwargs=dict(file_format='array_record'))
needs_data = pytest.mark.skipif(not DATA.exists(), reason='needs ../shared/data')


@needs_data
def test_slices_names_and_statistics():
  source = Tfds(**MNIST, split='train[:500]')
  assert len(source) == 500 and source.vectorized
  batch = source[np.arange(3)]
  assert batch['image'].shape == (3, 28, 28, 1) and batch['image'].dtype == np.uint8
  np.testing.assert_array_equal(batch['label'], [source[i]['label'] for i in range(3)])
  info = source.info
  assert info.num_classes == 10 and sum(info.class_counts) == 500 and info.image_size == (28, 28)
  pixels = source.columns['image'] / 255
  np.testing.assert_allclose((info.mean[0], info.std[0]), (pixels.mean(), pixels.std()), rtol=1e-6)


@needs_data
def test_validation_is_the_end_of_train():
  options = MNIST | dict(validation=59_700, in_memory=False)
  train, validation = Tfds(**options), Tfds(**options, split='validation')
  whole = Tfds(**MNIST, in_memory=False)
  assert (len(train), len(validation), len(whole)) == (300, 59_700, 60_000)
  for part, i, j in ((train, 299, 299), (validation, 0, 300)):
    np.testing.assert_array_equal(part[i]['image'], whole[j]['image'])
  assert sum(validation.info.class_counts) == 300  # of the training part
  assert len(Tfds(**MNIST | dict(in_memory=False), validation=0.1, split='validation')) == 6000
  with pytest.raises(ConfigError, match='would overlap'):
    Tfds(**MNIST, validation=0.1, split='train[:50%]')
  with pytest.raises(ConfigError, match='nothing to train on'):
    Tfds(**MNIST, validation=1.0)


@pytest.mark.thorough
@needs_data
def test_in_memory_equals_per_example_and_as_tfds_decodes():
  import tensorflow_datasets as tfds

  spec = dict(name='tfds.Tfds', **MNIST, split='test[:100]', batch_size=32)
  fast, slow = make(spec, seed=3), make(spec | dict(in_memory=False), seed=3)
  assert fast.source.vectorized and not slow.source.vectorized
  for step in (0, 5):
    for name in ('image', 'label', 'mask'):
      np.testing.assert_array_equal(fast[step][name], slow[step][name])
  own = tfds.data_source('mnist', split='test', data_dir=DATA)
  np.testing.assert_array_equal(fast.source[7]['image'], own[7]['image'])
  small = Tfds(**MNIST, split='test[:4]', image_size=[14, 10])
  assert small[0]['image'].shape == (14, 10, 1) and small.info.image_size == (14, 10)


@needs_data
@pytest.mark.parametrize(
  ('options', 'says'),
  [
    (dict(split='trian'), "Unknown split 'trian'"),
    (dict(split='train[:9'), 'train[:9'),
    (dict(split='train[:0]'), 'is empty'),
    (dict(split='validation'), 'set validation=0.1'),
    (dict(targets='lable'), "did you mean 'label'"),
    (dict(inputs='label'), 'mnist'),
    (dict(dataset='mnist:3.0.0'), 'only: 3.0.1'),
    (dict(dataset='cifar10'), 'prepared there: fashion_mnist, mnist'),
    (dict(builder_kwargs=dict(file_fomat='x')), 'file_fomat'),
    (dict(image_size=[0, 1]), 'image_size'),
  ],
)
def test_mistakes_are_one_line(options, says):
  with pytest.raises(ConfigError) as e:
    Tfds(**{'in_memory': False} | MNIST | options)
  assert says in str(e.value) and '\n' not in str(e.value)


@pytest.mark.parametrize(('name', 'says'), [('mnits', "did you mean 'mnist'"), ('mnist', 'tfds build mnist')])
def test_a_set_which_is_not_there_is_one_line_on_stderr(tmp_path, name, says):
  code = (
    f'from dl.data.sources.tfds import Tfds\ntry: Tfds({name!r}, data_dir={str(tmp_path)!r})\n'
    "except ValueError as e: raise SystemExit(f'dl: {e}')\n"
    "finally:\n  import sys\n  assert 'tensorflow' not in sys.modules"
  )
  done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=False)
  assert says in done.stderr and len(done.stderr.strip().splitlines()) == 1


@needs_data
def test_images_at_their_own_size_are_for_a_transform():
  """The transform crops what it is given, and nothing resizes it before."""
  source = Tfds(**MNIST, split='test', image_size=(14, 14), resize=False)
  assert not source.vectorized and source[0]['image'].shape == (28, 28, 1)
  with pytest.raises(ConfigError, match='resize=True'):
    Tfds(**MNIST, split='test', resize=False, in_memory=True)
