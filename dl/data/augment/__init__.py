"""Random augmentation on the device, inside the compiled training step.

An augmentation is a pure function `(key, batch, **arguments) -> batch`; each example of the batch has its own draw.
Images are float [b, h, w, c] in [0, 1] by the time they come here, in the column `image`: others are left as they are.
What moves in from outside an image is zero.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
from jaxtyping import Array, Key

from dl.config.functions import find
from dl.data.augment.checks import Batch
from dl.data.augment.colour import color_jitter, random_grayscale, solarize
from dl.data.augment.erasing import cutout, random_erasing
from dl.data.augment.geometry import (
  affine,
  random_crop,
  random_flip,
  random_resized_crop,
  random_rotate_scale,
  random_shift,
  shift,
)
from dl.data.augment.mix import cutmix, mixup, mixup_or_cutmix
from dl.data.augment.noise import gaussian_noise
from dl.data.augment.policies import rand_augment

__all__ = [
  'affine',
  'color_jitter',
  'cutmix',
  'cutout',
  'gaussian_noise',
  'make',
  'mixup',
  'mixup_or_cutmix',
  'rand_augment',
  'random_crop',
  'random_erasing',
  'random_flip',
  'random_grayscale',
  'random_resized_crop',
  'random_rotate_scale',
  'random_shift',
  'shift',
  'solarize',
]


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
