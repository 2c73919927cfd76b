"""Images with a class for every pixel: two folders of files, paired."""

import concurrent.futures
import pathlib
import re
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int, UInt8

from dl.config.bounds import Count, NotNegative, Seed, Size, Whole
from dl.contract.info import Info
from dl.data import files, splits, statistics
from dl.data.source import Arrays, Example
from dl.data.sources.images import MODES, SUFFIXES, decode
from dl.errors import ConfigError, first_line, nearest

Part = str | list[Count | str]
Path = pathlib.Path | zipfile.Path


class Pairs(Arrays):
  """Image files and their label maps, decoded once and kept in memory.

  An example is `image` [h, w, c] uint8 and `label_map` [h, w] int32. An image file and a label file belong together if
  they have the same name but for the ending, or else if they have the same number ('raw/07.tif', 'labels/map007.png').
  """

  def __init__(
    self,
    path: str,
    split: str = 'train',
    *,
    images: str = 'images',
    labels: str = 'labels',
    splits: Mapping[str, Part] | None = None,
    test: NotNegative | Count = 0.2,
    validation: NotNegative | Count = 0.0,
    split_seed: Seed = 0,
    channels: Size = 1,
    class_names: tuple[str, ...] | None = None,
    values: tuple[Whole, ...] | None = None,
    void_label: Whole | None = None,
    tile: Size | tuple[Size, Size] | None = None,
  ):
    """Reads the files of the part, and those of the training part.

    Args:
      path: a folder, or a .zip file.
      split: which part: 'train', 'validation', 'test', 'all', or another name in `splits`.
      images: folder of the images in it.
      labels: folder of the label maps.
      splits: name -> which of the sorted images: a range such as ':15' or '15:', a list of numbers from 0, or one of
        names without the ending. None cuts the set at random, by `test`, `validation` and `split_seed`.
      test: see `dl.data.splits.select`.
      validation: see `select`.
      split_seed: see `select`.
      channels: 1 (grey), 3 (colour) or 4 (with transparency).
      class_names: one name a class; by default their numbers.
      values: what the pixels of label files hold, class by class; by default the number of the class (in a file of
        black and white, 0 and 1).
      void_label: a value of pixels which have no class.
      tile: (height, width) of parts to cut the images into, or one number for both; they cover each pixel once. Where
        they do not fit, the last ones reach beyond the image, which repeats its edge there, with `void_label`. None
        takes whole images, which then must have one size.

    Raises:
      ConfigError: missing files or pairs, a split which cannot be, labels which are no classes, sizes which do not fit.
    """
    if channels not in MODES:
      raise ConfigError(f'channels: expected 1, 3 or 4, got {channels!r}')
    size = (tile, tile) if isinstance(tile, int) else tile
    if size is not None and min(size) < 1:
      raise ConfigError(f'tile: expected (height, width), got {tile!r}')
    if values is not None and not all(0 <= v < 256 for v in values):
      raise ConfigError(f'values: expected whole numbers below 256, got {values}')
    pairs = _pairs(_root(path), images, labels)
    chosen, train = _choose(split, pairs, splits, test=test, validation=validation, seed=split_seed)
    self.names = tuple(pathlib.PurePath(pairs[i][0].name).stem for i in chosen)
    wanted = sorted({*chosen, *train})
    with concurrent.futures.ThreadPoolExecutor() as pool:
      read = pool.map(lambda i: _read(*pairs[i], channels, values, void_label), wanted)
      loaded = dict(zip(wanted, read, strict=True))
    num_classes = _num_classes(loaded, pairs, train, class_names, void_label)
    shapes = {loaded[i][1].shape for i in wanted}
    if size is None and len(shapes) > 1:
      a, b = sorted(shapes)[:2]
      raise ConfigError(f'{path}: images of {a[0]}x{a[1]} and of {b[0]}x{b[1]}; give a tile, such as tile=128')
    cut = lambda which: _tiles([loaded[i] for i in which], size, void_label)
    columns = cut(chosen)
    trained = columns[0] if list(chosen) == list(train) else cut(train)[0]
    counts = sum(np.bincount(loaded[i][1].ravel(), minlength=256)[:num_classes] for i in train)
    facts = statistics.of_images(trained, Info())
    if len(shapes) == 1:
      facts['image_size'] = next(iter(shapes))
    names = class_names or tuple(map(str, range(num_classes)))
    info = Info(num_classes=num_classes, class_names=names, class_counts=tuple(counts.tolist()), **facts)
    super().__init__(dict(zip(('image', 'label_map'), columns, strict=True)), info)

  def __getitem__(self, index: int | Int[np.ndarray, ' b']) -> Example:
    example = super().__getitem__(index)  # bytes in memory, a quarter of what a batch holds
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


