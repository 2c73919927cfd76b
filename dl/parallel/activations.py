"""How the activations of a run are split over a mesh, by the names of their dimensions."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from dl.contract.axes import Axes, Rows
from dl.errors import ConfigError
from dl.parallel.meshes import batch_axes
from dl.parallel.strategy import Strategy, divides, sequence_axis, strategy


def split(function: Callable, mesh: Mesh, argument: int, rule: str | Sequence[Any]) -> Callable:
  """A function whose modules keep what they take and give split over the mesh, as the batch is and as `Axes` say.

  Without it XLA may split activations along features, as weights are under 'fsdp', and move them rather than weights.
  Modules need not know of it: their calls are intercepted. Other dimensions are left to XLA.

  Args:
    function: to be jitted; it calls modules.
    mesh: the device mesh; on a single device the function stays as it is.
    argument: which argument is the batch.
    rule: see `strategy`.

  Raises:
    ConfigError: when the function is traced, if 'sequence' splits nothing.
  """
  if mesh.size == 1:
    return function
  chosen = strategy(rule, mesh)
  axes = _axes(chosen, mesh)

  @functools.wraps(function)
  def wrapped(*arguments: Any) -> Any:
    shared: set[str | None] = set()
    rows = max((len(x) for x in jax.tree.leaves(arguments[argument]) if x.ndim), default=0)

    def constrain(x: Any) -> Any:
      if not isinstance(x, jax.Array) or x.ndim < 2 or not rows or len(x) % rows:
        return x
      return place(x, ('batch', *[None] * (x.ndim - 1)))

    def place(x: jax.Array, names: Sequence[str | None]) -> jax.Array:
      spec = [axes.get(name, P.UNCONSTRAINED) for name in names]
      spec = [s if divides(x.shape[i], s, mesh) else P.UNCONSTRAINED for i, s in enumerate(spec)]
      shared.update(name for name, s in zip(names, spec) if s is not P.UNCONSTRAINED)
      return jax.lax.with_sharding_constraint(x, NamedSharding(mesh, P(*spec)))

    def intercept(method: Callable, args: Any, kwargs: Any, context: Any) -> Any:
      if context.method_name != '__call__':
        return method(*args, **kwargs)
      if isinstance(context.module, Axes):
        return place(method(*args), context.module.names)
      if isinstance(context.module, Rows):
        return args[0]
      return jax.tree.map(constrain, method(*jax.tree.map(constrain, args), **kwargs))

    with nn.intercept_methods(intercept):
      result = function(*arguments)
    if 'sequence' in chosen and 'length' not in shared:
      raise ConfigError(
        f"config.sharding: 'sequence' splits nothing here: the model has no tokens, or a number of them that "
        f'{mesh.shape[sequence_axis(mesh)]} devices cannot share'
      )
    return result

  return wrapped


def _axes(chosen: Strategy, mesh: Mesh) -> dict[str, Any]:
  """Name of a dimension -> the mesh axes that split it; None where it is kept whole."""
  axes: dict[str, Any] = {'batch': batch_axes(mesh)}
  if 'tensor' in chosen:
    axes |= dict.fromkeys(('heads', 'hidden', 'vocab'), 'model')
  if 'expert' in chosen:
    axes |= {'expert': 'expert', 'group': tuple(a for a in batch_axes(mesh) if a != 'expert') or None}
  if 'sequence' in chosen:
    own = sequence_axis(mesh)
    axes |= {'length': own, 'query': own if own == 'sequence' else None, 'key': None}
  return axes
