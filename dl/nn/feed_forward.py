"""Two-layer networks, which treat each token by itself."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from dl.config.bounds import BelowOne, Size
from dl.contract.axes import Axes
from dl.nn import activations, products
from dl.nn.context import Context


class FeedForward(nn.Module):
  """Dense, activation, dense over the last axis (Attention Is All You Need, arXiv 1706.03762); dropout after both.

  Attributes:
    hidden: features between the layers.
    activation: name, dotted path or function.
    gate: name of a third layer, whose features go through the activation and then multiply those of the first one
      (GLU Variants Improve Transformer, arXiv 2002.05202); None for none.
    dropout: rate.
    use_bias: whether the layers have biases.
    kernel_init: initializer of the first layer.
    out_init: of the last one; None for the same.
    bias_init: initializer of their biases.
    names: of the two layers.
    dtype: compute type.
  """

  hidden: Size
  activation: activations.Activation = 'gelu_exact'
  gate: str | None = None
  dropout: BelowOne = 0.0
  use_bias: bool = True
  kernel_init: Any = nn.initializers.xavier_uniform()
  out_init: Any = None
  bias_init: Any = nn.initializers.zeros
  names: tuple[str, str] = ('fc1', 'fc2')
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: Float[Array, '*n d'], context: Context) -> Float[Array, '*n d']:
    return self.layers(x, context)

  @nn.nowrap
  def layers(self, x: Float[Array, '*n d'], context: Context) -> Float[Array, '*n d']:
    """The same, with layers of the module that calls it: `FeedForward(..., parent=None).layers` is one without a name.

    Published weights may have the two layers beside those of attention.
    """
    dense = lambda features, init, name: nn.Dense(
      features, self.use_bias, self.dtype, kernel_init=init, bias_init=self.bias_init, name=name
    )
    drop = nn.Dropout(self.dropout, deterministic=not context.train) if self.dropout else lambda y: y
    activation, (first, last) = activations.get(self.activation), self.names
    y = products.by_rows(dense(self.hidden, self.kernel_init, first), x)
    gate = y if self.gate is None else products.by_rows(dense(self.hidden, self.kernel_init, self.gate), x)
    y = activation(y) if self.gate is None else y * activation(gate)
    y = Axes(('batch', 'query', 'hidden'))(y) if y.ndim == 3 else y
    out_init = self.kernel_init if self.out_init is None else self.out_init
    return drop(products.by_rows(dense(x.shape[-1], out_init, last), drop(y)))
