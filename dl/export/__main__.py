"""The face of `dl.commands.export`, so that `python -m dl.export` runs it."""

from dl.commands import cli, export

if __name__ == '__main__':
  cli.main(export)
