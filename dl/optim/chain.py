"""Optimizers as data: named stages become an optax chain, with masks and values assigned by regular expressions.

    optim=dict(
        clip=dict(name='clip_by_global_norm', max_norm=1.0),
        adam=dict(name='adamw', weight_decay=0.05, mask='kernel$',
                  learning_rate=dict(name='warmup_cosine_decay_schedule', peak_value=1e-3, warmup='5%')))

`name` is any optax (or optax.contrib) transformation, a stage of this module, or a dotted path. `mask` is a regular
expression over parameter paths ('Dense_0/kernel'): it goes to the transformation's own `mask` where there is one, and
else restricts the stage. An ordered list of [pattern, value] pairs in place of a value assigns one value a parameter;
the first match counts and every parameter must match. A dict with a `name` in place of a number is a schedule.
"""

import dataclasses
import functools
import inspect
import typing
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import PyTree

from dl.config.build import check_arguments, check_bounds, makes, resolve, type_hints
from dl.config.duration import to_steps
from dl.config.patterns import assign, found_in, is_pairs, match, paths
from dl.errors import ConfigError, first_line, nearest
from dl.optim.stages import accumulate, freeze, inverse_time_decay, layerwise_decay, params_ema, unfreeze

Schedule = Callable[[Any], Any]
Argument = tuple[Callable, str]
"""A function and the name of one of its arguments."""

_STAGES = {f.__name__: f for f in (params_ema, accumulate, freeze, unfreeze, layerwise_decay)}
_SCHEDULES = {'inverse_time_decay': inverse_time_decay}
_VALUES = ('init_value', 'peak_value', 'end_value', 'value')
_STEP_ARGUMENTS = ('warmup_steps', 'decay_steps', 'transition_steps', 'transition_begin')


@dataclasses.dataclass(frozen=True)
class Length:
  """What durations inside an optimizer refer to.

  Attributes:
    total: optimizer updates in the whole training.
    per_epoch: updates in one epoch, if there is a data set.
    examples: examples an update uses, if known.
  """

  total: int
  per_epoch: float | None = None
  examples: int | None = None

  def scaled(self, factor: float) -> 'Length':
    """Lengths when `factor` updates happen where one did."""
    return Length(
      max(round(self.total * factor), 1),
      self.per_epoch and self.per_epoch * factor,
      self.examples and max(round(self.examples / factor), 1),
    )

  def steps(self, duration: str | int, where: str) -> int:
    """A duration as a number of updates."""
    return to_steps(
      duration, where, steps_per_epoch=self.per_epoch, examples_per_step=self.examples, total_steps=self.total
    )


@dataclasses.dataclass(frozen=True)
class Optimizer:
  """The chains of a run, and the learning rates to log.

  Attributes:
    chains: player -> gradient transformation.
    learning_rates: metric name -> (function of the optimizer updates done, updates a training step).
  """

  chains: dict[str, optax.GradientTransformation]
  learning_rates: dict[str, tuple[Schedule, float]]

  def rates(self, step: int) -> dict[str, float]:
    """The learning rates used in the last of `step` training steps."""
    return {k: float(f(max(int(step * per + 1e-6) - 1, 0))) for k, (f, per) in self.learning_rates.items()}


def make(
  spec: Mapping[str, Any],
  params: Mapping[str, PyTree],
  length: Length,
  updates_per_step: int | Mapping[str, int] = 1,
) -> Optimizer:
  """Builds one chain a player.

  Args:
    spec: named stages; with several players, a dict player -> named stages.
    params: player -> (abstract) parameters.
    length: of the training, in training steps.
    updates_per_step: optimizer updates which one training step makes, of all players or of each.

  Raises:
    ConfigError: an unknown name or argument, a wrong type, a pattern that matches nothing or a list that leaves a
      parameter out, a player without a chain.
  """
  players = list(params)
  if players == ['model'] and set(spec) != {'model'}:
    specs = {'model': spec}
  else:
    for name in spec:
      if name not in players:
        raise ConfigError(f'config.optim.{name}: no such player; {nearest(name, players)}')
    missing = [p for p in players if p not in spec]
    if missing:
      raise ConfigError(f'config.optim: no chain for the player {missing[0]!r}; players: {", ".join(players)}')
    specs = spec
  chains, rates = {}, {}
  for player in players:
    where = 'config.optim' if specs is not spec else f'config.optim.{player}'
    stages = specs[player]
    if not isinstance(stages, Mapping) or not stages:
      raise ConfigError(f'{where}: expected named stages, as in dict(adam=dict(name="adam", learning_rate=1e-3))')
    if 'name' in stages and not isinstance(stages['name'], Mapping):
      raise ConfigError(f'{where}: stages have names, as in dict(adam=dict(name={stages["name"]!r}, ...))')
    found: list[tuple[Schedule, float]] = []
    updates = updates_per_step[player] if isinstance(updates_per_step, Mapping) else updates_per_step
    chains[player] = _chain(list(stages.items()), params[player], length.scaled(updates), where, found, updates)
    if found:
      rates['learning_rate' if len(players) == 1 else f'{player}_learning_rate'] = found[0]
  return Optimizer(chains, rates)


