"""The face of `dl.commands.sweep`, so that `python -m dl.sweep` runs it."""

from dl.commands import cli, sweep

if __name__ == '__main__':
  cli.main(sweep)
