"""What a forecast gets right and wrong, to look at, beside the last value repeated."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

from dl.config.bounds import Size
from dl.contract.evaluator import Evaluator
from dl.contract.state import State
from dl.contract.task import Batch, Metrics, Task
from dl.errors import ConfigError, nearest
from dl.show import forecast, pictures
from dl.show.examples import largest, place
from dl.show.words import rounded


@dataclasses.dataclass(frozen=True, kw_only=True)
class Forecasts(Evaluator):
  """Of a forecast, `dl.tasks.forecast.Forecast` or alike: it has `inputs`, `apply`, `targets`, `last` and `in_units`.

  Metrics: mse and mae, as the task measures them. Artifacts: windows of one target, evenly spread over the set; the
  error by steps ahead; a table of the targets; and the windows with the largest errors. Errors are of
  standardized values, and stand beside those of repeating the last value of the look-back.

  Attributes:
    channel: the target whose windows are drawn; None for the last one.
    windows: how many are drawn.
    shown: how many there are at most in the table of the largest errors.
  """

  channel: str | None = None
  windows: Size = 6
  shown: Size = 25

  def measure(self, task: Task, state: State, batch: Batch, key: Key[Array, '']) -> Metrics:
    self._place(task, batch)
    return task.measure(_outputs(task, state, batch, key), batch)

  def examine(self, task: Task, state: State, batch: Batch, key: Key[Array, '']) -> dict[str, Array]:
    """Of each window: its errors by step and by target, those of the last value, and the forecast that may be drawn."""
    drawn = self._place(task, batch)
    outputs = _outputs(task, state, batch, key)
    truth = task.targets(batch)
    found = {'forecast': task.in_units(outputs)[..., drawn], 'error': jnp.square(outputs - truth).mean((1, 2))}
    for name, values in (('model', outputs), ('last', task.last(batch))):
      error = values - truth
      found[f'{name}_steps'] = jnp.square(error).mean(2)
      found[f'{name}_squares'], found[f'{name}_sizes'] = jnp.square(error).mean(1), jnp.abs(error).mean(1)
    return found

  def findings(
    self, task: Task, examined: dict[str, np.ndarray], inputs: Callable[[np.ndarray], Batch]
  ) -> dict[str, Any]:
    names = _names(task, examined['model_squares'].shape[1])
    mean = lambda name: examined[name].mean(0, dtype=np.float64)
    steps = {label: mean(f'{name}_steps') for label, name in (('model', 'model'), ('last value', 'last'))}
    ahead = np.arange(1, len(steps['model']) + 1)
    found: dict[str, Any] = {
      'targets': _table(names, *(mean(f'{n}_{what}') for n in ('model', 'last') for what in ('squares', 'sizes'))),
      'largest_errors': [
        {'mse': rounded(examined['error'][i], 5)} | place(examined, i) for i in largest(examined['error'], self.shown)
      ],
      'horizon': pictures.curves(
        {label: (ahead, values) for label, values in steps.items()}, 'steps ahead', 'MSE, standardized'
      ),
    }
    order = np.unique(np.linspace(0, len(examined['error']) - 1, self.windows).astype(int))
    batch, drawn = inputs(order), self._place(task, {'target': np.empty((1, 1, len(names)))})
    truth, series = batch['target'][..., drawn], batch[task.info.inputs(batch)[0]]
    channel = task.places(series.shape[-1], len(names))[drawn]
    past = series[:, -2 * truth.shape[1] :, channel]
    titles = [_title(examined, i) for i in order]
    found['forecasts'] = forecast.windows(past, truth, examined['forecast'][order], titles, names[drawn])
    return found

  def _place(self, task: Task, batch: Batch) -> int:
    """Which target is drawn; raises ConfigError for a task or data which are no forecast, or no such target."""
    parts = ('inputs', 'apply', 'targets', 'last', 'in_units', 'places')
    if 'target' not in batch or not all(hasattr(task, name) for name in parts):
      raise ConfigError(f'Forecasts are of series, which {type(task).__name__} on {", ".join(sorted(batch))} is not')
    names = _names(task, batch['target'].shape[-1])
    if self.channel is not None and self.channel not in names:
      raise ConfigError(f'channel: there is no target {self.channel!r}; {nearest(self.channel, names)}')
    return len(names) - 1 if self.channel is None else names.index(self.channel)


def _outputs(task: Task, state: State, batch: Batch, key: Key[Array, '']) -> Array:
  return task.apply(state.params, state.extra, task.inputs(batch), key, False)[0]


def _names(task: Task, targets: int) -> tuple[str, ...]:
  return task.info.fact('targets') or tuple(f'target {i}' for i in range(targets))


def _table(
  names: tuple[str, ...], mse: np.ndarray, mae: np.ndarray, last_mse: np.ndarray, last_mae: np.ndarray
) -> list[dict[str, Any]]:
  """A row a target, and one of all."""
  columns = {'mse': mse, 'mae': mae, 'mse of the last value': last_mse, 'mae of the last value': last_mae}
  rows = [
    {'target': name} | {k: rounded(v[i], 5) for k, v in columns.items()} for i, name in enumerate(names)
  ]  # fmt: skip
  return [*rows, {'target': 'all'} | {k: rounded(v.mean(), 5) for k, v in columns.items()}] if len(names) > 1 else rows


def _title(examined: dict[str, np.ndarray], i: int) -> str:
  """Where a window is: 'series.csv, row 12', or its number."""
  where = place(examined, i)
  return where['file'].rpartition('/')[2] if 'file' in where else f'window {where["index"]:,}'
