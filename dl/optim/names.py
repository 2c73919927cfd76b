"""What the name of a stage or of a schedule stands for: a function of optax, one of `dl.optim.stages`, or one's own."""

import inspect
import typing
from collections.abc import Callable, Mapping
from typing import Any

import optax

from dl.config.build import makes, resolve
from dl.config.hints import type_hints
from dl.errors import ConfigError, first_line, nearest
from dl.optim import stages

_STAGES = {
  f.__name__: f
  for f in (
    stages.params_ema,
    stages.params_average,
    stages.accumulate,
    stages.freeze,
    stages.unfreeze,
    stages.layerwise_decay,
  )
}
_SCHEDULES = {'inverse_time_decay': stages.inverse_time_decay}


def stage(name: Any, where: str) -> Callable[..., optax.GradientTransformation]:
  """The function that makes the transformation of a name; raises ConfigError where there is none."""
  return _of(name, where, _STAGES, (optax, optax.contrib), 'optax.GradientTransformation', _makes_stage)


def schedule(name: Any, where: str) -> Callable[..., optax.Schedule]:
  """The function that makes the schedule of a name; raises ConfigError where there is none."""
  return _of(name, where, _SCHEDULES, (optax.schedules, optax, optax.contrib), 'optax.Schedule', _makes_schedule)


def nearest_stage(name: str) -> str:
  """The end of an error line about the name of a stage."""
  return nearest(name, [*_STAGES, *_functions(optax), *_functions(optax.contrib)])


def call(target: Callable, arguments: Mapping[str, Any], where: str) -> Any:
  """`target(**arguments)`, whose errors follow the path of the config."""
  try:
    return target(**arguments)
  except ConfigError as e:
    raise ConfigError(f'{where}: {e}') from e
  except (ValueError, TypeError, AttributeError) as e:
    raise ConfigError(f'{where}: {target.__name__} refused its arguments: {first_line(e)}') from e


def _of(
  name: Any, where: str, own: Mapping[str, Callable], modules: tuple, kind: str, makes_kind: Callable[[Any], bool]
) -> Callable:
  if not isinstance(name, str):
    raise ConfigError(f'{where}: expected a name, got {name!r}')
  if name in own:
    return own[name]
  for module in modules:
    if callable(getattr(module, name, None)):
      return getattr(module, name)
  if '.' in name:
    target = resolve(name, 'optax', where)
    if not makes_kind(target):
      raise ConfigError(f'{where}: {name!r} is no function whose return annotation is {kind}')
    return target
  listed = modules[:1] if own is _SCHEDULES else modules
  valid = [*own, *(n for module in listed for n in _functions(module))]
  raise ConfigError(f'{where}: no optax transformation is called {name!r}; {nearest(name, valid)}')


def _functions(module: Any) -> list[str]:
  return [n for n, v in vars(module).items() if inspect.isfunction(v)]


def _makes_stage(target: Any) -> bool:
  """Whether a function says that it makes a transformation: nothing else of one's own is called."""
  return _of_optax(target) or (inspect.isfunction(target) and makes(target, optax.GradientTransformation))


def _makes_schedule(target: Any) -> bool:
  returned = inspect.isfunction(target) and type_hints(target).get('return')
  return _of_optax(target) or typing.get_origin(returned) is Callable


def _of_optax(target: Any) -> bool:
  return inspect.isfunction(target) and target.__module__.partition('.')[0] == 'optax'
