"""Facts about columns which a source puts into its `Info`: those of its training part."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Num

from dl.config import build
from dl.contract.info import Info
from dl.contract.kinds import Kind
from dl.errors import ConfigError

MIN_STD = 1e-6
SAMPLE = 1000
"""Where examples are read one by one, mean and deviation are those of this many training examples, evenly spread."""


def complete(info: Info, columns: Mapping[str, Num[np.ndarray, 'n ...']], every: bool = True) -> Info:
  """`info` with those facts of its training examples which the kinds of their columns say, and which it lacks.

  Args:
    info: what the source says itself.
    columns: its training examples, or a sample of them.
    every: False for a sample, which cannot say everything.
  """
  for column, values in columns.items():
    kind = info.kind(column)
    if kind.statistics is not None and (every or not kind.of_all):
      info = info.completed(function(kind)(values, info))
  return info


def wanted(info: Info, columns: Sequence[str], every: bool = True) -> bool:
  """Whether `complete` may add anything to what is known of these columns."""
  kinds = [kind for c in columns if (kind := info.kind(c)).statistics is not None and (every or not kind.of_all)]
  return any(not kind.facts or any(info.fact(fact) is None for fact in kind.facts) for kind in kinds)


def function(kind: Kind) -> Callable[[np.ndarray, Info], Mapping[str, Any]]:
  """The statistics of a kind; raises ConfigError for a name of none."""
  if callable(kind.statistics):
    return kind.statistics
  return build.resolve(kind.statistics, 'dl.data.statistics', f'kind {kind.name!r}: statistics')


def of_features(values: Float[np.ndarray, 'n ...'], info: Info) -> dict[str, tuple[float, ...]]:
  """`mean` and `std` of each feature; the deviation of a constant is 1, so that it can be divided by."""
  values = values.reshape(-1, values.shape[-1] if values.ndim > 1 else 1).astype(np.float64)
  mean, std = values.mean(0), values.std(0)
  constant = std <= MIN_STD * np.maximum(1.0, np.abs(mean))
  return {'mean': tuple(mean.tolist()), 'std': tuple(np.where(constant, 1.0, std).tolist())}


def of_images(images: Num[np.ndarray, 'n h w c'], info: Info) -> dict[str, Any]:
  """`mean` and `std` of each channel, of images scaled to [0, 1], and their `image_size` and `channels`."""
  if images.ndim != 4:
    return {}
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


def of_series(series: Float[np.ndarray, 'n steps c'], info: Info) -> dict[str, tuple[float, ...]]:
  """`mean` and `std` of each channel over all steps, without those that pad a shorter series."""
  steps = series.reshape(-1, series.shape[-1])
  return of_features(steps[~np.isnan(steps).all(1)], info)


def of_target(target: Float[np.ndarray, ' n'], info: Info) -> dict[str, float]:
  """`target_mean` and `target_std` of a regression target; nothing of a row of several numbers."""
  if target.ndim != 1:
    return {}
  std = float(target.std(dtype=np.float64))
  return {'target_mean': float(target.mean(dtype=np.float64)), 'target_std': std if std > MIN_STD else 1.0}


def of_labels(label: Int[np.ndarray, ' n'], info: Info) -> dict[str, Any]:
  """`class_counts`, and `num_classes` where the classes have names; nothing where the classes are not known."""
  classes = info.num_classes if info.class_names is None else len(info.class_names)
  if classes is None or label.ndim != 1 or label.dtype.kind not in 'iu':
    return {}
  return {'num_classes': classes, 'class_counts': tuple(np.bincount(label, minlength=classes)[:classes].tolist())}


def encode_labels(values: Sequence[Any] | np.ndarray) -> tuple[Int[np.ndarray, ' n'], tuple[str, ...]]:
  """(class index of each value, class names): classes are the distinct values, in order.

  Raises:
    ConfigError: a single class, or -1 beside 0, 1, 2 and so on, which means that there is none.
  """
  classes, label = np.unique(np.asarray(values), return_inverse=True)
  if len(classes) < 2:
    raise ConfigError(f'every label is {classes[0]!s}; there is nothing to classify')
  if classes.dtype.kind in 'if' and len(classes) > 3 and np.array_equal(classes, np.arange(-1, len(classes) - 1)):
    row = int(np.argmax(label.reshape(-1) == 0))
    raise ConfigError(
      f'the label of row {row} is -1, beside the classes from 0 to {len(classes) - 2}: leave out rows without a class, '
      'or write classes as text'
    )
  return label.reshape(-1).astype(np.int32), tuple(_name(c) for c in classes)


def _name(value: Any) -> str:
  if isinstance(value, np.floating) and float(value).is_integer():
    return str(int(value))
  return str(value)


def useless(features: Float[np.ndarray, 'n f'], names: Sequence[str]) -> str | None:
  """What to say of columns which tell nothing about an example: one value throughout, or the number of the row."""
  constant = [name for name, column in zip(names, features.T, strict=True) if (column == column[0]).all()]
  numbers = [name for name, column in zip(names, features.T, strict=True) if _counts_rows(column)]
  said = [f'{", ".join(map(repr, constant))} hold{"s" * (len(constant) < 2)} one value throughout'] if constant else []
  said += [f'{", ".join(map(repr, numbers))} number{"s" * (len(numbers) < 2)} the rows'] if numbers else []
  return f'{" and ".join(said)}; leave out what says nothing about an example' if said else None


def _counts_rows(column: Float[np.ndarray, ' n']) -> bool:
  """Whether a column goes up by whole numbers all along, as an id does; a part of the rows may be elsewhere."""
  steps = np.diff(column)
  return len(column) > 10 and bool((steps > 0).all() and (column == np.round(column)).all() and steps.mean() < 10)
