"""What a config's `sharding` asks for: strategies by name, and rules by pattern."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from dl.errors import ConfigError, nearest
from dl.parallel.meshes import BATCH_AXES, batch_axes

STRATEGIES = {
  'replicated': 'every device has all of the state; alone',
  'fsdp': 'parameters and optimizer states are split over the axes of the batch (ZeRO stage 3, arXiv 1910.02054)',
  'zero1': 'optimizer states alone are split over the axes of the batch (ZeRO stage 1)',
  'tensor': "layers are split over the axis 'model', by the rules of the model's family (arXiv 1909.08053)",
  'sequence': "tokens between sublayers are split over the axis 'sequence', or else 'model' (arXiv 2205.05198)",
  'expert': "experts are split over the axis 'expert' (GShard, arXiv 2006.16668)",
  'offload': "optimizer states but running averages of parameters lie in the host's memory between steps",
}
"""What `sharding` may name; several are joined by '+'."""

AXES = (*BATCH_AXES, 'model', 'sequence')
"""Mesh axes which strategies split over; pairs of one's own may name others."""

NEEDS = {'tensor': ('model',), 'expert': ('expert',), 'sequence': ('sequence', 'model')}
"""Strategy -> the mesh axes of which it needs one."""


@dataclasses.dataclass(frozen=True)
class Strategy:
  """A config's `sharding`, read.

  Attributes:
    names: of `STRATEGIES`.
    pairs: (regex, axes) rules which come first; parameters that they leave follow `names`.
    complete: whether the pairs cover every parameter.
  """

  names: frozenset[str] = frozenset()
  pairs: tuple[Any, ...] = ()
  complete: bool = False

  def __contains__(self, name: str) -> bool:
    return name in self.names


def strategy(rule: str | Sequence[Any], mesh: Mesh) -> Strategy:
  """Reads a config's `sharding`.

  Args:
    rule: names of `STRATEGIES` joined by '+'; or ordered (regex, axes) pairs over parameter paths such as
      'model/dense_0/kernel', where axes is a list of mesh axis names, lists of them, or None, one a dimension. Such a
      list covers every parameter, or ends with names for the rest.
    mesh: the device mesh.

  Raises:
    ConfigError: an unknown name, names which exclude each other, a mesh without the axes that they need, or with one
      which splits nothing.
  """
  chosen = _read(rule, mesh)
  axes = [list(pair[1:]) for pair in chosen.pairs if isinstance(pair, list | tuple)]
  used = {*batch_axes(mesh), *_names(axes)}
  used |= {'model'} if 'tensor' in chosen else set()
  used |= {sequence_axis(mesh)} if 'sequence' in chosen else set()
  for axis, size in mesh.shape.items():
    if axis not in used and (size > 1 or axis not in AXES):
      hint = 'leave it out' if axis in AXES else nearest(axis, AXES)
      raise ConfigError(f'config.mesh.{axis}: nothing is split over this axis by config.sharding, {rule!r}; {hint}')
  return chosen


def _read(rule: str | Sequence[Any], mesh: Mesh) -> Strategy:
  if not isinstance(rule, str):
    rest = rule[-1] if len(rule) and isinstance(rule[-1], str) else None
    others = _read(rest, mesh) if rest is not None else Strategy()
    return dataclasses.replace(others, pairs=tuple(rule[:-1] if rest is not None else rule), complete=rest is None)
  names = rule.split('+')
  for name in names:
    if name not in STRATEGIES:
      raise ConfigError(f'config.sharding: no strategy is called {name!r}; {nearest(name, STRATEGIES)}')
  for one, other in (('replicated', names), ('fsdp', ['zero1'])):
    if one in names and len(names) > 1 and set(other) & set(names):
      raise ConfigError(f'config.sharding: {rule!r} is a contradiction: {one!r} is {STRATEGIES[one]}')
  for name in names:
    if name in NEEDS and not set(NEEDS[name]) & set(mesh.shape):
      raise ConfigError(
        f'config.sharding: {name!r} needs an axis {" or ".join(map(repr, NEEDS[name]))}; '
        f'config.mesh has {dict(mesh.shape)}'
      )
  return Strategy(frozenset(names) - {'replicated'})


def sequence_axis(mesh: Mesh) -> str:
  """The mesh axis that 'sequence' splits tokens over."""
  return 'sequence' if 'sequence' in mesh.shape else 'model'


def divides(size: int, axes: Any, mesh: Mesh) -> bool:
  """Whether the devices along mesh axes can share a dimension evenly."""
  if axes is None or axes is P.UNCONSTRAINED:
    return True
  ways = 1
  for axis in (axes,) if isinstance(axes, str) else axes:
    ways *= mesh.shape[axis]
  return size % ways == 0


def _names(axes: Any) -> set[str]:
  """The texts in lists of lists."""
  if isinstance(axes, str):
    return {axes}
  return {name for part in axes for name in _names(part)} if isinstance(axes, list | tuple) else set()
