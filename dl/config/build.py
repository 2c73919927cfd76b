"""From data to objects: a dict with a dotted `name` becomes the thing it names, or a one-line error.

A config is data which people share (`config.json` of a work directory), so a name calls nothing but what makes a part
of a run: a model is a class of Linen modules or a function annotated to return one, a task a `dl.contract.task.Task`,
and so on (`makes`), which is checked before the call. Nothing of Python's own library can be named (`os.system`). A
name does import its module, so modules of one's own are as trusted as the folder and packages that they lie in.
"""

import contextlib
import importlib
import importlib.util
import inspect
import os
import pkgutil
import re
import sys
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from dl.config import bounds
from dl.errors import ConfigError, first_line, nearest

# Full names in configs of before the packages; short ones are the same.
_MOVED = re.compile(r'^dl\.data\.(arrays|images|segmentation|sklearn|synthetic|tabular|text|tfds)(?=\.)')
_MOVED_MAPS = 'dl.data.augment_maps.', 'dl.data.augment.maps.'


def resolve(name: str, package: str, where: str) -> Any:
  """The object that a dotted path names: `package.name` if there is one, else `name` from the top.

  Raises:
    ConfigError: no such module or attribute; the line lists the nearest valid names.
  """
  if not isinstance(name, str) or not name:
    raise ConfigError(f'{where}: a name must be a dotted path (a string), got {name!r}')
  for path in (f'{package}.{name}', _MOVED.sub(r'dl.data.sources.\1', name).replace(*_MOVED_MAPS)):
    module, _, attribute = path.rpartition('.')
    if module.partition('.')[0] in sys.stdlib_module_names:
      raise ConfigError(
        f'{where}: {name!r} is of Python itself, which makes no part of a run; {nearest(name, known_names(package))}'
      )
    if module and _module_exists(module):
      found = _import(module, where)
      if hasattr(found, attribute):
        return getattr(found, attribute)
      if module != package:
        raise ConfigError(f'{where}: {module!r} has no {attribute!r}; {nearest(attribute, public_names(found))}')
  raise ConfigError(f'{where}: nothing is called {name!r}; {_hint(name, package)}')


def build(spec: Mapping[str, Any], package: str, where: str, kind: type = object, **given: Any) -> Any:
  """Calls the object that `spec['name']` names with the other items of `spec` and with `given`.

  Args:
    spec: plain data: `name`, a dotted path below `package` or from the top, and its arguments.
    package: where short names live, `dl.models` say.
    where: the config path, for error lines.
    kind: class of what is built; nothing is called that does not make it.
    **given: arguments which do not come from the config; they must not be in `spec`.

  Raises:
    ConfigError: an unknown name or argument, a missing one, or a value of a wrong type.
  """
  if not isinstance(spec, Mapping) or 'name' not in spec:
    raise ConfigError(f"{where}: expected a dict with a 'name', got {spec!r}")
  target = resolve(spec['name'], package, where)
  if not makes(target, kind):
    raise ConfigError(
      f'{where}: {spec["name"]!r} makes no {kind.__module__}.{kind.__name__}; name a class of them, or a function '
      'whose return annotation says so'
    )
  arguments = {k: v for k, v in spec.items() if k != 'name'}
  check_arguments(target, arguments, where, given)
  hints = type_hints(target)
  arguments = {k: to_tuples(v, hints.get(k)) for k, v in arguments.items()}
  try:
    found = target(**arguments, **given)
  except ConfigError as e:
    raise ConfigError(str(e) if where in str(e) else f'{where}: {e}') from e
  except (ValueError, TypeError) as e:
    raise ConfigError(f'{where}: {spec["name"]} refused its arguments: {first_line(e)}') from e
  except OSError as e:
    raise ConfigError(f'{where}: {spec["name"]}: {first_line(e)}') from e
  if not isinstance(found, kind):
    raise ConfigError(f'{where}: {spec["name"]} made a {type(found).__name__}, not a {kind.__name__}')
  return found


def makes(target: Any, kind: type) -> bool:
  """Whether a class, or a function by its return annotation, makes what a config may have made in this place."""
  made = target if isinstance(target, type) else type_hints(target).get('return') if callable(target) else None
  made = typing.get_origin(made) or made
  return isinstance(made, type) and issubclass(made, kind)


