"""Files which are there whole or not at all, whatever kills the process that writes them."""

import os
import pathlib

SUFFIX = '.new'
"""What a file is called while it is written; one that is left behind means nothing."""


def write(path: pathlib.Path, content: str | bytes) -> None:
  """Writes a file in one move."""
  new = path.with_name(path.name + SUFFIX)
  new.write_bytes(content.encode() if isinstance(content, str) else content)
  os.replace(new, path)
