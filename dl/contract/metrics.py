"""Additive metrics: sums which add over batches, devices and hosts, and become numbers once, at the end.

A metrics dict maps a plain name ('loss', 'accuracy') to a `Metric`. Adding two dicts leaf by leaf is exact
aggregation, so a mean over a data set never depends on how the set was cut into batches.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Num

BY_SEED = '_by_seed'
"""How the name of a list of a number of each seed ends."""


@flax.struct.dataclass
class Metric:
  """Base of the additive metrics: a pytree of sums with `compute()`, called on host arrays after all adding.

  Attributes:
    is_number: whether `compute()` gives one number, and not a list of them.
  """

  is_number: ClassVar[bool] = True

  def compute(self) -> float | list[float]:
    """The number (or list of numbers) that the sums stand for."""
    raise NotImplementedError


@flax.struct.dataclass
class Mean(Metric):
  """A weighted mean: `total / weight`."""

  total: Any
  weight: Any

  @classmethod
  def of(cls, values: Num[Array, '*shape'], mask: Num[Array, '...'] | None = None) -> Self:
    """Mean of `values` where `mask`, which broadcasts from the left ([batch] for [batch, length]), is not 0."""
    values = jnp.asarray(values, jnp.float32)
    if mask is None:
      return cls(values.sum(), jnp.asarray(values.size, jnp.float32))
    mask = jnp.asarray(mask, jnp.float32)
    mask = jnp.broadcast_to(mask.reshape(mask.shape + (1,) * (values.ndim - mask.ndim)), values.shape)
    # where, not a product: a padded row may hold inf or nan.
    return cls(jnp.where(mask > 0, values * mask, 0.0).sum(), mask.sum())

  def compute(self) -> float:
    return float(self.total) / float(self.weight) if float(self.weight) else float('nan')


@flax.struct.dataclass
class ExpMean(Mean):
  """`base ** mean`: perplexity, from token losses in nats."""

  def compute(self) -> float:
    return float(np.exp(super().compute()))


@flax.struct.dataclass
class RootMean(Mean):
  """Square root of a mean: RMSE, from squared errors."""

  def compute(self) -> float:
    return float(np.sqrt(super().compute()))


@flax.struct.dataclass
class R2(Metric):
  """Coefficient of determination over the whole set: 1 - residual sum of squares / total sum of squares.

  Sums are of targets less a fixed `offset` (the training mean, say), which keeps float32 sums accurate.
  """

  residual: Any
  target: Any
  target_square: Any
  weight: Any

  @classmethod
  def of(
    cls, prediction: Float[Array, '*b'], target: Float[Array, '*b'], mask: Num[Array, '*b'], offset: float = 0.0
  ) -> Self:
    mask = jnp.asarray(mask, jnp.float32)
    centred = jnp.where(mask > 0, target - offset, 0.0)
    residual = jnp.where(mask > 0, (prediction - target) ** 2, 0.0)
    return cls((residual * mask).sum(), (centred * mask).sum(), (centred**2 * mask).sum(), mask.sum())

  def compute(self) -> float:
    weight = float(self.weight)
    if not weight:
      return float('nan')
    spread = float(self.target_square) - float(self.target) ** 2 / weight
    return 1.0 - float(self.residual) / spread if spread > 0 else float('nan')


@flax.struct.dataclass
class Confusion(Metric):
  """Counts of (true class, predicted class), `[classes, classes]`; its number is the accuracy of each class."""

  is_number = False
  counts: Any

  @classmethod
  def of(cls, predicted: Int[Array, ' b'], label: Int[Array, ' b'], num_classes: int, mask: Num[Array, ' b']) -> Self:
    index = label.astype(jnp.int32) * num_classes + predicted.astype(jnp.int32)
    counts = jnp.zeros(num_classes**2, jnp.float32).at[index].add(jnp.asarray(mask, jnp.float32), mode='drop')
    return cls(counts.reshape(num_classes, num_classes))

  def compute(self) -> list[float]:
    counts = np.asarray(self.counts, np.float64)
    with np.errstate(invalid='ignore'):
      return (np.diagonal(counts) / counts.sum(1)).tolist()


@flax.struct.dataclass
class IoU(Confusion):
  """Intersection over union of each class, exact over a set of label maps; NaN for a class which is nowhere."""

  @classmethod
  def of_maps(
    cls, predicted: Int[Array, '*b'], label: Int[Array, '*b'], num_classes: int, weight: Num[Array, '*b']
  ) -> Self:
    """Counts of the pixels whose weight is not 0; counted as integers, since float32 ones would stop at 2^24."""
    index = label.astype(jnp.int32) * num_classes + predicted.astype(jnp.int32)
    counts = jnp.zeros(num_classes**2, jnp.int32).at[index.ravel()].add((weight > 0).ravel().astype(jnp.int32))
    return cls(counts.reshape(num_classes, num_classes))

  def compute(self) -> list[float]:
    return self._per_class().tolist()

  def _per_class(self) -> Float[np.ndarray, ' classes']:
    counts = np.asarray(self.counts, np.float64)
    both = np.diagonal(counts)
    with np.errstate(invalid='ignore'):
      return both / (counts.sum(0) + counts.sum(1) - both)


@flax.struct.dataclass
class MeanIoU(IoU):
  """Intersection over union, averaged over the classes which are in the labels or predictions of the set."""

  is_number = True

  def compute(self) -> float:
    return _mean_of_present(self._per_class())


@flax.struct.dataclass
class Dice(IoU):
  """The Dice coefficient, 2 |A and B| / (|A| + |B|), averaged over the same classes as `MeanIoU`."""

  is_number = True

  def compute(self) -> float:
    iou = self._per_class()
    return _mean_of_present(2 * iou / (1 + iou))


def _mean_of_present(values: Float[np.ndarray, ' classes']) -> float:
  present = values[~np.isnan(values)]
  return float(present.mean()) if len(present) else float('nan')


@flax.struct.dataclass
class BySeed(Metric):
  """The sums of a metric for each of several seeds, which are their first axis; its number is the mean of theirs."""

  metric: Metric

  @property
  def is_number(self) -> bool:
    return self.metric.is_number

  def each(self) -> list[Any]:
    """The number (or list) of each seed."""
    count = len(jax.tree.leaves(self.metric)[0])
    return [jax.tree.map(lambda x, i=i: x[i], self.metric).compute() for i in range(count)]

  def compute(self) -> float | list[float]:
    return np.mean(self.each(), axis=0).tolist()


def average(mean: Mean) -> Float[Array, '']:
  """The value of a mean inside compiled code; 0 if nothing was counted."""
  return mean.total / jnp.where(mean.weight > 0, mean.weight, 1.0)


def add(a: Any, b: Any) -> Any:
  """The sum of two metrics dicts of the same structure."""
  return jax.tree.map(lambda x, y: x + y, a, b)


def total(parts: list[Any]) -> Any:
  """The float64 sum of a list of host metrics dicts."""
  return jax.tree.map(lambda *xs: np.sum(np.asarray(xs, np.float64), axis=0), *parts)


def compute(metrics: Mapping[str, Metric]) -> dict[str, float | list[float]]:
  """The numbers of a (host) metrics dict; one of several seeds comes with a list, 'NAME_by_seed'."""
  several = {f'{k}{BY_SEED}': m.each() for k, m in metrics.items() if isinstance(m, BySeed) and m.is_number}
  return {name: metric.compute() for name, metric in metrics.items()} | several
