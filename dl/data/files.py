"""Finding the files that a config or a command names."""

import glob
import pathlib
from collections.abc import Iterable, Mapping, Sequence

from dl.errors import ConfigError, nearest

SPLIT_NAMES = ('train', 'validation', 'test')


def existing(path: str | pathlib.Path) -> pathlib.Path:
  """A path to a file which exists; raises ConfigError with the nearest names of its folder."""
  target = pathlib.Path(path).expanduser()
  if target.is_file():
    return target
  if target.is_dir():
    raise ConfigError(f'{path} is a folder, not a file')
  folder = target.parent
  if not folder.is_dir():
    raise ConfigError(f'there is no file {path}: no folder {folder}')
  raise ConfigError(f'there is no file {path}; {nearest(target.name, [p.name for p in folder.iterdir()])}')


def existing_folder(path: str | pathlib.Path) -> pathlib.Path:
  """A path to a folder which exists; raises ConfigError with the nearest names beside it."""
  target = pathlib.Path(path).expanduser()
  if target.is_dir():
    return target
  if target.exists():
    raise ConfigError(f'{path} is a file, not a folder')
  beside = [p.name for p in target.parent.iterdir()] if target.parent.is_dir() else []
  raise ConfigError(f'there is no folder {path}; {nearest(target.name, beside)}')


def by_split(path: Mapping[str, str]) -> dict[str, str]:
  """A mapping of split -> path, checked: its keys are the names of splits, 'train' among them."""
  for name, value in path.items():
    if name not in SPLIT_NAMES:
      raise ConfigError(f'path: there is no split {name!r}; {nearest(name, SPLIT_NAMES)}')
    if not isinstance(value, str):
      raise ConfigError(f'path.{name}: expected a path, got {value!r}')
  if 'train' not in path:
    raise ConfigError("path: needs a file for the split 'train'")
  return dict(path)


def expand(path: str | pathlib.Path, suffixes: Sequence[str]) -> list[pathlib.Path]:
  """The sorted files of a folder (at any depth, with one of the suffixes), of a glob, or the one file.

  Raises:
    ConfigError: there is none.
  """
  root = pathlib.Path(path).expanduser()
  if root.is_dir():
    return nonempty(sorted(p for p in root.rglob('*') if is_one_of(p, suffixes)), f'{path}: no {_list(suffixes)} file')
  if not root.exists() and glob.has_magic(str(path)):
    matching = sorted(pathlib.Path(p) for p in glob.glob(str(root), recursive=True))
    return nonempty([p for p in matching if p.is_file()], f'no file matches {path}')
  return [existing(path)]


def is_one_of(path: pathlib.Path, suffixes: Iterable[str]) -> bool:
  """Whether a path is a visible file with one of the (lower-case) suffixes."""
  return path.suffix.lower() in suffixes and not path.name.startswith('.') and path.is_file()


def nonempty(paths: list[pathlib.Path], otherwise: str) -> list[pathlib.Path]:
  """The paths; raises ConfigError with the message if there are none."""
  if not paths:
    raise ConfigError(otherwise)
  return paths


def _list(suffixes: Sequence[str]) -> str:
  return ' or '.join(suffixes[:3]) + (' or other' if len(suffixes) > 3 else '')
