"""The face of `dl.commands.inspect`, so that `python -m dl.inspect` runs it."""

from dl.commands import cli, inspect

if __name__ == '__main__':
  cli.main(inspect)
