"""Exceptions that commands print as one line, the wording of such lines, and exit codes."""

import difflib
from collections.abc import Iterable

USER_ERROR = 2
"""Exit code of a user's mistake."""

FAILURE = 1
"""Exit code of a run which could not go on, such as one whose loss is not finite."""

RESUME = 75
"""Exit code of a run that was told to stop and saved: the same command continues it (EX_TEMPFAIL of sysexits.h)."""


class ConfigError(ValueError):
  """Something the user wrote (a config, a flag, a path) cannot be used; the message is one helpful line."""

  def __init__(self, message: str):
    super().__init__(one_line(message))  # a value that it quotes may have several


class TrainingError(RuntimeError):
  """A run that cannot go on (a non-finite loss); the message is one line which says where and what to look at."""


class StuckError(TrainingError):
  """A thread hangs, so the process cannot end in the usual way, which would wait for it: leave by `os._exit`."""


def one_line(text: str) -> str:
  """A text with its line ends as spaces, and other control characters escaped: harmless to a terminal."""
  return printable(' '.join(str(text).split()))


def printable(text: str) -> str:
  """A text whose control characters, but line ends and tabs, are escaped: a terminal would do what they say."""
  return ''.join(c if c.isprintable() or c in ' \n\t' else c.encode('unicode_escape').decode() for c in text)


def nearest(name: str, valid: Iterable[str], limit: int = 3) -> str:
  """The valid names nearest to `name`, as the end of an error line."""
  valid = sorted({str(v) for v in valid})
  close = difflib.get_close_matches(str(name), valid, n=limit, cutoff=0.6)
  if close:
    return f'did you mean {" or ".join(repr(c) for c in close)}?'
  shown = ', '.join(valid[:12]) + (', ...' if len(valid) > 12 else '')
  return f'valid: {shown or "none"}'


def first_line(error: BaseException) -> str:
  """The first line of an error's message, or its type."""
  lines = str(error).strip().splitlines()
  return lines[0] if lines else type(error).__name__
