"""What tasks with one model and labelled examples share: inputs, normalization and masked means."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key, Num, PyTree

from dl import losses
from dl.config.bounds import NotNegative
from dl.contract.kinds import FEATURES, IMAGE, Kind
from dl.contract.metrics import ExpMean, Mean, average, correct
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
    resize: whether `predict` resizes images to the size of those it has learned from (bilinear, antialiased), and does
      not refuse others; `dl.load(..., resize=True)` sets it for a run.
  """

  criterion: str | Mapping[str, Any] | Callable = 'mse'
  normalize: bool = False
  aux_weight: NotNegative = 0.3
  resize: bool = False

  def __post_init__(self):
    super().__post_init__()
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
    """What the model reads of a batch, be it images, features, or of another kind with `inputs`.

    Token ids come as they are: a model that reads them masks the negative ones, which pad a shorter text.
    """
    names = self.info.inputs(batch)
    if not names:
      raise ConfigError(
        f'config.data: {type(self).__name__} needs image or features in a batch, got {", ".join(sorted(batch))}'
      )
    return self.prepare(batch[names[0]])

  def kind(self, raw: Num[Array, 'b ...']) -> Kind:
    """What raw inputs are: of the kind of the column which the model has learned from.

    Of a task made without data, that of the first input whose kind is stated, or images or features by dimensions.
    """
    if self.info.input is not None:
      return self.info.kind(self.info.input)
    stated = next((kind for _, kind in self.info.kinds or () if kind.inputs), None)
    return stated or (IMAGE if self.info.image_size is not None or np.ndim(raw) == 4 else FEATURES)

  def checked(self, raw: Num[Array, 'b ...']) -> Num[Array, 'b ...']:
    """Inputs that a user gives to `predict` as models see them, if they can be such as the model has learned from.

    Raises:
      ConfigError: none at all, or what their kind calls unfit: images of another size or with other channels, say.
    """
    raw = raw if isinstance(raw, jax.core.Tracer) else np.asarray(raw)  # whose values can be looked at
    shape, who = np.shape(raw), f'{type(self).__name__}.predict'
    if not shape or not shape[0]:
      raise ConfigError(f'{who}: expected a batch of inputs, got the shape {shape}')
    kind, size, info = self.kind(raw), self.info.image_size, self.info
    resize = kind is IMAGE and len(shape) == 4 and size is not None and shape[1:3] != size
    if resize and self.resize:
      info = dataclasses.replace(info, image_size=shape[1:3])
    if wrong := kind.unfit(raw, info):
      more = ', or load the run by dl.load(..., resize=True)' if wrong.endswith('resize them') else ''
      raise ConfigError(f'{who}: {wrong}{more}')
    inputs = kind.to_float(jnp.asarray(raw))
    if resize:
      inputs = jax.image.resize(inputs, (shape[0], *size, shape[3]), 'linear', antialias=True)
    return inputs

  def prepare(self, inputs: Num[Array, 'b ...']) -> Num[Array, 'b ...']:
    """Inputs, floats as their kind makes them, as the model reads them: normalized, where that is asked for."""
    x = jnp.asarray(inputs)
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


def of_tokens(logits: Float[Array, 'b n v'], targets: Int[Array, 'b n'], weight: Float[Array, 'b n']) -> Metrics:
  """Of tokens that are predicted: loss (nats a token), perplexity and accuracy; those of a weight of 0 may be any."""
  loss = Mean.of(losses.cross_entropy(logits, jnp.maximum(targets, 0)), weight, better='min')
  return {
    'loss': loss,
    'perplexity': ExpMean(loss.total, loss.weight),
    'accuracy': Mean.of(correct(logits, targets), weight, better='max'),
  }


def without_padding(batch: Batch) -> Batch:
  """The batch with its padded rows set to zero: a weight of 0 alone would let a NaN through, in gradients too."""
  real = batch['mask'] > 0
  clear = lambda x: jnp.where(real.reshape(real.shape + (1,) * (x.ndim - 1)), x, jnp.zeros((), x.dtype))
  return {k: clear(jnp.asarray(v)) for k, v in batch.items()}
