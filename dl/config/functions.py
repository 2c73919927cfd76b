"""Lists of functions, written as data."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dl.config import build
from dl.errors import ConfigError


def find(
  specs: Sequence[Mapping[str, Any]], package: str, where: str, given: Sequence[str]
) -> list[tuple[Callable, dict[str, Any]]]:
  """The (function, arguments) of each dict in a list.

  Args:
    specs: dicts with a `name`, below `package` or from the top, and arguments.
    package: where short names live.
    where: the config path, for error lines.
    given: arguments which the caller of the functions adds.

  Raises:
    ConfigError: not such a list, an unknown name or argument, or a value of a wrong type.
  """
  if not isinstance(specs, list | tuple):
    raise ConfigError(f"{where}: expected a list of dicts with a 'name', got {specs!r}")
  stages = []
  for i, spec in enumerate(specs):
    at = f'{where}.{i}'
    if not isinstance(spec, Mapping) or 'name' not in spec:
      raise ConfigError(f"{at}: expected a dict with a 'name', got {spec!r}")
    function = build.resolve(spec['name'], package, at)
    arguments = {k: v for k, v in spec.items() if k != 'name'}
    build.check_arguments(function, arguments, at, given=given)
    stages.append((function, arguments))
  return stages
