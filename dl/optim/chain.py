"""Optimizers as data: named stages become an optax chain, with masks and values assigned by regular expressions.

    optim=dict(
        clip=dict(name='clip_by_global_norm', max_norm=1.0),
        adam=dict(name='adamw', weight_decay=0.05, mask='kernel$',
                  learning_rate=dict(name='warmup_cosine_decay_schedule', peak_value=1e-3, warmup='5%')))

`name` is any optax (or optax.contrib) transformation, a stage of `dl.optim.stages`, or a dotted path. `mask` is a
regular expression over parameter paths ('Dense_0/kernel'): it goes to the transformation's own `mask` where there is
one, and else restricts the stage. An ordered list of [pattern, value] pairs in place of a value assigns one value a
parameter; the first match counts and every parameter must match. A dict with a `name` in place of a number is a
schedule. One stage with a learning rate takes each parameter (`dl.optim.coverage`).
"""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import jax
import optax
from jaxtyping import PyTree

from dl.config.build import check_arguments
from dl.config.patterns import assign, found_in, is_pairs, match, paths
from dl.errors import ConfigError, nearest
from dl.optim import coverage, names
from dl.optim.arguments import check_value
from dl.optim.schedules import Length, Schedule, make_schedule
from dl.optim.stages import accumulate, freeze, layerwise_decay, params_average, params_ema


@dataclasses.dataclass(frozen=True)
class Optimizer:
  """The chains of a run, and the learning rates to log.

  Attributes:
    chains: player -> gradient transformation.
    learning_rates: metric name -> (function of the optimizer updates done, updates a training step).
    accumulated: players whose gradients `accumulate` averages over several batches.
  """

  chains: dict[str, optax.GradientTransformation]
  learning_rates: dict[str, tuple[Schedule, float]]
  accumulated: tuple[str, ...] = ()

  def rates(self, step: int) -> dict[str, float]:
    """The learning rates used in the last of `step` training steps."""
    return {k: float(f(max(int(step * per + 1e-6) - 1, 0))) for k, (f, per) in self.learning_rates.items()}

  def note(self, extra: PyTree) -> str | None:
    """What `accumulate` does not keep of a larger batch, given the state's collections besides its parameters."""
    if not self.accumulated or not any('batch_stats' in path.split('/') for path in paths(extra)):
      return None
    return (
      'accumulate: batch norm takes its statistics of each batch, not of all those that make an update, so this is '
      'not the same as a larger batch'
    )


def make(
  spec: Mapping[str, Any],
  params: Mapping[str, PyTree],
  length: Length,
  updates_per_step: int | Mapping[str, int] = 1,
  frozen: Mapping[str, str] | None = None,
) -> Optimizer:
  """Builds one chain a player.

  Args:
    spec: named stages; with several players, a dict player -> named stages.
    params: player -> (abstract) parameters.
    length: of the training, in training steps.
    updates_per_step: optimizer updates which one training step makes, of all players or of each.
    frozen: player -> a regular expression of parameters that stay as they are, as if its first stage froze them.

  Raises:
    ConfigError: an unknown name or argument, a wrong type, a pattern that matches nothing or a list that leaves a
      parameter out, a player without a chain, two optimizers for one parameter.
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
    if player in (frozen or {}):
      if 'lora' in stages:
        raise ConfigError(f'{where}.lora: is what freezes all but the adapters; call the stage by another name')
      stages = {'lora': dict(name='freeze', mask=frozen[player]), **stages}
    player_rates: list[tuple[Schedule, float]] = []
    updates = updates_per_step[player] if isinstance(updates_per_step, Mapping) else updates_per_step
    chains[player] = _chain(list(stages.items()), params[player], length.scaled(updates), where, player_rates, updates)
    coverage.check(list(stages.items()), params[player], where)
    if player_rates:
      rates['learning_rate' if len(players) == 1 else f'{player}_learning_rate'] = player_rates[0]
  named = lambda stages: [names.stage(stage['name'], 'config.optim') for stage in stages.values()]
  return Optimizer(chains, rates, tuple(p for p in players if accumulate in named(specs[p])))


def _chain(
  stages: list[tuple[str, Any]], params: PyTree, length: Length, where: str, rates: list, updates_per_step: float
) -> optax.GradientTransformation:
  """A chain of stages; a stage with an `inner` argument wraps all those after it."""
  transforms = []
  for i, (label, stage) in enumerate(stages):
    at = f'{where}.{label}'
    if not isinstance(stage, Mapping) or 'name' not in stage:
      raise ConfigError(f"{at}: a stage is a dict with a 'name', got {stage!r}")
    target = names.stage(stage['name'], at)
    averages = target in (params_ema, params_average)
    if averages and (i + 1 < len(stages) or 'mask' in stage or any(map(is_pairs, stage.values()))):
      raise ConfigError(f'{at}: {target.__name__} is the last stage, and averages all parameters alike')
    if target is accumulate and any(coverage.takes_steps(names.stage(s['name'], at), s) for _, s in stages[:i]):
      raise ConfigError(f'{at}: accumulate comes before the optimizer, whose gradients it averages')
    inner = {}
    if 'inner' in inspect.signature(target).parameters:
      if i + 1 == len(stages):
        raise ConfigError(f'{at}: wraps the stages after it, and there is none')
      every = stage.get('steps', 1) if target is accumulate else 1
      if not isinstance(every, int) or every < 1:
        raise ConfigError(f'{at}.steps: expected a whole number of at least 1, got {every!r}')
      seen = coverage.trained(stage.get('mask'), params, at) if target is freeze else params
      inner['inner'] = _chain(stages[i + 1 :], seen, length.scaled(1 / every), where, rates, updates_per_step / every)
    transforms.append(_stage(target, stage, params, length, at, rates, updates_per_step, inner))
    if inner:
      break
  return optax.chain(*transforms) if len(transforms) > 1 else transforms[0]


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
      transforms[label] = names.call(target, plain | values | inner, where)
    transform = optax.partition(transforms, labels)
  else:
    transform = names.call(target, plain | inner, where)
  if not isinstance(transform, optax.GradientTransformation):
    raise ConfigError(
      f'{where}: {stage["name"]!r} is not a gradient transformation; {names.nearest_stage(stage["name"])}'
    )
  if mask is not None:
    transform = optax.masked(transform, match(mask, params, f'{where}.mask'))
  return transform


def _value(target: Callable, name: str, value: Any, length: Length, where: str) -> Any:
  """An argument of a stage: a dict is a schedule, and `after` a duration."""
  if isinstance(value, Mapping) and 'name' in value:
    return make_schedule(value, length, where, (target, name))
  check_value((target, name), value, where)
  return length.steps(value, where) if name == 'after' else value
