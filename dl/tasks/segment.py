"""Semantic segmentation: a class for every pixel of an image."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, Num, PyTree

from dl import losses
from dl.config.bounds import NotNegative, Whole
from dl.contract.kinds import IMAGE
from dl.contract.metrics import Dice, IoU, Mean, MeanIoU, correct, predicted
from dl.contract.state import State
from dl.contract.task import Batch, Metrics
from dl.errors import ConfigError
from dl.nn.maps import centre_crop
from dl.tasks.classify import class_factors
from dl.tasks.supervised import Supervised


@dataclasses.dataclass(frozen=True, kw_only=True)
class Segment(Supervised):
  """Batches hold `image` [b, h, w, c] and `label_map` [b, h, w], and the model gives a logit a class and pixel.

  The loss of an example is the mean cross entropy of its pixels, and one less its soft Dice coefficient (V-Net, arXiv
  1606.04797), which does not drown small classes in large ones. A model without padding gives logits of the middle of
  an image, which then alone counts.

  Metrics, over all pixels of a set, exactly: loss (the mean over examples), accuracy, mean_iou and dice (means over
  the classes that are there); evaluations add iou, one number a class.

  Cite: milletari2016v

  Attributes:
    criterion: the loss of a pixel: 'cross_entropy', 'focal', or another of logits and a class (`dl.losses.make`).
    cross_entropy_weight: its factor.
    dice_weight: factor of the Dice loss.
    class_weights: factors of the classes in the criterion; 'balanced' weighs each by the inverse of its share of the
      pixels of the training set.
    void_label: label of pixels which count for nothing; None takes the data's, where that states one.
    aux_weight: factor of the loss of each auxiliary head, where the network has some (arXiv 1612.01105).
    test_time_flip: outside of training, average the logits of each image and its mirror image.
  """

  examined_by = 'masks.Masks'

  criterion: str | Mapping[str, Any] | Callable = 'cross_entropy'
  cross_entropy_weight: NotNegative = 1.0
  dice_weight: NotNegative = 1.0
  class_weights: str | tuple[NotNegative, ...] | None = None
  void_label: Whole | None = None
  aux_weight: NotNegative = 0.4
  test_time_flip: bool = False

  def __post_init__(self):
    super().__post_init__()
    if not self.cross_entropy_weight and not self.dice_weight:
      raise ConfigError('config.task: cross_entropy_weight and dice_weight are both 0, so there is no loss')
    self.criterion_function()

  @property
  def void(self) -> int | None:
    """The label of pixels which count for nothing."""
    return self.info.void_label if self.void_label is None else self.void_label

  def criterion_function(self) -> losses.Loss:
    weights = class_factors(self.class_weights, self.info)
    return losses.make(self.criterion, 'config.task.criterion', class_weights=weights)

  def targets(self, batch: Batch) -> Int[Array, 'b h w']:
    return batch['label_map'].astype(jnp.int32)

  def check(self, batch: PyTree) -> None:
    if 'label_map' not in batch or not self.info.of_kind(IMAGE, batch):
      raise ConfigError(f'config.data: Segment needs image and label_map in a batch, got {", ".join(sorted(batch))}')
    shape, labels, classes = self.outputs_shape(batch), batch['label_map'].shape, self.info.num_classes
    images = jax.eval_shape(self.inputs, batch).shape
    if len(labels) != 3 or labels[1:] != images[1:3]:
      raise ConfigError(f'config.data: label maps {labels[1:]} do not fit images {images[1:]}')
    if len(shape) != 4 or shape[1] > labels[1] or shape[2] > labels[2]:
      raise ConfigError(
        f'config.model: Segment needs logits for every pixel of {labels[1:]}, {type(self.model).__name__} gives '
        f'{shape[1:]}'
      )
    if classes is not None and shape[-1] != classes:
      raise ConfigError(f'config.model.num_classes is {shape[-1]}, but the data has {classes} classes')
    if self.void is not None and 0 <= self.void < shape[-1]:
      raise ConfigError(f'config.task.void_label: {self.void} is one of the {shape[-1]} classes')

  def limits(self, batch: PyTree) -> dict[str, int]:
    return {} if self.info.num_classes is not None else {'num_classes': self.outputs_shape(batch)[-1]}

  def apply(
    self, params: dict[str, PyTree], extra: Any, inputs: Array, key: Key[Array, ''], train: bool
  ) -> tuple[Float[Array, 'b ...'], Any]:
    outputs, new = super().apply(params, extra, inputs, key, train)
    if self.test_time_flip and not train:
      mirrored = super().apply(params, extra, jnp.flip(inputs, 2), key, train)[0]
      outputs = (outputs + jnp.flip(mirrored, 2)) / 2
    return outputs, new

  def forward(
    self, params: dict[str, PyTree], extra: Any, batch: Batch, key: Key[Array, ''], train: bool
  ) -> tuple[Float[Array, 'b h w classes'], Any, Float[Array, ''], Metrics]:
    if self.void is not None:  # an image of nothing else has no loss
      some = (batch['label_map'] != self.void).any((1, 2))
      batch = batch | {'mask': batch['mask'] * some}
    return super().forward(params, extra, batch, key, train)

  def pixels(
    self, outputs: Float[Array, 'b h w classes'], batch: Batch
  ) -> tuple[Int[Array, 'b h w'], Float[Array, 'b h w']]:
    """(the label, the weight 0 or 1) of each pixel that the outputs tell of."""
    labels = centre_crop(self.targets(batch), outputs.shape[1:3])
    weight = jnp.broadcast_to(batch['mask'][:, None, None] > 0, labels.shape)
    if self.void is not None:
      weight &= labels != self.void
    return jnp.where(weight, labels, 0), weight.astype(jnp.float32)

  def losses(self, outputs: Float[Array, 'b h w classes'], batch: Batch) -> Float[Array, ' b']:
    labels, weight = self.pixels(outputs, batch)
    total = jnp.zeros(len(outputs), jnp.float32)
    if self.cross_entropy_weight:
      values = self.criterion_function()(outputs.reshape(-1, outputs.shape[-1]), labels.ravel()).reshape(labels.shape)
      total += self.cross_entropy_weight * (values * weight).sum((1, 2)) / jnp.maximum(weight.sum((1, 2)), 1.0)
    if self.dice_weight:
      total += self.dice_weight * losses.dice(outputs, labels, weight)
    return total

  def measure(self, outputs: Float[Array, 'b h w classes'], batch: Batch) -> Metrics:
    labels, weight = self.pixels(outputs, batch)
    overlap = IoU.of_maps(predicted(outputs), labels, outputs.shape[-1], weight)
    return {
      'accuracy': Mean.of(correct(outputs, labels), weight, better='max'),
      'mean_iou': MeanIoU(overlap.counts, overlap.full),
      'dice': Dice(overlap.counts, overlap.full),
    }

  def evaluate(self, state: State, batch: Batch, key: Key[Array, '']) -> Metrics:
    metrics = super().evaluate(state, batch, key)
    overlap = metrics['mean_iou']
    return metrics | {'iou': IoU(overlap.counts, overlap.full)}

  def predict(self, state: State, inputs: Num[Array, 'b h w c'], key: Key[Array, '']) -> dict[str, Array]:
    """Raw images, as the data set has them, to `label_map` [b, h, w] and `probability` [b, h, w, classes]."""
    logits = self.apply(state.params, state.extra, self.prepare(self.checked(inputs)), key, False)[0]
    return {'label_map': logits.argmax(-1).astype(jnp.int32), 'probability': jax.nn.softmax(logits)}
