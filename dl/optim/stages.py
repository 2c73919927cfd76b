"""Stages of an optimizer chain, and schedules, which optax does not have; see `dl.optim`."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import PyTree

from dl.config.bounds import BelowOne, Count, NotNegative, Number, PositiveShare, Size
from dl.config.patterns import assign
from dl.contract.state import ParamsEmaState


def params_ema(decay: BelowOne, debias: bool = True) -> optax.GradientTransformation:
  """Keeps a running average of the parameters themselves; the last stage of a chain (Polyak and Juditsky, 1992).

  Evaluation, prediction and sampling use the average. With `debias` the decay of update t is at most
  (1 + t) / (10 + t), so that the average forgets the random start.
  """

  def init(params):
    return ParamsEmaState(jnp.zeros([], jnp.int32), jax.tree.map(jnp.array, params))

  def update(updates, state, params=None):
    if params is None:
      raise ValueError('params_ema needs the parameters')
    count = state.count + 1
    d = jnp.minimum(decay, (1.0 + count) / (10.0 + count)) if debias else decay
    new = optax.apply_updates(params, updates)
    average = jax.tree.map(lambda a, p: (d * a + (1 - d) * p).astype(a.dtype), state.average, new)
    return updates, ParamsEmaState(count, average)

  return optax.GradientTransformation(init, update)


def params_average(after: Count) -> optax.GradientTransformation:
  """Keeps the mean of the parameters since update number `after` (Polyak and Juditsky, 1992); the last of a chain.

  Before, the parameters stand for themselves. Evaluation, prediction and sampling use the mean. Of averaged SGD in
  AWD-LSTM (arXiv 1708.02182) this is the average; there an evaluation says when it begins, here `after` does.
  """

  def init(params):
    return ParamsEmaState(jnp.zeros([], jnp.int32), jax.tree.map(jnp.array, params))

  def update(updates, state, params=None):
    if params is None:
      raise ValueError('params_average needs the parameters')
    count = state.count + 1
    share = 1.0 / jnp.maximum(count - after, 1)
    new = optax.apply_updates(params, updates)
    average = jax.tree.map(lambda a, p: (a + share * (p - a)).astype(a.dtype), state.average, new)
    return updates, ParamsEmaState(count, average)

  return optax.GradientTransformation(init, update)


def accumulate(inner: optax.GradientTransformation, steps: Size) -> optax.GradientTransformation:
  """Averages gradients over `steps` training steps before the later stages make one update of them.

  The same as a batch `steps` times larger, in the memory of one, for losses that are means over the batch and networks
  whose examples know nothing of each other: batch norm takes its statistics of each small batch.
  """
  return optax.MultiSteps(inner, every_k_schedule=steps).gradient_transformation()


def freeze(inner: optax.GradientTransformation, mask: Callable[[PyTree], PyTree]) -> optax.GradientTransformation:
  """Keeps the parameters that `mask` selects as they are; the later stages see the others alone.

  Nothing is stored or computed for the frozen ones, not even their gradients: XLA leaves out what is not used. Batch
  statistics are no parameters, and move on unless the task has `frozen_statistics`.
  """
  labels = lambda params: jax.tree.map(lambda frozen: 'frozen' if frozen else 'trained', mask(params))
  return optax.partition({'frozen': optax.set_to_zero(), 'trained': inner}, labels)


def unfreeze(after: Count) -> optax.GradientTransformation:
  """Passes updates on from update number `after`, and zeros before; after the optimizer (ULMFiT, arXiv 1801.06146).

  A list of [pattern, duration] pairs is gradual unfreezing: `after=[['^head', 0], ['^layer4', '30%'], ['.*', '60%']]`.
  """

  def update(updates, count, params=None):
    del params
    return jax.tree.map(lambda u: jnp.where(count >= after, u, jnp.zeros_like(u)), updates), count + 1

  return optax.GradientTransformation(lambda _: jnp.zeros([], jnp.int32), update)


def layerwise_decay(decay: PositiveShare, layers: tuple[str, ...]) -> optax.GradientTransformation:
  """Multiplies the updates of layer i of n by `decay ** (n - 1 - i)`; after the optimizer (ELECTRA, arXiv 2003.10555).

  Args:
    decay: factor from one layer to the one below.
    layers: regular expressions of the parameters of each layer, from the input to the output; all must match.
  """

  def update(updates, state, params=None):
    del params
    depth = assign([[pattern, None] for pattern in layers], updates, 'layers')
    return jax.tree.map(lambda u, i: u * decay ** (len(layers) - 1 - i), updates, depth), state

  return optax.GradientTransformation(lambda _: optax.EmptyState(), update)


def inverse_time_decay(init_value: Number, decay_rate: NotNegative, transition_steps: Size) -> Callable[[Any], Any]:
  """The schedule init_value / (1 + decay_rate * step / transition_steps) (Robbins and Monro, 1951)."""
  return lambda step: init_value / (1.0 + decay_rate * step / transition_steps)
