"""python -m dl.report RUN... [--output=FILE]

Compares runs: one HTML page that opens offline, and a Markdown table on stdout.

Each RUN is a work directory. The page holds curves, final and best values, what differs between the configs, the
artifacts and the configs themselves. It goes to RUN/report.html for one run and to report.html in the current
directory for several, unless --output says where.
"""

import pathlib
import sys
from collections.abc import Sequence

from absl import flags

from dl import report
from dl.errors import ConfigError
from dl.report import runs


def define_flags() -> None:
  """The flags of the command: not defined on import, so that a program may import several commands."""
  flags.DEFINE_string('output', None, 'The HTML file.')


def main(argv: Sequence[str]) -> None:
  """Writes the page and prints the table."""
  if len(argv) < 2:
    raise ConfigError('name one work directory or more: python -m dl.report RUN... [--output=FILE]')
  output = flags.FLAGS.output and pathlib.Path(flags.FLAGS.output)
  if output and output.is_dir():
    raise ConfigError(f'--output: {output} is a folder; name the file, such as {output / report.FILE}')
  loaded = runs.load(argv[1:])
  default = loaded[0].path / report.FILE if len(loaded) == 1 else pathlib.Path(report.FILE)
  path = report.save(loaded, output or default)
  print(runs.markdown(loaded))
  print(f'wrote {path}', file=sys.stderr)