def _choose(
  split: str, pairs: Sequence[Any], given: Mapping[str, Part] | None, **rules: Any
) -> tuple[list[int], list[int]]:
  """(indices of a split, indices of the training part)."""
  n = len(pairs)
  if given is None:
    return splits.select(split, n, **rules).tolist(), splits.select('train', n, **rules).tolist()
  names = [pathlib.PurePath(p[0].name).stem for p in pairs]
  parts = {name: _part(part, names, f'splits.{name}') for name, part in given.items()}
  if 'train' not in parts:
    raise ConfigError(f"splits: has no 'train', only {', '.join(parts)}")
  for name, part in parts.items():
    if name != 'train' and (both := set(part) & set(parts['train'])):
      raise ConfigError(f'splits.{name}: {names[min(both)]} is in the training part, too')
  parts.setdefault('all', list(range(n)))
  if split not in parts:
    raise ConfigError(f'split: there is no split {split!r}; {nearest(split, parts)}')
  return parts[split], parts['train']


def _part(part: Part, names: Sequence[str], where: str) -> list[int]:
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


def _read(
  image: Path, labels: Path, channels: int, values: tuple[int, ...] | None, void: int | None
) -> tuple[UInt8[np.ndarray, 'h w c'], UInt8[np.ndarray, 'h w']]:
  """An image and its label map."""
  try:
    pixels = decode(image.read_bytes(), None, channels)
  except (OSError, ValueError, SyntaxError, EOFError) as e:
    raise ConfigError(f'{image} cannot be read as an image: {first_line(e)}') from e
  classes = _read_labels(labels)
  if classes.shape != pixels.shape[:2]:
    raise ConfigError(f'{labels} has the size {classes.shape}, its image {pixels.shape[:2]}')
  if values is None:
    return pixels, classes
  table = np.full(256, -1, np.int16)
  table[list(values)] = np.arange(len(values))
  if void is not None:
    table[void] = void
  numbers = table[classes]
  if (numbers < 0).any():
    raise ConfigError(f'{labels} holds {int(classes[numbers < 0][0])}, which is not among the values {values}')
  return pixels, numbers.astype(np.uint8)


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


def _num_classes(
  loaded: Mapping[int, Any],
  pairs: Sequence[tuple[Path, Path]],
  train: Sequence[int],
  class_names: tuple[str, ...] | None,
  void: int | None,
) -> int:
  counted = lambda labels: labels if void is None else labels[labels != void]
  largest = {i: int(np.max(counted(labels), initial=0)) for i, (_, labels) in loaded.items()}
  classes = len(class_names) if class_names else max(largest[i] for i in train) + 1
  for i, value in largest.items():
    if value >= classes:
      where = '' if class_names else ' in the training part'
      raise ConfigError(
        f'{pairs[i][1]} holds {value}, but there are {classes} classes{where}; set values or void_label'
      )
  return classes


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
        raise ConfigError(
          f'tile: {size[0]}x{size[1]} does not divide an image of {h}x{w}; void_label=255 (of the task, too) fills up'
        )
      pixels = np.pad(pixels, (*pads, (0, 0)), mode='edge')
      labels = np.pad(labels, pads, constant_values=void)
    parts[0].append(_cut(pixels, size))
    parts[1].append(_cut(labels, size))
  return np.concatenate(parts[0]), np.concatenate(parts[1])


def _cut(x: np.ndarray, size: tuple[int, int]) -> np.ndarray:
  h, w = size
  rows, columns = x.shape[0] // h, x.shape[1] // w
  return x.reshape(rows, h, columns, w, *x.shape[2:]).swapaxes(1, 2).reshape(rows * columns, h, w, *x.shape[2:])
