"""python -m dl.cite --config=experiments/vision/digits_lenet.py

Prints the BibTeX of what an experiment builds on (see `dl.config.citations`).
Exit code 2: a mistake in the command or the config.
"""

from absl import flags

from dl.commands import cli


def define_flags() -> None:
  """The flags of the command: not defined on import, so that a program may import several commands."""
  cli.define_config()


def main(argv: list[str]) -> None:
  """Prints the entries."""
  cli.no_more(argv)
  from dl import config  # after the flags are parsed, so that --help is fast
  from dl.config import citations

  spec = cli.required('config')
  keys = citations.keys(config.load(spec, flags.FLAGS.override), citations.docstring(spec))
  print(citations.bibtex(keys))
