"""Folders of image files."""

import concurrent.futures
import copy
import io
import pathlib
from typing import Any, Literal, Self

import numpy as np
from jaxtyping import Int, UInt8

from dl.config.bounds import Size
from dl.contract.info import Info
from dl.data import files, statistics
from dl.data.source import Example
from dl.errors import ConfigError

SUFFIXES = ('.png', '.jpg', '.jpeg', '.bmp', '.gif', '.tif', '.tiff', '.webp', '.pgm', '.ppm')
ALIASES = {'train': 'train', 'validation': 'validation', 'val': 'validation', 'valid': 'validation', 'test': 'test'}
MODES = {1: 'L', 3: 'RGB', 4: 'RGBA'}


class Folder:
  """Images as `path/class/name.png`, or as `path/train/class/name.png` where the set comes in splits.

  An example is `image` [h, w, c] uint8 and `label`. Classes are the folders' names, in order. Files are decoded when
  they are needed, by threads; or once, with `in_memory`.

  Attributes:
    paths: the files.
    labels: the class of each.
    info: names of the classes.
    parts: split -> indices, where the set comes in splits.
    vectorized: whether the images are in memory, so that a batch is one gather.
  """

  default_test = 0.2

  def __init__(
    self,
    path: str,
    image_size: tuple[Size, Size],
    *,
    channels: Size = 3,
    resize: bool = True,
    in_memory: bool = False,
    on_error: Literal['stop', 'skip'] = 'stop',
  ):
    """Lists the files.

    Args:
      path: the folder.
      image_size: (height, width) to resize to.
      channels: 1 (grey), 3 (colour) or 4 (with transparency).
      resize: False leaves each image at its own size, for a `transform` which crops to `image_size`.
      in_memory: whether to decode all the images of a part once.
      on_error: 'skip' leaves files which cannot be decoded out of the mean and deviation.

    Raises:
      ConfigError: no such folder, no classes or images in it, or sizes which cannot be.
    """
    check_size(image_size, channels)
    if in_memory and not resize:
      raise ConfigError('in_memory: images in memory have one size, so they need resize=True')
    self.paths, names, self.parts = _list(files.existing_folder(path))
    class_names = tuple(sorted(set(names)))
    if len(class_names) < 2:
      raise ConfigError(f'{path}: expected a folder for each of two or more classes, found {list(class_names)}')
    self.labels = np.searchsorted(class_names, names).astype(np.int32)
    self.info = Info(class_names=class_names)
    self.image_size, self.channels, self.resize = tuple(image_size), channels, resize
    self.vectorized, self._skips = in_memory, on_error == 'skip'
    self._images: UInt8[np.ndarray, 'n h w c'] | None = None
    self._unreadable: dict[int, str] = {}

  def take(self, index: Int[np.ndarray, ' k']) -> Self:
    """These examples alone: decoded now, where they are to be in memory."""
    other = copy.copy(self)
    other.paths, other.labels, other.parts = [self.paths[i] for i in index], self.labels[index], None
    other._images, other._unreadable = None, {}
    other._decode()
    return other

  def facts(self) -> dict[str, Any]:
    """Mean and deviation: of all the images where they are in memory, or else of a sample of them."""
    self._decode()
    images, unreadable = self._images, self._unreadable
    if images is None:
      count = min(statistics.SAMPLE, len(self.paths))
      chosen = np.unique(np.linspace(0, len(self.paths) - 1, count).astype(int))
      images = self._load([self.paths[i] for i in chosen], unreadable := {})
    if unreadable:
      images = np.delete(images, list(unreadable), axis=0)
      if not len(images):
        raise ConfigError(min(unreadable.items())[1])
    return statistics.of_images(images, self.info)

  def __len__(self) -> int:
    return len(self.paths)

  def __getitem__(self, index: Any) -> Example:
    self._decode()
    if self._images is not None:
      for i in np.intersect1d(index, list(self._unreadable)) if self._unreadable else ():
        raise ConfigError(self._unreadable[int(i)])
      return {'image': self._images[index], 'label': self.labels[index]}
    path = self.paths[index]
    return {
      'image': read_image(path, self.image_size if self.resize else None, self.channels),
      'label': self.labels[index],
    }

  def _decode(self) -> None:
    if self.vectorized and self._images is None:
      self._images = self._load(self.paths, self._unreadable)

  def _load(self, paths: list[pathlib.Path], unreadable: dict[int, str]) -> UInt8[np.ndarray, 'n h w c']:
    return load_images(paths, self.image_size, self.channels, unreadable if self._skips else None)


