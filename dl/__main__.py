"""python -m dl COMMAND ...: the same as python -m dl.COMMAND ..."""

from dl.commands import cli

if __name__ == '__main__':
  cli.dispatch()
