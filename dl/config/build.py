"""From data to objects: a dict with a dotted `name` becomes the thing it names, or a one-line error.

A config is data which people share (`config.json` of a work directory), so a name calls nothing but what makes a part
of a run: a model is a class of Linen modules or a function annotated to return one, a task a `dl.contract.task.Task`,
and so on (`makes`), which is checked before the call. Nothing of Python's own library can be named (`os.system`). A
name does import its module, so modules of one's own are as trusted as the folder and packages that they lie in.
"""

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

from dl.config.bounds import problem
from dl.config.hints import describe, matches, plain, to_tuples, type_hints
from dl.config.optax_bounds import annotated
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
      loaded = _import(module, where)
      if hasattr(loaded, attribute):
        return getattr(loaded, attribute)
      if module != package:
        raise ConfigError(f'{where}: {module!r} has no {attribute!r}; {nearest(attribute, public_names(loaded))}')
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
    made = target(**arguments, **given)
  except ConfigError as e:
    raise ConfigError(str(e) if where in str(e) else f'{where}: {e}') from e
  except (ValueError, TypeError) as e:
    raise ConfigError(f'{where}: {spec["name"]} refused its arguments: {first_line(e)}') from e
  except OSError as e:
    raise ConfigError(f'{where}: {spec["name"]}: {first_line(e)}') from e
  if not isinstance(made, kind):
    raise ConfigError(f'{where}: {spec["name"]} made a {type(made).__name__}, not a {kind.__name__}')
  return made


def makes(target: Any, kind: type) -> bool:
  """Whether a class, or a function by its return annotation, makes what a config may have made in this place."""
  made = target if isinstance(target, type) else type_hints(target).get('return') if callable(target) else None
  made = plain(made)
  made = typing.get_origin(made) or made
  return isinstance(made, type) and issubclass(made, kind)


def check_arguments(
  target: Callable,
  arguments: Mapping[str, Any],
  where: str,
  given: Sequence[str] = (),
) -> None:
  """Checks names, types and bounds (`dl.config.bounds`) of arguments; a default passes, whatever it is.

  Args:
    target: a class or function.
    arguments: what it is to be called with, as plain data.
    where: the config path, for error lines.
    given: names of arguments which the caller adds.

  Raises:
    ConfigError: an unknown argument, a missing one, or a value of a wrong type or out of its bounds.
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
  hints = annotated(target)
  for name, value in arguments.items():
    if name in hints and not matches(value, hints[name]):
      raise ConfigError(f'{where}.{name}: expected {describe(hints[name])}, got {value!r} ({type(value).__name__})')
  check_bounds(target, arguments, where)


def check_bounds(target: Callable, arguments: Mapping[str, Any], where: str) -> None:
  """Checks numbers alone, by the bounds that annotations state: of what is called from Python too.

  Raises:
    ConfigError: a value out of its bounds; a default passes, whatever it is.
  """
  hints, parameters = annotated(target), inspect.signature(target).parameters
  for name, value in arguments.items():
    default = name in parameters and parameters[name].default is value
    if not default and (wrong := problem(value, hints.get(name))):
      raise ConfigError(f'{where}.{name}: {wrong}')


def public_names(module: types.ModuleType) -> list[str]:
  """What a module offers to configs: what is named like a class (`ResNet50`) if anything is, else its functions.

  A package with `__all__` offers that, wherever it is defined.
  """
  listed = getattr(module, '__all__', None)
  own = lambda n, v: n in listed if listed is not None else getattr(v, '__module__', None) == module.__name__
  names = [n for n, v in vars(module).items() if not n.startswith('_') and callable(v) and own(n, v)]
  return [n for n in names if n[0].isupper()] or names


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
  root = importlib.import_module(package)
  names = public_names(root)
  for m in pkgutil.iter_modules([] if hasattr(root, '__all__') else getattr(root, '__path__', [])):
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
  except SyntaxError as e:  # in a module of a user's own
    name = os.path.basename(e.filename or module)
    raise ConfigError(f'{where}: {name}:{e.lineno}: {type(e).__name__}: {e.msg}') from e
