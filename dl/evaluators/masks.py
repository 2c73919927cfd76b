"""The label maps that a segmentation network draws, to look at."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from dl.config.bounds import Size
from dl.contract.evaluator import Evaluator
from dl.contract.kinds import IMAGE
from dl.contract.metrics import IoU, MeanIoU, predicted
from dl.contract.state import State
from dl.contract.task import Batch, Metrics, Task
from dl.errors import ConfigError
from dl.nn.maps import centre_crop
from dl.show import pictures


@dataclasses.dataclass(frozen=True, kw_only=True)
class Masks(Evaluator):
  """Of a segmentation, `dl.tasks.segment.Segment` or alike: it has `inputs`, `apply`, `pixels` and `void`.

  Metrics: mean_iou, and iou, one number a class. Artifacts: a table of the classes; a picture of a few examples, evenly
  spread: the image, the truth, and the prediction.

  Attributes:
    shown: examples in the picture.
    side: the most pixels that it shows of each, along both sides.
  """

  shown: Size = 4
  side: Size = 384

  def measure(self, task: Task, state: State, batch: Batch, key: Key[Array, '']) -> Metrics:
    outputs = _outputs(task, state, batch, key)
    labels, weight = task.pixels(outputs, batch)
    overlap = IoU.of_maps(predicted(outputs), labels, outputs.shape[-1], weight)
    return {'mean_iou': MeanIoU(overlap.counts, overlap.full), 'iou': overlap}

  def examine(self, task: Task, state: State, batch: Batch, key: Key[Array, '']) -> dict[str, Array]:
    """Of each example: the counts of (true class, predicted class), and the middle of what is predicted."""
    outputs = _outputs(task, state, batch, key)
    labels, weight = task.pixels(outputs, batch)
    drawn = predicted(outputs)
    count = lambda p, y, w: IoU.of_maps(p, y, outputs.shape[-1], w).counts
    middle = centre_crop(drawn, tuple(min(n, self.side) for n in drawn.shape[1:]))
    return {'counts': jax.vmap(count)(drawn, labels, weight), 'middle': middle.astype(jnp.int16)}

  def findings(
    self, task: Task, examined: dict[str, np.ndarray], inputs: Callable[[np.ndarray], Batch]
  ) -> dict[str, Any]:
    counts = examined['counts'].sum(0, dtype=np.float64)
    names = task.info.class_names or tuple(map(str, range(len(counts))))
    order = np.unique(np.linspace(0, len(examined['middle']) - 1, self.shown).astype(int))
    batch, middle = inputs(order), examined['middle'][order]
    column = task.info.of_kind(IMAGE, batch)[0]
    rows = []
    for image, truth, drawn in zip(*(centre_crop(batch[k], middle.shape[1:]) for k in (column, 'label_map')), middle):
      if image.shape[-1] != 3:
        image = image[..., :1]
      truth = np.where(truth == (-1 if task.void is None else task.void), -1, truth)
      rows += [pictures.overlay(image, np.zeros_like(truth))]
      rows += [pictures.overlay(image, classes) for classes in (truth, drawn)]
    picture = pictures.headed(pictures.grid(np.stack(rows), columns=3, padding=4), ('image', 'truth', 'prediction'))
    return {'classes': _table(counts, names), 'masks': picture}


def _outputs(task: Task, state: State, batch: Batch, key: Key[Array, '']) -> Float[Array, 'b h w classes']:
  if 'label_map' not in batch or not all(hasattr(task, name) for name in ('inputs', 'apply', 'pixels', 'void')):
    raise ConfigError(f'Masks are of segmentations, which {type(task).__name__} on {", ".join(sorted(batch))} is not')
  return task.apply(state.params, state.extra, task.inputs(batch), key, False)[0]


def _table(counts: Float[np.ndarray, 'n columns'], names: tuple[str, ...]) -> list[dict[str, Any]]:
  """A row a class: its pixels, intersection over union, Dice coefficient, accuracy (recall) and precision."""
  iou, share = IoU(counts).compute(), np.diagonal(counts)
  ratio = lambda a, b: round(float(a / b), 4) if b else ''
  return [
    {
      'class': name,
      'pixels': int(counts[i].sum()),
      'iou': round(iou[i], 4) if iou[i] == iou[i] else '',
      'dice': ratio(2 * share[i], counts[i].sum() + counts[:, i].sum()),
      'accuracy': ratio(share[i], counts[i].sum()),
      'precision': ratio(share[i], counts[:, i].sum()),
    }
    for i, name in enumerate(names)
  ]
