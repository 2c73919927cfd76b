"""Commands as a user runs them, in this process, which saves the start."""

import pathlib
import runpy
import sys
from unittest import mock

from absl import flags

ROOT = pathlib.Path(__file__).parents[1]


def run(module: str, *arguments: object) -> None:
  """Runs `python -m MODULE ARGUMENTS`; raises what it raises, SystemExit where it ends as it should.

  Args:
    module: 'dl.train' say.
    *arguments: of the command line.
  """
  path = ROOT.joinpath(*(['dl', 'commands', 'faces', 'inspect'] if module == 'dl.inspect' else module.split('.')))
  before = set(flags.FLAGS)
  try:
    with mock.patch.object(sys, 'argv', [str(path), *map(str, arguments)]):
      runpy.run_path(str(path / '__main__.py' if path.is_dir() else path.with_suffix('.py')), run_name='__main__')
  finally:
    flags.FLAGS.unparse_flags()
    for name in set(flags.FLAGS) - before:
      where = flags.FLAGS.find_module_defining_flag(name)  # those of libraries stay: they are defined once a process
      if where == '__main__' or where.startswith(('dl.', str(ROOT))):
        delattr(flags.FLAGS, name)
