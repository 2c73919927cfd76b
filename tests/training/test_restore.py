"""A trained model from its work directory: what its `predict` takes, which is what `dl.predict` takes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import dl
from dl.contract.info import Info
from dl.contract.kinds import no_such_features
from dl.data.sources.images import read_image
from dl.errors import ConfigError
from dl.training import prediction

KEY = jax.random.key(0)
SIZES = 'the model has learned from images of 8x8, got 20x10; resize them'


@pytest.fixture
def wide(tmp_path):
  """An image file of another size than those of the run, and its pixels."""
  rng = np.random.default_rng(0)
  blurred = np.kron(rng.integers(0, 256, (5, 5)), np.ones((4, 2))).astype(np.uint8)
  Image.fromarray(blurred).save(tmp_path / 'wide.png')
  return tmp_path / 'wide.png', blurred[None, ..., None]


@pytest.mark.parametrize('jit', [False, True])
def test_images_of_another_size_are_refused(runs, wide, jit):
  """An MLP fails on them in Flax's words, and a network that pools would answer nonsense."""
  task, state = dl.load(runs('perceptron'))
  predict = jax.jit(task.predict) if jit else task.predict
  with pytest.raises(ConfigError) as e:
    predict(state, wide[1], KEY)
  assert str(e.value) == f'Classify.predict: {SIZES}, or load the run by dl.load(..., resize=True)'


def test_dl_predict_refuses_the_same_arrays_by_the_same_check(runs, wide, tmp_path):
  np.savez(tmp_path / 'wide.npz', x=wide[1])
  with pytest.raises(ConfigError) as e:
    list(prediction.predict(runs('perceptron'), [str(tmp_path / 'wide.npz')]))
  assert str(e.value) == f'{tmp_path}/wide.npz:x: {SIZES}'


def test_images_are_resized_on_request_as_dl_predict_resizes_files(runs, wide):
  path, images = wide
  task, state = dl.load(runs('perceptron'), resize=True)
  mine = task.predict(state, images, KEY)['probability']
  (row,) = prediction.predict(runs('perceptron'), [str(path)])
  np.testing.assert_allclose(mine[0], row.outputs['probability'], atol=0.01)  # Pillow rounds to bytes
  exact = dl.load(runs('perceptron'))[0].predict(state, read_image(path, (8, 8), 1)[None], KEY)['probability']
  np.testing.assert_allclose(row.outputs['probability'], exact[0], atol=1e-6)
  with pytest.raises(ConfigError, match=r'\[batch, height, width, 1\], got the shape'):
    task.predict(state, np.repeat(images, 3, -1), KEY)


@pytest.mark.parametrize('of', [jnp.asarray, np.ndarray.tolist])
@pytest.mark.parametrize(
  ('images', 'says'),
  [
    (np.full((1, 8, 8, 1), 255.0, np.float32), 'got 255 to 255'),
    (np.full((1, 8, 8, 1), np.nan, np.float32), 'got nan to nan'),
    (np.full((1, 8, 8, 1), 200, np.int32), 'got int'),
    (np.zeros((1, 1, 8, 8), np.float32), 'got the shape (1, 1, 8, 8): move the channels to the end'),
  ],
)
def test_values_are_looked_at_whatever_they_come_in(runs, of, images, says):
  """JAX's arrays and lists as NumPy's."""
  task, state = dl.load(runs('perceptron'), resize=True)
  with pytest.raises(ConfigError) as e:
    task.predict(state, of(images), KEY)
  assert says in str(e.value) and 'resize=True' not in str(e.value)


def test_features_of_data_that_name_none_are_counted():
  says = no_such_features(np.zeros((2, 7)), Info(more=(('feature_count', 8),)))
  assert says == 'the model has learned from 8 features a row, got the shape (2, 7)'


def test_nothing_but_images_is_resized(runs):
  with pytest.raises(ConfigError, match='resize=True is for images, and the task of this run reads none'):
    dl.load(runs('diabetes'), resize=True)


def test_rows_with_other_features_are_refused(runs):
  task, state = dl.load(runs('diabetes'))
  with pytest.raises(ConfigError, match='has learned from 10 features a row, got the shape'):
    task.predict(state, np.zeros((2, 9), np.float32), KEY)
  with pytest.raises(ConfigError, match='row 1: the features hold nan'):
    task.predict(state, np.concatenate([np.zeros((1, 10)), np.full((1, 10), np.nan)]), KEY)
