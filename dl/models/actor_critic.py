"""A policy and a value function, each a small multilayer perceptron."""

from collections.abc import Sequence
from typing import Any, ClassVar

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from dl.config.bounds import Size
from dl.contract.weights import Rules, inputs, outputs


class ActorCritic(nn.Module):
  """Separate perceptrons for the policy and the value, tanh units, orthogonal initial weights.

  The small last layer of the policy makes it near uniform at the start. With the defaults and 4 observed numbers it
  has 9,155 parameters. "Proximal policy optimization algorithms", arXiv 1707.06347.

  Attributes:
    num_actions: number of discrete actions.
    features: widths of the hidden layers of each of the two.
    dtype: of the computation; the outputs are float32.
  """

  num_actions: Size
  features: tuple[Size, ...] = (64, 64)
  dtype: Any = jnp.float32

  sharding_rules: ClassVar[Rules] = (*outputs('(actor|critic)_0'), *inputs('(actor|critic)_1'))

  @nn.compact
  def __call__(
    self, observations: Float[Array, '*b observation'], train: bool = False
  ) -> tuple[Float[Array, '*b actions'], Float[Array, '*b']]:
    """Observations to (logits of the actions, value of the state)."""
    logits = _perceptron(observations, self.features, self.num_actions, 0.01, 'actor', self.dtype)
    value = _perceptron(observations, self.features, 1, 1.0, 'critic', self.dtype)
    return logits, value[..., 0]


def _perceptron(x: Array, features: Sequence[int], outputs: int, scale: float, name: str, dtype: Any) -> Array:
  for i, width in enumerate(features):
    x = nn.tanh(nn.Dense(width, kernel_init=nn.initializers.orthogonal(2**0.5), name=f'{name}_{i}', dtype=dtype)(x))
  x = nn.Dense(outputs, kernel_init=nn.initializers.orthogonal(scale), name=f'{name}_out', dtype=dtype)(x)
  return x.astype(jnp.float32)
