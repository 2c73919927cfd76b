"""Random augmentation of images together with the label maps of their pixels, on the device.

Used as those of `dl.data.augment` are, by their full names: dict(name='dl.data.augment.maps.random_dihedral'). A batch
has `image` [b, h, w, c] and `label_map` [b, h, w]; both move alike.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from dl.config.bounds import NotNegative, Size
from dl.errors import ConfigError

Batch = dict[str, Array]


def random_dihedral(key: Key[Array, ''], batch: Batch) -> Batch:
  """One of the eight symmetries of a square for each example; one of the four of a rectangle where sides differ."""
  image, labels = _both(batch, 'random_dihedral')
  chosen = jax.random.bernoulli(key, 0.5, (3, len(image)))
  if image.shape[1] != image.shape[2]:
    chosen = chosen.at[2].set(False)

  def turn(x: Array) -> Array:
    pick = lambda i, moved, x: jnp.where(chosen[i].reshape(-1, *(1,) * (x.ndim - 1)), moved, x)
    x = pick(0, jnp.flip(x, 1), x)
    x = pick(1, jnp.flip(x, 2), x)
    return pick(2, x.swapaxes(1, 2), x) if x.shape[1] == x.shape[2] else x

  return batch | {'image': turn(image), 'label_map': turn(labels)}


def random_crop_map(key: Key[Array, ''], batch: Batch, size: Size | tuple[Size, Size]) -> Batch:
  """A part of each example at a random place.

  Args:
    key: draws.
    batch: has `image` and `label_map`.
    size: (height, width) of the part, or one number for both.
  """
  image, labels = _both(batch, 'random_crop_map')
  height, width = (size, size) if isinstance(size, int) else size
  if not (0 < height <= image.shape[1] and 0 < width <= image.shape[2]):
    raise ConfigError(f'random_crop_map: {height}x{width} is no part of images of {image.shape[1]}x{image.shape[2]}')
  room = jnp.asarray([image.shape[1] - height + 1, image.shape[2] - width + 1])
  start = jax.random.randint(key, (len(image), 2), 0, room)
  part = lambda x, at: jax.lax.dynamic_slice(x, (*at, *(0,) * (x.ndim - 2)), (height, width, *x.shape[2:]))
  return batch | {'image': jax.vmap(part)(image, start), 'label_map': jax.vmap(part)(labels, start)}


def random_elastic(key: Key[Array, ''], batch: Batch, std: NotNegative = 10.0, grid: Size = 3) -> Batch:
  """A smooth deformation of each example, as that of the U-Net (arXiv 1505.04597).

  Displacements are drawn at the points of a coarse grid, and between them interpolated by cubic polynomials. Pixels are
  interpolated linearly, labels by the nearest; beyond its edges an image is its own mirror image.

  Cite: ronneberger2015u

  Args:
    key: draws.
    batch: has `image` and `label_map`.
    std: deviation of the displacements, in pixels.
    grid: points of the grid along each side.
  """
  image, labels = _both(batch, 'random_elastic')
  if std < 0 or grid < 2:
    raise ConfigError(f'random_elastic: needs std of at least 0 and a grid of at least 2, got {std} and {grid}')
  b, h, w = labels.shape
  coarse = std * jax.random.normal(key, (b, 2, grid, grid), image.dtype)
  moved = jax.image.resize(coarse, (b, 2, h, w), 'cubic') + jnp.stack(
    jnp.meshgrid(jnp.arange(h, dtype=image.dtype), jnp.arange(w, dtype=image.dtype), indexing='ij')
  )
  take = lambda x, at, order: jax.scipy.ndimage.map_coordinates(x, list(at), order=order, mode='mirror')
  channels = jax.vmap(lambda x, at: take(x, at, 1), in_axes=(-1, None), out_axes=-1)
  return batch | {
    'image': jax.vmap(channels)(image, moved),
    'label_map': jax.vmap(lambda x, at: take(x, at, 0))(labels, moved),
  }


def _both(batch: Batch, who: str) -> tuple[Float[Array, 'b h w c'], Int[Array, 'b h w']]:
  if not {'image', 'label_map'} <= batch.keys():
    raise ConfigError(f'{who} needs image and label_map in a batch, got {", ".join(sorted(batch))}')
  if batch['image'].shape[:3] != batch['label_map'].shape:
    raise ConfigError(f'{who}: images {batch["image"].shape[1:3]} and label maps {batch["label_map"].shape[1:]} differ')
  return batch['image'], batch['label_map']
