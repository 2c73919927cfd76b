"""An experiment as plain data: loading, overriding and comparing configs, and building what they name."""

from dl.config.experiment import (
  Experiment,
  config,
  differences,
  flatten,
  load,
  override,
  parse_value,
  resolve,
  to_plain,
)

__all__ = [
  'Experiment',
  'config',
  'differences',
  'flatten',
  'load',
  'override',
  'parse_value',
  'resolve',
  'to_plain',
]
