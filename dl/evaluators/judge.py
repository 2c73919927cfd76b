"""A generative model judged by a classifier."""

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from dl.config.bounds import Seed, Size
from dl.contract import keys
from dl.contract.evaluator import Evaluator, Trained
from dl.contract.kinds import IMAGE
from dl.contract.metrics import LeastShare, Mean, MostShare, Shares
from dl.contract.state import State
from dl.contract.task import Batch, Metrics, Task
from dl.errors import ConfigError
from dl.show.pictures import grid

_COLUMNS = 10  # samples of each class in the picture


@dataclasses.dataclass(frozen=True, kw_only=True)
class Judge(Evaluator):
  """What a trained classifier of images sees in samples of the task.

  Metrics: shares (the fraction of the samples in each class), min_share and max_share of them, and confidence, the mean
  probability of the class chosen. Artifacts: a table of the classes, and a picture of samples of each.

  Attributes:
    classifier: work directory of its run.
    samples: how many samples it sees.
    seed: of the samples, which are drawn alike at each evaluation.
  """

  needs_data: ClassVar[bool] = False

  classifier: Trained
  samples: Size = 1000
  seed: Seed = 0

  def measure(self, task: Task, state: State, batch: Batch, key: Key[Array, '']) -> Metrics:
    _, label, probability = self._seen(task, state)
    counts = jnp.zeros(probability.shape[1], jnp.int32).at[label].add(1)
    return {
      'shares': Shares(counts),
      'min_share': LeastShare(counts),
      'max_share': MostShare(counts),
      'confidence': Mean.of(probability.max(1), better='max'),
    }

  def examine(self, task: Task, state: State, batch: Batch, key: Key[Array, '']) -> dict[str, Array]:
    """Of each sample: the image, and its probability of each class."""
    samples, _, probability = self._seen(task, state)
    return {'image': samples, 'probability': probability}

  def findings(
    self, task: Task, examined: dict[str, np.ndarray], inputs: Callable[[np.ndarray], Batch]
  ) -> dict[str, Any]:
    """A table of the classes; a picture with a row a class, the samples of which it is surest first."""
    images, label = examined['image'], examined['probability'].argmax(1)
    confidence, classes = examined['probability'].max(1), examined['probability'].shape[1]
    names = self.classifier.task.info.class_names or tuple(map(str, range(classes)))
    rows, shown = [], np.zeros((classes, _COLUMNS, *images.shape[1:]), np.float32)
    for i, name in enumerate(names):
      own = np.flatnonzero(label == i)
      surest = own[np.argsort(-confidence[own], kind='stable')][:_COLUMNS]
      shown[i, : len(surest)] = images[surest]
      mean = round(float(confidence[own].mean()), 4) if len(own) else ''
      rows.append({'class': name, 'share': round(len(own) / len(label), 4), 'confidence': mean})
    return {'classes': rows, 'samples': grid(shown.reshape(-1, *images.shape[1:]), columns=_COLUMNS)}

  def _seen(
    self, task: Task, state: State
  ) -> tuple[Float[Array, 'n h w c'], Int[Array, ' n'], Float[Array, 'n classes']]:
    """(samples, the classes that the classifier sees in them, their probabilities)."""
    sample_key, judge_key = keys.judged(self.seed)
    try:
      samples = task.sample(state, sample_key, self.samples)
      self._check(np.shape(samples)[1:])
      seen = self.classifier.task.predict(self.classifier.state, samples, judge_key)
    except jax.errors.TracerArrayConversionError:  # it makes texts of them
      self._check(())
      raise
    except NotImplementedError as e:
      raise ConfigError(str(e)) from e
    if 'probability' not in seen or seen['probability'].ndim != 2:
      raise ConfigError(f'{self.classifier.workdir} does not classify')
    return samples, seen['label'], seen['probability']

  def _check(self, shape: tuple[int, ...]) -> None:
    """Raises ConfigError unless the classifier reads samples of a shape."""
    where, info = self.classifier.workdir, self.classifier.task.info
    if info.input is None or info.kind(info.input) is not IMAGE:
      raise ConfigError(f'{where} does not read images')
    wanted = (*(info.image_size or ()), info.channels)
    if len(wanted) == 3 and shape != wanted:
      raise ConfigError(f'{where} reads images of shape {wanted}, the samples have {shape}')
