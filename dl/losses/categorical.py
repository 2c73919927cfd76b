"""Losses of classes: one value an example; NaN where a label is none of the classes, since nothing can be learned.

What counts for nothing, such as padding, gets another label and a weight of 0 before it comes here.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Num

from dl.config.bounds import BelowOne, NotNegative
from dl.errors import ConfigError

ClassWeights = Sequence[NotNegative] | None


def cross_entropy(
  logits: Float[Array, '*b classes'],
  labels: Int[Array, '*b'],
  label_smoothing: BelowOne = 0.0,
  class_weights: ClassWeights = None,
) -> Float[Array, '*b']:
  """Softmax cross entropy in nats, with label smoothing (Rethinking the Inception Architecture, arXiv 1512.00567).

  Args:
    logits: unnormalized log-probabilities.
    labels: class of each example.
    label_smoothing: share of the target which is spread evenly over all classes.
    class_weights: factor of each class's terms.
  """
  log_p = jax.nn.log_softmax(logits.astype(jnp.float32))
  if class_weights is not None:
    log_p = log_p * jnp.asarray(class_weights, jnp.float32)
  picked = _of_class(log_p, labels)
  if not label_smoothing:
    return -picked
  return -(1.0 - label_smoothing) * picked - label_smoothing * log_p.mean(-1)


def binary(
  logits: Float[Array, 'b *one'],
  labels: Num[Array, ' b'],
  label_smoothing: BelowOne = 0.0,
  class_weights: ClassWeights = None,
) -> Float[Array, ' b']:
  """Cross entropy of one logit of class 1 an example, in nats.

  Args:
    logits: `[b]` or `[b, 1]`.
    labels: 0 or 1, or the probability of class 1.
    label_smoothing: share of the target which is spread evenly over both classes.
    class_weights: factors of class 0 and class 1.
  """
  x, y = _one_logit(logits, labels)
  y = y * (1.0 - label_smoothing) + 0.5 * label_smoothing
  zero, one = (1.0, 1.0) if class_weights is None else class_weights
  return -one * y * jax.nn.log_sigmoid(x) - zero * (1.0 - y) * jax.nn.log_sigmoid(-x)


def focal(
  logits: Float[Array, '*b classes'],
  labels: Int[Array, '*b'],
  gamma: NotNegative = 2.0,
  class_weights: ClassWeights = None,
) -> Float[Array, '*b']:
  """Cross entropy times (1 - p)^gamma, p of the true class: easy examples count less (Focal Loss, arXiv 1708.02002)."""
  log_p = jax.nn.log_softmax(logits.astype(jnp.float32))
  log_p = _of_class(log_p, labels)
  weight = 1.0 if class_weights is None else jnp.asarray(class_weights, jnp.float32)[labels]
  return -weight * _power(-jnp.expm1(log_p), gamma) * log_p


def binary_focal(
  logits: Float[Array, 'b *one'],
  labels: Num[Array, ' b'],
  gamma: NotNegative = 2.0,
  class_weights: ClassWeights = None,
) -> Float[Array, ' b']:
  """The focal loss of one logit an example (arXiv 1708.02002); its alpha is `class_weights=(1 - alpha, alpha)`."""
  x, y = _one_logit(logits, labels)
  zero, one = (1.0, 1.0) if class_weights is None else class_weights
  positive = one * y * _power(jax.nn.sigmoid(-x), gamma) * jax.nn.log_sigmoid(x)
  negative = zero * (1.0 - y) * _power(jax.nn.sigmoid(x), gamma) * jax.nn.log_sigmoid(-x)
  return -positive - negative


def dice(
  logits: Float[Array, 'b *size classes'], labels: Int[Array, 'b *size'], weight: Num[Array, 'b *size'] | None = None
) -> Float[Array, ' b']:
  """One less the soft Dice coefficient, averaged over the classes that an example has (V-Net, arXiv 1606.04797).

  The coefficient of a class with probabilities p and truth g is 2 sum(p g) / (sum(p^2) + sum(g)). Classes which the
  example lacks have none: the smallest p would make it 0.

  Args:
    logits: unnormalized log-probabilities of each pixel.
    labels: class of each pixel.
    weight: 0 for pixels that do not count, else 1.
  """
  p = jax.nn.softmax(logits.astype(jnp.float32))
  g = jax.nn.one_hot(labels, logits.shape[-1])
  if weight is not None:
    counts = (weight > 0)[..., None]
    p, g = jnp.where(counts, p, 0.0), jnp.where(counts, g, 0.0)
  sum_ = lambda x: x.sum(tuple(range(1, x.ndim - 1)))
  size = sum_(g)
  present = size > 0
  score = 2 * sum_(p * g) / jnp.where(present, sum_(p**2) + size, 1.0)
  number = present.sum(-1)
  values = jnp.where(number > 0, 1.0 - (score * present).sum(-1) / jnp.maximum(number, 1), 0.0)
  outside = (labels < 0) | (labels >= logits.shape[-1])
  if weight is not None:
    outside &= weight > 0
  return jnp.where(outside.any(tuple(range(1, labels.ndim))), jnp.nan, values)


def _of_class(values: Float[Array, '*b classes'], labels: Int[Array, '*b']) -> Float[Array, '*b']:
  """The value of each label; NaN outside of the classes, of which -1 would be the last."""
  index = jnp.where(labels < 0, values.shape[-1], labels.astype(jnp.int32))
  return jnp.take_along_axis(values, index[..., None], axis=-1, mode='fill')[..., 0]


def class_logits(outputs: Float[Array, 'b *classes']) -> Float[Array, 'b classes']:
  """A logit a class: a single one, of class 1, becomes the two (0, logit)."""
  if outputs.ndim == 1:
    outputs = outputs[:, None]
  if outputs.shape[1] == 1:
    return jnp.concatenate([jnp.zeros_like(outputs), outputs], axis=1)
  return outputs


def _one_logit(logits: Array, labels: Array) -> tuple[Array, Array]:
  if logits.size != labels.size:
    raise ConfigError(f'config.task: a binary loss takes one logit an example, got {logits.shape[1:]}')
  y = labels.astype(jnp.float32)
  return logits.reshape(labels.shape).astype(jnp.float32), jnp.where((y >= 0) & (y <= 1), y, jnp.nan)


def _power(x: Array, gamma: float) -> Array:
  # x ** 0 and x ** 0.5 have no finite gradient at 0, where a confident example can be.
  return jnp.maximum(x, 1e-12) ** gamma if gamma else jnp.ones_like(x)
