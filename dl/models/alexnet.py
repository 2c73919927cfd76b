"""AlexNet (Krizhevsky, Sutskever and Hinton, ImageNet Classification with Deep Convolutional Neural Networks, 2012;
One weird trick for parallelizing convolutional neural networks, arXiv 1404.5997)."""

from typing import Any, ClassVar, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dl.config.bounds import BelowOne, Size
from dl.contract.weights import Rules, inputs, outputs
from dl.nn import maps, pooling
from dl.nn.convolution import convolution


class AlexNet(nn.Module):
  """Five convolutions and three fully connected layers.

  One tower (groups=1) is the network of 2014, as torchvision has it: 61,100,840 parameters for 1,000 classes. Two
  (groups=2) are the network of 2012: 60,965,224. That one's second, fourth and fifth convolutions see half of the
  channels each, the first two are followed by local response normalization, dropout comes after each hidden layer
  instead of before it, and weights start from the paper's normal distribution instead of PyTorch's uniform one.

  Parts are named as torchvision names them. Maps are brought to 6x6 before the fully connected layers by adaptive
  means, so that images may have any size; a side which is smaller than a pooling's 3x3 becomes one pixel.

  Cite: krizhevsky2012imagenet, krizhevsky2014one

  Attributes:
    num_classes: number of logits.
    groups: 1 or 2 towers.
    hidden: width of the two layers before the logits.
    dropout: rate at each of them.
    dtype: compute type; logits are float32.
  """

  num_classes: Size
  groups: Literal[1, 2] = 1
  hidden: Size = 4096
  dropout: BelowOne = 0.5
  dtype: Any = jnp.float32

  sharding_rules: ClassVar[Rules] = (*outputs('classifier_1'), *inputs('classifier_4'))

  @nn.compact
  def __call__(self, x: Float[Array, 'b h w c'], train: bool = False) -> Float[Array, 'b classes']:
    maps.check(x, 'AlexNet')
    if self.groups not in (1, 2):
      raise ValueError(f'groups: 1 or 2 towers, not {self.groups!r}')
    original = self.groups == 2
    init = nn.initializers.normal(0.01) if original else nn.initializers.variance_scaling(1 / 3, 'fan_in', 'uniform')
    # The paper starts these biases at one, so that rectifiers have something to pass on.
    ones = lambda is_one: nn.initializers.ones if original and is_one else nn.initializers.zeros

    def conv(x: Array, index: int, features: int, size: int, stride: int, pad: int, groups: int) -> Array:
      return nn.relu(
        convolution(
          features,
          size,
          stride,
          padding=pad,
          groups=groups,
          use_bias=True,
          kernel_init=init,
          bias_init=ones(groups == 2),
          dtype=self.dtype,
          name=f'features_{index}',
        )(x)
      )

    widths = (96, 256, 384, 384, 256) if original else (64, 192, 384, 256, 256)
    x = conv(x.astype(self.dtype), 0, widths[0], 11, 4, 2, 1)
    x = pooling.max_pool(local_response_norm(x) if original else x, 3, 2)
    x = conv(x, 3, widths[1], 5, 1, 2, self.groups)
    x = pooling.max_pool(local_response_norm(x) if original else x, 3, 2)
    x = conv(x, 6, widths[2], 3, 1, 1, 1)
    x = conv(x, 8, widths[3], 3, 1, 1, self.groups)
    x = conv(x, 10, widths[4], 3, 1, 1, self.groups)
    x = pooling.max_pool(x, 3, 2)
    x = pooling.flatten(pooling.adaptive_avg_pool(x, (6, 6)))
    drop = lambda x: nn.Dropout(self.dropout, deterministic=not train)(x)
    for index in (1, 4):
      dense = nn.Dense(
        self.hidden, dtype=self.dtype, kernel_init=init, bias_init=ones(True), name=f'classifier_{index}'
      )
      x = drop(nn.relu(dense(x))) if original else nn.relu(dense(drop(x)))
    x = nn.Dense(self.num_classes, dtype=self.dtype, kernel_init=init, name='classifier_6')(x)
    return x.astype(jnp.float32)


def local_response_norm(
  x: Float[Array, 'b h w c'], size: int = 5, alpha: float = 1e-4, beta: float = 0.75, k: float = 2.0
) -> Float[Array, 'b h w c']:
  """x / (k + alpha * sum of the squares of the `size` nearest channels) ** beta (section 3.3 of the paper of 2012).

  PyTorch's `LocalResponseNorm` takes the mean of the squares instead: its alpha is `size` times that here.
  """
  squares = jnp.square(x.astype(jnp.float32))
  before = size // 2
  pads = [(0, 0)] * (x.ndim - 1) + [(before, size - 1 - before)]
  window = (1,) * (x.ndim - 1) + (size,)
  sums = jax.lax.reduce_window(squares, 0.0, jax.lax.add, window, (1,) * x.ndim, pads)
  return (x * (k + alpha * sums) ** -beta).astype(x.dtype)