def make_schedule(spec: Mapping[str, Any], length: Length, where: str, of: Argument | None = None) -> Schedule:
  """Builds an optax schedule; lengths are durations and default to the whole training, `warmup` is `warmup_steps`.

  Args:
    spec: `name` and arguments.
    length: of the training.
    where: the config path, for error lines.
    of: the argument which follows the schedule; its values have the bounds of that.
  """
  target = _resolve(spec.get('name'), where, optax.schedules)
  arguments = {k: v for k, v in spec.items() if k != 'name'}
  for name in _VALUES:
    if of and name in arguments:
      check_bounds(*of, arguments[name], f'{where}.{name}')
  parameters = inspect.signature(target).parameters
  if 'warmup' in arguments and 'warmup_steps' in parameters:
    arguments['warmup_steps'] = arguments.pop('warmup')
  elif 'warmup' in arguments:
    return _warmed_up(arguments.pop('warmup'), {'name': spec['name'], **arguments}, length, where, of)
  for name in _STEP_ARGUMENTS:
    if name in arguments:
      arguments[name] = length.steps(arguments[name], f'{where}.{name}')
  for name in ('decay_steps', 'transition_steps'):
    if name in parameters and name not in arguments:
      arguments[name] = max(length.total - arguments.get('transition_begin', 0), 1)
  if 'warmup_steps' in parameters and 'init_value' in parameters:
    arguments.setdefault('init_value', 0.0)
  if 'warmup_steps' in arguments and 'decay_steps' in arguments:  # the warm-up of a very short run
    arguments['warmup_steps'] = min(arguments['warmup_steps'], arguments['decay_steps'] - 1)
  if 'boundaries_and_scales' in arguments:
    if not isinstance(arguments['boundaries_and_scales'], Mapping):
      raise ConfigError(f"{where}.boundaries_and_scales: expected a dict such as {{'50%': 0.1}}")
    arguments['boundaries_and_scales'] = {
      length.steps(k if not k.isdecimal() else int(k), f'{where}.boundaries_and_scales'): v
      for k, v in arguments['boundaries_and_scales'].items()
    }
  if 'schedules' in arguments:
    for name, kind in (('schedules', Mapping), ('boundaries', str | int)):
      if not isinstance(arguments.get(name, []), list | tuple) or not all(isinstance(v, kind) for v in arguments[name]):
        raise ConfigError(f'{where}.{name}: expected a list, of schedules and of the durations between them')
    arguments['schedules'] = [
      make_schedule(s, length, f'{where}.schedules.{i}', of) for i, s in enumerate(arguments['schedules'])
    ]
    arguments['boundaries'] = [length.steps(b, f'{where}.boundaries') for b in arguments.get('boundaries', [])]
  check_arguments(target, arguments, where)
  schedule = _call(target, arguments, where)
  if not callable(schedule) or isinstance(schedule, optax.GradientTransformation):
    raise ConfigError(f'{where}: {spec["name"]!r} is not a schedule')
  return schedule


