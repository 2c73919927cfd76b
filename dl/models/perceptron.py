"""The perceptron (Rosenblatt, The Perceptron: A Probabilistic Model for Information Storage, 1958)."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from dl.config.bounds import Size


class Perceptron(nn.Module):
  """One linear layer; with cross entropy it is multinomial logistic regression.

  Cite: rosenblatt1958perceptron

  Attributes:
    num_classes: number of logits.
    dtype: compute type.
  """

  num_classes: Size
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: Float[Array, 'b *shape'], train: bool = False) -> Float[Array, 'b classes']:
    x = x.reshape(len(x), -1)
    return nn.Dense(self.num_classes, dtype=self.dtype, name='out')(x).astype(jnp.float32)
