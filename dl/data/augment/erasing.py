"""Parts of images taken away."""

from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from dl.config.bounds import Factor, Number, PositiveShare, Share, Size
from dl.data.augment import boxes, checks
from dl.data.augment.checks import Batch
from dl.errors import ConfigError


def random_erasing(
  key: Key[Array, ''],
  batch: Batch,
  probability: Share = 0.5,
  scale: tuple[PositiveShare, PositiveShare] = (0.02, 0.33),
  ratio: tuple[Factor, Factor] = (0.3, 3.3),
  value: Number | tuple[Number, ...] | Literal['random'] = 0.0,
) -> Batch:
  """Erases a rectangle ("Random Erasing Data Augmentation", arXiv 1708.04896).

  Of ten tries the first rectangle smaller than the image is taken; where there is none, the image stays.

  Cite: zhong2020random

  Args:
    key: draws.
    batch: has `image`.
    probability: of erasing.
    scale: smallest and largest share of the area.
    ratio: smallest and largest height over width, drawn evenly in its logarithm (the paper draws the ratio evenly).
    value: what is put there: a number, one for each channel, or 'random': numbers from 0 to 1 for each pixel.
  """
  image = checks.image_of(batch, 'random_erasing')
  checks.share(probability=probability)
  checks.interval_above_zero('random_erasing', 1, scale=scale)
  checks.interval_above_zero('random_erasing', ratio=ratio)
  count, height, width, channels = image.shape
  keys = jax.random.split(key, 5)
  tall, wide = boxes.draw_sizes(keys[0], count, (height, width), scale, ratio)
  valid = (tall < height) & (wide < width)
  tall, wide = (boxes.first(valid, x, 0) for x in (tall, wide))
  top, left = boxes.place(keys[1], height - tall), boxes.place(keys[2], width - wide)
  chosen = jax.random.bernoulli(keys[3], probability, (count, 1, 1, 1))
  erased = chosen & boxes.inside((height, width), top, left, top + tall, left + wide)
  if value == 'random':
    filling = jax.random.uniform(keys[4], image.shape, image.dtype)
  else:
    filling = _filling(value, channels, image.dtype, 'random_erasing')
  return batch | {'image': jnp.where(erased, filling, image)}


def cutout(key: Key[Array, ''], batch: Batch, size: Size, value: Number | tuple[Number, ...] = 0.0) -> Batch:
  """Erases a square ("Improved Regularization of Convolutional Neural Networks with Cutout", arXiv 1708.04552).

  Its centre is any pixel of the image, so that a part of the square may lie outside.

  Cite: devries2017improved

  Args:
    key: draws.
    batch: has `image`.
    size: side of the square, in pixels.
    value: what is put there: a number, or one for each channel.
  """
  image = checks.image_of(batch, 'cutout')
  checks.at_least(0, size=size)
  count, height, width, channels = image.shape
  keys = jax.random.split(key)
  top, left = (jax.random.randint(k, (count,), 0, n) - size // 2 for k, n in zip(keys, (height, width), strict=True))
  erased = boxes.inside((height, width), top, left, top + size, left + size)
  return batch | {'image': jnp.where(erased, _filling(value, channels, image.dtype, 'cutout'), image)}


def _filling(value: float | tuple[float, ...], channels: int, dtype: jnp.dtype, who: str) -> Array:
  filling = jnp.asarray(value, dtype)
  if filling.ndim and filling.shape != (channels,):
    raise ConfigError(f'{who}: value must be one number or {channels}, one for each channel, got {value!r}')
  return filling
