"""Type hints of what a config can name, and plain values against them; bounds (`dl.config.bounds`) are no types."""

import contextlib
import functools
import operator
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np


def plain(hint: Any) -> Any:
  """A type hint without annotations such as bounds, wherever in it."""
  origin, args = typing.get_origin(hint), typing.get_args(hint)
  if origin is typing.Annotated:
    return plain(args[0])
  if origin in (typing.Union, types.UnionType):
    return functools.reduce(operator.or_, map(plain, args))
  if origin in (tuple, list, dict, Sequence, Mapping):
    return types.GenericAlias(origin, tuple(map(plain, args)))
  return hint


def describe(hint: Any) -> str:
  """A type hint in few words."""
  hint = plain(hint)
  if isinstance(hint, type) and not typing.get_args(hint):
    return hint.__name__
  if float in typing.get_args(hint) and jax.Array in typing.get_args(hint):  # optax's numbers
    return 'a number'
  return str(hint).replace('typing.', '')


def matches(value: Any, hint: Any) -> bool:
  """Whether a plain value fits a type hint; hints which plain data cannot express (arrays, modules) fit all."""
  if hint is Any or isinstance(hint, typing.TypeVar | str):
    return True
  origin, args = typing.get_origin(hint), typing.get_args(hint)
  if origin in (typing.Union, types.UnionType):
    return any(matches(value, a) for a in args)
  if origin is typing.Literal:
    return value in args
  if origin is typing.Annotated:
    return matches(value, args[0])
  if hint is None or hint is types.NoneType:
    return value is None
  if hint is bool:
    return isinstance(value, bool)
  if hint is int:
    return isinstance(value, int) and not isinstance(value, bool)
  if hint is float:
    return isinstance(value, int | float) and not isinstance(value, bool)
  if hint is str:
    return isinstance(value, str)
  base = origin or hint
  if base in (list, tuple, Sequence):
    if not isinstance(value, list | tuple):
      return False
    if base is tuple and args and args[-1] is not Ellipsis:
      return len(value) == len(args) and all(matches(v, a) for v, a in zip(value, args, strict=True))
    return not args or all(matches(v, args[0]) for v in value)
  if base in (dict, Mapping):
    return isinstance(value, Mapping)
  if hint in (jax.Array, np.ndarray, complex) or hasattr(hint, 'array_type') or _is_numpy_scalar(hint):
    return not isinstance(value, str | Mapping | types.NoneType)
  if base is Callable:
    return callable(value)
  return True


def to_tuples(value: Any, hint: Any) -> Any:
  """Lists, which is how a resolved config holds tuples, as tuples where the hint asks for one: modules are hashed."""
  origin, args = typing.get_origin(hint), typing.get_args(hint)
  if not isinstance(value, list | tuple):
    return value
  if origin is typing.Annotated:
    return to_tuples(value, args[0])
  if origin in (typing.Union, types.UnionType):
    return next((to_tuples(value, a) for a in args if matches(value, a)), value)
  if (origin or hint) not in (tuple, Sequence):
    return value
  each = args if args and args[-1] is not Ellipsis and origin is tuple else (args[0] if args else None,) * len(value)
  return tuple(to_tuples(v, h) for v, h in zip(value, each, strict=True))


def _is_numpy_scalar(hint: Any) -> bool:
  return isinstance(hint, type) and issubclass(hint, np.generic)


def type_hints(target: Callable) -> dict[str, Any]:
  """Type hints of the arguments of a class or function with their bounds, but those that cannot be read."""
  holder = target.__init__ if isinstance(target, type) and not hasattr(target, '__dataclass_fields__') else target
  unreadable = NameError, TypeError, AttributeError
  try:
    return typing.get_type_hints(holder, include_extras=True)
  except unreadable:
    readable = {}
  for name, hint in getattr(holder, '__annotations__', {}).items():
    one = types.SimpleNamespace(__annotations__={name: hint})
    with contextlib.suppress(*unreadable):
      readable |= typing.get_type_hints(one, getattr(holder, '__globals__', None), include_extras=True)
  return readable
