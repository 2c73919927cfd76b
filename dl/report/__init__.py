"""Pages from stored runs: one self-contained HTML file, and a Markdown table."""

import os
import pathlib
from collections.abc import Sequence

from dl.errors import ConfigError
from dl.report import page, runs
from dl.store import atomic

FILE = 'report.html'


def write(workdirs: Sequence[str | os.PathLike], path: str | os.PathLike) -> pathlib.Path:
  """Writes the page of one run, or of several to compare.

  Args:
    workdirs: work directories; a run may still be going on.
    path: the HTML file, which is replaced in one move.

  Returns:
    The path.

  Raises:
    ConfigError: a work directory is missing, is none, or is damaged; or the file cannot be written.
  """
  return save(runs.load(workdirs), path)


def save(loaded: Sequence[runs.StoredRun], path: str | os.PathLike) -> pathlib.Path:
  """`write` for runs which have been read."""
  path = pathlib.Path(path)
  try:
    text = page.render(loaded)
  except (TypeError, ValueError, AttributeError, LookupError) as e:  # such as a text where run.json has numbers
    raise ConfigError(f'{", ".join(str(run.path) for run in loaded)}: a file is damaged: {e}') from e
  try:
    atomic.write(path, text)
  except OSError as e:
    raise ConfigError(f'cannot write {str(path)!r}: {e.strerror}') from e
  return path
