"""Checkpoints of a run; the only file that knows Orbax."""

import pathlib
from collections.abc import Callable, Mapping
from typing import Any, Literal, Self

import jax
from jaxtyping import PyTree

from dl.errors import ConfigError


class Checkpoints:
  """The checkpoints below one directory: the newest `last` are kept, and the `best` best by a metric.

  Saving is asynchronous: the arrays are copied before `save` returns and written while training goes on.
  """

  def __init__(
    self,
    directory: pathlib.Path,
    *,
    last: int = 1,
    best: int = 0,
    mode: Literal['min', 'max'] = 'min',
    read_only: bool = False,
  ):
    """Opens the directory; unless `read_only`, what a killed save left behind is removed."""
    if read_only and not directory.is_dir():
      raise ConfigError(f'{directory}: holds no checkpoint')
    from orbax.checkpoint import v1 as ocp  # slow to import, and not needed before the first save

    policies = ocp.training.preservation_policies
    keep = [policies.LatestN(last)]
    if best:
      # Orbax keeps the last of the sorted: the best, and the earliest of equals.
      sign = 1 if mode == 'min' else -1
      value = lambda metrics: (metrics['value'], sign * metrics['step'])
      keep.append(
        policies.BestN(get_metric_fn=value, reverse=mode == 'min', n=best, keep_checkpoints_without_metrics=False)
      )
    self._mode = mode
    self._checkpointer = ocp.training.Checkpointer(
      pathlib.Path(directory).absolute(),
      preservation_policy=policies.AnyPreservationPolicy(keep),
      save_decision_policy=ocp.training.save_decision_policies.FixedIntervalPolicy(1),
      cleanup_tmp_directories=not read_only,
    )

  def __enter__(self) -> Self:
    return self

  def __exit__(self, *error: Any) -> None:
    self._checkpointer.close()

  @property
  def steps(self) -> list[int]:
    """Steps of the finished checkpoints, ascending."""
    return sorted(c.step for c in self._checkpointer.checkpoints)

  @property
  def latest(self) -> int | None:
    """The newest step, if any."""
    return max(self.steps, default=None)

  @property
  def best(self) -> int | None:
    """The step with the best metric, if any has one; the earliest of equals."""
    scored = [(c.metrics['value'], c.step) for c in self._checkpointer.checkpoints if c.metrics]
    if not scored:
      return None
    sign = 1 if self._mode == 'min' else -1
    return min(scored, key=lambda s: (sign * s[0], s[1]))[1]

  def save(self, step: int, items: Mapping[str, PyTree], value: float | None = None) -> None:
    """Starts to save `items` as of `step`; `value` is the metric which the best are chosen by."""
    if step in self.steps:
      return
    self.wait()
    metrics = None if value is None else {'value': value, 'step': step}
    self._checkpointer.save_checkpointables_async(step, dict(items), metrics=metrics, force=True)

  def wait(self) -> None:
    """Blocks until the save under way is on disk."""
    self._checkpointer.wait()

  def restore(self, step: int, items: Mapping[str, PyTree]) -> dict[str, PyTree]:
    """Loads the items of a checkpoint with the shapes, dtypes and shardings of the abstract `items`."""
    return self._checkpointer.load_checkpointables(step, abstract_checkpointables=dict(items))

  def find(self, step: int | str | None, where: str) -> int:
    """The step that `step` means: a number, 'best', or None for the newest; raises ConfigError if there is none."""
    steps = self.steps
    found = self.best if step == 'best' else self.latest if step is None else step
    if not steps:
      raise ConfigError(f'{where}: holds no finished checkpoint')
    if found is None:
      raise ConfigError(f"{where}: no checkpoint has a metric, so none is the best; see 'keep' in the config")
    if found not in steps:
      raise ConfigError(f'{where}: no checkpoint of step {found}; there are: {", ".join(map(str, steps))}')
    return int(found)


def abstract(tree: PyTree, sharding: Callable[[Any], Any] | PyTree) -> PyTree:
  """Shapes of a tree with a sharding for each leaf."""
  return jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), tree, sharding)
