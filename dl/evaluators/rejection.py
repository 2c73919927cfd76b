"""Whether a classifier knows what is of none of its classes: by how sure it is of the likeliest one."""

import dataclasses
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

from dl.config.bounds import Count, PositiveShare
from dl.contract.evaluator import Evaluator
from dl.contract.metrics import Mean, Metric
from dl.contract.state import State
from dl.contract.task import Batch, Metrics, Task
from dl.errors import ConfigError, nearest
from dl.losses.categorical import class_logits

BINS = 1000
"""Of probabilities, whose edges are the thresholds that are compared."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rejection(Evaluator):
  """Of a classifier, on data with examples of a class which stands for none: queries out of scope, say.

  An example is rejected where that class is the likeliest, or where the likeliest of the others has a probability below
  the threshold (A Baseline for Detecting Misclassified and Out-of-Distribution Examples in Neural Networks, arXiv
  1610.02136).

  Metrics: accuracy (of the examples of other classes, those found right and not rejected), recall (of those of the
  class, those rejected), auroc (how often an example of it is less sure than one of another class), and
  largest_threshold, which still accepts a given share of the right answers on these data: take it from a validation
  part, and state it for the test part.

  Cite: hendrycks2017baseline

  Attributes:
    outside: the class which stands for none, by its name or number.
    threshold: probability below which an example is rejected; None rejects by the likeliest class alone.
    accepted: the share of the right answers which largest_threshold accepts.
  """

  outside: str | Count
  threshold: PositiveShare | None = None
  accepted: PositiveShare = 0.99

  def measure(self, task: Task, state: State, batch: Batch, key: Key[Array, '']) -> Metrics:
    if 'label' not in batch or not all(hasattr(task, name) for name in ('inputs', 'apply')):
      raise ConfigError(
        f'Rejection is of classifiers, which {type(task).__name__} on {", ".join(sorted(batch))} is not'
      )
    logits = class_logits(task.apply(state.params, state.extra, task.inputs(batch), key, False)[0])
    outside, label = self._number(task, logits.shape[-1]), batch['label']
    probability = jax.nn.softmax(logits).at[:, outside].set(-1.0)
    chosen, sure = probability.argmax(-1), probability.max(-1)
    sure = jnp.where(logits.argmax(-1) == outside, 0.0, sure)  # so that any threshold rejects it
    inside = batch['mask'] * (label != outside)
    none = batch['mask'] * (label == outside)
    rejected = sure <= 0.0 if self.threshold is None else sure < self.threshold
    counts = lambda weight: jnp.zeros(BINS).at[(sure * BINS).astype(jnp.int32).clip(0, BINS - 1)].add(weight)
    return {
      'accuracy': Mean.of((chosen == label) & ~rejected, inside, better='max'),
      'recall': Mean.of(rejected, none, better='max'),
      'auroc': _Auroc(counts(inside), counts(none)),
      'largest_threshold': _LargestThreshold(counts(inside * (chosen == label) * (sure > 0)), self.accepted),
    }

  def _number(self, task: Task, classes: int) -> int:
    """The class which stands for none."""
    names = task.info.class_names or ()
    if isinstance(self.outside, str):
      if self.outside not in names:
        raise ConfigError(f'outside: there is no class {self.outside!r}; {nearest(self.outside, names)}')
      return names.index(self.outside)
    if not 0 <= self.outside < classes:
      raise ConfigError(f'outside: there is no class {self.outside}, they go up to {classes - 1}')
    return self.outside


@flax.struct.dataclass
class _Auroc(Metric):
  """The share of pairs of an example of a class and one of none in which the former is surer; of ties, the half.

  Attributes:
    inside: how many examples of a class there are in each bin of sureness.
    outside: how many of none.
  """

  better = 'max'
  inside: Any
  outside: Any

  def compute(self) -> float:
    inside, outside = (np.asarray(x, np.float64) for x in (self.inside, self.outside))
    pairs = inside.sum() * outside.sum()
    surer = inside @ (np.cumsum(outside) - outside / 2)
    return float(surer / pairs) if pairs else float('nan')


@flax.struct.dataclass
class _LargestThreshold(Metric):
  """The largest threshold by which a share of the right answers is still accepted.

  Attributes:
    right: how many right answers there are in each bin of sureness.
    accepted: the share.
  """

  right: Any
  accepted: PositiveShare = flax.struct.field(pytree_node=False)

  def compute(self) -> float:
    right = np.asarray(self.right, np.float64)
    if not right.sum():
      return float('nan')
    below = np.concatenate([[0.0], np.cumsum(right)])[:-1]  # the edge of each bin
    return float(np.flatnonzero(right.sum() - below >= self.accepted * right.sum())[-1] / BINS)
