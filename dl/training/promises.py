"""What a task promises to the loop, looked at by shapes before a run.

A mistake in it is one of the task's code, which JAX would report in words of trees and leaves, or not at all.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from dl.contract import metrics
from dl.contract.state import State
from dl.contract.task import Task
from dl.errors import ConfigError


def initial(task: Task, made: Any) -> tuple[dict[str, PyTree], Any]:
  """What `Task.init` gave, (params, extra); raises ConfigError for anything else."""
  who = f'config.task: {type(task).__name__}.init'
  if not isinstance(made, tuple) or len(made) != 2:
    raise ConfigError(
      f'{who} gives {_what(made)}, but must give (params, extra): the parameters of each player, and what else '
      "training changes: ({'model': variables['params']}, {}), say"
    )
  players = set(task.players)
  if not isinstance(made[0], Mapping) or not players <= set(made[0]):
    raise ConfigError(
      f'{who} gives as params {_what(made[0])}, but must give the parameters of each player by its name: '
      f'{", ".join(sorted(players))}'
    )
  return made


def loss(task: Task, made: Any) -> None:
  """Raises ConfigError unless `Task.loss` gave (scalar, (extra, metrics))."""
  who = f'config.task: {type(task).__name__}.loss'
  pair = lambda value: isinstance(value, tuple) and len(value) == 2
  if not pair(made) or not pair(made[1]):
    inside = f' of which the second is {_what(made[1])}' if pair(made) else ''
    raise ConfigError(f'{who} gives {_what(made)}{inside}, but must give (loss, (extra, metrics))')
  scalar = made[0]
  if getattr(scalar, 'shape', None) != () or not jnp.issubdtype(scalar.dtype, jnp.floating):
    raise ConfigError(
      f'{who} gives as the loss {_what(scalar)}, but must give one float: the mean over the rows of the batch whose '
      "batch['mask'] is not 0 (dl.contract.metrics.average)"
    )


def step(task: Task, state: State, made: Any) -> None:
  """Raises ConfigError unless `Task.step` gave (a state of the same shapes, metrics)."""
  name = type(task).__name__
  if not isinstance(made, tuple) or len(made) != 2 or not isinstance(made[0], State):
    raise ConfigError(f'config.task: {name}.step gives {_what(made)}, but must give (State, metrics)')
  own_step = type(task).step is not Task.step
  metrics.check(made[1], f'config.task: {name}.{"step" if own_step else "loss"}')
  before, after = _shapes(state), _shapes(made[0])
  for path in sorted(before.keys() | after.keys()):
    if before.get(path) != after.get(path):
      raise ConfigError(
        f'config.task: {name}.{"step" if own_step else "loss"} gives another state than it took: {path} was '
        f'{before.get(path, "not there")}, and is {after.get(path, "not there")}'
      )


def _shapes(state: State) -> dict[str, str]:
  """Path of a leaf -> its dtype and shape."""
  leaves = jax.tree_util.tree_leaves_with_path(state)
  name = lambda path: jax.tree_util.keystr(path, simple=True, separator='/')
  return {name(path): f'{x.dtype.name}{list(x.shape)}' for path, x in leaves}


def _what(value: Any) -> str:
  """A value in few words."""
  if isinstance(value, Mapping):
    return f'a dict of {", ".join(sorted(map(str, value)))}' if value else 'an empty dict'
  if isinstance(value, tuple | list):
    return f'a {type(value).__name__} of {len(value)}'
  if hasattr(value, 'shape') and hasattr(value, 'dtype'):
    return f'an array {value.dtype.name}{list(value.shape)}'
  return f'a {type(value).__name__}'
