"""A network of one hidden layer, which can approximate any continuous function (Cybenko 1989; Hornik 1991)."""

from typing import Any, ClassVar

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from dl.config.bounds import Size
from dl.contract.weights import Rules, inputs, outputs
from dl.nn import activations


class Shallow(nn.Module):
  """One hidden layer (Approximation by Superpositions of a Sigmoidal Function, Cybenko 1989).

  Cite: cybenko1989approximation, hornik1991approximation

  Attributes:
    features: width of the hidden layer.
    num_classes: number of logits.
    activation: name, dotted path or function (`dl.nn.activations`).
    dtype: compute type.
  """

  features: Size
  num_classes: Size
  activation: activations.Activation = 'sigmoid'
  dtype: Any = jnp.float32

  sharding_rules: ClassVar[Rules] = (*outputs('hidden'), *inputs('out'))

  @nn.compact
  def __call__(self, x: Float[Array, 'b *shape'], train: bool = False) -> Float[Array, 'b classes']:
    x = x.reshape(len(x), -1)
    x = nn.Dense(self.features, dtype=self.dtype, name='hidden')(x)
    x = activations.get(self.activation)(x)
    return nn.Dense(self.num_classes, dtype=self.dtype, name='out')(x).astype(jnp.float32)
