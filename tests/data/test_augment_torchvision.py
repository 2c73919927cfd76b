"""Colours, geometry and RandAugment against torchvision, on images of floats."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import torchvision

from dl.data import augment
from dl.data.augment import geometry, pixels, policies


def images(channels: int) -> np.ndarray:
  """Noise, 8 bit values, low contrast, and few levels with a flat channel."""
  x = np.random.default_rng(0).random((4, 32, 28, channels), np.float32)
  x[1] = np.round(x[1] * 255) / 255
  x[2] = x[2] ** 2 * 0.5 + 0.2
  x[3] = np.round(x[3] * 4) / 4
  x[3, :, :, -1] = 0.5
  return x


def theirs(function, x, *arguments, **options):
  """A function of torchvision on each image."""
  torchvision()
  torch = pytest.importorskip('torch')
  from torchvision.transforms.v2 import functional

  call = getattr(functional, function)
  found = [call(torch.from_numpy(i.transpose(2, 0, 1).copy()), *arguments, **options) for i in x]
  return torch.stack(found).numpy().transpose(0, 2, 3, 1)


@pytest.mark.parametrize('channels', [1, 3])
@pytest.mark.parametrize(
  ('mine', 'name', 'values'),
  [
    ('brightness', 'adjust_brightness', (0.0, 0.6, 1.0, 1.9)),
    ('contrast', 'adjust_contrast', (0.0, 0.6, 1.0, 1.9)),
    ('saturation', 'adjust_saturation', (0.0, 0.6, 1.0, 1.9)),
    ('sharpness', 'adjust_sharpness', (0.0, 0.6, 1.0, 1.9)),
    ('hue', 'adjust_hue', (-0.5, -0.1, 0.0, 0.3, 0.5)),
    ('posterize', 'posterize', (1, 4, 7, 8)),
    ('solarize', 'solarize', (0.0, 0.5, 1.0)),
  ],
)
def test_changes_of_colours_are_torchvisions(channels, mine, name, values):
  if channels == 1 and mine == 'hue':
    return  # a grey image has none
  x = images(channels)
  change = jax.jit(getattr(pixels, mine))
  for value in values:
    out = change(jnp.asarray(x), jnp.full(len(x), value, jnp.float32))
    np.testing.assert_allclose(out, theirs(name, x, value), atol=1e-5)


@pytest.mark.parametrize('channels', [1, 3])
def test_histograms_are_torchvisions(channels):
  x = images(channels)
  np.testing.assert_allclose(jax.jit(pixels.autocontrast)(x), theirs('autocontrast', x), atol=1e-5)
  np.testing.assert_allclose(jax.jit(pixels.equalize)(x), theirs('equalize', x), atol=1e-6)
  # The values of an 8 bit image itself, of sizes with few and with many pixels for each level.
  for size in (4, 15, 100):
    level = np.random.default_rng(size).integers(0, 256, (2, size, size, channels)) // 3 * 2
    x = level.astype(np.float32) / 255
    np.testing.assert_allclose(jax.jit(pixels.equalize)(x), theirs('equalize', x), atol=1e-6)


def test_small_images_have_nothing_to_smooth():
  x = images(3)[:, :2]
  np.testing.assert_array_equal(pixels.smooth(jnp.asarray(x)), x)


@pytest.mark.parametrize('antialias', [True, False])
@pytest.mark.parametrize('size', [(32, 28), (8, 50)])
def test_resized_crop_is_torchvisions(size, antialias):
  torchvision()
  from torchvision.transforms.v2 import InterpolationMode

  x = images(3)
  crop = jax.jit(geometry.resized_crop, static_argnums=(5, 6))
  for box in ((0, 0, 32, 28), (3, 4, 9, 20), (31, 27, 1, 1), (2, 2, 30, 25)):
    options = dict(size=list(size), interpolation=InterpolationMode.BILINEAR, antialias=antialias)
    out = crop(jnp.asarray(x), *(jnp.full(len(x), v) for v in box), size, antialias)
    np.testing.assert_allclose(out, theirs('resized_crop', x, *box, **options), atol=1e-5)


def torchvisions_operations():
  """(ours, theirs) of each operation of RandAugment, and the function which applies theirs to one image."""
  torchvision()
  torch = pytest.importorskip('torch')
  from torchvision.transforms import InterpolationMode, v2

  transform = v2.RandAugment(interpolation=InterpolationMode.BILINEAR)
  space = transform._AUGMENTATION_SPACE

  def apply(name, image, magnitude, sign):
    make, signed = space[name]
    values = make(transform.num_magnitude_bins, *image.shape[:2])
    value = 0.0 if values is None else float(values[magnitude]) * (sign if signed else 1)
    x = torch.from_numpy(image.transpose(2, 0, 1).copy())
    found = transform._apply_image_or_video_transform(x, name, value, InterpolationMode.BILINEAR, transform._fill)
    return found.numpy().transpose(1, 2, 0)

  return dict(zip(policies.OPERATIONS, space, strict=True)), apply


@pytest.mark.parametrize('operation', policies.OPERATIONS)
@pytest.mark.parametrize('channels', [1, 3])
def test_operations_of_rand_augment_are_torchvisions(operation, channels):
  names, apply = torchvisions_operations()
  assert names[operation].lower() == operation.replace('_', '')
  x = images(channels)
  for magnitude in (0, 9, 30):
    out = augment.rand_augment(
      jax.random.key(magnitude), {'image': jnp.asarray(x)}, num_ops=1, magnitude=magnitude, operations=(operation,)
    )['image']
    for mine, image in zip(np.asarray(out), x, strict=True):
      errors = [np.abs(mine - apply(names[operation], image, magnitude, sign)).max() for sign in (1, -1)]
      assert min(errors) < 1e-5


def test_rand_augment_draws_each_operation_alike_and_both_signs():
  x = np.tile(images(3)[:1], (700, 1, 1, 1))
  names, apply = torchvisions_operations()
  out = np.asarray(
    jax.jit(lambda k, b: augment.rand_augment(k, b, num_ops=1))(jax.random.key(0), {'image': x})['image']
  )
  candidates = {(n, s): apply(t, x[0], 9, s) for n, t in names.items() for s in (1, -1)}
  counts = dict.fromkeys(candidates, 0)
  for image in out:
    distance = {k: np.abs(image - c).max() for k, c in candidates.items()}
    nearest = min(distance, key=distance.get)
    assert distance[nearest] < 1e-5
    counts[nearest] += 1
  signed = policies.OPERATIONS[1:10]
  assert all(10 <= counts[n, s] <= 45 for n in signed for s in (1, -1)), counts
  assert all(25 <= counts[n, 1] <= 80 for n in policies.OPERATIONS if n not in signed), counts
  # Neighbours differ, and the second operation does not depend on the first.
  assert len({i.tobytes() for i in out[:20]}) > 8
  two = augment.rand_augment(jax.random.key(0), {'image': x[:100]}, num_ops=2, operations=('identity', 'solarize'))
  changed = np.abs(np.asarray(two['image']) - x[:100]).max((1, 2, 3)) > 0
  assert 60 <= changed.sum() <= 90  # three quarters have it once or twice


def test_fill():
  ones = {'image': jnp.ones((8, 16, 16, 1))}
  options = dict(num_ops=1, magnitude=30, operations=('translate_x', 'rotate'))
  black = augment.rand_augment(jax.random.key(0), ones, **options)['image']
  white = augment.rand_augment(jax.random.key(0), ones, fill=1.0, **options)['image']
  assert float(black.min()) == 0 and np.allclose(white, 1)