def _warmed_up(warmup: str | int, spec: Mapping[str, Any], length: Length, where: str, of: Argument | None) -> Schedule:
  """A linear rise from 0, and then a schedule over what is left; one with places of its own keeps them."""
  steps = min(length.steps(warmup, f'{where}.warmup'), max(length.total - 1, 0))
  if {'boundaries_and_scales', 'boundaries'} & spec.keys():
    whole = make_schedule(spec, length, where, of)
    return lambda step: jnp.where(step < steps, whole(0) * step / max(steps, 1), whole(step))
  rest = make_schedule(spec, dataclasses.replace(length, total=length.total - steps), where, of)
  if not steps:
    return rest
  return optax.schedules.join_schedules([optax.schedules.linear_schedule(0.0, float(rest(0)), steps), rest], [steps])


def _chain(
  stages: list[tuple[str, Any]], params: PyTree, length: Length, where: str, rates: list, updates_per_step: float
) -> optax.GradientTransformation:
  """A chain of stages; a stage with an `inner` argument wraps all those after it."""
  transforms = []
  for i, (label, stage) in enumerate(stages):
    at = f'{where}.{label}'
    if not isinstance(stage, Mapping) or 'name' not in stage:
      raise ConfigError(f"{at}: a stage is a dict with a 'name', got {stage!r}")
    target = _resolve(stage['name'], at)
    if target is params_ema and (i + 1 < len(stages) or 'mask' in stage or is_pairs(stage.get('decay'))):
      raise ConfigError(f'{at}: params_ema is the last stage, and averages all parameters alike')
    if target is accumulate and any('learning_rate' in s for _, s in stages[:i]):
      raise ConfigError(f'{at}: accumulate comes before the optimizer, whose gradients it averages')
    inner = {}
    if 'inner' in inspect.signature(target).parameters:
      if i + 1 == len(stages):
        raise ConfigError(f'{at}: wraps the stages after it, and there is none')
      every = stage.get('steps', 1) if target is accumulate else 1
      if not isinstance(every, int) or every < 1:
        raise ConfigError(f'{at}.steps: expected a whole number of at least 1, got {every!r}')
      seen = _trained(stage.get('mask'), params, at) if target is freeze else params
      inner['inner'] = _chain(stages[i + 1 :], seen, length.scaled(1 / every), where, rates, updates_per_step / every)
    transforms.append(_stage(target, stage, params, length, at, rates, updates_per_step, inner))
    if inner:
      break
  _check_all_are_optimized(stages[: len(transforms)], params, where)
  return optax.chain(*transforms) if len(transforms) > 1 else transforms[0]


def _check_all_are_optimized(stages: list[tuple[str, Any]], params: PyTree, where: str) -> None:
  """Raises ConfigError where masks leave a parameter to no optimizer: its raw gradient would be added to it."""
  optimizers = [(label, stage) for label, stage in stages if 'learning_rate' in stage]
  masks = {}
  for label, stage in optimizers:
    restricts = 'mask' in stage and 'mask' not in inspect.signature(_resolve(stage['name'], where)).parameters
    if not restricts or not isinstance(stage['mask'], str):
      return  # it takes all parameters
    masks[label] = match(stage['mask'], params, f'{where}.{label}.mask')
  if not masks:
    return
  for path, *taken in zip(paths(params), *(jax.tree.leaves(mask) for mask in masks.values()), strict=True):
    if not any(taken):
      raise ConfigError(
        f'{where}: no stage with a learning_rate takes {path!r}: the mask of {" and of ".join(masks)} leaves it out; '
        f'give it a stage of its own, or freeze it'
      )


def _trained(mask: Any, params: PyTree, where: str) -> PyTree:
  """The parameters which a `freeze` leaves to the stages after it."""
  if not isinstance(mask, str):
    raise ConfigError(f"{where}.mask: expected a pattern of what to freeze, such as '^(?!head)', got {mask!r}")
  frozen = match(mask, params, f'{where}.mask')
  if all(jax.tree.leaves(frozen)):
    raise ConfigError(f'{where}.mask: {mask!r} matches every parameter, so nothing would be trained')
  return jax.tree.map(lambda f, p: optax.MaskedNode() if f else p, frozen, params)


