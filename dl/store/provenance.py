"""Whose code a run is of: commits of its repositories, and copies of the config file and of a user's own modules."""

import hashlib
import pathlib
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from dl.config import Experiment, flatten
from dl.store import atomic

CODE = 'code'
"""The folder of a work directory for copies, one below it for each state in which the files were."""

_PACKAGE = pathlib.Path(__file__).resolve().parents[1]
_INSTALLED = {'site-packages', 'dist-packages'}


def own(workdir: pathlib.Path, experiment: Experiment, config_file: pathlib.Path | None) -> dict[str, Any]:
  """What `run.json` says of the user's own code, whose files are copied into `code/` of the work directory.

  Args:
    workdir: the work directory.
    experiment: the config; the modules which it names are loaded.
    config_file: where it is from, if from a file.

  Returns:
    `code`, the folder of the copies, and `repositories`, root -> commit, of those which are not this code's; a part
    that there is nothing of is left out.
  """
  files = {path.as_posix(): file for path, file in modules(experiment).items()}
  if config_file is not None:
    files[config_file.name] = config_file.resolve()
  roots = {root for file in files.values() if (root := repository(file.parent)) is not None} - {_PACKAGE.parent}
  contents = {name: content for name, file in sorted(files.items()) if (content := _read(file)) is not None}
  found: dict[str, Any] = {}
  if contents:
    found['code'] = _copy(workdir, contents)
  if roots:
    found['repositories'] = {str(root): commit(root) for root in sorted(roots)}
  return found


def modules(experiment: Experiment) -> dict[pathlib.PurePath, pathlib.Path]:
  """Path below its root -> file, of each loaded module of the packages which the config names and are the user's own.

  Own is what is neither of this code nor installed.
  """
  texts = (value for value in flatten(experiment.to_json()).values() if isinstance(value, str))
  tops = {text.partition('.')[0] for text in texts if re.fullmatch(r'[A-Za-z_]\w*(\.[A-Za-z_]\w*)+', text)}
  tops &= sys.modules.keys() - sys.stdlib_module_names - {'dl'}
  found = {}
  for name, module in list(sys.modules.items()):
    file = getattr(module, '__file__', None)
    if name.partition('.')[0] not in tops or not file or not file.endswith('.py'):
      continue
    path = pathlib.Path(file).resolve()
    if _INSTALLED.isdisjoint(path.parts) and _PACKAGE not in path.parents:
      parts = name.split('.')
      below = [*parts, '__init__.py'] if path.name == '__init__.py' else [*parts[:-1], f'{parts[-1]}.py']
      found[pathlib.PurePath(*below)] = path
  return found


def commit_of_this_code() -> str | None:
  """The commit of `dl`; None outside of a checkout."""
  root = repository(_PACKAGE)
  return commit(root) if root == _PACKAGE.parent else None  # else a copy inside somebody's own repository


def repository(folder: pathlib.Path) -> pathlib.Path | None:
  """The root of the git repository which a folder is in; None where there is none."""
  root = _git(folder, 'rev-parse', '--show-toplevel')
  return pathlib.Path(root) if root else None


def commit(root: pathlib.Path) -> str | None:
  """The commit of a repository, with '+changes' where its Python differs from it; None before the first commit."""
  head = _git(root, 'rev-parse', 'HEAD')
  return head and head + ('+changes' if _git(root, 'status', '--porcelain', '-uno', '--', ':/*.py') else '')


def _git(folder: pathlib.Path, *arguments: str) -> str | None:
  """What git says of a folder; None where it fails."""
  try:
    done = subprocess.run(['git', '-C', str(folder), *arguments], capture_output=True, text=True, timeout=5, check=True)
  except (OSError, subprocess.SubprocessError):
    return None
  return done.stdout.strip()


def _read(file: pathlib.Path) -> bytes | None:
  """The content of a file; None for one that is gone since it was loaded."""
  try:
    return file.read_bytes()
  except OSError:
    return None


def _copy(workdir: pathlib.Path, contents: Mapping[str, bytes]) -> str:
  """Writes the files into a folder which is named by what is in them, so that equal ones are there once."""
  folder = pathlib.PurePath(CODE, _digest(contents.items()))
  for name, content in contents.items():
    path = workdir / folder / name
    if not path.exists():
      path.parent.mkdir(parents=True, exist_ok=True)
      atomic.write(path, content)
  return folder.as_posix()


def _digest(items: Iterable[tuple[str, bytes]]) -> str:
  whole = hashlib.sha256()
  for name, content in items:
    whole.update(f'{len(name)} {name} {len(content)} '.encode() + content)
  return whole.hexdigest()[:12]
