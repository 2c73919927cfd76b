"""Images with a class for every pixel: two folders of files, paired."""

import concurrent.futures
import pathlib
import re
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int, UInt8

from dl.config.bounds import Count, Size, Whole
from dl.contract.info import Info
from dl.data import files, statistics
from dl.data.source import Arrays, Example
from dl.data.sources.images import MODES, SUFFIXES, decode
from dl.errors import ConfigError, first_line, nearest

Chosen = str | list[Count | str]
Path = pathlib.Path | zipfile.Path


class Pairs:
  """Image files and their label maps; those of a part are decoded once and kept in memory.

  An example is `image` [h, w, c] uint8 and `label_map` [h, w] int32. An image file and a label file belong together if
  they have the same name but for the ending, or else if they have the same number ('raw/07.tif', 'labels/map007.png').

  Attributes:
    names: of the images, without the ending.
    parts: name -> which of them, as `splits` says; None where that is not given.
    info: the classes.
  """

  default_test = 0.2

  def __init__(
    self,
    path: str,
    *,
    images: str = 'images',
    labels: str = 'labels',
    splits: Mapping[str, Chosen] | None = None,
    channels: Size = 1,
    class_names: tuple[str, ...] | None = None,
    values: tuple[Whole, ...] | None = None,
    void_label: Whole | None = None,
    tile: Size | tuple[Size, Size] | None = None,
  ):
    """Lists the files; without `class_names`, reads all label maps to count the classes.

    Args:
      path: a folder, or a .zip file.
      images: folder of the images in it.
      labels: folder of the label maps.
      splits: name -> which of the sorted images: a range such as ':15' or '15:', a list of numbers from 0, or one of
        names without the ending. None lets `dl.data.parts.part` cut the set at random.
      channels: 1 (grey), 3 (colour) or 4 (with transparency).
      class_names: one name a class; by default their numbers.
      values: what the pixels of label files hold, class by class; by default the number of the class (in a file of
        black and white, 0 and 1).
      void_label: a value of pixels which have no class.
      tile: (height, width) of parts to cut the images into, or one number for both; they cover each pixel once. Where
        they do not fit, the last ones reach beyond the image, which repeats its edge there, with `void_label`. None
        takes whole images, which then must have one size.

    Raises:
      ConfigError: missing files or pairs, splits which cannot be, or labels which are no classes.
    """
    if channels not in MODES:
      raise ConfigError(f'channels: expected 1, 3 or 4, got {channels!r}')
    self._tile = (tile, tile) if isinstance(tile, int) else tile
    if self._tile is not None and min(self._tile) < 1:
      raise ConfigError(f'tile: expected (height, width), got {tile!r}')
    if values is not None and not all(0 <= v < 256 for v in values):
      raise ConfigError(f'values: expected whole numbers below 256, got {values}')
    self._path, self._pairs = path, _pairs(_root(path), images, labels)
    self._channels, self._values, self._void = channels, values, void_label
    self.names = tuple(pathlib.PurePath(image.name).stem for image, _ in self._pairs)
    self.parts = None if splits is None else _parts(splits, self.names)
    if not class_names:
      most = max(self._largest(_classes(labels, values, void_label)) for _, labels in self._pairs)
      class_names = tuple(map(str, range(most + 1)))
    self.info = Info(num_classes=len(class_names), class_names=class_names, void_label=void_label)

  def take(self, index: Int[np.ndarray, ' k']) -> 'Maps':
    """These images and their label maps, decoded by threads.

    Raises:
      ConfigError: files which cannot be read, labels which are no classes, or sizes which do not fit.
    """
    with concurrent.futures.ThreadPoolExecutor() as pool:
      read = list(pool.map(lambda i: self._read(*self._pairs[i]), index))
    shapes = sorted({classes.shape for _, classes in read})
    if self._tile is None and len(shapes) > 1:
      a, b = shapes[:2]
      raise ConfigError(f'{self._path}: images of {a[0]}x{a[1]} and of {b[0]}x{b[1]}; give a tile, such as tile=128')
    counts = sum(np.bincount(classes.ravel(), minlength=256) for _, classes in read)
    facts = {'class_counts': tuple(counts[: self.info.num_classes].tolist())}
    if len(shapes) == 1:
      facts['image_size'] = shapes[0]
    return Maps(*_tiles(read, self._tile, self._void), self.info, facts)

  def __len__(self) -> int:
    return len(self._pairs)

  def __getitem__(self, index: int) -> Example:
    """A whole image and its label map."""
    image, classes = self._read(*self._pairs[index])
    return {'image': image, 'label_map': classes.astype(np.int32)}

  def _read(self, image: Path, labels: Path) -> tuple[UInt8[np.ndarray, 'h w c'], UInt8[np.ndarray, 'h w']]:
    try:
      pixels = decode(image.read_bytes(), None, self._channels)
    except (OSError, ValueError, SyntaxError, EOFError) as e:
      raise ConfigError(f'{image} cannot be read as an image: {first_line(e)}') from e
    classes = _classes(labels, self._values, self._void)
    if classes.shape != pixels.shape[:2]:
      raise ConfigError(f'{labels} has the size {classes.shape}, its image {pixels.shape[:2]}')
    if (largest := self._largest(classes)) >= (known := self.info.num_classes):
      raise ConfigError(f'{labels} holds {largest}, but there are {known} classes; set values or void_label')
    return pixels, classes

  def _largest(self, classes: UInt8[np.ndarray, 'h w']) -> int:
    return int(np.max(classes if self._void is None else classes[classes != self._void], initial=0))


