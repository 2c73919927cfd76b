"""What a classifier gets wrong, to look at."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

from dl.config.bounds import Size
from dl.contract.evaluator import Evaluator
from dl.contract.kinds import IMAGE
from dl.contract.metrics import Confusion, Mean, correct, predicted
from dl.contract.state import State
from dl.contract.task import Batch, Metrics, Task
from dl.errors import ConfigError
from dl.losses.categorical import class_logits
from dl.show import confusion


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mistakes(Evaluator):
  """Of a classifier, `dl.tasks.classify.Classify` or alike: it has `inputs`, `apply` and `losses`.

  Metrics: accuracy, confidence (the mean probability of the class chosen), and class_accuracy, one number a class.
  Artifacts: the confusion matrix, a table of the classes, and the mistakes with the largest losses, as a table and, of
  images, a picture.

  Attributes:
    shown: how many mistakes there are at most.
  """

  shown: Size = 25

  def measure(self, task: Task, state: State, batch: Batch, key: Key[Array, '']) -> Metrics:
    logits = class_logits(_outputs(task, state, batch, key))
    label, mask = batch['label'], batch['mask']
    return {
      'accuracy': Mean.of(correct(logits, label), mask, better='max'),
      'confidence': Mean.of(jax.nn.softmax(logits).max(-1), mask),
      'class_accuracy': Confusion.of(predicted(logits), label, logits.shape[-1], mask),
    }

  def examine(self, task: Task, state: State, batch: Batch, key: Key[Array, '']) -> dict[str, Array]:
    """Of each example: its label, the class predicted, the probabilities of both, and the loss.

    A class is -1, and its probability NaN, for a label outside of the classes and where a logit is NaN.
    """
    outputs = _outputs(task, state, batch, key)
    logits = class_logits(outputs)
    classes, probability = logits.shape[-1], jax.nn.softmax(logits)
    label = jnp.where((batch['label'] >= 0) & (batch['label'] < classes), batch['label'], -1)
    chosen = predicted(logits)
    index = lambda x: jnp.where(x < 0, classes, x)[:, None]
    of = lambda x: jnp.take_along_axis(probability, index(x), axis=1, mode='fill')[:, 0]
    return {
      'label': label,
      'predicted': chosen.astype(jnp.int32),
      'probability': of(chosen),
      'true_probability': of(label),
      'loss': task.losses(outputs, batch),
    }

  def findings(
    self, task: Task, examined: dict[str, np.ndarray], inputs: Callable[[np.ndarray], Batch]
  ) -> dict[str, Any]:
    def images(chosen: np.ndarray) -> np.ndarray | None:
      batch = inputs(chosen)
      columns = task.info.of_kind(IMAGE, batch)
      return batch[columns[0]] if columns else None

    classes = task.info.num_classes or int(max(0, examined['label'].max(), examined['predicted'].max())) + 1
    names = (*(task.info.class_names or map(str, range(classes))), 'none')  # which -1 is the index of
    counts = np.zeros((classes + 1, classes + 1), int)
    np.add.at(counts, (examined['label'], examined['predicted']), 1)
    counts = counts[:-1] if counts[:-1, -1].any() else counts[:-1, :-1]
    return {
      'confusion': confusion.picture(counts, names),
      'classes': confusion.class_table(counts, names),
    } | confusion.worst(examined, names, images, self.shown)


def _outputs(task: Task, state: State, batch: Batch, key: Key[Array, '']) -> Array:
  if 'label' not in batch or not all(hasattr(task, name) for name in ('inputs', 'apply', 'losses')):
    raise ConfigError(f'Mistakes are of classifiers, which {type(task).__name__} on {", ".join(sorted(batch))} is not')
  return task.apply(state.params, state.extra, task.inputs(batch), key, False)[0]
