"""JSON in files: one value, or a record a line."""

import json
import pathlib
from collections.abc import Iterator
from typing import Any

from dl.errors import ConfigError, first_line


def read(path: pathlib.Path, kind: type = dict) -> Any:
  """The value of a file.

  Raises:
    FileNotFoundError, NotADirectoryError: there is none.
    ConfigError: it cannot be read, is damaged, or holds something else than a `kind`.
  """
  try:
    value = json.loads(path.read_text(encoding='utf-8'))
  except (FileNotFoundError, NotADirectoryError):
    raise
  except OSError as e:
    raise ConfigError(f'{path}: cannot be read: {e.strerror}') from e
  except ValueError as e:  # covers bytes which are no UTF-8
    raise ConfigError(f'{path}: cannot be read as JSON: {first_line(e)}') from e
  if not isinstance(value, kind):
    raise ConfigError(f'{path}: expected a JSON {_KINDS[kind]}, got {type(value).__name__}')
  return value


def lines(path: pathlib.Path) -> Iterator[tuple[dict[str, Any] | None, bytes]]:
  """(record, its line without the newline) of each line of a file, if there is one; None for what is no record."""
  for line in path.read_bytes().split(b'\n') if path.exists() else ():
    try:
      record = json.loads(line)
    except ValueError:
      record = None
    yield record if isinstance(record, dict) else None, line


_KINDS = {dict: 'object', list: 'list'}
