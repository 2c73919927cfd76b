"""A generative model judged by a classifier."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

from dl.config.bounds import Seed, Size
from dl.contract.evaluator import Evaluator, Trained
from dl.contract.kinds import IMAGE
from dl.contract.metrics import LeastShare, Mean, MostShare, Shares
from dl.contract.state import State
from dl.contract.task import Batch, Metrics, Task
from dl.errors import ConfigError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Judge(Evaluator):
  """What a trained classifier of images sees in samples of the task.

  Metrics: shares (the fraction of the samples in each class), min_share and max_share of them, and confidence, the mean
  probability of the class chosen.

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
    sample_key, judge_key = jax.random.split(jax.random.key(self.seed))
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
    counts = jnp.zeros(seen['probability'].shape[1], jnp.int32).at[seen['label']].add(1)
    return {
      'shares': Shares(counts),
      'min_share': LeastShare(counts),
      'max_share': MostShare(counts),
      'confidence': Mean.of(seen['probability'].max(1), better='max'),
    }

  def _check(self, shape: tuple[int, ...]) -> None:
    """Raises ConfigError unless the classifier reads samples of a shape."""
    where, info = self.classifier.workdir, self.classifier.task.info
    if not any(info.kind(column) is IMAGE for column in info.inputs(dict.fromkeys(self.classifier.columns))[:1]):
      raise ConfigError(f'{where} does not read images')
    wanted = (*(info.image_size or ()), info.channels)
    if len(wanted) == 3 and shape != wanted:
      raise ConfigError(f'{where} reads images of shape {wanted}, the samples have {shape}')
