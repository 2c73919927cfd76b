"""The face of `dl.commands.cite`, so that `python -m dl.cite` runs it."""

from dl.commands import cite, cli

if __name__ == '__main__':
  cli.main(cite)
