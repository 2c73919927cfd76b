"""Random augmentation on the device, inside the compiled training step.

An augmentation is a pure function `(key, batch, **arguments) -> batch`; each example of the batch has its own draw.
Images are float [b, h, w, c] in [0, 1] by the time they come here. What moves in from outside an image is zero.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from dl.data.stages import find
from dl.errors import ConfigError

Batch = dict[str, Array]


def make(
  specs: Sequence[Mapping[str, Any]], where: str = 'config.data.augment'
) -> Callable[[Key[Array, ''], Batch], Batch]:
  """One augmentation from a list of dicts: a `name` below `dl.data.augment` or from the top, and its arguments.

  Raises:
    ConfigError: an unknown name or argument, or a value of a wrong type.
  """
  stages = find(specs, 'dl.data.augment', where, given=('key', 'batch'))

  def augment(key: Key[Array, ''], batch: Batch) -> Batch:
    for i, (function, arguments) in enumerate(stages):
      batch = function(jax.random.fold_in(key, i), batch, **arguments)
    return batch

  return augment


def random_shift(key: Key[Array, ''], batch: Batch, pixels: float, subpixel: bool = True) -> Batch:
  """Shifts each image by up to `pixels` along each axis: any distance, by bilinear interpolation, or whole pixels."""
  image = _image(batch, 'random_shift')
  _at_least(0, pixels=pixels)
  shape = (len(image), 2)
  if subpixel:
    offset = jax.random.uniform(key, shape, image.dtype, -pixels, pixels)
  else:
    offset = jax.random.randint(key, shape, -math.floor(pixels), math.floor(pixels) + 1).astype(image.dtype)
  return batch | {'image': shift(image, offset)}


def shift(image: Float[Array, 'b h w c'], offset: Float[Array, 'b 2']) -> Float[Array, 'b h w c']:
  """Each image moved down and right by its own offset in pixels, with bilinear interpolation and zeros outside."""
  vertical, horizontal = (_shift_matrix(offset[:, i], image.shape[1 + i]) for i in range(2))
  precision = jax.lax.Precision.HIGHEST  # a whole pixel is exact on every device
  moved = jnp.einsum('bij,bjwc->biwc', vertical, image, precision=precision)
  return jnp.einsum('bij,bhjc->bhic', horizontal, moved, precision=precision)


def _shift_matrix(offset: Float[Array, ' b'], size: int) -> Float[Array, 'b n n']:
  """Linear interpolation of a shifted axis, as a matrix [to, from]."""
  position = jnp.arange(size, dtype=offset.dtype)
  distance = position[:, None] - position[None, :]
  return jnp.maximum(0.0, 1.0 - jnp.abs(distance[None] - offset[:, None, None]))


def random_crop(
  key: Key[Array, ''], batch: Batch, pad: int, mode: Literal['constant', 'edge', 'reflect'] = 'constant'
) -> Batch:
  """Pads each image by `pad` pixels on every side and crops it to its own size at a random place."""
  image = _image(batch, 'random_crop')
  _at_least(0, pad=pad)
  padded = jnp.pad(image, ((0, 0), (pad, pad), (pad, pad), (0, 0)), mode=mode)
  start = jax.random.randint(key, (len(image), 2), 0, 2 * pad + 1)
  crop = lambda x, at: jax.lax.dynamic_slice(x, (at[0], at[1], 0), image.shape[1:])
  return batch | {'image': jax.vmap(crop)(padded, start)}


def random_flip(
  key: Key[Array, ''], batch: Batch, axis: Literal['horizontal', 'vertical'] = 'horizontal', probability: float = 0.5
) -> Batch:
  """Mirrors each image with a probability."""
  image = _image(batch, 'random_flip')
  _probability(probability)
  flipped = jnp.flip(image, 2 if axis == 'horizontal' else 1)
  chosen = jax.random.bernoulli(key, probability, (len(image), 1, 1, 1))
  return batch | {'image': jnp.where(chosen, flipped, image)}


def gaussian_noise(key: Key[Array, ''], batch: Batch, std: float) -> Batch:
  """Adds normal noise to images or features; images are not clipped to [0, 1]."""
  _at_least(0, std=std)
  name = next((n for n in ('image', 'features') if n in batch), None)
  if name is None:
    raise ConfigError(f'gaussian_noise needs image or features in a batch, got {", ".join(sorted(batch))}')
  values = batch[name]
  return batch | {name: values + std * jax.random.normal(key, values.shape, values.dtype)}


def random_rotate_scale(
  key: Key[Array, ''], batch: Batch, degrees: float = 10.0, scale: tuple[float, float] = (0.9, 1.1), shear: float = 0.0
) -> Batch:
  """A small affine change of each image about its centre, with bilinear interpolation.

  Args:
    key: draws.
    batch: has `image`.
    degrees: largest rotation, either way.
    scale: smallest and largest magnification, drawn evenly in its logarithm.
    shear: largest slope of the vertical axis, either way.
  """
  image = _image(batch, 'random_rotate_scale')
  _at_least(0, degrees=degrees, shear=shear)
  if not 0 < scale[0] <= scale[1]:
    raise ConfigError(f'random_rotate_scale: scale must be (smallest, largest) above 0, got {scale!r}')
  draw = jax.random.uniform(key, (len(image), 3), image.dtype, -1.0, 1.0)
  angle = draw[:, 0] * math.radians(degrees)
  low, high = math.log(scale[0]), math.log(scale[1])
  magnification = jnp.exp((low + high) / 2 + draw[:, 1] * (high - low) / 2)
  cos, sin = jnp.cos(angle) / magnification, jnp.sin(angle) / magnification
  rotation = jnp.stack([jnp.stack([cos, -sin], -1), jnp.stack([sin, cos], -1)], -2)
  slope = draw[:, 2] * shear
  one, zero = jnp.ones_like(slope), jnp.zeros_like(slope)
  shearing = jnp.stack([jnp.stack([one, zero], -1), jnp.stack([slope, one], -1)], -2)
  return batch | {'image': affine(image, rotation @ shearing)}


def affine(image: Float[Array, 'b h w c'], matrix: Float[Array, 'b 2 2']) -> Float[Array, 'b h w c']:
  """Each image at the points `centre + matrix @ (output point - centre)` of (row, column), zeros outside."""
  size = image.shape[1:3]
  centre = (jnp.asarray(size, image.dtype) - 1) / 2
  grid = jnp.stack(jnp.meshgrid(*(jnp.arange(s, dtype=image.dtype) for s in size), indexing='ij'), -1) - centre
  points = jnp.einsum('bij,hwj->bhwi', matrix, grid, precision=jax.lax.Precision.HIGHEST) + centre
  return jax.vmap(_bilinear)(image, points)


def _bilinear(image: Float[Array, 'h w c'], points: Float[Array, 'h w 2']) -> Float[Array, 'h w c']:
  whole = jnp.floor(points)
  part = points - whole
  corner = whole.astype(jnp.int32)
  total = jnp.zeros_like(image)
  for down in (0, 1):
    for right in (0, 1):
      weight = jnp.where(down, part[..., 0], 1 - part[..., 0]) * jnp.where(right, part[..., 1], 1 - part[..., 1])
      total += weight[..., None] * _pixels(image, corner[..., 0] + down, corner[..., 1] + right)
  return total


def _pixels(image: Float[Array, 'h w c'], row: Int[Array, 'h w'], column: Int[Array, 'h w']) -> Float[Array, 'h w c']:
  height, width = image.shape[:2]
  inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
  return jnp.where(inside[..., None], image[row.clip(0, height - 1), column.clip(0, width - 1)], 0)


def _image(batch: Batch, who: str) -> Float[Array, 'b h w c']:
  if 'image' not in batch:
    raise ConfigError(f'{who} needs image in a batch, got {", ".join(sorted(batch))}')
  return batch['image']


def _at_least(least: float, **values: float) -> None:
  for name, value in values.items():
    if value < least:
      raise ConfigError(f'{name}: must be at least {least}, got {value!r}')


def _probability(value: float) -> None:
  if not 0 <= value <= 1:
    raise ConfigError(f'probability: must be from 0 to 1, got {value!r}')
