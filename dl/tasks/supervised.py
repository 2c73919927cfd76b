"""What tasks with one model and labelled examples share: inputs, normalization and masked means."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, Num, PyTree

from dl import losses
from dl.config.bounds import NotNegative
from dl.contract.kinds import FEATURES, IMAGE, TOKENS, Kind, as_float
from dl.contract.metrics import Mean, average
from dl.contract.task import Batch, Metrics
from dl.errors import ConfigError
from dl.tasks.network import Network


@dataclasses.dataclass(frozen=True, kw_only=True)
class Supervised(Network):
  """Inputs to targets, by the mean of a loss over the real rows of a batch.

  Attributes:
    criterion: the loss: a name in `dl.losses` or `optax.losses`, a dotted path to a function of (outputs, targets),
      a dict of such a `name` and arguments, or a function.
    normalize: whether inputs have the mean and deviation of the training set (`Info`) taken out.
    aux_weight: factor of the loss of each auxiliary head, where the network has some (arXiv 1409.4842).
  """

  criterion: str | Mapping[str, Any] | Callable = 'mse'
  normalize: bool = False
  aux_weight: NotNegative = 0.3

  def __post_init__(self):
    if self.normalize and (self.info.mean is None or self.info.std is None):
      raise ConfigError('config.task.normalize: the data has no mean and deviation of its inputs')

  def criterion_function(self) -> losses.Loss:
    """The loss, as `loss(outputs, targets) -> [b]`."""
    return losses.make(self.criterion, 'config.task.criterion')

  def targets(self, batch: Batch) -> Array:
    """What the outputs are compared with."""
    raise NotImplementedError

  def measure(self, outputs: Float[Array, 'b ...'], batch: Batch) -> Metrics:
    """The metrics besides the loss."""
    raise NotImplementedError

  def inputs(self, batch: Batch) -> Array:
    """The images or features of a batch, as the model reads them."""
    name = next((name for name in self.info.inputs(batch) if name != TOKENS.name), None)
    if name is None:
      raise ConfigError(
        f'config.data: {type(self).__name__} needs image or features in a batch, got {", ".join(sorted(batch))}'
      )
    return self.prepare(batch[name])

  def kind(self, raw: Num[Array, 'b ...']) -> Kind:
    """What raw inputs are: of the kind that the source states, or else images or features, by their dimensions."""
    stated = next((kind for _, kind in self.info.kinds or () if kind.inputs), None)
    return stated or (IMAGE if self.info.image_size is not None or np.ndim(raw) == 4 else FEATURES)

  def checked(self, raw: Num[Array, 'b ...']) -> Float[Array, 'b ...']:
    """Inputs that a user gives to `predict` as floats, if they can be such as the model has learned from.

    Raises:
      ConfigError: none at all, images without a dimension of channels or with other channels, or brightness which is
        neither bytes nor floats in [0, 1].
    """
    shape, who = np.shape(raw), f'{type(self).__name__}.predict'
    if not shape or not shape[0]:
      raise ConfigError(f'{who}: expected a batch of inputs, got the shape {shape}')
    kind = self.kind(raw)
    if kind is IMAGE and self.info.image_size is not None:
      self._check_images(raw, who)
    return kind.to_float(jnp.asarray(raw))

  def _check_images(self, raw: Num[Array, 'b ...'], who: str) -> None:
    shape = np.shape(raw)
    if len(shape) != 4 or shape[-1] != self.info.channels:
      expected = f'[batch, height, width, {self.info.channels}]'
      raise ConfigError(f'{who}: expected images {expected}, got the shape {shape}')
    if isinstance(raw, np.ndarray) and raw.dtype != np.uint8 and not (raw.min() >= 0 and raw.max() <= 1):
      raise ConfigError(f'{who}: expected bytes, or floats from 0 to 1, got {raw.min():g} to {raw.max():g}')

  def prepare(self, raw: Num[Array, 'b ...']) -> Float[Array, 'b ...']:
    """Raw inputs as the model reads them: bytes scaled to [0, 1], then normalized."""
    x = as_float(jnp.asarray(raw))
    if not self.normalize:
      return x
    mean, std = (jnp.asarray(v, jnp.float32) for v in (self.info.mean, self.info.std))
    if mean.size not in (1, x.shape[-1]):
      raise ConfigError(f'config.task.normalize: {mean.size} means do not fit inputs of shape {x.shape[1:]}')
    return (x - mean) / std

  def loss(
    self, params: dict[str, PyTree], extra: Any, batch: Batch, key: Key[Array, ''], train: bool
  ) -> tuple[Float[Array, ''], tuple[Any, Metrics]]:
    _, extra, scalar, metrics = self.forward(params, extra, batch, key, train)
    return scalar, (extra, metrics)

  def forward(
    self, params: dict[str, PyTree], extra: Any, batch: Batch, key: Key[Array, ''], train: bool
  ) -> tuple[Float[Array, 'b ...'], Any, Float[Array, ''], Metrics]:
    """(outputs, new extra, mean loss of the real rows, metrics)."""
    batch = without_padding(batch)
    outputs, extra = self.apply(params, extra, self.inputs(batch), key, train)
    heads = dict(outputs) if isinstance(outputs, Mapping) else {'out': outputs}
    outputs = heads.pop('out')
    losses = self.losses(outputs, batch)
    for head in heads.values():
      losses += self.aux_weight * self.losses(head, batch)
    loss = Mean.of(losses, batch['mask'], better='min')
    return outputs, extra, average(loss), {'loss': loss} | self.measure(outputs, batch)

  def losses(self, outputs: Float[Array, 'b ...'], batch: Batch) -> Float[Array, ' b']:
    """The loss of each example."""
    return self.criterion_function()(outputs, self.targets(batch))


def without_padding(batch: Batch) -> Batch:
  """The batch with its padded rows set to zero: a weight of 0 alone would let a NaN through, in gradients too."""
  real = batch['mask'] > 0
  clear = lambda x: jnp.where(real.reshape(real.shape + (1,) * (x.ndim - 1)), x, jnp.zeros((), x.dtype))
  return {k: clear(jnp.asarray(v)) for k, v in batch.items()}
