"""The networks of a task, one a player: their variables, one of them applied, and tasks which have one alone."""

import contextlib
import dataclasses
import re
from collections.abc import Iterator, Mapping
from typing import Any

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, PyTree

from dl.config.build import check_bounds
from dl.contract.state import State
from dl.contract.task import Batch, Task
from dl.decoding.decoder import Decoder
from dl.errors import ConfigError, first_line, own_words

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

  Raises:
    ConfigError: what a network says of its arguments or of its inputs, behind the path of the player.
  """
  params, extra = {}, {}
  for player, model in models.items():
    with _speaking(model, player):
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
  player: str = 'model',
  **more: Any,
) -> tuple[Any, Collections]:
  """(outputs of one network, its new collections); they change while training alone, as dropout draws by `key`.

  What is given besides goes to the network as it is.

  Raises:
    ConfigError: what the network says of its arguments or of these inputs, behind the path of the player.
  """
  values = {'params': params, **collections}
  with _speaking(model, player):
    if not train:
      return model.apply(values, inputs, train=False, **more), collections
    rngs = {} if key is None else {'dropout': key}
    outputs, changed = model.apply(values, inputs, train=True, rngs=rngs, mutable=list(collections), **more)
  return outputs, {**collections, **changed}


@contextlib.contextmanager
def _speaking(model: nn.Module, player: str) -> Iterator[None]:
  """Puts the path of the config before a ValueError of the network's own words, which becomes a ConfigError.

  Words that begin with one of its attributes go on with the path: of "patch: 5 does not divide images of 8x8", the only
  network makes "config.model.patch: 5 does not divide images of 8x8".
  """
  try:
    yield
  except ConfigError:
    raise
  except ValueError as e:
    words = own_words(e)
    if words is None:
      raise
    argument = re.match(r'(\w+)(\.\w+)*: ', words)
    path = 'config.model' if player == 'model' else f'config.model.{player}'
    path += '.' if argument and argument[1] in type(model).__dataclass_fields__ else ': '
    raise ConfigError(path + words) from e


@dataclasses.dataclass(frozen=True, kw_only=True)
class Network(Task):
  """A task with one model, the player 'model'.

  Attributes:
    frozen_statistics: train the network in its evaluation mode: batch norm uses and keeps the statistics it has, and
      nothing is dropped out. For a linear probe, or fine-tuning with small batches.
  """

  model: nn.Module
  frozen_statistics: bool = False

  def __post_init__(self):
    check_bounds(type(self), vars(self), 'config.task')

  def inputs(self, batch: Batch) -> Array:
    """What the model reads of a batch."""
    raise NotImplementedError

  def init(self, key: Key[Array, ''], batch: Batch) -> tuple[dict[str, PyTree], Any]:
    params_key, dropout_key = jax.random.split(key)
    rngs = {'params': params_key, 'dropout': dropout_key}
    return variables(self.players, {'model': self.inputs(batch)}, {'model': rngs})

  def apply(
    self, params: dict[str, PyTree], extra: Any, inputs: Array, key: Key[Array, ''], train: bool
  ) -> tuple[Float[Array, '...'], Any]:
    """(outputs in float32, new extra) of inputs as `inputs` gives them.

    A network with auxiliary heads gives a dict while training, {'out': ..., 'aux': ...}.
    """
    train = train and not self.frozen_statistics
    outputs, changed = apply(self.model, params['model'], extra['model'], inputs, train, key)
    return jax.tree.map(lambda x: x.astype(jnp.float32), outputs), {**extra, 'model': changed}

  def decoder_variables(self, state: State) -> PyTree:
    """The variables of a model which is to be sampled from; raises ConfigError for one that is no `Decoder`."""
    if not isinstance(self.model, Decoder):
      name = type(self.model).__name__
      raise ConfigError(f'config.model: {name} cannot be sampled from: it needs length, prefill and step of a Decoder')
    return {'params': state.params['model'], **state.extra['model']}

  def check_direction(self, what: str) -> None:
    """Raises ConfigError for a model which reads in both directions, and so sees `what` it is to predict."""
    if getattr(self.model, 'bidirectional', False):
      name = type(self.model).__name__
      raise ConfigError(f'config.model: {name} reads in both directions; a {what} is to be predicted from those before')

  def outputs_shape(self, batch: PyTree) -> tuple[int, ...]:
    """The shape of the model's outputs for a batch, or of its `out` where there are several; nothing is computed.

    Raises:
      ConfigError: the model cannot take these inputs.
    """
    label = type(self).__name__
    if not isinstance(self.model, nn.Module):
      raise ConfigError(f"config.model: {label} takes one model, a dict with a 'name', got {', '.join(self.model)}")

    def outputs(batch):
      params, extra = self.init(jax.random.key(0), batch)
      outputs = self.apply(params, extra, self.inputs(batch), jax.random.key(0), False)[0]
      return outputs['out'] if isinstance(outputs, Mapping) else outputs

    try:
      return jax.eval_shape(outputs, batch).shape
    except ConfigError:
      raise
    except (TypeError, ValueError, LookupError, AttributeError, ArithmeticError, flax.errors.FlaxError) as e:
      if own_words(e):  # of the task
        raise
      shape = jax.tree.map(lambda x: x.shape[1:], jax.eval_shape(self.inputs, batch))
      raise ConfigError(
        f'config.model: {type(self.model).__name__} cannot take inputs of shape {shape}: {first_line(e)}'
      ) from e
