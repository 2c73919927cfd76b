"""A cache of compiled code in the user's cache folder, so that a command starts fast the second time.

JAX's own variables come first: JAX_COMPILATION_CACHE_DIR names another folder, JAX_ENABLE_COMPILATION_CACHE=false is
none. JAX is not imported for it, since that takes time and it reads the variables when it is.
"""

import atexit
import contextlib
import fcntl
import hashlib
import os
import pathlib
import platform
import sys

from absl import logging

FOLDER = 'JAX_COMPILATION_CACHE_DIR'
SETTINGS = {'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0.1'}
MOST_BYTES = 4 * 2**30
"""What the folder may hold; the oldest entries go first."""

_MARK = '.running-'


def use_cache() -> None:
  """Makes JAX keep what it compiles; a folder which cannot be written to is a warning."""
  if os.environ.get('JAX_ENABLE_COMPILATION_CACHE', 'true').lower() in ('false', '0', 'no'):
    return
  jax = sys.modules.get('jax')
  given = os.environ.get(FOLDER) or (jax and jax.config.jax_compilation_cache_dir)
  try:
    home = pathlib.Path(os.environ.get('XDG_CACHE_HOME') or pathlib.Path.home() / '.cache')
    folder = home / 'dl' / f'compiled-{_processor()}'
    if given and given != str(folder):  # else it comes from a parent, such as a sweep, and this process may be killed
      return
    folder.mkdir(parents=True, exist_ok=True)
    _drop_torn(folder)
    _trim(folder)
    _mark(folder)
  except (OSError, RuntimeError) as e:  # or nobody knows a home
    logging.warning('compiled code is not kept: %s', e)
    return
  settings = {FOLDER: str(folder)} | {k: v for k, v in SETTINGS.items() if k not in os.environ}
  os.environ.update(settings)
  if jax is not None:  # it has read its variables
    for name, value in settings.items():
      jax.config.update(name.lower(), float(value) if name in SETTINGS else value)


def _processor() -> str:
  """Code for one kind of processor does not run on another, and home folders are shared."""
  facts = platform.machine()
  with contextlib.suppress(OSError):
    lines = pathlib.Path('/proc/cpuinfo').read_text().splitlines()
    facts += ' '.join(sorted({line for line in lines if line.startswith(('flags', 'Features', 'model name'))}))
  return hashlib.sha256(facts.encode()).hexdigest()[:8]


def _mark(folder: pathlib.Path) -> None:
  """Leaves a locked file while this process runs: one without a lock tells of a process that was killed."""
  path = folder / f'{_MARK}{platform.node()}-{os.getpid()}'  # containers may share a folder and count alike
  mark = path.open('w')
  fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)

  def remove() -> None:
    path.unlink(missing_ok=True)
    mark.close()

  atexit.register(remove)


def _drop_torn(folder: pathlib.Path) -> None:
  """Removes the entries written since a process began that was killed: one of them may be half an entry."""
  for path in folder.glob(f'{_MARK}*'):
    with contextlib.suppress(OSError), path.open() as mark:
      fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)  # fails where the process lives
      since = path.stat().st_mtime
      for entry in folder.glob('*-cache'):
        if entry.stat().st_mtime >= since:
          entry.unlink(missing_ok=True)
      path.unlink(missing_ok=True)


def _trim(folder: pathlib.Path) -> None:
  """Removes the oldest entries beyond `MOST_BYTES`."""
  entries = sorted(((e.stat().st_mtime, e.stat().st_size, e) for e in folder.glob('*-cache')), reverse=True)
  size = 0
  for _, length, entry in entries:
    size += length
    if size > MOST_BYTES:
      entry.unlink(missing_ok=True)
