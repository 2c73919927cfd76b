"""What the arguments of stages and schedules can be."""

from collections.abc import Callable
from typing import Any

from dl.config.bounds import problem
from dl.config.optax_bounds import annotated
from dl.errors import ConfigError

Argument = tuple[Callable, str]
"""A function and the name of one of its arguments."""


def check_value(argument: Argument, value: Any, where: str) -> None:
  """Raises ConfigError for a number that an argument cannot be, nor a schedule which it follows."""
  target, name = argument
  if wrong := problem(value, annotated(target).get(name)):
    raise ConfigError(f'{where}: {wrong}')
