"""Files which are there whole or not at all, whatever kills the process that writes them."""

import contextlib
import os
import pathlib
from collections.abc import Iterator

SUFFIX = '.new'
"""What a file is called while it is written; one that is left behind means nothing."""


def write(path: pathlib.Path, content: str | bytes) -> None:
  """Writes a file in one move; an OSError names it, and leaves the old one as it was."""
  new = path.with_name(path.name + SUFFIX)
  with named(path):
    try:
      new.unlink(missing_ok=True)  # a link that somebody put there would be followed
      new.write_bytes(content.encode() if isinstance(content, str) else content)
      os.replace(new, path)
    except OSError:
      with contextlib.suppress(OSError):
        new.unlink()  # on a full disk, half a file is in the way
      raise


@contextlib.contextmanager
def named(path: pathlib.Path) -> Iterator[None]:
  """Gives an OSError inside, such as of a write, the name of the file it is about."""
  try:
    yield
  except OSError as e:
    e.filename = e.filename or str(path)
    raise


def sync(path: pathlib.Path) -> None:
  """Returns when a file, or the list of the files in a folder, is on the disk."""
  descriptor = os.open(path, os.O_RDONLY)
  try:
    os.fsync(descriptor)
  finally:
    os.close(descriptor)
