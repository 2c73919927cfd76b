"""The Evaluator contract: a second opinion on a state, which a config names: `eval=dict(pgd=dict(by='attacks.PGD'))`.

Without `by` an evaluation is the task's own.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar

from jaxtyping import Array, Key

from dl.contract.state import State
from dl.contract.task import Batch, Metrics, Task


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluator:
  """What a state is measured by: a frozen dataclass of plain arguments, with no hidden state.

  `measure` and `examine` are traced by shapes before anything is compiled, and raise ConfigError for a task or data
  that they do not fit; then each is compiled once. With `params_ema` they see the averaged parameters.
  """

  needs_data: ClassVar[bool] = True
  """False for an evaluator which makes its own examples (samples, say): its batch is then an empty dict."""

  def measure(self, task: Task, state: State, batch: Batch, key: Key[Array, '']) -> Metrics:
    """Additive metrics of one batch, as `Task.evaluate` gives; a row whose `batch['mask']` is 0 counts for nothing."""
    raise NotImplementedError

  def examine(self, task: Task, state: State, batch: Batch, key: Key[Array, '']) -> dict[str, Array]:
    """What `findings` wants to know of each example, name -> [b, ...]; nothing by default."""
    return {}

  def findings(self, task: Task, examined: dict[str, Any], inputs: Callable[[Any], Batch]) -> dict[str, Any]:
    """Artifacts of a whole set, after training: name -> image `[h, w, c]` | text (str) | table (list of dicts).

    Args:
      task: the learning problem.
      examined: what `examine` says of each real example, name -> [n, ...]; its `index` in the user's own source,
        of which the set may be a part, as in error lines; and `file`, for a source of files.
      inputs: indices into the examined -> those examples as a batch, as the data set has them.
    """
    return {}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Own(Evaluator):
  """The task's own evaluation, where the config names no evaluator; the findings are those of `Task.examined_by`.

  Attributes:
    examiner: who finds.
  """

  examiner: Evaluator = Evaluator()

  def measure(self, task: Task, state: State, batch: Batch, key: Key[Array, '']) -> Metrics:
    return task.evaluate(state, batch, key)

  def examine(self, task: Task, state: State, batch: Batch, key: Key[Array, '']) -> dict[str, Array]:
    return self.examiner.examine(task, state, batch, key)

  def findings(self, task: Task, examined: dict[str, Any], inputs: Callable[[Any], Batch]) -> dict[str, Any]:
    return self.examiner.findings(task, examined, inputs)


@dataclasses.dataclass(frozen=True, eq=False)
class Trained:
  """Another run, as an argument of an evaluator: a config names it by its work directory.

  `task.predict(state, inputs, key)` may be called inside of `measure`.

  Attributes:
    workdir: the work directory.
    task: its task.
    state: its newest state, with averaged parameters where it keeps them.
  """

  workdir: str
  task: Task
  state: State
