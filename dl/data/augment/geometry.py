"""Random movements of images."""

import math
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from dl.config.bounds import Count, Factor, NotNegative, Positive, PositiveShare, Share, Size
from dl.data.augment import boxes
from dl.data.augment.checks import Batch, at_least, image_to_move, interval_above_zero, share


def random_shift(key: Key[Array, ''], batch: Batch, pixels: NotNegative, subpixel: bool = True) -> Batch:
  """Shifts each image by up to `pixels` along each axis: any distance, by bilinear interpolation, or whole pixels."""
  image = image_to_move(batch, 'random_shift')
  at_least(0, pixels=pixels)
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
  key: Key[Array, ''], batch: Batch, pad: Count, mode: Literal['constant', 'edge', 'reflect'] = 'constant'
) -> Batch:
  """Pads each image by `pad` pixels on every side and crops it to its own size at a random place."""
  image = image_to_move(batch, 'random_crop')
  at_least(0, pad=pad)
  padded = jnp.pad(image, ((0, 0), (pad, pad), (pad, pad), (0, 0)), mode=mode)
  start = jax.random.randint(key, (len(image), 2), 0, 2 * pad + 1)
  crop = lambda x, at: jax.lax.dynamic_slice(x, (at[0], at[1], 0), image.shape[1:])
  return batch | {'image': jax.vmap(crop)(padded, start)}


def random_flip(
  key: Key[Array, ''], batch: Batch, axis: Literal['horizontal', 'vertical'] = 'horizontal', probability: Share = 0.5
) -> Batch:
  """Mirrors each image with a probability."""
  image = image_to_move(batch, 'random_flip')
  share(probability=probability)
  flipped = jnp.flip(image, 2 if axis == 'horizontal' else 1)
  chosen = jax.random.bernoulli(key, probability, (len(image), 1, 1, 1))
  return batch | {'image': jnp.where(chosen, flipped, image)}


def random_rotate_scale(
  key: Key[Array, ''],
  batch: Batch,
  degrees: NotNegative = 10.0,
  scale: tuple[Positive, Positive] = (0.9, 1.1),
  shear: NotNegative = 0.0,
) -> Batch:
  """A small affine change of each image about its centre, with bilinear interpolation.

  Args:
    key: draws.
    batch: has `image`.
    degrees: largest rotation, either way.
    scale: smallest and largest magnification, drawn evenly in its logarithm.
    shear: largest slope of the vertical axis, either way.
  """
  image = image_to_move(batch, 'random_rotate_scale')
  at_least(0, degrees=degrees, shear=shear)
  interval_above_zero('random_rotate_scale', scale=scale)
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


def affine(
  image: Float[Array, 'b h w c'], matrix: Float[Array, 'b 2 2'], offset: Float[Array, 'b 2'] | None = None
) -> Float[Array, 'b h w c']:
  """Each image at the points `centre + offset + matrix @ (output point - centre)` of (row, column), zeros outside."""
  b, height, width, c = image.shape
  rows = jnp.arange(height, dtype=image.dtype)[:, None] - (height - 1) / 2
  columns = jnp.arange(width, dtype=image.dtype) - (width - 1) / 2
  of = lambda x: x[:, None, None]
  point = [of(matrix[:, i, 0]) * rows + of(matrix[:, i, 1]) * columns + (image.shape[1 + i] - 1) / 2 for i in (0, 1)]
  if offset is not None:
    point = [x + of(offset[:, i]) for i, x in enumerate(point)]
  # A border of zeros is all that there is outside.
  padded = jnp.pad(image, ((0, 0), (1, 1), (1, 1), (0, 0))).reshape(b, -1, c)
  corner, part = zip(*(_split(x + 1, size) for x, size in zip(point, (height, width), strict=True)), strict=True)
  at = corner[0] * (width + 2) + corner[1]
  pixel = lambda step: jnp.take_along_axis(padded, (at + step).reshape(b, -1, 1), 1, mode='promise_in_bounds').reshape(
    image.shape
  )
  down, right = (x[..., None] for x in part)
  upper = (1 - right) * pixel(0) + right * pixel(1)
  lower = (1 - right) * pixel(width + 2) + right * pixel(width + 3)
  return (1 - down) * upper + down * lower


