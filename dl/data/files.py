"""Finding the files that a config or a command names."""

import glob
import os
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
    return nonempty(below(root, suffixes), f'{path}: no {_list(suffixes)} file')
  if not root.exists() and glob.has_magic(str(path)):
    matching = sorted(pathlib.Path(p) for p in glob.glob(str(root), recursive=True))
    return nonempty([p for p in matching if _is_file(p)], f'no file matches {path}')
  return [existing(path)]


def below(root: pathlib.Path, suffixes: Iterable[str]) -> list[pathlib.Path]:
  """The visible files of a folder, at any depth, with one of the (lower-case) suffixes, sorted.

  A link to a file which is not there is one of them: to leave it out is for whoever reads it to say.

  Raises:
    ConfigError: a folder that may not be read.
  """

  def refuse(e: OSError) -> None:
    raise ConfigError(f'cannot read the folder {e.filename}: {e.strerror}') from e

  found = []
  for folder, _, names in os.walk(root, onerror=refuse):
    found += [
      path
      for name in names
      if not name.startswith('.') and (path := pathlib.Path(folder, name)).suffix.lower() in suffixes and _is_file(path)
    ]
  return sorted(found)


def folders(root: pathlib.Path) -> list[pathlib.Path]:
  """The visible folders in a folder, sorted; raises ConfigError where it may not be read, or a link leads nowhere."""
  try:
    visible = [path for path in root.iterdir() if not path.name.startswith('.')]
  except OSError as e:
    raise ConfigError(f'cannot read the folder {root}: {e.strerror}') from e
  for path in visible:
    if leads := nowhere(path):
      raise ConfigError(f'{path} is {leads}')
  return sorted(path for path in visible if path.is_dir())


def nowhere(path: pathlib.Path) -> str | None:
  """Of a link which leads nowhere, words that say so."""
  if path.is_symlink() and not path.exists():
    return f'a link to {path.readlink()}, which is not there'
  return None


def _is_file(path: pathlib.Path) -> bool:
  """Whether a path is a file, or a link that leads nowhere: whoever reads it says so."""
  return path.is_file() or nowhere(path) is not None


def nonempty(paths: list[pathlib.Path], otherwise: str) -> list[pathlib.Path]:
  """The paths; raises ConfigError with the message if there are none."""
  if not paths:
    raise ConfigError(otherwise)
  return paths


def _list(suffixes: Sequence[str]) -> str:
  return ' or '.join(suffixes[:3]) + (' or other' if len(suffixes) > 3 else '')
