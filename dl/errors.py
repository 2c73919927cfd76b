"""Exceptions that commands print as one line, the wording of such lines, and exit codes."""

import difflib
import dis
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


def own_words(error: BaseException) -> str | None:
  """The first line of a ValueError which a part of this code or of a user's own raised; None for any other error.

  Such words are for people, who need to be told where in the config they are about and no more. What JAX, Flax and
  other installed packages raise are not: the raising frame is one of theirs, or hidden behind the call.
  """
  if not isinstance(error, ValueError) or error.__traceback__ is None:
    return None
  last = error.__traceback__
  while last.tb_next is not None:
    last = last.tb_next
  code, module = last.tb_frame.f_code, last.tb_frame.f_globals.get('__name__', '')
  raises = dis.opname[code.co_code[last.tb_lasti]] == 'RAISE_VARARGS'
  installed = 'site-packages' in code.co_filename and module.partition('.')[0] != 'dl'
  return first_line(error) if raises and not installed else None
