"""The multilayer perceptron (Rumelhart et al., Learning Representations by Back-Propagating Errors, 1986)."""

from typing import Any, ClassVar

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from dl.config.bounds import BelowOne, Size
from dl.contract.weights import Rules, inputs, outputs
from dl.nn import activations
from dl.nn.norm import batch_norm


class MLP(nn.Module):
  """Fully connected layers, any number of them.

  Each hidden layer is dense -> batch norm (Batch Normalization, arXiv 1502.03167) -> activation -> dropout (Dropout,
  JMLR 15, 2014). Under `jit` the statistics are those of the whole batch, over all devices.

  Hidden layers start from He's initialization (Delving Deep into Rectifiers, arXiv 1502.01852).

  Cite: rumelhart1986learning, he2015delving

  Attributes:
    hidden: width of each hidden layer, from the input on; () is a linear model.
    num_outputs: logits of a classifier, or targets of a regression.
    activation: name, dotted path or function (`dl.nn.activations`).
    dropout: rate after each hidden layer.
    batch_norm: whether hidden layers are normalized over the batch; their dense layers then have no bias.
    dtype: compute type; statistics are float32.
  """

  hidden: tuple[Size, ...]
  num_outputs: Size = 1
  activation: activations.Activation = 'relu'
  dropout: BelowOne = 0.0
  batch_norm: bool = False
  dtype: Any = jnp.float32

  sharding_rules: ClassVar[Rules] = (*outputs(r'(dense|norm)_\d*[02468]'), *inputs(r'dense_\d*[13579]'))

  @nn.compact
  def __call__(self, x: Float[Array, 'b *shape'], train: bool = False) -> Float[Array, 'b outputs']:
    activation = activations.get(self.activation)
    x = x.reshape(len(x), -1)
    for i, width in enumerate(self.hidden):
      dense = nn.Dense(
        width, not self.batch_norm, self.dtype, kernel_init=nn.initializers.he_normal(), name=f'dense_{i}'
      )
      x = dense(x)
      if self.batch_norm:
        x = batch_norm(train, self.dtype, name=f'norm_{i}')(x)
      x = activation(x)
      if self.dropout:
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
    return nn.Dense(self.num_outputs, dtype=self.dtype, name='out')(x).astype(jnp.float32)