def check_size(image_size: Any, channels: int) -> None:
  """Raises ConfigError unless the size is two positive numbers and the channels are 1, 3 or 4."""
  sizes = list(image_size) if isinstance(image_size, list | tuple) else []
  if len(sizes) != 2 or any(isinstance(s, bool) or not isinstance(s, int) or s < 1 for s in sizes):
    raise ConfigError(f'image_size: expected (height, width), got {image_size!r}')
  if channels not in MODES:
    raise ConfigError(f'channels: expected 1, 3 or 4, got {channels!r}')


def read_image(path: str | pathlib.Path, size: tuple[int, int] | None, channels: int) -> UInt8[np.ndarray, 'h w c']:
  """Decodes an image file; raises ConfigError, which names the file, if that cannot be done."""
  try:
    return decode(pathlib.Path(path).read_bytes(), size, channels)
  except (OSError, ValueError, SyntaxError, EOFError) as e:
    unidentified = type(e).__name__ == 'UnidentifiedImageError'
    reason = 'it is not an image' if unidentified else files.nowhere(pathlib.Path(path)) or str(e).splitlines()[0]
    raise ConfigError(f'{path} cannot be read as an image: {reason}') from e


def size_of(path: str | pathlib.Path) -> tuple[int, int] | None:
  """(height, width) of an image file as `decode` turns it; None for what is none."""
  from PIL import Image

  try:
    with Image.open(path) as image:
      turned = image.getexif().get(0x0112, 1) >= 5  # on its side
      return image.size if turned else image.size[::-1]
  except (OSError, ValueError, SyntaxError):
    return None


def decode(content: bytes, size: tuple[int, int] | None, channels: int) -> UInt8[np.ndarray, 'h w c']:
  """An encoded image as bytes [h, w, c], turned upright and resized (bilinear, antialiased) to (height, width)."""
  from PIL import Image, ImageOps

  with Image.open(io.BytesIO(content)) as image:
    image.load()
    if 'exif' in image.info:
      image = ImageOps.exif_transpose(image)
    if image.mode.startswith('I'):  # 16 bits, which convert() would clip
      image = Image.fromarray((np.asarray(image, np.float64) / 257).clip(0, 255).astype(np.uint8))
    if image.mode == 'P':
      image = image.convert('RGBA')  # its transparency would be lost with a warning
    if image.mode != MODES[channels]:
      image = image.convert(MODES[channels])
    if size is not None and image.size != (size[1], size[0]):
      image = image.resize((size[1], size[0]), Image.Resampling.BILINEAR)
    array = np.array(image, np.uint8)
  return array[..., None] if array.ndim == 2 else array


def load_images(
  paths: list[pathlib.Path], size: tuple[int, int], channels: int, unreadable: dict[int, str] | None = None
) -> UInt8[np.ndarray, 'n h w c']:
  """Decodes many files by threads, with progress on stderr where that takes long.

  Where `unreadable` is given, a file that cannot be decoded is no error: it gets (its place, why), and the image is 0.
  """
  out = np.zeros((len(paths), *size, channels), np.uint8)

  def one(i: int) -> None:
    try:
      out[i] = read_image(paths[i], size, channels)
    except ConfigError as e:
      if unreadable is None:
        raise
      unreadable[i] = str(e)

  with concurrent.futures.ThreadPoolExecutor() as pool:
    for _ in progress(pool.map(one, range(len(paths))), len(paths), 'decoding images'):
      pass
  return out


def progress(items: Any, total: int, what: str) -> Any:
  """The items, with a progress bar on stderr after two seconds, if that is a terminal."""
  from tqdm import tqdm

  return tqdm(items, total=total, desc=what, delay=2.0, disable=None, leave=False)


def _list(root: pathlib.Path) -> tuple[list[pathlib.Path], list[str], dict[str, np.ndarray] | None]:
  """(paths, class of each, split -> indices or None)."""
  if not (root / 'train').is_dir() or not files.folders(root / 'train'):
    pairs = _classes(root)
    return [p for p, _ in pairs], [c for _, c in pairs], None
  paths, names, given = [], [], {}
  for folder in files.folders(root):
    split = ALIASES.get(folder.name.lower())
    if split is None or split in given:
      raise ConfigError(f'{folder}: expected folders train, validation and test, and no other beside train')
    pairs = _classes(folder)
    given[split] = np.arange(len(paths), len(paths) + len(pairs))
    paths += [p for p, _ in pairs]
    names += [c for _, c in pairs]
  return paths, names, given


def _classes(root: pathlib.Path) -> list[tuple[pathlib.Path, str]]:
  pairs = []
  for folder in files.folders(root):
    members = files.below(folder, SUFFIXES)
    if not members:
      raise ConfigError(f'{folder}: no image in this class ({", ".join(SUFFIXES[:4])}, ...)')
    pairs += [(p, folder.name) for p in members]
  if not pairs:
    raise ConfigError(f'{root}: expected one folder a class, with images in it')
  return pairs