def _split(point: Float[Array, 'b h w'], size: int) -> tuple[Int[Array, 'b h w'], Float[Array, 'b h w']]:
  """Whole and part of a coordinate, within an axis with a border on both sides."""
  point = jnp.clip(point, 0, size + 1)
  whole = jnp.minimum(jnp.floor(point), size)
  return whole.astype(jnp.int32), point - whole


def random_resized_crop(
  key: Key[Array, ''],
  batch: Batch,
  scale: tuple[PositiveShare, PositiveShare] = (0.08, 1.0),
  ratio: tuple[Factor, Factor] = (0.75, 4 / 3),
  size: tuple[Size, Size] | None = None,
  antialias: bool = True,
) -> Batch:
  """A crop of random area and shape, resized ("Going Deeper with Convolutions", arXiv 1409.4842).

  Of ten tries the first which fits is taken; where there is none, the largest central crop of a possible shape. Images
  of different sizes are cropped on the host, before they can be a batch: `dl.data.transforms.random_resized_crop`.

  Cite: szegedy2015going

  Args:
    key: draws.
    batch: has `image`.
    scale: smallest and largest share of the area, drawn evenly.
    ratio: smallest and largest width over height, drawn evenly in its logarithm.
    size: (height, width) of the result; None for that of the image, which the network is initialized for.
    antialias: whether crops larger than the result are smoothed; it has no effect on smaller ones.
  """
  image = image_to_move(batch, 'random_resized_crop')
  interval_above_zero('random_resized_crop', 1, scale=scale)
  interval_above_zero('random_resized_crop', ratio=ratio)
  count, height, width, _ = image.shape
  size_key, top_key, left_key = jax.random.split(key, 3)
  wide, tall = boxes.draw_sizes(size_key, count, (height, width), scale, ratio)
  valid = (wide > 0) & (wide <= width) & (tall > 0) & (tall <= height)
  most = min(width, round(height * ratio[1])), min(height, round(width / ratio[0]))
  tall, wide = boxes.first(valid, tall, most[1]), boxes.first(valid, wide, most[0])
  middle = lambda room, drawn: jnp.where(valid.any(1), drawn, room // 2)
  top = middle(height - tall, boxes.place(top_key, height - tall))
  left = middle(width - wide, boxes.place(left_key, width - wide))
  return batch | {'image': resized_crop(image, top, left, tall, wide, size or (height, width), antialias)}


def resized_crop(
  image: Float[Array, 'b h w c'],
  top: Int[Array, ' b'],
  left: Int[Array, ' b'],
  height: Int[Array, ' b'],
  width: Int[Array, ' b'],
  size: tuple[int, int],
  antialias: bool = True,
) -> Float[Array, 'b height width c']:
  """A rectangle of each image, resized with bilinear interpolation to (height, width)."""
  vertical = _resize_matrix(top, height, image.shape[1], size[0], antialias)
  horizontal = _resize_matrix(left, width, image.shape[2], size[1], antialias)
  precision = jax.lax.Precision.HIGHEST
  resized = jnp.einsum('bij,bjwc->biwc', vertical, image, precision=precision)
  return jnp.einsum('bij,bhjc->bhic', horizontal, resized, precision=precision)


def _resize_matrix(
  start: Int[Array, ' b'], length: Int[Array, ' b'], size: int, new: int, antialias: bool
) -> Float[Array, 'b new size']:
  """Linear interpolation of a part of an axis, as a matrix [to, from]; pixels are areas, points their centres."""
  of = lambda x: x[:, None, None]
  step = of(length) / new
  centre = of(start) + (jnp.arange(new)[:, None] + 0.5) * step
  position = jnp.arange(size)
  reach = jnp.maximum(step, 1.0) if antialias else 1.0
  weight = jnp.maximum(0.0, 1.0 - jnp.abs(position + 0.5 - centre) / reach)
  weight = jnp.where((position >= of(start)) & (position < of(start + length)), weight, 0.0)
  return weight / weight.sum(-1, keepdims=True)