class Maps(Arrays):
  """Images, or tiles of them, and their label maps, in memory."""

  def __init__(
    self,
    images: UInt8[np.ndarray, 'n h w c'],
    label_maps: UInt8[np.ndarray, 'n h w'],
    info: Info,
    facts: Mapping[str, Any],
  ):
    """Takes the arrays.

    Args:
      images: as bytes.
      label_maps: the class of each pixel, as bytes: a quarter of what a batch holds.
      info: the classes.
      facts: what is known of the images beside what their pixels say.
    """
    super().__init__({'image': images, 'label_map': label_maps}, info)
    self._facts = facts

  def facts(self) -> dict[str, Any]:
    """Mean and deviation of the images, their size, and how many pixels each class has."""
    return statistics.of_images(self.columns['image'], self.info) | self._facts

  def __getitem__(self, index: int | Int[np.ndarray, ' b']) -> Example:
    example = super().__getitem__(index)
    return example | {'label_map': example['label_map'].astype(np.int32)}


def _root(path: str) -> Path:
  if pathlib.Path(path).suffix.lower() != '.zip':
    return files.existing_folder(path)
  try:
    return zipfile.Path(zipfile.ZipFile(files.existing(path)))
  except zipfile.BadZipFile as e:
    raise ConfigError(f'{path} is not a .zip file: {e}') from e


def _pairs(root: Path, images: str, labels: str) -> list[tuple[Path, Path]]:
  """The files of both folders which belong together, in order of the images."""
  left, right = _list(root, images), _list(root, labels)
  keys = [{pathlib.PurePath(p.name).stem: p for p in side} for side in (left, right)]
  if not keys[0].keys() & keys[1].keys():
    keys = [{_number(p): p for p in side} for side in (left, right)]
  for side, by_key in ((left, keys[0]), (right, keys[1])):
    if len(by_key) < len(side):
      raise ConfigError(f'{root}: files in {images} and {labels} need the same names, or numbers of their own')
  missing = [(p, labels) for k, p in keys[0].items() if k not in keys[1]]
  missing += [(p, images) for k, p in keys[1].items() if k not in keys[0]]
  if missing:
    more = f' (and {len(missing) - 1} more)' if len(missing) > 1 else ''
    raise ConfigError(f'{missing[0][0]} has no partner in {missing[0][1]}{more}')
  return [(p, keys[1][k]) for k, p in keys[0].items()]


def _list(root: Path, folder: str) -> list[Path]:
  where = root
  for part in pathlib.PurePath(folder).parts:
    below = sorted(p.name for p in where.iterdir() if p.is_dir())
    if part not in below:
      raise ConfigError(f'{root}: there is no folder {folder!r}; {nearest(part, below)}')
    where = where / part
  listed = [p for p in where.iterdir() if p.is_file() and _is_image(p.name)]
  if not listed:
    raise ConfigError(f'{root}: no image in {folder!r} ({", ".join(SUFFIXES[:4])}, ...)')
  return sorted(listed, key=lambda p: p.name)


def _is_image(name: str) -> bool:
  return pathlib.PurePath(name).suffix.lower() in SUFFIXES and not name.startswith('.')


