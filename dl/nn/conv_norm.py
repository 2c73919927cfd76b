"""Convolution, batch norm, rectifier: the layer of the Inception networks."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float


class ConvNormRelu(nn.Module):
  """relu(norm(convolution)), without bias (arXiv 1502.03167).

  Batch norm has torchvision's constants for these networks: 1e-3 is added to variances.

  Attributes:
    features: channels out.
    kernel: (rows, columns).
    stride: step.
    padding: zeros on each side of the (rows, columns).
    std: deviation of the normal distribution from which the kernel starts.
    dtype: compute type; statistics are float32.
  """

  features: int
  kernel: tuple[int, int] = (1, 1)
  stride: int = 1
  padding: tuple[int, int] = (0, 0)
  std: float = 0.01
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: Float[Array, 'b h w c'], train: bool) -> Float[Array, 'b H W features']:
    x = nn.Conv(
      self.features,
      self.kernel,
      (self.stride, self.stride),
      padding=[(p, p) for p in self.padding],
      use_bias=False,
      kernel_init=nn.initializers.normal(self.std),
      dtype=self.dtype,
      name='conv',
    )(x)
    return nn.relu(nn.BatchNorm(not train, momentum=0.9, epsilon=1e-3, dtype=self.dtype, name='bn')(x))
