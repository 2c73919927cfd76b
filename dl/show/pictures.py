"""Images as arrays: bytes, PNG files, grids and plots, without any global state."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Num, UInt8

_SMALL = 256  # pixels of the longer side below which an image is enlarged


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


def headed(image: UInt8[np.ndarray, 'h w 3'], titles: Sequence[str]) -> UInt8[np.ndarray, 'height width 3']:
  """A picture of equal columns, each below its title; no pixel of it is lost, a small one is enlarged."""
  h, w = image.shape[:2]
  width = max(5.4, w / 120)
  band = 0.06 * width
  fig = figure(width, width * h / w + band, dpi=120, layout=None)
  share = 1 - band / (width * h / w + band)
  axes = fig.add_axes((0, 0, 1, share))
  axes.set_axis_off()
  axes.imshow(image, aspect='auto', interpolation='nearest')
  for i, title in enumerate(titles):
    x = (i + 0.5) / len(titles)
    fig.text(x, (1 + share) / 2, title, ha='center', va='center', fontsize=2.1 * width, parse_math=False)
  return rasterize(fig)


def overlay(
  image: Num[Any, 'h w c'], label_map: Int[Any, 'h w'], strength: float = 0.5, background: int | None = 0
) -> UInt8[np.ndarray, 'h w 3']:
  """An image with the classes of its pixels in colours.

  Args:
    image: uint8, or float in [0, 1]; of one channel or three.
    label_map: class of each pixel; one below zero has no colour.
    strength: share of the colour in a pixel.
    background: a class without a colour.
  """
  image = np.broadcast_to(to_uint8(image), (*np.shape(image)[:2], 3)).astype(np.float32)
  label_map = np.asarray(label_map)
  colour = _hues(label_map)
  coloured = (label_map >= 0) & (label_map != (-1 if background is None else background))
  mixed = np.where(coloured[..., None], (1 - strength) * image + strength * colour, image)
  return np.rint(mixed).astype(np.uint8)


def _hues(classes: Int[np.ndarray, '*shape']) -> Float[np.ndarray, '*shape 3']:
  """Hues a golden angle apart, from 0 to 255: neighbouring classes differ, however many there are."""
  hue = 2 * np.pi * ((classes - 1) * 0.381966)
  return 127.5 + 127.5 * np.cos(hue[..., None] - 2 * np.pi / 3 * np.arange(3))


def figure(width: float = 6.0, height: float = 4.0, dpi: int = 120, layout: str | None = 'constrained') -> Any:
  """A Matplotlib figure, in inches, which belongs to no window and to no global state; see `rasterize`."""
  from matplotlib.backends.backend_agg import FigureCanvasAgg
  from matplotlib.figure import Figure

  result = Figure(figsize=(width, height), dpi=dpi, layout=layout)
  FigureCanvasAgg(result)
  return result


def rasterize(fig: Any) -> UInt8[np.ndarray, 'h w 3']:
  """The pixels of a figure made by `figure`."""
  fig.canvas.draw()
  return np.array(fig.canvas.buffer_rgba())[..., :3]


def curves(
  lines: Mapping[str, tuple[Float[Any, ' n'], Float[Any, ' n']]],
  x: str = '',
  y: str = '',
  title: str = '',
  log: bool = False,
) -> UInt8[np.ndarray, 'h w 3']:
  """A plot of named lines, each (x values, y values), as an image.

  Args:
    lines: label -> (x values, y values).
    x: label of the horizontal axis.
    y: label of the vertical axis.
    title: a line above the plot.
    log: whether the vertical axis is logarithmic.
  """
  fig = figure()
  axes = fig.add_subplot()
  for label, (xs, ys) in lines.items():
    axes.plot(np.asarray(xs), np.asarray(ys), label=label, linewidth=1.8)
  axes.set(xlabel=x, ylabel=y, title=title, yscale='log' if log else 'linear')
  axes.grid(alpha=0.25)
  axes.spines[['top', 'right']].set_visible(False)
  if len(lines) > 1:
    axes.legend(frameon=False)
  return rasterize(fig)


def png(image: Num[Any, 'h w *c']) -> bytes:
  """An image `[h, w]` or `[h, w, 1 | 3]` as a PNG file; a small one is enlarged by a whole factor."""
  image = to_uint8(image)
  if image.ndim == 2:
    image = image[..., None]
  if image.ndim != 3 or image.shape[-1] not in (1, 3) or 0 in image.shape:
    raise ValueError(f'an image is [h, w] or [h, w, 1 | 3], got the shape {image.shape}; `grid` makes one of many')
  factor = max(1, _SMALL // max(image.shape[:2]))
  image = image.repeat(factor, 0).repeat(factor, 1)
  from PIL import Image

  file = io.BytesIO()
  Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(file, 'PNG')
  return file.getvalue()


def label_map_png(label_map: Int[Any, 'h w'], size: tuple[int, int] | None = None) -> bytes:
  """A PNG file whose pixels are the classes, up to 255, with a palette of the colours of `overlay`; 0 is black.

  With a `size`, (height, width), each pixel of it takes the class of the nearest.
  """
  from PIL import Image

  label_map = np.asarray(label_map)
  if label_map.min() < 0 or label_map.max() > 255:
    raise ValueError(f'a .png holds classes from 0 to 255, got {label_map.min()} to {label_map.max()}')
  colours = np.rint(_hues(np.arange(256))).astype(np.uint8)
  colours[0] = 0
  image = Image.fromarray(label_map.astype(np.uint8))
  image.putpalette(colours.tobytes())
  if size is not None:
    image = image.resize(size[::-1], Image.Resampling.NEAREST)
  file = io.BytesIO()
  image.save(file, 'PNG')
  return file.getvalue()
