"""Which stages with a learning rate take which parameters: each is taken by one, or frozen."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import optax
from jaxtyping import PyTree

from dl.config.patterns import match, paths
from dl.errors import ConfigError
from dl.optim import names
from dl.optim.stages import freeze

Stages = Sequence[tuple[str, Mapping[str, Any]]]


def takes_steps(target: Callable, stage: Mapping[str, Any]) -> bool:
  """Whether a stage turns gradients into steps downhill: it multiplies by minus its learning rate, or scales by less
  than 0.

  `scale_by_...` leave the sign as it is, but `scale_by_learning_rate` of no `flip_sign=False`; wrappers leave all to
  what they wrap.
  """
  if target is optax.scale:
    return stage.get('step_size', 1.0) < 0
  arguments = inspect.signature(target).parameters
  name = getattr(target, '__name__', '')
  if name.startswith('scale_by_') and (name != 'scale_by_learning_rate' or stage.get('flip_sign') is False):
    return False
  return any(a.endswith('learning_rate') for a in arguments) and 'inner' not in arguments


def keeps_the_sign(target: Callable) -> bool:
  """Whether a stage that takes no steps is known to leave the sign: one of optax or dl, but schedules and wrappers."""
  known = getattr(target, '__module__', '').partition('.')[0] in ('optax', 'dl')
  return known and target is not optax.scale_by_schedule and 'inner' not in inspect.signature(target).parameters


def restricts(target: Callable) -> bool:
  """Whether the `mask` of a stage says which parameters it takes; optax's own masks mostly say what decays."""
  return 'mask' not in inspect.signature(target).parameters


def trained(mask: Any, params: PyTree, where: str) -> PyTree:
  """The parameters which a `freeze` leaves to the stages after it."""
  if not isinstance(mask, str):
    raise ConfigError(f"{where}.mask: expected a pattern of what to freeze, such as '^(?!head)', got {mask!r}")
  frozen = match(mask, params, f'{where}.mask')
  if all(jax.tree.leaves(frozen)):
    raise ConfigError(f'{where}.mask: {mask!r} matches every parameter, so nothing would be trained')
  return jax.tree.map(lambda f, p: optax.MaskedNode() if f else p, frozen, params)


def check(stages: Stages, params: PyTree, where: str) -> None:
  """Raises ConfigError unless each parameter has one stage that takes steps, if any stage does.

  A second one would turn the sign of the steps of the first, so that training goes uphill; without one the raw
  gradient would be added to the parameter. Wrappers such as `accumulate` feed the stages after them, as all others do.
  """
  takers: dict[str, str | None] = {path: None for path in paths(params)}
  masked = []
  for label, stage in stages:
    at = f'{where}.{label}'
    target = names.stage(stage['name'], at)
    if target is freeze:
      params = trained(stage.get('mask'), params, at)
      takers = {path: takers[path] for path in paths(params)}
    if not takes_steps(target, stage):
      continue
    taken = paths(params)
    if isinstance(stage.get('mask'), str) and restricts(target):
      masked.append(label)
      selected = jax.tree.leaves(match(stage['mask'], params, f'{at}.mask'))
      taken = [path for path, is_taken in zip(taken, selected, strict=True) if is_taken]
    twice = [path for path in taken if takers[path] is not None]
    if twice:
      raise ConfigError(f'{at}: {_said(twice, takers[twice[0]], label, dict(stages))}')
    takers |= dict.fromkeys(taken, label)
  left = [path for path, taker in takers.items() if taker is None]
  if len(left) == len(takers) > 0 and stages and all(keeps_the_sign(names.stage(s['name'], where)) for _, s in stages):
    raise ConfigError(
      f'{where}: no stage has a learning_rate, so that the raw gradient would be added and training went uphill; '
      "end with dict(name='scale_by_learning_rate', learning_rate=...)"
    )
  if left and masked:
    raise ConfigError(
      f'{where}: no stage with a learning_rate takes {left[0]!r}: the mask of {" and of ".join(masked)} leaves it out; '
      'give it a stage of its own, or freeze it'
    )


def _said(twice: Sequence[str], first: str, second: str, stages: Mapping[str, Mapping[str, Any]]) -> str:
  """What is wrong where two stages take the same parameters."""
  some = ', '.join(twice[:3]) + (f' and {len(twice) - 3} more' if len(twice) > 3 else '')
  decays = [s for s in (first, second) if 'mask' in stages[s] and not restricts(names.stage(stages[s]['name'], ''))]
  return (
    f'{first!r} has made steps of the gradients of {some}, and {second!r} would turn their sign again, so that '
    'training went uphill; leave one of them out, or give them masks that share no parameter'
    + ''.join(f' (the mask of {s!r} says what decays, not what it takes)' for s in decays)
  )
