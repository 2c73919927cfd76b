"""What people would rather look at: images, texts and tables as files, grids of images, and plots."""

import csv
import io
import os
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Num, UInt8
from PIL import Image

_SMALL = 256  # pixels of the longer side below which an image is enlarged


def write(workdir: str | os.PathLike, step: int, artifacts: Mapping[str, Any]) -> list[pathlib.Path]:
  """Writes each artifact to `workdir/artifacts/<step:08d>_<name>.<png|txt|csv>`.

  Args:
    workdir: the work directory.
    step: number of completed training steps.
    artifacts: name (letters, digits, '.', '_' and '-') -> an image `[h, w]` or `[h, w, 1 | 3]`, uint8 or float in
      [0, 1]; a text; or a table, a list of dicts. Small images are enlarged by a whole factor, so that each pixel
      shows.

  Returns:
    The paths, in the order of `artifacts`. A file is there whole or not at all.

  Raises:
    ValueError: a name that is no file name, or a value that is neither image, text nor table.
  """
  folder = pathlib.Path(workdir) / 'artifacts'
  folder.mkdir(parents=True, exist_ok=True)
  paths = []
  for name, value in artifacts.items():
    if not re.fullmatch(r'\w[\w.-]*', name):
      raise ValueError(f'an artifact needs a name that a file can have, got {name!r}')
    if isinstance(value, str):
      suffix, content = '.txt', value.encode('utf-8', 'replace')
    elif isinstance(value, Sequence) and all(isinstance(row, Mapping) for row in value):
      suffix, content = '.csv', _csv(value)
    else:
      suffix, content = '.png', _png(name, value)
    path = folder / f'{step:08d}_{name}{suffix}'
    new = path.with_name(path.name + '.new')
    new.write_bytes(content)
    os.replace(new, path)
    paths.append(path)
  return paths


def to_uint8(image: Num[Any, '*shape']) -> UInt8[np.ndarray, '*shape']:
  """Pixels as bytes: floats in [0, 1] are clipped, scaled and rounded (NaN is black), bytes pass."""
  image = np.asarray(image)
  if image.dtype == np.uint8:
    return image
  if image.dtype == bool:
    return image.astype(np.uint8) * 255
  if image.dtype.kind in 'iu':
    raise ValueError(f'an image is uint8 or float in [0, 1], got {image.dtype}')
  return np.rint(np.clip(np.nan_to_num(image.astype(np.float32)), 0, 1) * 255).astype(np.uint8)


def grid(
  images: Num[Any, 'n h w c'], columns: int | None = None, padding: int = 1, background: float = 1.0
) -> UInt8[np.ndarray, 'height width c']:
  """Images side by side, row by row.

  Args:
    images: uint8, or float in [0, 1].
    columns: images a row; by default the grid is about square.
    padding: pixels between images.
    background: brightness between images and of empty places, in [0, 1].
  """
  images = to_uint8(images)
  if images.ndim != 4 or not len(images):
    raise ValueError(f'a grid needs images [n, h, w, c], got the shape {images.shape}')
  n, h, w, c = images.shape
  columns = min(columns or int(np.ceil(np.sqrt(n))), n)
  rows = -(-n // columns)
  empty = round(background * 255)
  padded = np.full((rows * columns, h + padding, w + padding, c), empty, np.uint8)
  padded[:n, :h, :w] = images
  joined = padded.reshape(rows, columns, h + padding, w + padding, c).swapaxes(1, 2)
  joined = joined.reshape(rows * (h + padding), columns * (w + padding), c)
  return joined[: rows * (h + padding) - padding, : columns * (w + padding) - padding]


def figure(width: float = 6.0, height: float = 4.0, dpi: int = 120) -> Any:
  """A Matplotlib figure, in inches, which belongs to no window and to no global state; see `rasterize`."""
  from matplotlib.backends.backend_agg import FigureCanvasAgg
  from matplotlib.figure import Figure

  result = Figure(figsize=(width, height), dpi=dpi, layout='constrained')
  FigureCanvasAgg(result)
  return result


def rasterize(fig: Any) -> UInt8[np.ndarray, 'h w 3']:
  """The pixels of a figure made by `figure`."""
  fig.canvas.draw()
  return np.array(fig.canvas.buffer_rgba())[..., :3]


def curves(
  lines: Mapping[str, tuple[Float[Any, ' n'], Float[Any, ' n']]], x: str = '', y: str = '', title: str = ''
) -> UInt8[np.ndarray, 'h w 3']:
  """A plot of named lines, each (x values, y values), as an image.

  Args:
    lines: label -> (x values, y values).
    x: label of the horizontal axis.
    y: label of the vertical axis.
    title: a line above the plot.
  """
  fig = figure()
  axes = fig.add_subplot()
  for label, (xs, ys) in lines.items():
    axes.plot(np.asarray(xs), np.asarray(ys), label=label, linewidth=1.8)
  axes.set(xlabel=x, ylabel=y, title=title)
  axes.grid(alpha=0.25)
  axes.spines[['top', 'right']].set_visible(False)
  if len(lines) > 1:
    axes.legend(frameon=False)
  return rasterize(fig)


def _png(name: str, value: Any) -> bytes:
  image = to_uint8(value)
  if image.ndim == 2:
    image = image[..., None]
  if image.ndim != 3 or image.shape[-1] not in (1, 3) or 0 in image.shape:
    raise ValueError(
      f'artifact {name!r} is no text, no table and no image [h, w, 1 | 3]: its shape is {image.shape} '
      '(artifacts.grid makes one image of many)'
    )
  factor = max(1, _SMALL // max(image.shape[:2]))
  image = image.repeat(factor, 0).repeat(factor, 1)
  file = io.BytesIO()
  Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(file, 'PNG', optimize=True)
  return file.getvalue()


def _csv(rows: Sequence[Mapping[str, Any]]) -> bytes:
  """The rows below a header of all their keys, in order of appearance; a missing value is empty."""
  names = list(dict.fromkeys(name for row in rows for name in row))
  file = io.StringIO(newline='')
  writer = csv.DictWriter(file, names, restval='', lineterminator='\n')
  writer.writeheader()
  writer.writerows(rows)
  return file.getvalue().encode()
