"""Losses of numbers: one value an example."""

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from dl.config.bounds import Positive


def mse(outputs: Float[Array, 'b *k'], targets: Float[Array, 'b *k']) -> Float[Array, ' b']:
  """Squared error, averaged over the dimensions of a target."""
  return per_example(jnp.square(outputs - targets))


def mae(outputs: Float[Array, 'b *k'], targets: Float[Array, 'b *k']) -> Float[Array, ' b']:
  """Absolute error, averaged over the dimensions of a target."""
  return per_example(jnp.abs(outputs - targets))


def huber(outputs: Float[Array, 'b *k'], targets: Float[Array, 'b *k'], delta: Positive = 1.0) -> Float[Array, ' b']:
  """Half the squared error up to `delta`, linear beyond it (Huber, Robust Estimation of a Location Parameter, 1964)."""
  return per_example(optax.losses.huber_loss(outputs, targets, delta=delta))


def per_example(values: Float[Array, 'b *k']) -> Float[Array, ' b']:
  """The mean of all that an example has."""
  return values.mean(tuple(range(1, values.ndim)))
