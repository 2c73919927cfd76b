"""The networks of a task, one a player: their variables, and one of them applied."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
from jaxtyping import Array, Key, PyTree

Collections = dict[str, PyTree]
"""The variables of one network beside its parameters, by collection: {'batch_stats': ...}."""


def variables(
  models: Mapping[str, nn.Module], inputs: Mapping[str, Any], rngs: Mapping[str, Any]
) -> tuple[dict[str, PyTree], dict[str, Collections]]:
  """Fresh (player -> parameters, player -> collections), as `State.params` and `State.extra` hold them.

  Args:
    models: player -> network.
    inputs: player -> what it reads; one row is enough.
    rngs: player -> its key, or a dict stream -> key.
  """
  params, extra = {}, {}
  for player, model in models.items():
    collections = dict(model.init(rngs[player], inputs[player], train=False))
    params[player] = collections.pop('params', {})
    extra[player] = collections
  return params, extra


def apply(
  model: nn.Module,
  params: PyTree,
  collections: Collections,
  inputs: Any,
  train: bool,
  key: Key[Array, ''] | None = None,
) -> tuple[Any, Collections]:
  """(outputs of one network, its new collections); they change while training alone, as dropout draws by `key`."""
  values = {'params': params, **collections}
  if not train:
    return model.apply(values, inputs, train=False), collections
  rngs = {} if key is None else {'dropout': key}
  outputs, changed = model.apply(values, inputs, train=True, rngs=rngs, mutable=list(collections))
  return outputs, {**collections, **changed}
