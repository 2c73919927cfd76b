"""The page of the commands: what --help says of each, and its flags."""

import importlib
import inspect
from collections.abc import Callable

from absl import flags

PAGE = 'reference/commands.md'
NAMES = ('train', 'inspect', 'evaluate', 'predict', 'sample', 'report', 'sweep', 'plan', 'export', 'cite')


def page() -> str:
  """All commands as Markdown."""
  intro = 'Each is a module, `python -m dl.train --help`; `--debug` shows the traceback of any error.\n'
  return '\n'.join(['# Commands\n', intro, *map(_command, NAMES)])


def _command(name: str) -> str:
  module = importlib.import_module(f'dl.commands.{name}')
  rows = [f'| `--{flag.name}` | {_default(flag)} | {_cell(flag.help)} |' for flag in defined(module.define_flags)]
  table = '\n'.join(['| flag | without it | what it does |', '|---|---|---|', *rows])
  return f'## dl.{name}\n\n```text\n{inspect.getdoc(module)}\n```\n\n{table}\n'


def defined(define: Callable[[], None]) -> list[flags.Flag]:
  """The flags that a function defines, which are gone again after it."""
  before = set(flags.FLAGS)
  define()
  new = [flags.FLAGS[name] for name in flags.FLAGS if name not in before]
  for flag in new:
    delattr(flags.FLAGS, flag.name)
  return new


def _default(flag: flags.Flag) -> str:
  return '' if flag.default in (None, '', []) else f'`{flag.default}`'


def _cell(text: str) -> str:
  return ' '.join(text.replace('|', '\\|').replace('<', '&lt;').split())