def _number(path: Path) -> int | str:
  digits = re.findall(r'\d+', pathlib.PurePath(path.name).stem)
  return int(digits[-1]) if digits else path.name


def _parts(splits: Mapping[str, Chosen], names: Sequence[str]) -> dict[str, Int[np.ndarray, ' k']]:
  """Name -> places of the images."""
  parts = {name: _chosen(chosen, names, f'splits.{name}') for name, chosen in splits.items()}
  if 'train' not in parts:
    raise ConfigError(f"splits: has no 'train', only {', '.join(parts)}")
  for name, part in parts.items():
    if name != 'train' and (both := set(part) & set(parts['train'])):
      raise ConfigError(f'splits.{name}: {names[min(both)]} is in the training part, too')
  return {name: np.asarray(part) for name, part in parts.items()}


def _chosen(part: Chosen, names: Sequence[str], where: str) -> list[int]:
  if isinstance(part, str):
    match = re.fullmatch(r'(-?\d+)?:(-?\d+)?', part)
    if not match:
      raise ConfigError(f"{where}: expected a range such as ':15', or a list, got {part!r}")
    chosen = list(range(len(names))[slice(*(int(g) if g else None for g in match.groups()))])
  else:
    chosen = []
    for item in part:
      if isinstance(item, str) and item in names:
        chosen.append(names.index(item))
      elif isinstance(item, int) and not isinstance(item, bool) and 0 <= item < len(names):
        chosen.append(item)
      else:
        raise ConfigError(f'{where}: there is no image {item!r} among the {len(names)} from {names[0]} to {names[-1]}')
  if not chosen:
    raise ConfigError(f'{where}: {part!r} is empty; there are {len(names)} images')
  return chosen


def _classes(path: Path, values: tuple[int, ...] | None, void: int | None) -> UInt8[np.ndarray, 'h w']:
  """The class of each pixel of a label file."""
  held = _read_labels(path)
  if values is None:
    return held
  table = np.full(256, -1, np.int16)
  table[list(values)] = np.arange(len(values))
  if void is not None:
    table[void] = void
  classes = table[held]
  if (classes < 0).any():
    raise ConfigError(f'{path} holds {int(held[classes < 0][0])}, which is not among the values {values}')
  return classes.astype(np.uint8)


def _read_labels(path: Path) -> UInt8[np.ndarray, 'h w']:
  from PIL import Image

  try:
    with path.open('rb') as file, Image.open(file) as image:
      array = np.array(image)  # of a palette: the numbers, not the colours
  except (OSError, ValueError, SyntaxError, EOFError) as e:
    raise ConfigError(f'{path} cannot be read as an image: {first_line(e)}') from e
  if array.ndim != 2 or array.dtype.kind not in 'biu' or (array.size and not 0 <= array.min() <= array.max() < 256):
    raise ConfigError(f'{path} is no label map: it must have one channel of whole numbers below 256')
  return array.astype(np.uint8)


def _tiles(
  read: Sequence[tuple[np.ndarray, np.ndarray]], size: tuple[int, int] | None, void: int | None
) -> tuple[UInt8[np.ndarray, 'n h w c'], UInt8[np.ndarray, 'n h w']]:
  if size is None:
    return np.stack([pixels for pixels, _ in read]), np.stack([labels for _, labels in read])
  parts: tuple[list, list] = [], []
  for pixels, labels in read:
    pads = [(0, -n % s) for n, s in zip(labels.shape, size, strict=True)]
    if any(p[1] for p in pads):
      if void is None:
        h, w = labels.shape
        raise ConfigError(f'tile: {size[0]}x{size[1]} does not divide an image of {h}x{w}; void_label=255 fills up')
      pixels = np.pad(pixels, (*pads, (0, 0)), mode='edge')
      labels = np.pad(labels, pads, constant_values=void)
    parts[0].append(_cut(pixels, size))
    parts[1].append(_cut(labels, size))
  return np.concatenate(parts[0]), np.concatenate(parts[1])


def _cut(x: np.ndarray, size: tuple[int, int]) -> np.ndarray:
  h, w = size
  rows, columns = x.shape[0] // h, x.shape[1] // w
  return x.reshape(rows, h, columns, w, *x.shape[2:]).swapaxes(1, 2).reshape(rows * columns, h, w, *x.shape[2:])
