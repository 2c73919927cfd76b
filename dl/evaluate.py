"""The face of `dl.commands.evaluate`, so that `python -m dl.evaluate` runs it."""

from dl.commands import cli, evaluate

if __name__ == '__main__':
  cli.main(evaluate)
