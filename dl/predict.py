"""The face of `dl.commands.predict`, so that `python -m dl.predict` runs it."""

from dl.commands import cli, predict

if __name__ == '__main__':
  cli.main(predict)