def check_arguments(target: Callable, arguments: Mapping[str, Any], where: str, given: Sequence[str] = ()) -> None:
  """Checks names and types of `arguments` against the signature of `target`; raises ConfigError.

  Numbers for what is defined here or in optax have ranges as well, by their names (`dl.config.bounds`).
  """
  if not callable(target):
    raise ConfigError(f'{where}: {target!r} cannot be called')
  try:
    parameters = inspect.signature(target).parameters
  except ValueError as e:  # some builtins
    raise ConfigError(f'{where}: {target!r} does not say what arguments it takes') from e
  valid = {
    n: p
    for n, p in parameters.items()
    if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) and n not in ('self', 'parent') and n not in given
  }
  label = getattr(target, '__name__', str(target))
  if not any(p.kind == p.VAR_KEYWORD for p in parameters.values()):
    for name in arguments:
      if name not in valid:
        raise ConfigError(f'{where}.{name}: {label} takes no argument {name!r}; {nearest(name, valid)}')
  for name, p in valid.items():
    if p.default is p.empty and name not in arguments:
      raise ConfigError(f'{where}: {label} needs an argument {name!r}')
  hints = type_hints(target)
  for name, value in arguments.items():
    if name in hints and not matches(value, hints[name]):
      raise ConfigError(f'{where}.{name}: expected {describe(hints[name])}, got {value!r} ({type(value).__name__})')
    if _package(target) in ('dl', 'optax') and not (name in valid and valid[name].default is value):
      check_range(name, value, f'{where}.{name}')


def check_range(name: str, value: Any, where: str) -> None:
  """Raises ConfigError for a number which an argument of this name cannot be."""
  if wrong := bounds.problem(name, value):
    raise ConfigError(f'{where}: {wrong}')


def _package(target: Callable) -> str:
  return (getattr(target, '__module__', None) or '').partition('.')[0]


def describe(hint: Any) -> str:
  """A type hint in few words."""
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
  if origin in (typing.Union, types.UnionType):
    return next((to_tuples(value, a) for a in args if matches(value, a)), value)
  if (origin or hint) not in (tuple, Sequence):
    return value
  each = args if args and args[-1] is not Ellipsis and origin is tuple else (args[0] if args else None,) * len(value)
  return tuple(to_tuples(v, h) for v, h in zip(value, each, strict=True))


def _is_numpy_scalar(hint: Any) -> bool:
  return isinstance(hint, type) and issubclass(hint, np.generic)


def type_hints(target: Callable) -> dict[str, Any]:
  """Type hints of the arguments of a class or function, but those that cannot be read."""
  holder = target.__init__ if isinstance(target, type) and not hasattr(target, '__dataclass_fields__') else target
  unreadable = NameError, TypeError, AttributeError
  try:
    return typing.get_type_hints(holder)
  except unreadable:
    found = {}
  for name, hint in getattr(holder, '__annotations__', {}).items():
    one = types.SimpleNamespace(__annotations__={name: hint})
    with contextlib.suppress(*unreadable):
      found |= typing.get_type_hints(one, getattr(holder, '__globals__', None))
  return found


def public_names(module: types.ModuleType) -> list[str]:
  """What a module offers to configs: what is named like a class (`ResNet50`) if anything is, else its functions.

  A package with `__all__` offers that, wherever it is defined.
  """
  listed = getattr(module, '__all__', None)
  own = lambda n, v: n in listed if listed is not None else getattr(v, '__module__', None) == module.__name__
  found = [n for n, v in vars(module).items() if not n.startswith('_') and callable(v) and own(n, v)]
  return [n for n in found if n[0].isupper()] or found


def _hint(name: str, package: str) -> str:
  """What to do about a name that there is none of: the nearest names, or where a module of one's own has to be."""
  known = known_names(package)
  top, *rest = name.split('.')
  if not rest or _module_exists(f'{package}.{top}') or nearest(name, known).startswith('did'):
    return nearest(name, known)
  if not _module_exists(top):
    return f'there is no module {top!r} below {package}, in {os.getcwd()} or elsewhere on the Python path'
  modules = pkgutil.iter_modules(getattr(importlib.import_module(top), '__path__', []))
  return nearest('.'.join([top, *rest[:-1]]), [f'{top}.{m.name}' for m in modules])


def known_names(package: str) -> list[str]:
  """Every `module.Name` below a package, and its own names; with `__all__` its own alone.

  Where there are names like those of classes, they are the ones that a config can use.
  """
  found = importlib.import_module(package)
  names = public_names(found)
  for m in pkgutil.iter_modules([] if hasattr(found, '__all__') else getattr(found, '__path__', [])):
    try:
      module = importlib.import_module(f'{package}.{m.name}')
    except ImportError:  # its optional dependency is absent
      continue
    names += [f'{m.name}.{n}' for n in public_names(module)]
  return [n for n in names if n.rpartition('.')[2][0].isupper()] or names


def _module_exists(module: str) -> bool:
  try:
    return importlib.util.find_spec(module) is not None
  except (ImportError, ValueError, AttributeError):  # none of this name, or a name which none can have
    return False


def _import(module: str, where: str) -> types.ModuleType:
  try:
    return importlib.import_module(module)
  except ImportError as e:
    raise ConfigError(f'{where}: cannot import {module!r}: {first_line(e)}') from e
