"""What a model of sequence to sequence writes, beside what is to be written."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, Key

from dl.config.bounds import Number, Size
from dl.contract.bleu import Bleu, scorer
from dl.contract.evaluator import Evaluator
from dl.contract.metrics import Mean
from dl.contract.state import State
from dl.contract.task import Batch, Metrics, Task
from dl.errors import ConfigError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Decoded(Evaluator):
  """Of targets that are written from their sources, by a task with `search`, such as `dl.tasks.seq2seq.Seq2Seq`.

  Metrics: exact_match, the share of targets that are written token for token, and with `bleu` that of the corpus, by
  sacrebleu (arXiv 1804.08771), in [0, 1], against all the references of a source: the data has `references=True`.
  Artifacts: a table of examples, those that are wrong first.

  Cite: post2018call

  Attributes:
    beams: of the search; 1 takes the likeliest token each time.
    length_penalty: where there are more (`dl.decoding.beam`).
    bleu: whether BLEU is measured.
    tokenize: how sacrebleu cuts texts: '13a', 'intl', 'char', 'none', ...
    lowercase: whether it does not tell capitals from small letters.
    shown: how many examples there are at most in the table.
  """

  beams: Size = 1
  length_penalty: Number = 1.0
  bleu: bool = False
  tokenize: str = '13a'
  lowercase: bool = False
  shown: Size = 25

  def __post_init__(self):
    if self.bleu:
      scorer(self.tokenize, self.lowercase)

  def measure(self, task: Task, state: State, batch: Batch, key: Key[Array, '']) -> Metrics:
    self._check(task, batch)
    written = self._written(task, state, batch)
    metrics: Metrics = {'exact_match': Mean.of(_right(task, written, batch), batch['mask'], better='max')}
    if self.bleu:
      how = (task.target_text, self.tokenize, self.lowercase, batch['references'].shape[1])
      metrics['bleu'] = Bleu.of(written, batch['references'], batch['mask'], how)
    return metrics

  def examine(self, task: Task, state: State, batch: Batch, key: Key[Array, '']) -> dict[str, Array]:
    """Of each example: what is written, and whether it is right."""
    self._check(task, batch)
    written = self._written(task, state, batch)
    return {'written': written, 'right': _right(task, written, batch)}

  def findings(
    self, task: Task, examined: dict[str, np.ndarray], inputs: Callable[[np.ndarray], Batch]
  ) -> dict[str, Any]:
    chosen = np.argsort(examined['right'], kind='stable')[: self.shown]
    batch, table = inputs(chosen), []
    for row, i in enumerate(chosen):
      table.append({
        'source': task.source_text(batch['source'][row]),
        'written': task.target_text(examined['written'][i]),
        'target': task.target_text(batch['target_tokens'][row]),
        'right': bool(examined['right'][i]),
      })  # fmt: skip
    return {'written': table}

  def _written(self, task: Task, state: State, batch: Batch) -> Int[Array, 'b n']:
    return task.search(state, batch['source'], self.beams, self.length_penalty)[0]

  def _check(self, task: Task, batch: Batch) -> None:
    """Raises ConfigError for a task which writes nothing, or data without what is asked for."""
    if not hasattr(task, 'search') or 'target_tokens' not in batch:
      raise ConfigError(f'Decoded measures what Seq2Seq writes, and {type(task).__name__} does not')
    if self.bleu and 'references' not in batch:
      raise ConfigError('bleu: needs the references of a source; set references=True of pairs.Pairs')


def _right(task: Task, written: Int[Array, 'b n'], batch: Batch) -> Array:
  """Whether each target is written as it is, token for token."""
  targets = jnp.where(batch['target_tokens'] == task.end, -1, batch['target_tokens'])
  size = max(written.shape[1], targets.shape[1])
  wide = lambda x: jnp.pad(x, ((0, 0), (0, size - x.shape[1])), constant_values=-1)
  return (wide(written) == wide(targets)).all(1)
