"""Trees as earlier versions of this code laid them out in a checkpoint, and how they become those of today.

Before, `State.extra` of a task with one network was its collections; that of several networks (GANs) held batch
statistics alone, `{'batch_stats': {player: ...}}`; and that of PPO was its environments'. R2 was sums about a fixed
offset, and counts of pixels had one int32 each; and later two, without a column for pixels of no class.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from dl.contract.metrics import R2, IoU
from dl.contract.state import State

_ACTING = 'episode_length', 'episode_return', 'observation'


def paths(tree: PyTree) -> set[str]:
  """The paths of the leaves of a tree, and of its empty dicts, '/'-joined."""
  leaves = jax.tree_util.tree_leaves_with_path(tree, is_leaf=lambda x: isinstance(x, Mapping) and not x)
  return {jax.tree_util.keystr(path, simple=True, separator='/') for path, _ in leaves}


def layout(like: PyTree, saved: PyTree) -> tuple[PyTree, Callable[[PyTree], PyTree]] | None:
  """(the tree to restore into, what makes one of today of it), where a checkpoint holds a tree of before; else None.

  Args:
    like: shapes of the tree of today.
    saved: the tree which the checkpoint holds, by its own words.
  """
  if isinstance(like, State):
    if paths(saved.get('extra', {})) == paths(like.extra):
      return None
    for before, now in _EXTRA:
      extra = before(like.extra)
      if extra is not None and paths(extra) == paths(saved.get('extra', {})):
        return like.replace(extra=extra), functools.partial(_with_extra, like=like, now=now)
    return None
  if _shapes(saved) == _shapes(like):
    return None
  for sums_before, sums_now in ((_first, _from_first), (_square, _from_square)):
    before = jax.tree.map(sums_before, like, is_leaf=_has_other_sums)
    if _shapes(before) == _shapes(saved):
      return before, lambda old, now=sums_now: jax.tree.map(now, like, old, is_leaf=_has_other_sums)
  return None


def _with_extra(state: State, like: State, now: Callable[[Any, Any], Any]) -> State:
  return state.replace(extra=now(state.extra, like.extra))


def _has_other_sums(part: Any) -> bool:
  return isinstance(part, R2 | IoU)


def _shapes(tree: PyTree) -> dict[str, tuple[int, ...]]:
  leaves = jax.tree_util.tree_leaves_with_path(tree)
  return {jax.tree_util.keystr(path, simple=True, separator='/'): getattr(x, 'shape', ()) for path, x in leaves}


def _square(part: Any) -> Any:
  if not isinstance(part, IoU):
    return part
  without = lambda x: jax.ShapeDtypeStruct((*x.shape[:-1], x.shape[-1] - 1), x.dtype, sharding=x.sharding)
  return type(part)(without(part.counts), without(part.full))


def _from_square(like: Any, old: Any) -> Any:
  wider = lambda x: jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, 1)])
  return jax.tree.map(wider, old) if isinstance(like, IoU) else old


def _first(part: Any) -> Any:
  if isinstance(part, R2):
    return {'residual': part.residual, 'target': part.mean, 'target_square': part.spread, 'weight': part.weight}
  return {'counts': _square(part).counts} if isinstance(part, IoU) else part


def _from_first(like: Any, old: Any) -> Any:
  if isinstance(like, R2):
    count = old['weight'] + (old['weight'] == 0)
    mean = old['target'] / count
    return R2(old['residual'], mean, old['target_square'] - old['target'] * mean, old['weight'])
  return _from_square(like, type(like)(old['counts'], old['counts'] * 0)) if isinstance(like, IoU) else old


def _one_network(extra: Any) -> Any:
  return extra['model'] if isinstance(extra, dict) and set(extra) == {'model'} else None


def _several_networks(extra: Any) -> Any:
  if not isinstance(extra, dict) or not all(isinstance(v, dict) for v in extra.values()):
    return None
  return {'batch_stats': {player: collections.get('batch_stats', {}) for player, collections in extra.items()}}


def _environments(extra: Any) -> Any:
  if not isinstance(extra, dict) or not {'state', *_ACTING} <= set(extra.get('env') or ()):
    return None
  return {'env': extra['env']['state']} | {k: extra['env'][k] for k in _ACTING}


_EXTRA = (
  (_one_network, lambda old, like: {'model': old}),
  (
    _several_networks,
    lambda old, like: {
      player: {k: old['batch_stats'][player] for k in collections} for player, collections in like.items()
    },
  ),
  (
    _environments,
    lambda old, like: like | {'env': {'state': old['env']} | {k: old[k] for k in _ACTING}},
  ),
)
"""(today's layout of `extra` -> one of before, or None; what a checkpoint has in that one -> today's)."""
