"""Whose code a run is of: commits of its repositories, and copies of the config file and of a user's own modules."""

import hashlib
import os
import pathlib
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from dl.config import CONFIG_FILE, Experiment, flatten
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
  files = {path.as_posix(): file for path, file in modules(experiment, config_file).items()}
  roots: dict[pathlib.Path, list[pathlib.Path]] = {}
  for folder in {file.parent for file in files.values()} | _at_work(config_file):
    if (root := repository(folder)) not in (None, _PACKAGE.parent):
      roots.setdefault(root, []).extend(file for file in files.values() if file.parent == folder)
  contents = {name: content for name, file in sorted(files.items()) if (content := _read(file)) is not None}
  found: dict[str, Any] = {}
  if contents:
    found['code'] = _copy(workdir, contents)
  if roots:
    found['repositories'] = {str(root): commit(root, files) for root, files in sorted(roots.items())}
  return found


def modules(experiment: Experiment, config_file: pathlib.Path | None = None) -> dict[pathlib.PurePath, pathlib.Path]:
  """Path below the folder of the copies -> file, of the config file and of each loaded module of the user's own.

  Own is a module of a package which the config names, and one which lies in the same repository (where there is none,
  in the same folder) as these, the config file, or the script or notebook that runs; but nothing of this code's
  package or commit, and nothing installed.
  """
  loaded, tops = dict(_loaded()), _named(experiment)
  named = {path for path in loaded if path.parts[0].removesuffix('.py') in tops}
  starts = {loaded[path].parent for path in named} | _at_work(config_file)
  roots = {repository(folder) or folder for folder in starts}
  near = {path: file for path, file in loaded.items() if roots.intersection(file.parents)}
  of_this_code = _tracked(_PACKAGE.parent, near.values()) if _PACKAGE.parent in roots else set()
  found = {path: file for path, file in loaded.items() if path in named or (path in near and file not in of_this_code)}
  if config_file is not None:
    found[_below(f'{CONFIG_FILE}.', config_file)] = config_file.resolve()
  return found


def _named(experiment: Experiment) -> set[str]:
  """The packages and top modules which a config names and which are loaded."""
  texts = (value for value in flatten(experiment.to_json()).values() if isinstance(value, str))
  tops = {text.partition('.')[0] for text in texts if re.fullmatch(r'[A-Za-z_]\w*(\.[A-Za-z_]\w*)+', text)}
  return tops & sys.modules.keys()


def _loaded() -> Iterator[tuple[pathlib.PurePath, pathlib.Path]]:
  """(path below its root, file) of each loaded module but those of this package, of Python and of what is installed."""
  for name, module in list(sys.modules.items()):
    file = getattr(module, '__file__', None)
    if name == '__main__' and file:  # by the name that another would import it by
      spec = getattr(module, '__spec__', None)
      name = spec.name if spec else pathlib.Path(file).stem
    if name == '__mp_main__' or name.partition('.')[0] in sys.stdlib_module_names or not str(file).endswith('.py'):
      continue
    if not os.path.isabs(file):
      continue  # a module that was made by hand and has no file, such as torch.ops
    path = pathlib.Path(file).resolve()
    if _INSTALLED.isdisjoint(path.parts) and _PACKAGE not in path.parents:
      yield _below(name, path), path


def _below(name: str, file: pathlib.Path) -> pathlib.PurePath:
  """Where the copy of a module is kept: as its package has it, or in the folder of config files."""
  if name.startswith(f'{CONFIG_FILE}.'):
    return pathlib.PurePath(CONFIG_FILE, file.name)
  parts = name.split('.')
  return pathlib.PurePath(*parts, file.name) if file.name == '__init__.py' else pathlib.PurePath(*parts[:-1], file.name)


def _at_work(config_file: pathlib.Path | None) -> set[pathlib.Path]:
  """Folders that the user works in: of the config file, and of the script or notebook that runs, if it is theirs."""
  folders = set() if config_file is None else {config_file.resolve().parent}
  script = getattr(sys.modules.get('__main__'), '__file__', None)
  if script is None:  # a notebook
    return folders | {pathlib.Path.cwd()}
  theirs = script.endswith('.py') and any(file == pathlib.Path(script).resolve() for _, file in _loaded())
  return folders | {pathlib.Path(script).resolve().parent} if theirs else folders


def commit_of_this_code() -> str | None:
  """The commit of `dl`; None outside of a checkout."""
  root = repository(_PACKAGE)
  if root != _PACKAGE.parent:
    return None  # a copy inside somebody's own repository
  files = (getattr(module, '__file__', None) for name, module in list(sys.modules.items()) if name.startswith('dl.'))
  return commit(root, [pathlib.Path(file).resolve() for file in files if file])


def repository(folder: pathlib.Path) -> pathlib.Path | None:
  """The root of the git repository which a folder is in; None where there is none."""
  root = _git(folder, 'rev-parse', '--show-toplevel')
  return pathlib.Path(root) if root else None


def commit(root: pathlib.Path, files: Iterable[pathlib.Path] = ()) -> str | None:
  """The commit of a repository, with '+changes' where what ran is not in it; None before the first commit.

  Args:
    root: of the repository.
    files: in it, which ran: each has to be tracked, and no Python in the repository changed.
  """
  head = _git(root, 'rev-parse', 'HEAD')
  changed = _git(root, 'status', '--porcelain', '-uno', '--', ':/*.py') or set(files) - _tracked(root, files)
  return head and head + ('+changes' if changed else '')


def _tracked(root: pathlib.Path, files: Iterable[pathlib.Path]) -> set[pathlib.Path]:
  """Those of some files below a root which its repository knows."""
  files = [str(file) for file in files if root in file.parents]
  names = _git(root, '-c', 'core.quotePath=off', 'ls-files', '--full-name', '--', *files) if files else None
  return {root / name for name in (names or '').splitlines()}


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
