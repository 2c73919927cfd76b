"""An experiment as plain data: loading, comparing, and building what it names."""

from dl.config.experiment import (
  CONFIG_FILE,
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
  'CONFIG_FILE',
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
