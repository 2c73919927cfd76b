"""The face of `dl.commands.report`, so that `python -m dl.report` runs it."""

from dl.commands import cli, report

if __name__ == '__main__':
  cli.main(report)
