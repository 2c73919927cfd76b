"""Facts about columns which a source puts into its `Info`."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Num

from dl.errors import ConfigError

MIN_STD = 1e-6


def of_features(values: Float[np.ndarray, 'n f']) -> dict[str, tuple[float, ...]]:
  """`mean` and `std` of each feature; the deviation of a constant is 1, so that it can be divided by."""
  values = values.astype(np.float64)
  mean, std = values.mean(0), values.std(0)
  constant = std <= MIN_STD * np.maximum(1.0, np.abs(mean))
  return {'mean': tuple(mean.tolist()), 'std': tuple(np.where(constant, 1.0, std).tolist())}


def of_images(images: Num[np.ndarray, 'n h w c']) -> dict[str, Any]:
  """`mean` and `std` of each channel, of images scaled to [0, 1], and their `image_size` and `channels`."""
  flat = images.reshape(-1, images.shape[-1])
  if images.dtype == np.uint8:  # exact, and cheap: through the histogram
    levels = np.arange(256) / 255.0
    weights = np.stack([np.bincount(c, minlength=256) for c in flat.T]) / max(len(flat), 1)
    mean = weights @ levels
    std = np.sqrt((weights * (levels - mean[:, None]) ** 2).sum(1))
  else:
    mean, std = flat.mean(0, dtype=np.float64), flat.std(0, dtype=np.float64)
  std = np.where(std <= MIN_STD, 1.0, std)
  return {
    'mean': tuple(mean.tolist()),
    'std': tuple(std.tolist()),
    'image_size': tuple(images.shape[1:3]),
    'channels': images.shape[3],
  }


def of_target(target: Float[np.ndarray, ' n']) -> dict[str, float]:
  """`target_mean` and `target_std` of a regression target."""
  std = float(target.std(dtype=np.float64))
  return {'target_mean': float(target.mean(dtype=np.float64)), 'target_std': std if std > MIN_STD else 1.0}


def of_labels(label: Int[np.ndarray, ' n'], class_names: Sequence[str]) -> dict[str, Any]:
  """`num_classes`, `class_names` and `class_counts`."""
  counts = np.bincount(label, minlength=len(class_names))
  return {
    'num_classes': len(class_names),
    'class_names': tuple(str(c) for c in class_names),
    'class_counts': tuple(counts.tolist()),
  }


def encode_labels(values: Sequence[Any] | np.ndarray) -> tuple[Int[np.ndarray, ' n'], tuple[str, ...]]:
  """(class index of each value, class names): classes are the distinct values, in order."""
  classes, label = np.unique(np.asarray(values), return_inverse=True)
  if len(classes) < 2:
    raise ConfigError(f'every label is {classes[0]!s}; there is nothing to classify')
  return label.reshape(-1).astype(np.int32), tuple(_name(c) for c in classes)


def _name(value: Any) -> str:
  if isinstance(value, np.floating) and float(value).is_integer():
    return str(int(value))
  return str(value)
