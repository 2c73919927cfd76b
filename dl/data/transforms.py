"""Host transforms: what must be done to an example before it fits a batch.

A transform is a function `(example, generator, **arguments) -> example`; `generator` is a NumPy generator which is
seeded by (seed, position in the stream), or None in evaluation, when the transform must not be random. All other
augmentation runs on the device, see `dl.data.augment`.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import UInt8

from dl.config.bounds import Factor, PositiveShare, Size
from dl.config.functions import find
from dl.data.source import Example
from dl.errors import ConfigError

Transform = Callable[[Example, np.random.Generator | None], Example]


def make(specs: Sequence[Mapping[str, Any]], where: str = 'config.data.transform') -> Transform | None:
  """One transform from a list of dicts with a `name`, below `dl.data.transforms` or from the top, and arguments.

  Raises:
    ConfigError: an unknown name or argument.
  """
  stages = find(specs, 'dl.data.transforms', where, given=('example', 'generator'))
  if not stages:
    return None

  def transform(example: Example, generator: np.random.Generator | None) -> Example:
    for function, arguments in stages:
      example = function(example, generator, **arguments)
    return example

  return transform


def random_resized_crop(
  example: Example,
  generator: np.random.Generator | None,
  size: tuple[Size, Size],
  scale: tuple[PositiveShare, PositiveShare] = (0.08, 1.0),
  ratio: tuple[Factor, Factor] = (0.75, 4 / 3),
  central: PositiveShare = 1.0,
) -> Example:
  """A crop of random area and shape, resized ("Going Deeper with Convolutions", arXiv:1409.4842).

  Args:
    example: has `image`, uint8 [h, w, c] of any size.
    generator: draws the crop; None (in evaluation) takes a central crop of the shape of `size`.
    size: (height, width) of the result.
    scale: smallest and largest share of the area.
    ratio: smallest and largest width over height.
    central: sides of the central crop over those of the largest; 0.875 is 224 pixels of 256, as usual for ImageNet.

  Raises:
    ConfigError: a share which is not in (0, 1].
  """
  if not 0 < central <= 1:
    raise ConfigError(f'random_resized_crop: central must be in (0, 1], got {central}')
  height, width = example['image'].shape[:2]
  shape = size[1] / size[0]
  crop_w, crop_h = central * min(width, height * shape), central * min(height, width / shape)
  left, top = (width - crop_w) / 2, (height - crop_h) / 2
  for _ in range(10 if generator is not None else 0):
    area = height * width * generator.uniform(*scale)
    drawn = math.exp(generator.uniform(math.log(ratio[0]), math.log(ratio[1])))
    w, h = math.sqrt(area * drawn), math.sqrt(area / drawn)
    if w <= width and h <= height:
      crop_w, crop_h = w, h
      left, top = generator.uniform(0, width - w), generator.uniform(0, height - h)
      break
  box = (left, top, left + crop_w, top + crop_h)
  return example | {'image': _resize(example['image'], tuple(size), box)}


def _resize(
  image: UInt8[np.ndarray, 'h w c'], size: tuple[int, int], box: tuple[float, ...]
) -> UInt8[np.ndarray, 'height width c']:
  from PIL import Image

  whole = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
  # Rounding can push a box over the edge by an ulp, which Pillow refuses.
  box = (max(box[0], 0), max(box[1], 0), min(box[2], whole.width), min(box[3], whole.height))
  resized = np.array(whole.resize((size[1], size[0]), Image.Resampling.BILINEAR, box=box))
  return resized[..., None] if resized.ndim == 2 else resized
