"""An experiment as plain data: loading, comparing, and building what it names."""

from dl.config.experiment import (
  Experiment,
  config,
  differences,
  file_of,
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
  'file_of',
  'flatten',
  'load',
  'override',
  'parse_value',
  'resolve',
  'to_plain',
]
