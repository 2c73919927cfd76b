"""The face of `dl.commands.train`, so that `python -m dl.train` runs it."""

from dl.commands import cli, train

if __name__ == '__main__':
  cli.main(train)
