"""Noise."""

import jax
from jaxtyping import Array, Key

from dl.config.bounds import NotNegative
from dl.data.augment.checks import Batch, at_least, image_or_features


def gaussian_noise(key: Key[Array, ''], batch: Batch, std: NotNegative) -> Batch:
  """Adds normal noise to images or features; images are not clipped to [0, 1]."""
  at_least(0, std=std)
  name = image_or_features(batch, 'gaussian_noise')
  values = batch[name]
  return batch | {name: values + std * jax.random.normal(key, values.shape, values.dtype)}
