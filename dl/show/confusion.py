"""What a classifier gets wrong, to look at: the confusion matrix, a table of classes, the worst mistakes."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int, UInt8

from dl.show.examples import largest, place
from dl.show.pictures import figure, rasterize, to_uint8
from dl.show.words import percent

_CELL = 1.85  # inches of the width of a mistake
_NAMED = 40  # classes beyond which a matrix has no room for names


def picture(counts: Int[np.ndarray, 'n columns'], names: Sequence[str]) -> UInt8[np.ndarray, 'h w 3']:
  """The confusion matrix: a row a true class, a column a predicted one, shaded by the share of the true class.

  The names are of the columns, of which there may be one more, for no class.
  """
  rows, n = counts.shape
  size = min(max(3.0, 0.42 * n + 1.5), 14.0)
  fig = figure(size, size)
  axes = fig.subplots()
  shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
  axes.imshow(shares, cmap='Blues', vmin=0, vmax=1)
  axes.set(xlabel='predicted', ylabel='true')
  if n <= _NAMED:
    axes.set_xticks(range(n), names[:n], rotation=90 if max(map(len, names[:n])) > 2 else 0, parse_math=False)
    axes.set_yticks(range(rows), names[:rows], parse_math=False)
    for i, j in zip(*np.nonzero(counts), strict=True):
      colour = 'w' if shares[i, j] > 0.5 else 'k'
      axes.text(j, i, str(counts[i, j]), ha='center', va='center', color=colour, fontsize=7, in_layout=False)
  return rasterize(fig)


def class_table(counts: Int[np.ndarray, 'n columns'], names: Sequence[str]) -> list[dict[str, Any]]:
  """A row a class: its number of examples, accuracy (recall), precision, F1, and what it is most taken for."""
  rows = []
  for i, name in enumerate(names[: len(counts)]):
    right, examples, chosen = int(counts[i, i]), int(counts[i].sum()), int(counts[:, i].sum())
    wrong = counts[i].copy()
    wrong[i] = 0
    rows.append(
      {
        'class': name,
        'examples': examples,
        'accuracy': round(right / examples, 4) if examples else '',
        'precision': round(right / chosen, 4) if chosen else '',
        'f1': round(2 * right / (examples + chosen), 4) if examples + chosen else '',
        'most taken for': names[wrong.argmax()] if wrong.any() else '',
        'times': int(wrong.max()) if wrong.any() else 0,
      }
    )
  return rows


def worst(
  examined: Mapping[str, np.ndarray],
  names: Sequence[str],
  images: Callable[[np.ndarray], np.ndarray | None],
  shown: int = 25,
) -> dict[str, Any]:
  """The `shown` mistakes with the largest losses: a table, and a picture of images; nothing if all is right.

  A loss which is NaN is the largest; -1, which is no class, has the last name. `images` gives those of
  examples, by their indices, or None where there are none.
  """
  wrong = np.flatnonzero((examined['label'] != examined['predicted']) | (examined['label'] < 0))
  if not len(wrong):
    return {}
  order = wrong[largest(examined['loss'][wrong], shown)]
  rows = [
    {
      'true': names[examined['label'][i]],
      'predicted': names[examined['predicted'][i]],
      'probability': round(float(examined['probability'][i]), 4),
      'probability of the true class': round(float(examined['true_probability'][i]), 4),
      'loss': round(float(examined['loss'][i]), 4),
      **place(examined, i),
    }
    for i in order
  ]
  artifacts = {'mistakes': rows}
  if (seen := images(order)) is not None:
    artifacts['mistakes_picture'] = _picture(seen, rows)
  return artifacts


def _picture(images: np.ndarray, rows: Sequence[Mapping[str, Any]]) -> UInt8[np.ndarray, 'h w 3']:
  """Each image below its title, all in one pair of axes in inches: a pair each would take seconds to draw."""
  columns = min(len(rows), 3)  # as many as have legible titles on a phone
  width, height = _CELL * columns, 2.1 * -(-len(rows) // columns)
  fig = figure(width, height, layout=None)
  axes = fig.add_axes((0, 0, 1, 1))
  axes.set_axis_off()
  for i, (image, row) in enumerate(zip(images, rows, strict=False)):
    x, y = _CELL * (i % columns + 0.5), height - 2.1 * (i // columns) - 1.3  # its middle
    pixels = to_uint8(image)
    h, w = (1.5 / 2 * side / max(pixels.shape[:2]) for side in pixels.shape[:2])
    pixels = pixels[..., :3] if pixels.shape[-1] in (3, 4) else pixels[..., 0]
    axes.imshow(pixels, cmap='gray', vmin=0, vmax=255, extent=(x - w, x + w, y - h, y + h))
    true, predicted = (name if len(name) <= 14 else f'{name[:13]}…' for name in (row['true'], row['predicted']))
    title = f'{true}, taken for\n{predicted} ({percent(row["probability"], 0)})'
    axes.text(x, y + 0.8, title, ha='center', va='bottom', fontsize=10, parse_math=False)
  axes.set(xlim=(0, width), ylim=(0, height))
  return rasterize(fig)
