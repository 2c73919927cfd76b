"""How far the predictions of a regression are from the truth, to look at."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Array, Float, Key

from dl.config.bounds import Size
from dl.contract.evaluator import Evaluator
from dl.contract.state import State
from dl.contract.task import Batch, Metrics, Task
from dl.errors import ConfigError
from dl.show import regression, words


@dataclasses.dataclass(frozen=True, kw_only=True)
class Residuals(Evaluator):
  """Of a regression, `dl.tasks.regress.Regress` or alike: it has `inputs`, `apply`, `measure` and `in_units`.

  Metrics: mae, rmse and r2, as the task measures them. Artifacts, in the units of the target: predicted against true,
  the residuals (predicted - true), the scores beside those of always predicting the mean of the training part, and the
  examples with the largest errors.

  Attributes:
    shown: how many of these there are at most.
  """

  shown: Size = 25

  def measure(self, task: Task, state: State, batch: Batch, key: Key[Array, '']) -> Metrics:
    return task.measure(_outputs(task, state, batch, key), batch)

  def examine(self, task: Task, state: State, batch: Batch, key: Key[Array, '']) -> dict[str, Array]:
    """Of each example: its target, and what is predicted."""
    outputs = _outputs(task, state, batch, key)
    return {'target': batch['target'], 'predicted': task.in_units(outputs)}

  def findings(
    self, task: Task, examined: dict[str, np.ndarray], inputs: Callable[[np.ndarray], Batch]
  ) -> dict[str, Any]:
    target, predicted = (examined[k].astype(np.float64) for k in ('target', 'predicted'))
    mean = target.mean() if task.info.target_mean is None else task.info.target_mean
    part = 'of this set' if task.info.target_mean is None else 'of the training part'
    found: dict[str, Any] = {
      'scores': [
        {'predicts': 'the model'} | regression.scores(target, predicted),
        {'predicts': f'always the mean {part}, {words.number(mean)}'}
        | regression.scores(target, np.full_like(target, mean)),
      ],
      'largest_errors': regression.worst(examined, self.shown),
    }
    finite, name = np.isfinite(predicted), task.info.target_name or 'target'
    if finite.any():
      found['predicted'] = regression.against(target[finite], predicted[finite], name)
      found['residuals'] = regression.residuals(target[finite], predicted[finite], name)
    return found


def _outputs(task: Task, state: State, batch: Batch, key: Key[Array, '']) -> Float[Array, ' b']:
  if 'target' not in batch or not all(hasattr(task, name) for name in ('inputs', 'apply', 'measure', 'in_units')):
    raise ConfigError(f'Residuals are of regressions, which {type(task).__name__} on {", ".join(sorted(batch))} is not')
  return task.apply(state.params, state.extra, task.inputs(batch), key, False)[0]
