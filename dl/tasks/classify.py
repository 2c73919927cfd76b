"""Classification: an image or a row of features to one of several classes."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, Num, PyTree

from dl import losses
from dl.config.bounds import BelowOne, Count, NotNegative, Size
from dl.contract.info import Info
from dl.contract.metrics import F1, Confusion, Mean, Precision, Recall, correct, predicted, rank
from dl.contract.state import State
from dl.contract.task import Batch, Metrics
from dl.errors import ConfigError, nearest
from dl.losses.categorical import class_logits
from dl.tasks.supervised import Supervised

_BINARY = ('binary', 'binary_focal', 'sigmoid_binary_cross_entropy', 'sigmoid_focal_loss')
_SOFTMAX = ('cross_entropy', 'focal')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Classify(Supervised):
  """Batches hold `image` or `features`, and `label` [b].

  The model gives a logit a class. For two classes it may give a single one, that of class 1, with the criterion
  'binary' or 'binary_focal'.

  Metrics: loss (with smoothing and weights, as trained), accuracy, and `top_<k>_accuracy` for each of `top_k`;
  evaluations add class_accuracy, one number a class, and, where the loss has smoothing or weights, cross_entropy, which
  has neither: nats of the true class; with `positive`, they add precision, recall and f1 of that class.

  Attributes:
    criterion: 'cross_entropy', 'focal', 'binary', 'binary_focal', or another (`dl.losses.make`).
    label_smoothing: share of the target which is spread evenly over the classes (arXiv 1512.00567).
    class_weights: factors of the classes in the loss; 'balanced' weighs each class by the inverse of its share of
      the training set, so that classes count alike.
    top_k: also count an example as right if its class is among the k likeliest.
    positive: a class, by its name or number: the one that is looked for, of which precision and recall are.
    test_time_flip: outside of training, average the logits of each image and its mirror image.
  """

  examined_by = 'mistakes.Mistakes'

  criterion: str | Mapping[str, Any] | Callable = 'cross_entropy'
  label_smoothing: BelowOne = 0.0
  class_weights: str | tuple[NotNegative, ...] | None = None
  top_k: tuple[Size, ...] = ()
  positive: str | Count | None = None
  test_time_flip: bool = False

  def __post_init__(self):
    super().__post_init__()
    self.criterion_function()

  def positive_class(self) -> int | None:
    """The number of the class that is looked for."""
    if not isinstance(self.positive, str):
      return self.positive
    names = self.info.class_names or ()
    if self.positive not in names:
      raise ConfigError(f'config.task.positive: there is no class {self.positive!r}; {nearest(self.positive, names)}')
    return names.index(self.positive)

  def weights(self) -> tuple[float, ...] | None:
    """The factors of the classes in the loss."""
    return class_factors(self.class_weights, self.info)

  def criterion_function(self) -> losses.Loss:
    return losses.make(
      self.criterion,
      'config.task.criterion',
      label_smoothing=self.label_smoothing or None,
      class_weights=self.weights(),
    )

  def targets(self, batch: Batch) -> Array:
    return batch['label']

  def apply(
    self, params: dict[str, PyTree], extra: Any, inputs: Array, key: Key[Array, ''], train: bool
  ) -> tuple[Float[Array, 'b ...'], Any]:
    outputs, new = super().apply(params, extra, inputs, key, train)
    if self.test_time_flip and not train:
      outputs = (outputs + super().apply(params, extra, jnp.flip(inputs, 2), key, train)[0]) / 2
    return outputs, new

  def losses(self, outputs: Float[Array, 'b ...'], batch: Batch) -> Float[Array, ' b']:
    """The loss of each example; that of a mixture of two (`mixup`, `cutmix`) has the share of each."""
    first = super().losses(outputs, batch)
    if 'mixed_label' not in batch:
      return first
    share, second = batch['label_share'], super().losses(outputs, batch | {'label': batch['mixed_label']})
    return share * first + (1.0 - share) * second

  def check(self, batch: PyTree) -> None:
    if 'label' not in batch:
      hint = ": if the targets are classes, set data.kind='classification'" if 'target' in batch else ''
      raise ConfigError(f'config.data: Classify needs label in a batch, got {", ".join(sorted(batch))}{hint}')
    if len(batch['label'].shape) != 1:
      raise ConfigError(f'config.data: the label of an example is one class, not an array {batch["label"].shape[1:]}')
    if self.info.fact('ragged') and not getattr(self.model, 'padded', True):
      raise ConfigError('config.model.padded: the series of the data differ in length; set it to True')
    size, known = getattr(self.model, 'vocab_size', None), self.info.vocab_size
    if 'tokens' in batch and size is not None and known is not None and size < known:
      raise ConfigError(f'config.model.vocab_size is {size}, but the data has {known} token ids')
    if self.test_time_flip and len(jax.eval_shape(self.inputs, batch).shape) != 4:
      raise ConfigError('config.task.test_time_flip: mirrors images, and the data has none')
    shape, classes = self.outputs_shape(batch), self.info.num_classes
    key = next((k for k in ('num_classes', 'num_outputs') if hasattr(self.model, k)), None)
    where = f'config.model.{key}' if key else f'config.model: the number of outputs of {type(self.model).__name__}'
    name = self.criterion.get('name') if isinstance(self.criterion, Mapping) else self.criterion
    name = name.rpartition('.')[2] if isinstance(name, str) else None
    if len(shape) > 2:
      raise ConfigError(f'config.model: Classify needs one row of logits an example, the model gives {shape[1:]}')
    logits = shape[1] if len(shape) == 2 else 1
    if name in _BINARY and logits != 1:
      raise ConfigError(f'{where} is {logits}, but the criterion {name!r} takes one logit')
    if name in _BINARY and classes not in (2, None):
      raise ConfigError(f'config.task.criterion: {name!r} is for two classes, but the data has {classes}')
    if classes is not None and logits != classes and not (logits == 1 and classes == 2 and name not in _SOFTMAX):
      raise ConfigError(f'{where} is {logits}, but the data has {classes} classes')
    positive = self.positive_class()
    if positive is not None and positive >= max(logits, 2):
      raise ConfigError(f'config.task.positive: there is no class {positive}, they go up to {max(logits, 2) - 1}')
    for k in self.top_k:
      if k > max(logits, 2):
        raise ConfigError(f'config.task.top_k: {k} is not between 1 and the number of classes, {max(logits, 2)}')
    jax.eval_shape(
      self.criterion_function(),
      jax.ShapeDtypeStruct(shape, jnp.float32),
      jax.ShapeDtypeStruct(batch['label'].shape, batch['label'].dtype),
    )

  def _plain(self) -> bool:
    """Whether the criterion is the cross entropy itself, without arguments."""
    given = dict(self.criterion) if isinstance(self.criterion, Mapping) else {'name': self.criterion}
    return given in ({'name': 'cross_entropy'}, {'name': 'binary'})

  def limits(self, batch: PyTree) -> dict[str, int]:
    if self.info.num_classes is not None:
      return {}
    shape = self.outputs_shape(batch)
    return {'num_classes': max(shape[1] if len(shape) == 2 else 1, 2)}  # one logit is for two classes

  def measure(self, outputs: Float[Array, 'b ...'], batch: Batch) -> Metrics:
    logits, label, mask = class_logits(outputs), batch['label'], batch['mask']
    metrics = {'accuracy': Mean.of(correct(logits, label), mask, better='max')}
    place = rank(logits, label) if self.top_k else None  # the partitioner would gather whole batches to sort them
    for k in self.top_k:
      metrics[f'top_{k}_accuracy'] = Mean.of(place < k, mask, better='max')
    return metrics

  def evaluate(self, state: State, batch: Batch, key: Key[Array, '']) -> Metrics:
    outputs, _, _, metrics = self.forward(state.params, state.extra, batch, key, False)
    logits, label, mask = class_logits(outputs), batch['label'], batch['mask']
    if self.label_smoothing or self.class_weights is not None or not self._plain():
      nats = losses.cross_entropy(logits, jnp.where(mask > 0, label, 0))
      metrics['cross_entropy'] = Mean.of(nats, mask, better='min')
    confusion = Confusion.of(predicted(logits), label, logits.shape[-1], mask)
    if (positive := self.positive_class()) is not None:
      found = {'precision': Precision, 'recall': Recall, 'f1': F1}
      metrics |= {name: kind.of_class(confusion, positive) for name, kind in found.items()}
    return metrics | {'class_accuracy': confusion}

  def predict(self, state: State, inputs: Num[Array, 'b ...'], key: Key[Array, '']) -> dict[str, Array]:
    """Raw inputs, as the data set has them, to `label` [b] and `probability` [b, classes]."""
    logits = class_logits(self.apply(state.params, state.extra, self.prepare(self.checked(inputs)), key, False)[0])
    return {'label': logits.argmax(-1).astype(jnp.int32), 'probability': jax.nn.softmax(logits)}


def class_factors(weights: str | tuple[float, ...] | None, info: Info) -> tuple[float, ...] | None:
  """The factors of the classes in the loss: those given, or for 'balanced' the inverse of their shares."""
  if weights is None:
    return None
  where, classes = 'config.task.class_weights', info.num_classes
  if weights == 'balanced':
    if not info.class_counts:
      raise ConfigError(f"{where}: the data has no class counts for 'balanced'; give the weights themselves")
    counts = np.asarray(info.class_counts, np.float64)
    return tuple((counts.sum() / (len(counts) * np.maximum(counts, 1))).tolist())
  if isinstance(weights, str):
    raise ConfigError(f"{where}: expected 'balanced' or one number a class, got {weights!r}")
  if classes is not None and len(weights) != classes:
    raise ConfigError(f'{where}: {len(weights)} weights, but the data has {classes} classes')
  return tuple(weights)
