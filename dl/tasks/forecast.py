"""Forecasting: the next steps of a time series."""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, Num, PyTree

from dl.contract.metrics import Mean, Metric
from dl.contract.state import State
from dl.contract.task import Batch
from dl.errors import ConfigError
from dl.tasks.supervised import Supervised


@dataclasses.dataclass(frozen=True, kw_only=True)
class Forecast(Supervised):
  """Batches hold `series` [b, length, channels] and `target` [b, horizon, targets], both in their own units.

  The model gives [b, horizon, channels], of which the targets are taken, or [b, horizon, targets].

  Metrics: loss, mse and mae, over all steps and targets, of values standardized by the training part, as published
  tables have them.

  Attributes:
    criterion: 'mse', 'mae', 'huber', or another (`dl.losses.make`), of standardized values.
    normalize: whether channels and targets are standardized.
  """

  examined_by = 'forecasts.Forecasts'

  normalize: bool = True

  def __post_init__(self):
    super().__post_init__()
    self.criterion_function()

  def places(self, channels: int, targets: int) -> list[int]:
    """Which of the channels are the targets; raises ConfigError where nothing says it."""
    names, wanted = self.info.feature_names, self.info.fact('targets')
    if names is not None and wanted is not None:
      return [names.index(name) for name in wanted]
    if channels != targets:
      raise ConfigError(
        f'config.data: nothing says which of {channels} channels the {targets} targets are; the source states it: '
        f"info = Info(feature_names=..., more=(('targets', ('load',)),))"
      )
    return list(range(channels))

  def of_targets(self, values: Float[Array, 'b n channels'], targets: int) -> Float[Array, 'b n targets']:
    """The channels that are forecast."""
    places = self.places(values.shape[-1], targets)
    return values if places == list(range(values.shape[-1])) else values[..., jnp.asarray(places)]

  def scale(self, targets: int) -> tuple[Float[Array, ' targets'], Float[Array, ' targets']]:
    """(offset, factor) from standardized targets to their own units."""
    if not self.normalize:
      return jnp.zeros(targets), jnp.ones(targets)
    places = self.places(len(self.info.mean), targets)
    pick = lambda values: jnp.asarray([values[i] for i in places], jnp.float32)
    return pick(self.info.mean), pick(self.info.std)

  def in_units(self, outputs: Float[Array, 'b horizon targets']) -> Float[Array, 'b horizon targets']:
    """Standardized targets in their own units."""
    offset, factor = self.scale(outputs.shape[-1])
    return outputs * factor + offset

  def targets(self, batch: Batch) -> Float[Array, 'b horizon targets']:
    offset, factor = self.scale(batch['target'].shape[-1])
    return (batch['target'].astype(jnp.float32) - offset) / factor

  def last(self, batch: Batch) -> Float[Array, 'b 1 targets']:
    """The last values of the look-back, standardized: the forecast that any other has to beat."""
    return self.of_targets(self.inputs(batch)[:, -1:], batch['target'].shape[-1])

  def apply(self, params, extra, inputs, key, train):
    outputs, extra = super().apply(params, extra, inputs, key, train)
    wanted = self.info.fact('targets')
    if wanted is not None and outputs.ndim == 3 and outputs.shape[-1] == inputs.shape[-1]:
      outputs = self.of_targets(outputs, len(wanted))
    return outputs, extra

  def check(self, batch: PyTree) -> None:
    if 'target' not in batch or len(batch['target'].shape) != 3:
      found = batch['target'].shape[1:] if 'target' in batch else f'none of it, but {", ".join(sorted(batch))}'
      raise ConfigError(f'config.data: Forecast needs target [horizon, targets] in an example, got {found}')
    names, (_, horizon, targets) = self.info.inputs(batch), batch['target'].shape
    series = batch[names[0]].shape if names else ()
    if len(series) != 3:
      raise ConfigError(f'config.data: Forecast needs series [steps, channels] in an example, got {series[1:]}')
    self.places(series[-1], targets)
    shape = self.outputs_shape(batch)
    if len(shape) == 3 and shape[1] != horizon and hasattr(self.model, 'horizon'):
      raise ConfigError(f'config.model.horizon: is {shape[1]}, but the data has {horizon} steps to forecast')
    if shape[1:] != (horizon, targets):
      raise ConfigError(
        f'config.model: Forecast needs outputs [{horizon}, {targets}] of an example, or of all {series[-1]} channels; '
        f'{type(self.model).__name__} gives {shape[1:]}'
      )
    like = jax.ShapeDtypeStruct(shape, jnp.float32)
    jax.eval_shape(self.criterion_function(), like, like)

  def measure(self, outputs: Float[Array, 'b horizon targets'], batch: Batch) -> dict[str, Metric]:
    error, mask = outputs - self.targets(batch), batch['mask']
    return {
      'mse': Mean.of(jnp.square(error), mask, better='min'),
      'mae': Mean.of(jnp.abs(error), mask, better='min'),
    }

  def predict(self, state: State, inputs: Num[Array, 'b length channels'], key: Key[Array, '']) -> dict[str, Array]:
    """Raw series, as the data set has them, to `target` [b, horizon, targets] in their own units."""
    outputs = self.apply(state.params, state.extra, self.prepare(self.checked(inputs)), key, False)[0]
    return {'target': self.in_units(outputs)}
