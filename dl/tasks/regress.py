"""Regression: an image or a row of features to a number."""

import dataclasses
from collections.abc import Collection

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, Num, PyTree

from dl.contract.metrics import R2, Mean, Metric, RootMean
from dl.contract.state import State
from dl.contract.task import Batch
from dl.errors import ConfigError
from dl.tasks.supervised import Supervised


@dataclasses.dataclass(frozen=True, kw_only=True)
class Regress(Supervised):
  """Batches hold `image` or `features`, and `target` [b].

  Metrics: loss, in the units it is trained in; mae, rmse and r2, in those of the target.

  Attributes:
    criterion: 'mse', 'mae', 'huber', or another (`dl.losses.make`).
    normalize_target: whether the model learns (target - mean) / deviation, of the training set.
  """

  examined_by = 'residuals.Residuals'

  normalize_target: bool = False

  def __post_init__(self):
    super().__post_init__()
    self.criterion_function()
    if self.normalize_target and (self.info.target_mean is None or self.info.target_std is None):
      if self.info.columns is not None:
        _check_target(self.info.columns)
      raise ConfigError(
        'config.task.normalize_target: nothing says the mean and deviation of the target; where examples are read one '
        'by one the source states them: info = Info(target_mean=..., target_std=...)'
      )

  def scale(self) -> tuple[float, float]:
    """(offset, factor) from the model's outputs to the target's units."""
    return (self.info.target_mean, self.info.target_std) if self.normalize_target else (0.0, 1.0)

  def in_units(self, outputs: Float[Array, ' b']) -> Float[Array, ' b']:
    """Outputs of the model in the units of the target."""
    offset, factor = self.scale()
    return outputs * factor + offset

  def apply(self, params, extra, inputs, key, train):
    outputs, extra = super().apply(params, extra, inputs, key, train)
    return (outputs[:, 0] if outputs.ndim == 2 and outputs.shape[1] == 1 else outputs), extra

  def targets(self, batch: Batch) -> Float[Array, ' b']:
    offset, factor = self.scale()
    return (batch['target'].astype(jnp.float32) - offset) / factor

  def check(self, batch: PyTree) -> None:
    _check_target(batch)
    if len(batch['target'].shape) != 1:
      raise ConfigError(f'config.data: Regress takes one target an example, got {batch["target"].shape[1:]}')
    shape = self.outputs_shape(batch)
    if len(shape) != 1:
      key = next((k for k in ('num_outputs', 'num_classes') if hasattr(self.model, k)), None)
      where = f'config.model.{key}' if key else 'config.model'
      raise ConfigError(f'{where}: Regress needs one output an example, the model gives {shape[1:]}')
    jax.eval_shape(self.criterion_function(), *[jax.ShapeDtypeStruct(shape, jnp.float32)] * 2)

  def measure(self, outputs: Float[Array, ' b'], batch: Batch) -> dict[str, Metric]:
    predicted, target, mask = self.in_units(outputs), batch['target'].astype(jnp.float32), batch['mask']
    error = predicted - target
    return {
      'mae': Mean.of(jnp.abs(error), mask, better='min'),
      'rmse': RootMean.of(jnp.square(error), mask),
      'r2': R2.of(predicted, target, mask, self.info.target_mean),
    }

  def predict(self, state: State, inputs: Num[Array, 'b ...'], key: Key[Array, '']) -> dict[str, Array]:
    """Raw inputs, as the data set has them, to `target` [b] in its own units."""
    outputs = self.apply(state.params, state.extra, self.prepare(self.checked(inputs)), key, False)[0]
    return {'target': self.in_units(outputs)}


def _check_target(columns: Collection[str]) -> None:
  """Raises ConfigError unless there is a number to predict among the columns of a batch."""
  if 'target' not in columns:
    hint = ": if the labels are numbers, set data.kind='regression'" if 'label' in columns else ''
    raise ConfigError(f'config.data: Regress needs target in a batch, got {", ".join(sorted(columns))}{hint}')
