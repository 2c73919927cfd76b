"""Regression: an image or a row of features to a number."""

import dataclasses

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

  normalize_target: bool = False

  def __post_init__(self):
    super().__post_init__()
    self.criterion_function()
    if self.normalize_target and (self.info.target_mean is None or self.info.target_std is None):
      raise ConfigError('config.task.normalize_target: the data has no mean and deviation of its target')

  def scale(self) -> tuple[float, float]:
    """(offset, factor) from the model's outputs to the target's units."""
    return (self.info.target_mean, self.info.target_std) if self.normalize_target else (0.0, 1.0)

  def apply(self, params, extra, inputs, key, train):
    outputs, extra = super().apply(params, extra, inputs, key, train)
    return (outputs[:, 0] if outputs.ndim == 2 and outputs.shape[1] == 1 else outputs), extra

  def targets(self, batch: Batch) -> Float[Array, ' b']:
    offset, factor = self.scale()
    return (batch['target'].astype(jnp.float32) - offset) / factor

  def check(self, batch: PyTree) -> None:
    if 'target' not in batch:
      hint = ": if the labels are numbers, set data.kind='regression'" if 'label' in batch else ''
      raise ConfigError(f'config.data: Regress needs target in a batch, got {", ".join(sorted(batch))}{hint}')
    if len(batch['target'].shape) != 1:
      raise ConfigError(f'config.data: Regress takes one target an example, got {batch["target"].shape[1:]}')
    shape = self.outputs_shape(batch)
    if len(shape) != 1:
      key = next((k for k in ('num_outputs', 'num_classes') if hasattr(self.model, k)), None)
      where = f'config.model.{key}' if key else 'config.model'
      raise ConfigError(f'{where}: Regress needs one output an example, the model gives {shape[1:]}')
    jax.eval_shape(self.criterion_function(), *[jax.ShapeDtypeStruct(shape, jnp.float32)] * 2)

  def measure(self, outputs: Float[Array, ' b'], batch: Batch) -> dict[str, Metric]:
    offset, factor = self.scale()
    predicted, target, mask = outputs * factor + offset, batch['target'].astype(jnp.float32), batch['mask']
    error = predicted - target
    return {
      'mae': Mean.of(jnp.abs(error), mask, better='min'),
      'rmse': RootMean.of(jnp.square(error), mask),
      'r2': R2.of(predicted, target, mask, self.info.target_mean),
    }

  def predict(self, state: State, inputs: Num[Array, 'b ...'], key: Key[Array, '']) -> dict[str, Array]:
    """Raw inputs, as the data set has them, to `target` [b] in its own units."""
    offset, factor = self.scale()
    outputs = self.apply(state.params, state.extra, self.prepare(self.checked(inputs)), key, False)[0]
    return {'target': outputs * factor + offset}
