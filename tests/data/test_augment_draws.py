"""What random augmentation draws: ranges, probabilities, and mixtures of examples with their labels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dl.data import augment, make
from dl.errors import ConfigError

KEY = jax.random.key(0)


def run(function, batch, key=KEY, **arguments):
  """An augmentation as training runs it: compiled."""
  return jax.jit(lambda key, batch: function(key, batch, **arguments))(key, batch)


@pytest.mark.parametrize(('scale', 'ratio'), [((0.2, 0.8), (0.5, 2.0)), ((0.08, 1.0), (0.75, 4 / 3))])
def test_random_resized_crop_draws_area_shape_and_place(scale, ratio):
  size = 40
  ramp = np.arange(size, dtype=np.float32)
  image = np.stack(np.broadcast_arrays(ramp[:, None], ramp), -1)
  out = np.asarray(
    run(augment.random_resized_crop, {'image': jnp.tile(image, (500, 1, 1, 1))}, scale=scale, ratio=ratio)['image']
  )
  # The slope of a ramp is the share of the side which is left.
  middle = slice(size // 2 - 1, size // 2 + 1)
  height = np.diff(out[:, middle, 0, 0]).ravel()
  width = np.diff(out[:, 0, middle, 1]).ravel()
  area, shape = height * width, width / height
  assert scale[0] * 0.9 <= area.min() < scale[0] * 1.3 and scale[1] * 0.85 < area.max() <= scale[1] * 1.07
  assert ratio[0] * 0.85 <= shape.min() and shape.max() <= ratio[1] * 1.15
  assert abs(np.log(shape).mean()) < 0.1 * np.log(ratio[1] / ratio[0])
  assert out.min() >= 0 and out.max() <= size - 1  # nothing from outside
  top = out[:, 0, 0, 0]
  small = area < 0.5
  assert top[small].min() < 2 and top[small].max() > 10


def test_a_crop_without_a_valid_shape_is_the_largest_central_one():
  image = jnp.tile(jnp.arange(40.0)[:, None, None], (3, 1, 10, 1))  # 40 x 10: only 10 x 10 at most
  out = run(augment.random_resized_crop, {'image': image}, scale=(0.9, 1.0), ratio=(1.0, 1.0), size=(10, 10))['image']
  np.testing.assert_allclose(out, image[:, 15:25], atol=1e-5)


def test_color_jitter_draws_within_its_limits():
  grey = jnp.full((400, 4, 4, 3), 0.4)
  factor = np.asarray(run(augment.color_jitter, {'image': grey}, brightness=0.5)['image'][:, 0, 0, 0]) / 0.4
  assert 0.5 - 1e-5 <= factor.min() < 0.52 and 1.48 < factor.max() <= 1.5 + 1e-5 and abs(factor.mean() - 1) < 0.05
  some = run(augment.color_jitter, {'image': grey}, brightness=(1.2, 1.3), probability=0.25)['image']
  changed = np.abs(np.asarray(some) - 0.4).max((1, 2, 3)) > 1e-3
  assert 70 < changed.sum() < 130
  red = jnp.zeros((400, 2, 2, 3)).at[..., 0].set(1.0)
  turned = np.asarray(run(augment.color_jitter, {'image': red}, hue=0.1)['image'][:, 0, 0])
  # From red a tenth of the circle is six tenths of the way to yellow, or to magenta.
  assert np.allclose(turned[:, 0], 1) and 0.55 < turned[:, 1:].max() <= 0.6 + 1e-5
  assert ((turned[:, 1] > 0) ^ (turned[:, 2] > 0)).mean() > 0.95
  np.testing.assert_array_equal(run(augment.color_jitter, {'image': grey})['image'], grey)


def test_random_grayscale_and_solarize():
  image = jnp.tile(jax.random.uniform(KEY, (1, 3, 3, 3)), (400, 1, 1, 1))
  out = np.asarray(run(augment.random_grayscale, {'image': image}, probability=0.3)['image'])
  grey = (np.ptp(out, -1) == 0).all((1, 2))
  assert 85 < grey.sum() < 155 and (out[~grey] == image[0]).all()
  np.testing.assert_allclose(out[grey][0, ..., 0], image[0] @ np.array([0.2989, 0.587, 0.114]), atol=1e-5)
  out = np.asarray(run(augment.solarize, {'image': image}, threshold=0.6, probability=0.5)['image'])
  negative = np.where(image[0] >= 0.6, 1 - image[0], image[0])
  same, changed = (np.isclose(out, x).all((1, 2, 3)) for x in (image[0], negative))
  assert (same ^ changed).all() and 150 < changed.sum() < 250


def rectangle(mask):
  """Height and width of the box around a mask, and whether the mask fills it."""
  rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
  height, width = rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1
  return height, width, mask.sum() == height * width


def test_random_erasing():
  ones = jnp.ones((400, 30, 24, 3))
  out = np.asarray(
    run(
      augment.random_erasing,
      {'image': ones},
      probability=0.6,
      scale=(0.1, 0.3),
      ratio=(0.5, 2.0),
      value=(0.1, 0.2, 0.3),
    )['image']
  )
  erased = out[..., 0] != 1
  some = erased.any((1, 2))
  assert 200 < some.sum() < 280
  np.testing.assert_allclose(out[erased], np.broadcast_to([0.1, 0.2, 0.3], out[erased].shape), atol=1e-6)
  sizes = np.asarray([rectangle(e) for e in erased[some]])
  assert sizes[:, 2].all()
  area, shape = sizes[:, 0] * sizes[:, 1] / (30 * 24), sizes[:, 0] / sizes[:, 1]
  assert 0.08 < area.min() < 0.13 and 0.27 < area.max() < 0.33
  assert 0.4 < shape.min() < 0.7 and 1.5 < shape.max() < 2.4
  assert erased.any(0).all()  # every place
  noise = np.asarray(run(augment.random_erasing, {'image': ones}, probability=1.0, value='random')['image'])
  values = noise[noise != 1]
  assert abs(values.mean() - 0.5) < 0.02 and values.min() >= 0 and abs(values.std() - 12**-0.5) < 0.02


@pytest.mark.parametrize('size', [5, 6])
def test_cutout(size):
  erased = np.asarray(run(augment.cutout, {'image': jnp.ones((600, 16, 16, 1))}, size=size)['image'][..., 0]) == 0
  sizes = np.asarray([rectangle(e) for e in erased])
  assert sizes[:, 2].all() and sizes[:, :2].max() == size and sizes[:, :2].min() == size // 2 + size % 2
  assert erased.any(0).all()


def numbered(count=64, side=8):
  """Images which are their own number everywhere; labels are ten times that."""
  number = jnp.arange(count, dtype=jnp.float32)
  return {
    'image': jnp.broadcast_to(number[:, None, None, None], (count, side, side + 2, 2)),
    'label': 10 * jnp.arange(count, dtype=jnp.int32),
    'mask': jnp.ones(count),
  }


@pytest.mark.parametrize(
  ('order', 'per_example'), [pytest.param('reversed', False, marks=pytest.mark.thorough), ('random', True)]
)
@pytest.mark.parametrize('name', ['mixup', 'cutmix', pytest.param('mixup_or_cutmix', marks=pytest.mark.thorough)])
def test_labels_and_shares_are_those_of_the_pixels(name, per_example, order):
  batch = numbered()
  out = run(getattr(augment, name), batch, per_example=per_example, order=order)
  assert out.keys() == {*batch, 'mixed_label', 'label_share'}
  assert out['mixed_label'].dtype == jnp.int32 and out['label_share'].dtype == jnp.float32
  np.testing.assert_array_equal(out['label'], batch['label'])
  own, other, share = np.arange(64), np.asarray(out['mixed_label']) // 10, np.asarray(out['label_share'])
  assert sorted(other) == list(own)
  if order == 'reversed':
    np.testing.assert_array_equal(other, own[::-1])
  else:
    assert (other != own[::-1]).mean() > 0.8
  image = np.asarray(out['image'])
  np.testing.assert_allclose(image.mean((1, 2, 3)), share * own + (1 - share) * other, atol=1e-3)
  assert len(np.unique(share)) == 1 or per_example
  if name == 'cutmix':
    for i in np.flatnonzero(other != own):
      assert set(np.unique(image[i])) <= {i, other[i]}
      pasted = image[i, ..., 0] == other[i]
      assert not pasted.any() or rectangle(pasted)[2]
      assert share[i] == pytest.approx(1 - pasted.mean(), abs=1e-6)
  if name == 'mixup':
    np.testing.assert_allclose(np.ptp(image.reshape(64, -1), -1), 0, atol=1e-4)


@pytest.mark.thorough
def test_shares_are_drawn_from_the_beta_distribution():
  for alpha in (0.2, 1.0):
    share = np.asarray(run(augment.mixup, numbered(2000, 1), alpha=alpha, per_example=True)['label_share'])
    assert abs(share.mean() - 0.5) < 0.03 and share.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.1)
  # Without the edges, the share of cutmix would be even on [0, 1]; what lies outside makes it larger.
  share = np.asarray(run(augment.cutmix, numbered(2000, 16), per_example=True)['label_share'])
  assert 0.55 < share.mean() < 0.75 and share.min() < 0.3 and share.max() == 1
  keys = jax.random.split(KEY, 300)
  of_batch = jax.jit(jax.vmap(lambda k: augment.mixup(k, numbered(2, 1), alpha=1.0)['label_share'][0]))(keys)
  assert abs(float(of_batch.mean()) - 0.5) < 0.06


@pytest.mark.thorough
def test_switch_and_probability():
  batch = numbered(400, 8)
  image = np.asarray(run(augment.mixup_or_cutmix, batch, per_example=True, switch_probability=0.25)['image'])
  mixed = ~np.isin(image, np.arange(400)).all((1, 2, 3))
  assert 240 < mixed.sum() <= 330
  for name in ('mixup', 'cutmix', 'mixup_or_cutmix'):
    out = run(getattr(augment, name), batch, per_example=True, probability=0.3)
    whole = np.asarray(out['label_share']) == 1
    assert whole.sum() > 250 and (~whole).sum() > 70
    np.testing.assert_array_equal(np.asarray(out['image'])[whole], np.asarray(batch['image'])[whole])


def test_features_are_mixed_and_filled_up_rows_are_not():
  batch = {
    'features': jnp.arange(12.0).reshape(6, 2),
    'label': jnp.arange(6),
    'mask': jnp.asarray([1.0, 1, 1, 1, 1, 0]),
  }
  batch['features'] = batch['features'].at[5].set(jnp.nan)
  out = run(augment.mixup, batch, alpha=1.0)
  share = np.asarray(out['label_share'])
  assert share[0] == 1 and 0 < share[1] < 1
  np.testing.assert_array_equal(out['features'][0], batch['features'][0])
  np.testing.assert_allclose(
    out['features'][1], share[1] * batch['features'][1] + (1 - share[1]) * batch['features'][4]
  )


def test_mistakes_of_mixtures():
  batch = numbered(4, 4)
  for name, changed, arguments, says in (
    ('mixup', {'label': batch['label'] * 1.0}, {}, 'mixup needs one whole number as the label .* got float32'),
    ('cutmix', {}, dict(alpha=0.0), 'alpha: must be above 0'),
    ('mixup_or_cutmix', {}, dict(switch_probability=1.5), 'switch_probability: must be from 0 to 1'),
    ('mixup', {'mixed_label': batch['label']}, {}, 'mixed already'),
  ):
    with pytest.raises(ConfigError, match=says):
      getattr(augment, name)(KEY, batch | changed, **arguments)
  with pytest.raises(ConfigError, match='got image'):
    augment.mixup(KEY, {'image': batch['image']})


def test_a_pipeline_takes_mixtures():
  spec = dict(
    name='sklearn.Digits', batch_size=8, augment=[dict(name='random_shift', pixels=1), dict(name='mixup_or_cutmix')]
  )
  pipeline = make.make(spec)
  batch = pipeline[0] | {'image': pipeline[0]['image'].astype(np.float32) / 255}
  out = jax.jit(pipeline.augment)(KEY, batch)
  assert out['image'].shape == batch['image'].shape and out['mixed_label'].shape == (8,)
  iris = dict(name='sklearn.Iris', batch_size=8, augment=[dict(name='mixup')])
  assert 'mixed_label' in make.make(iris).augment(KEY, make.make(iris)[0])
  both = {'image': jnp.zeros((2, 8, 8, 1)), 'label_map': jnp.zeros((2, 8, 8), jnp.int32), 'label': jnp.zeros(2)}
  moving = ('random_flip', 'random_crop', 'random_shift', 'random_rotate_scale', 'random_resized_crop', 'rand_augment')
  arguments = {'random_crop': dict(pad=1), 'random_shift': dict(pixels=1)}
  for name in (*moving, 'cutmix'):
    with pytest.raises(ConfigError, match=f'{name} would move images and not their label_map; dl.data.augment.maps'):
      run(getattr(augment, name), both, **arguments.get(name, {}))
  with pytest.raises(ConfigError, match='cutmix needs image in a batch'):
    make.make(iris | dict(augment=[dict(name='cutmix')]))
