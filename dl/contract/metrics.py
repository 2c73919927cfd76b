"""Additive metrics: sums which add over batches, devices and hosts, and become numbers once, at the end.

A metrics dict maps a plain name ('loss', 'accuracy') to a `Metric`. Adding two dicts is exact aggregation, so a mean
over a data set never depends on how the set was cut into batches. Most sums add leaf by leaf; a metric for which that
would lose digits says itself how two parts make one (`Metric.merge`). All zeros are the metric of no data.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, Self

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Num

from dl.errors import ConfigError

BY_SEED = '_by_seed'
"""How the name of a list of a number of each seed ends."""

Better = Literal['min', 'max'] | None
"""Whether less or more of a metric is better; None for one of which neither is, or which does not say."""

_LIMB = 30
"""Bits of the first part of a count of pixels; the second counts how often those were full."""


@flax.struct.dataclass
class Metric:
  """Base of the additive metrics: a pytree of sums with `compute()`, called on host arrays after all adding.

  Attributes:
    is_number: whether `compute()` gives one number, and not a list of them.
    better: whether less or more of it is better.
  """

  is_number: ClassVar[bool] = True
  better = None  # not annotated: a field of that name comes after the sums

  def compute(self) -> float | list[float]:
    """The number (or list of numbers) that the sums stand for."""
    raise NotImplementedError

  def merge(self, other: Self) -> Self:
    """The sums of both, on a device or the host."""
    return jax.tree.map(lambda x, y: x + y, self, other)

  @classmethod
  def summed(cls, parts: Sequence[Self]) -> Self:
    """The float64 sums of host metrics."""
    return jax.tree.map(lambda *xs: np.sum(np.asarray(xs, np.float64), axis=0), *parts)


@flax.struct.dataclass
class Mean(Metric):
  """A weighted mean: `total / weight`."""

  total: Any
  weight: Any
  better: Better = flax.struct.field(pytree_node=False, default=None)

  @classmethod
  def of(cls, values: Num[Array, '*shape'], mask: Num[Array, '...'] | None = None, **better: Better) -> Self:
    """Mean of `values` where `mask`, which broadcasts from the left ([batch] for [batch, length]), is not 0.

    `better='min'` or 'max' says whether less or more of it is better.
    """
    values = jnp.asarray(values, jnp.float32)
    if mask is None:
      return cls(values.sum(), jnp.asarray(values.size, jnp.float32), **better)
    mask = jnp.asarray(mask, jnp.float32)
    mask = jnp.broadcast_to(mask.reshape(mask.shape + (1,) * (values.ndim - mask.ndim)), values.shape)
    # where, not a product: a padded row may hold inf or nan.
    return cls(jnp.where(mask > 0, values * mask, 0.0).sum(), mask.sum(), **better)

  def compute(self) -> float:
    return float(self.total) / float(self.weight) if float(self.weight) else float('nan')


@flax.struct.dataclass
class ExpMean(Mean):
  """`e ** mean`: perplexity, from token losses in nats."""

  better: Better = flax.struct.field(pytree_node=False, default='min')

  def compute(self) -> float:
    return float(np.exp(super().compute()))


@flax.struct.dataclass
class RootMean(Mean):
  """Square root of a mean: RMSE, from squared errors."""

  better: Better = flax.struct.field(pytree_node=False, default='min')

  def compute(self) -> float:
    return float(np.sqrt(super().compute()))


@flax.struct.dataclass
class R2(Metric):
  """Coefficient of determination over the whole set: 1 - residual sum of squares / total sum of squares.

  The total is about the mean of the targets so far, and two parts make one by their means ("Updating formulae and a
  pairwise algorithm for computing sample variances", Chan, Golub and LeVeque 1982): sums of squares about a fixed
  point have no digits left where the targets are far from it.

  Attributes:
    residual: sum of squared errors.
    mean: of the targets less the offset.
    spread: sum of squares of the targets about their mean.
    weight: number of targets.
  """

  better = 'max'
  residual: Any
  mean: Any
  spread: Any
  weight: Any

  @classmethod
  def of(
    cls, prediction: Float[Array, '*b'], target: Float[Array, '*b'], mask: Num[Array, '*b'], offset: float | None = None
  ) -> Self:
    """R2 of a batch; an `offset` near the mean of the targets, the same for all batches, saves digits of the mean."""
    mask = jnp.asarray(mask, jnp.float32)
    real = mask > 0
    near = target.ravel()[jnp.argmax(real)] if offset is None else offset  # one pass over differences from a target
    centred = jnp.where(real, target - near, 0.0)
    residual = jnp.where(real, (prediction - target) ** 2, 0.0)
    total, square, weight = (centred * mask).sum(), (centred**2 * mask).sum(), mask.sum()
    mean = total / jnp.where(weight > 0, weight, 1.0)
    spread = jnp.maximum(square - total * mean, 0.0)
    if offset is None:
      mean = jnp.where(weight > 0, near + mean, 0.0)
    return cls((residual * mask).sum(), mean, spread, weight)

  def merge(self, other: Self) -> Self:
    weight = self.weight + other.weight
    share = other.weight / (weight + (weight == 0))
    apart = other.mean - self.mean
    return type(self)(
      residual=self.residual + other.residual,
      mean=self.mean + apart * share,
      spread=self.spread + other.spread + apart**2 * self.weight * share,
      weight=weight,
    )

  @classmethod
  def summed(cls, parts: Sequence[Self]) -> Self:
    return functools.reduce(cls.merge, [jax.tree.map(lambda x: np.asarray(x, np.float64), part) for part in parts])

  def compute(self) -> float:
    spread = float(self.spread)
    return 1.0 - float(self.residual) / spread if float(self.weight) and spread > 0 else float('nan')


@flax.struct.dataclass
class Confusion(Metric):
  """Counts of (true class, predicted class), `[classes, classes + 1]`; its number is the accuracy of each class.

  The last column is of those for which no class is predicted (`predicted`), which are wrong; a label outside of the
  classes counts nowhere.
  """

  is_number = False
  better = 'max'
  counts: Any

  @classmethod
  def of(cls, predicted: Int[Array, ' b'], label: Int[Array, ' b'], num_classes: int, mask: Num[Array, ' b']) -> Self:
    return cls(_counts(predicted, label, num_classes, jnp.asarray(mask, jnp.float32)))

  def compute(self) -> list[float]:
    counts = np.asarray(self.counts, np.float64)
    with np.errstate(invalid='ignore'):
      return (np.diagonal(counts) / counts.sum(1)).tolist()


@flax.struct.dataclass
class Precision(Metric):
  """Of what is found, the share which is there; NaN where nothing is found.

  Attributes:
    both: how many are found and there.
    found: how many are found.
    there: how many are there.
  """

  better = 'max'
  both: Any
  found: Any
  there: Any

  @classmethod
  def of_class(cls, confusion: Confusion, positive: int) -> Self:
    """Of the examples of one class."""
    counts = confusion.counts
    return cls(counts[positive, positive], counts[:, positive].sum(), counts[positive].sum())

  def compute(self) -> float:
    return _share(self.both, self.found)


@flax.struct.dataclass
class Recall(Precision):
  """Of what is there, the share which is found; NaN where nothing is there."""

  def compute(self) -> float:
    return _share(self.both, self.there)


@flax.struct.dataclass
class F1(Precision):
  """The harmonic mean of precision and recall: 2 |found and there| / (|found| + |there|)."""

  def compute(self) -> float:
    return _share(2 * float(self.both), float(self.found) + float(self.there))


@flax.struct.dataclass
class Overlap(Precision):
  """|found and there| / |found or there|, the index of Jaccard."""

  def compute(self) -> float:
    return _share(self.both, float(self.found) + float(self.there) - float(self.both))


@flax.struct.dataclass
class Shares(Metric):
  """The fraction of the examples in each class, from their counts [classes]."""

  is_number = False
  counts: Any

  def compute(self) -> list[float]:
    counts = np.asarray(self.counts, np.float64)
    with np.errstate(invalid='ignore'):
      return (counts / counts.sum()).tolist()


@flax.struct.dataclass
class LeastShare(Shares):
  """The fraction of the examples in the rarest class."""

  is_number = True
  better = 'max'

  def compute(self) -> float:
    return min(super().compute())


@flax.struct.dataclass
class MostShare(Shares):
  """The fraction of the examples in the most frequent class."""

  is_number = True
  better = 'min'

  def compute(self) -> float:
    return max(super().compute())


@flax.struct.dataclass
class IoU(Confusion):
  """Intersection over union of each class, exact over a set of label maps; NaN for a class which is nowhere.

  Attributes:
    counts: of pixels, less those in `full`: int32, since float32 would stop at 2^24.
    full: how often each count passed 2^30, since int32 would turn negative at 2^31; None where nothing is added to
      counts that are whole.
  """

  full: Any = None

  @classmethod
  def of_maps(
    cls, predicted: Int[Array, '*b'], label: Int[Array, '*b'], num_classes: int, weight: Num[Array, '*b']
  ) -> Self:
    """Counts of the pixels whose weight is not 0."""
    counts = _counts(predicted, label, num_classes, (weight > 0).astype(jnp.int32))
    return cls(counts, jnp.zeros_like(counts))

  def merge(self, other: Self) -> Self:
    if self.full is None:
      return super().merge(other)
    rest = 2**_LIMB - 1
    counts = (self.counts & rest) + (other.counts & rest)
    passed = (self.counts >> _LIMB) + (other.counts >> _LIMB) + (counts >> _LIMB)
    return type(self)(counts & rest, self.full + other.full + passed)

  def whole(self) -> Float[np.ndarray, 'classes columns']:
    """The counts, exact up to 2^53."""
    counts = np.asarray(self.counts, np.float64)
    return counts if self.full is None else counts + np.asarray(self.full, np.float64) * 2.0**_LIMB

  def compute(self) -> list[float]:
    return self._per_class().tolist()

  def _per_class(self) -> Float[np.ndarray, ' classes']:
    counts = self.whole()
    both = np.diagonal(counts)
    with np.errstate(invalid='ignore'):
      return both / (counts.sum(0)[: len(both)] + counts.sum(1) - both)


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


def _counts(
  predicted: Int[Array, '*b'], label: Int[Array, '*b'], num_classes: int, amount: Num[Array, '*b']
) -> Num[Array, 'classes columns']:
  """Amounts of (true class, predicted class or none); a label outside of the classes is dropped: -1 is not the last."""
  inside = lambda x: (x >= 0) & (x < num_classes)
  label, column = label.astype(jnp.int32), jnp.where(inside(predicted), predicted.astype(jnp.int32), num_classes)
  size = num_classes * (num_classes + 1)
  cell = jnp.where(inside(label), label * (num_classes + 1) + column, size)
  counts = jnp.zeros(size, amount.dtype).at[cell.ravel()].add(amount.ravel(), mode='drop')
  return counts.reshape(num_classes, num_classes + 1)


def _share(part: Any, whole: Any) -> float:
  return float(part) / float(whole) if float(whole) else float('nan')


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

  @property
  def better(self) -> Better:
    return self.metric.better

  def merge(self, other: Self) -> Self:
    return type(self)(self.metric.merge(other.metric))

  @classmethod
  def summed(cls, parts: Sequence[Self]) -> Self:
    of_seeds = [part.metric for part in parts]
    return cls(type(of_seeds[0]).summed(of_seeds))

  def each(self) -> list[Any]:
    """The number (or list) of each seed."""
    count = len(jax.tree.leaves(self.metric)[0])
    return [jax.tree.map(lambda x, i=i: x[i], self.metric).compute() for i in range(count)]

  def compute(self) -> float | list[float]:
    return np.mean(self.each(), axis=0).tolist()


def average(mean: Mean) -> Float[Array, '']:
  """The value of a mean inside compiled code; 0 if nothing was counted."""
  return mean.total / jnp.where(mean.weight > 0, mean.weight, 1.0)


def predicted(logits: Float[Array, '*b classes']) -> Int[Array, '*b']:
  """The class with the largest logit; -1, which is none, where one is NaN."""
  index = logits.argmax(-1)
  largest = jnp.take_along_axis(logits, index[..., None], -1)[..., 0]  # NaN if one is
  return jnp.where(jnp.isnan(largest), -1, index)


def correct(logits: Float[Array, '*b classes'], label: Int[Array, '*b']) -> Bool[Array, '*b']:
  """Whether the label has the largest logit: not where one is NaN, nor for a label outside of the classes."""
  return (predicted(logits) == label) & (label >= 0)


def rank(logits: Float[Array, 'b classes'], label: Int[Array, ' b']) -> Int[Array, ' b']:
  """How many classes are likelier than the label: 0 if it is the first; all of them for one outside of the classes.

  A NaN is likelier than any number, and a label with that logit has all before it.
  """
  classes = logits.shape[-1]
  index = jnp.where(label < 0, classes, label.astype(jnp.int32))[:, None]
  own = jnp.take_along_axis(logits, index, 1, mode='fill')  # NaN outside of the classes
  earlier = jnp.arange(classes) < index
  return (~(logits <= own) | ((logits == own) & earlier)).sum(-1)


def add(a: Mapping[str, Metric], b: Mapping[str, Metric]) -> dict[str, Metric]:
  """The sum of two metrics dicts of the same names."""
  return {name: metric.merge(b[name]) for name, metric in a.items()}


def total(parts: Sequence[Mapping[str, Metric]]) -> dict[str, Metric]:
  """The float64 sum of host metrics dicts."""
  return {name: type(metric).summed([part[name] for part in parts]) for name, metric in parts[0].items()}


def compute(metrics: Mapping[str, Metric]) -> dict[str, float | list[float]]:
  """The numbers of a (host) metrics dict; one of several seeds comes with a list, 'NAME_by_seed'."""
  several = {f'{k}{BY_SEED}': m.each() for k, m in metrics.items() if isinstance(m, BySeed) and m.is_number}
  return {name: metric.compute() for name, metric in metrics.items()} | several


def check(measured: Any, who: str) -> None:
  """Raises ConfigError, which begins with `who`, unless `measured` are metrics by name."""
  if not isinstance(measured, Mapping):
    raise ConfigError(f'{who} gives no metrics by name, but a {type(measured).__name__}')
  for name, metric in measured.items():
    if not isinstance(metric, Metric):
      raise ConfigError(
        f'{who} gives as metric {name!r} no sums (dl.contract.metrics), which add up over batches exactly, but '
        f'{"a number" if np.shape(metric) == () else f"an array {list(np.shape(metric))}"}: take Mean.of(values, '
        "batch['mask']), of one value an example"
      )


def better(metrics: Mapping[str, Metric]) -> dict[str, Better]:
  """Whether less or more is better, of each metric which is a number; raises ConfigError for what says neither."""
  for name, metric in metrics.items():
    if metric.better not in ('min', 'max', None):
      raise ConfigError(f"metric {name!r}: better is 'min', 'max' or None, got {metric.better!r}")
  return {name: metric.better for name, metric in metrics.items() if metric.is_number}
