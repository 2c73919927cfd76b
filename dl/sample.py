"""The face of `dl.commands.sample`, so that `python -m dl.sample` runs it."""

from dl.commands import cli, sample

if __name__ == '__main__':
  cli.main(sample)
