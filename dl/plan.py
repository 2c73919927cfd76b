"""The face of `dl.commands.plan`, so that `python -m dl.plan` runs it."""

from dl.commands import cli, plan

if __name__ == '__main__':
  cli.main(plan)