def _stage(target, stage, params, length, where, rates, updates_per_step, inner) -> optax.GradientTransformation:
  arguments = {k: v for k, v in stage.items() if k != 'name'}
  parameters = inspect.signature(target).parameters
  mask = arguments.pop('mask', None) if 'mask' not in parameters else None
  assigned = {}
  for name, value in list(arguments.items()):
    at = f'{where}.{name}'
    if isinstance(value, str) and name == 'learning_rate':
      raise ConfigError(
        f"{at}: expected a number or a schedule, such as dict(name='cosine_decay_schedule', ...), got {value!r}"
      )
    if isinstance(value, str) and name.endswith('mask'):
      match(value, params, at)
      arguments[name] = functools.partial(found_in, value) if name in parameters else value
    elif name.endswith('mask') and not (
      value is None or callable(value) or (name != 'mask' and value in (True, False))
    ):
      raise ConfigError(f"{at}: expected a pattern over parameters' paths, such as 'kernel$', got {value!r}")
    elif is_pairs(value) and target is not layerwise_decay:
      assigned[name] = (
        assign(value, params, at),
        [_value(target, name, v, length, at) for _, v in value],
      )
    else:
      arguments[name] = _value(target, name, value, length, at)
  plain = {k: v for k, v in arguments.items() if k not in assigned}
  probe = plain | {k: v[0] for k, (_, v) in assigned.items()}
  check_arguments(target, probe, where, inner)
  if target is layerwise_decay:
    assign([[pattern, None] for pattern in probe['layers']], params, f'{where}.layers')
  rate = probe.get('learning_rate')
  if rate is not None:
    rates.append((rate if callable(rate) else lambda _: rate, updates_per_step))
  if assigned:
    labels = jax.tree.map(lambda *i: ','.join(map(str, i)), *(index for index, _ in assigned.values()))
    transforms = {}
    for label in sorted(set(jax.tree.leaves(labels))):
      chosen = zip(assigned.items(), label.split(','), strict=True)
      values = {k: choices[int(i)] for (k, (_, choices)), i in chosen}
      transforms[label] = _call(target, plain | values | inner, where)
    transform = optax.partition(transforms, labels)
  else:
    transform = _call(target, plain | inner, where)
  if not isinstance(transform, optax.GradientTransformation):
    raise ConfigError(
      f'{where}: {stage["name"]!r} is not a gradient transformation; {nearest(stage["name"], _names())}'
    )
  if mask is not None:
    transform = optax.masked(transform, match(mask, params, f'{where}.mask'))
  return transform


def _value(target: Callable, name: str, value: Any, length: Length, where: str) -> Any:
  """An argument of a stage: a dict is a schedule, and `after` a duration."""
  if isinstance(value, Mapping) and 'name' in value:
    return make_schedule(value, length, where, (target, name))
  check_bounds(target, name, value, where)
  return length.steps(value, where) if name == 'after' else value


def _resolve(name: Any, where: str, *modules: Any) -> Callable:
  """The transformation or schedule of a name."""
  if not isinstance(name, str):
    raise ConfigError(f'{where}: expected a name, got {name!r}')
  own = _SCHEDULES if modules else _STAGES
  if name in own:
    return own[name]
  for module in (*modules, optax, optax.contrib):
    if callable(getattr(module, name, None)):
      return getattr(module, name)
  if '.' in name:
    found = resolve(name, 'optax', where)
    if not _makes_stage(found, bool(modules)):
      what = 'optax.Schedule' if modules else 'optax.GradientTransformation'
      raise ConfigError(f'{where}: {name!r} is no function whose return annotation is {what}')
    return found
  raise ConfigError(f'{where}: no optax transformation is called {name!r}; {nearest(name, _names(*modules))}')


def _makes_stage(target: Any, schedule: bool) -> bool:
  """Whether a function says that it makes a schedule, or a transformation: nothing else is called."""
  if not inspect.isfunction(target):
    return False
  if target.__module__.partition('.')[0] == 'optax':
    return True
  if not schedule:
    return makes(target, optax.GradientTransformation)
  return typing.get_origin(type_hints(target).get('return')) is Callable


def _names(*modules: Any) -> list[str]:
  found = [n for m in (modules or (optax, optax.contrib)) for n, v in vars(m).items() if inspect.isfunction(v)]
  return [*found, *(_SCHEDULES if modules else _STAGES)]


def _call(target: Callable, arguments: Mapping[str, Any], where: str) -> Any:
  try:
    return target(**arguments)
  except ConfigError as e:
    raise ConfigError(f'{where}: {e}') from e
  except (ValueError, TypeError, AttributeError) as e:
    raise ConfigError(f'{where}: {target.__name__} refused its arguments: {first_line(e)}') from e
