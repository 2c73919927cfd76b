"""Augmentation against NumPy and SciPy, its determinism, and that examples are drawn for one by one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage

from dl.config import build
from dl.data import augment
from dl.errors import ConfigError

KEY = jax.random.key(0)
IMAGES = np.random.default_rng(0).random((6, 9, 7, 2), np.float32)


def run(function, batch, **arguments):
  """An augmentation as training runs it: compiled."""
  return jax.jit(lambda key, batch: function(key, batch, **arguments))(KEY, batch)


BATCH = {'image': jnp.asarray(IMAGES), 'label': jnp.arange(6), 'mask': jnp.asarray([1, 1, 1, 1, 0, 0], jnp.float32)}


@pytest.mark.parametrize('offset', [(0, 0), (1, 0), (-2, 3), (0.5, -0.25), (1.3, 2.7), (-0.001, 0.0)])
def test_shift_is_scipys(offset):
  moved = jax.jit(augment.shift)(BATCH['image'], jnp.broadcast_to(jnp.asarray(offset, jnp.float32), (6, 2)))
  expected = [scipy.ndimage.shift(x, (*offset, 0), order=1, mode='grid-constant') for x in IMAGES]
  np.testing.assert_allclose(moved, expected, atol=1e-5)


def test_whole_pixels_are_a_roll_with_zeros():
  moved = np.asarray(jax.jit(augment.shift)(BATCH['image'], jnp.full((6, 2), jnp.asarray([2.0, -1.0]))))
  rolled = np.roll(IMAGES, (2, -1), (1, 2))
  rolled[:, :2], rolled[:, :, -1] = 0, 0
  np.testing.assert_array_equal(moved, rolled)


@pytest.mark.parametrize('subpixel', [True, False])
def test_random_shift_stays_within_its_pixels(subpixel):
  point = jnp.zeros((200, 9, 9, 1)).at[:, 4, 4].set(1.0)
  out = run(augment.random_shift, {'image': point}, pixels=2, subpixel=subpixel)['image'][..., 0]
  grid = np.arange(9)
  rows, columns = (np.asarray((out.sum(2 - i) * grid).sum(-1)) - 4 for i in range(2))
  for centre in (rows, columns):
    assert np.abs(centre).max() <= 2 + 1e-5 and centre.min() < -1.5 and centre.max() > 1.5
    assert abs(centre.mean()) < 0.3
    if not subpixel:
      assert set(np.round(centre, 3)) == {-2, -1, 0, 1, 2}


def test_random_flip():
  out = np.asarray(run(augment.random_flip, BATCH | {'image': jnp.tile(BATCH['image'], (20, 1, 1, 1))})['image'])
  source = np.tile(IMAGES, (20, 1, 1, 1))
  same = (out == source).all((1, 2, 3))
  flipped = (out == source[:, :, ::-1]).all((1, 2, 3))
  assert (same ^ flipped).all() and 30 < flipped.sum() < 90
  up = run(augment.random_flip, BATCH, axis='vertical', probability=1.0)['image']
  np.testing.assert_array_equal(up, IMAGES[:, ::-1])


@pytest.mark.parametrize('mode', ['constant', 'edge', 'reflect'])
def test_random_crop_is_a_crop_of_the_padded_image(mode):
  out = np.asarray(run(augment.random_crop, BATCH, pad=2, mode=mode)['image'])
  padded = np.pad(IMAGES, ((0, 0), (2, 2), (2, 2), (0, 0)), mode=mode)
  for i in range(6):
    crops = [padded[i, a : a + 9, b : b + 7] for a in range(5) for b in range(5)]
    assert sum(np.array_equal(out[i], c) for c in crops) >= 1


def test_gaussian_noise():
  for name in ('image', 'features'):
    values = jnp.full((50, 8, 8, 1), 0.5)
    noise = np.asarray(run(augment.gaussian_noise, {name: values}, std=0.1)[name]) - 0.5
    assert abs(noise.std() - 0.1) < 0.005 and abs(noise.mean()) < 0.01


@pytest.mark.parametrize('matrix', [[[1, 0], [0, 1]], [[0, -1], [1, 0]], [[0.9, 0.1], [-0.2, 1.2]]])
def test_affine_is_scipys(matrix):
  matrix = np.asarray(matrix, np.float32)
  out = jax.jit(augment.affine)(BATCH['image'], jnp.broadcast_to(jnp.asarray(matrix), (6, 2, 2)))
  centre = np.array([4.0, 3.0])
  expected = np.stack(
    [
      [
        scipy.ndimage.affine_transform(c, matrix, centre - matrix @ centre, order=1, mode='grid-constant')
        for c in np.moveaxis(x, -1, 0)
      ]
      for x in IMAGES
    ]
  )
  np.testing.assert_allclose(out, np.moveaxis(expected, 1, -1), atol=1e-5)


def test_random_rotate_scale_draws_within_its_limits():
  out = run(augment.random_rotate_scale, BATCH, degrees=0.0, scale=(1.0, 1.0))['image']
  np.testing.assert_allclose(out, IMAGES, atol=1e-5)
  # A square which is twice as large has four times the area.
  square = jnp.zeros((40, 41, 41, 1)).at[:, 15:26, 15:26].set(1.0)
  area = np.asarray(
    run(augment.random_rotate_scale, {'image': square}, degrees=30.0, scale=(0.5, 2.0))['image'].sum((1, 2, 3))
  )
  assert area.min() > 0.2 * 121 and area.max() < 4.2 * 121 and area.max() > 2 * 121 > area.min() * 3


COLOUR = BATCH | {'image': jnp.asarray(np.random.default_rng(1).random((6, 9, 7, 3), np.float32))}

SPECS = [
  dict(name='random_shift', pixels=1.5),
  dict(name='random_flip'),
  dict(name='random_crop', pad=1),
  dict(name='random_rotate_scale', degrees=5.0, scale=[0.9, 1.1], shear=0.1),
  dict(name='gaussian_noise', std=0.05),
  dict(name='random_resized_crop', scale=[0.3, 1.0]),
  dict(name='color_jitter', brightness=0.4, contrast=[0.5, 1.5], saturation=0.4, hue=0.1, probability=0.8),
  dict(name='random_grayscale', probability=0.5),
  dict(name='solarize', threshold=0.7),
  dict(name='rand_augment'),
  dict(name='random_erasing', scale=[0.1, 0.3], value='random'),
  dict(name='cutout', size=3, value=[0.1, 0.2, 0.3]),
]


@pytest.mark.parametrize('specs', [SPECS[::2], pytest.param(SPECS, marks=pytest.mark.thorough)], ids=len)
def test_a_chain_is_deterministic_by_key_and_leaves_the_rest_alone(specs):
  chain = jax.jit(augment.make(specs))
  a, b, other = chain(KEY, COLOUR), chain(KEY, COLOUR), chain(jax.random.key(1), COLOUR)
  np.testing.assert_array_equal(a['image'], b['image'])
  assert not np.array_equal(a['image'], other['image'])
  assert a['image'].shape == COLOUR['image'].shape and a['image'].dtype == jnp.float32
  for name in ('label', 'mask'):
    np.testing.assert_array_equal(a[name], COLOUR[name])
  assert augment.make([])(KEY, BATCH)['image'] is BATCH['image']


@pytest.mark.parametrize('spec', SPECS, ids=lambda s: s['name'])
def test_examples_have_their_own_draws_and_do_not_touch_each_other(spec):
  function = augment.make([spec])
  same = jnp.tile(COLOUR['image'][:1], (8, 1, 1, 1))
  out = np.asarray(run(function, {'image': same})['image'])
  assert len({x.tobytes() for x in out}) > 1
  # A row of NaNs, as padding may hold, stays in its row.
  dirty = np.asarray(run(function, {'image': same.at[5].set(jnp.nan)})['image'])
  np.testing.assert_array_equal(np.delete(dirty, 5, 0), np.delete(out, 5, 0))


def test_a_users_own_function_and_mistakes():
  function = augment.make([dict(name=f'{__name__}.invert', strength=0.5)])
  np.testing.assert_allclose(function(KEY, BATCH)['image'], 0.5 - IMAGES)
  for spec, says in (
    (dict(name='random_flip', probability=2.0), 'probability: must be from 0 to 1'),
    (dict(name='random_rotate_scale', scale=[0.0, 1.0]), 'scale: must be above 0'),
    (dict(name='gaussian_noise', std=-1.0), 'std: must be at least 0'),
    (dict(name='random_resized_crop', scale=[0.5, 1.5]), 'scale: must be above 0 and at most 1'),
    (dict(name='rand_augment'), 'needs images with 1 or 3 channels, got 2'),
    (dict(name='random_erasing', value=[0.1, 0.2, 0.3]), 'value must be one number or 2'),
  ):
    with pytest.raises(ConfigError, match=says):
      augment.make([spec])(KEY, BATCH)
  for spec, says in (
    (dict(name='color_jitter', hue=0.1), 'grey images have no hue'),
    (dict(name='color_jitter', brightness=[1.5, 0.5]), 'brightness must be .smallest, largest.'),
    (dict(name='color_jitter', hue=[-0.7, 0.2]), 'from -0.5 to 0.5'),
    (dict(name='rand_augment', magnitude=31), 'magnitude must be from 0'),
    (dict(name='rand_augment', operations=['shear']), "did you mean 'shear_y' or 'shear_x'"),
    (dict(name='rand_augment', operations=[]), 'must not be empty'),
  ):
    with pytest.raises(ConfigError, match=says):
      augment.make([spec])(KEY, {'image': BATCH['image'][..., :1]})
  with pytest.raises(ConfigError, match="'rand_augment'"):
    augment.make([dict(name='randaugment')])
  with pytest.raises(ConfigError, match=r"has no 'mixupp'; did you mean 'mixup'"):
    build.resolve('augment.mixupp', 'dl.data', 'here')


def invert(key, batch, strength: float):
  """A user's augmentation."""
  return batch | {'image': strength - batch['image']}
