"""Random changes of colours."""

import math
from collections.abc import Sequence
from typing import Annotated

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from dl.config.bounds import NotNegative, Range, Share
from dl.data.augment import checks, pixels
from dl.data.augment.checks import Batch
from dl.errors import ConfigError

Turn = Annotated[float, Range(low=-0.5, high=0.5)]
"""A share of the circle of hues."""


def color_jitter(
  key: Key[Array, ''],
  batch: Batch,
  brightness: NotNegative | tuple[NotNegative, NotNegative] = 0.0,
  contrast: NotNegative | tuple[NotNegative, NotNegative] = 0.0,
  saturation: NotNegative | tuple[NotNegative, NotNegative] = 0.0,
  hue: Turn | tuple[Turn, Turn] = 0.0,
  probability: Share = 1.0,
) -> Batch:
  """Random brightness, contrast, saturation and hue, as torchvision defines them, but always in this order.

  Args:
    key: draws.
    batch: has `image`, with 1 or 3 channels.
    brightness: the factor is drawn evenly from 1 - brightness (or 0) to 1 + brightness, or from (smallest, largest).
    contrast: likewise.
    saturation: likewise; of colour images alone.
    hue: the turn of the hue, a share of the circle, is drawn evenly from -hue to hue, or from (smallest, largest),
      between -0.5 and 0.5; of colour images alone.
    probability: of changing an image at all.
  """
  image = checks.image_of(batch, 'color_jitter')
  checks.share(probability=probability)
  grey = checks.colours(image, 'color_jitter') == 1
  changed = image
  changes = (
    ('brightness', pixels.brightness, brightness, 1.0),
    ('contrast', pixels.contrast, contrast, 1.0),
    ('saturation', pixels.saturation, saturation, 1.0),
    ('hue', pixels.hue, hue, 0.0),
  )
  for i, (name, function, strength, middle) in enumerate(changes):
    low, high = _range(name, strength, middle)
    if low == high == middle:
      continue
    if grey and name in ('saturation', 'hue'):
      raise ConfigError(f'color_jitter: grey images have no {name}; leave it out')
    factor = jax.random.uniform(jax.random.fold_in(key, i), (len(image),), image.dtype, low, high)
    changed = function(changed, factor)
  chosen = jax.random.bernoulli(jax.random.fold_in(key, len(changes)), probability, (len(image), 1, 1, 1))
  return batch | {'image': jnp.where(chosen, changed, image)}


def _range(name: str, strength: float | Sequence[float], middle: float) -> tuple[float, float]:
  least, most = (-0.5, 0.5) if name == 'hue' else (0.0, math.inf)
  if isinstance(strength, int | float):
    checks.at_least(0, **{name: strength})
    strength = (max(middle - strength, least) if name != 'hue' else -strength, middle + strength)
  checks.interval('color_jitter', least, most, **{name: tuple(strength)})
  return tuple(strength)


def random_grayscale(key: Key[Array, ''], batch: Batch, probability: Share = 0.1) -> Batch:
  """All channels of an image as its luma with a probability; grey images stay as they are."""
  image = checks.image_of(batch, 'random_grayscale')
  checks.share(probability=probability)
  checks.colours(image, 'random_grayscale')
  chosen = jax.random.bernoulli(key, probability, (len(image), 1, 1, 1))
  return batch | {'image': jnp.where(chosen, pixels.gray(image), image)}


def solarize(key: Key[Array, ''], batch: Batch, threshold: Share = 0.5, probability: Share = 0.5) -> Batch:
  """The negative of all that is at least as bright as a threshold, with a probability."""
  image = checks.image_of(batch, 'solarize')
  checks.share(threshold=threshold, probability=probability)
  chosen = jax.random.bernoulli(key, probability, (len(image), 1, 1, 1))
  changed = pixels.solarize(image, jnp.full((len(image),), threshold, image.dtype))
  return batch | {'image': jnp.where(chosen, changed, image)}
