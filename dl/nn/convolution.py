"""Convolutions as PyTorch pads them, by themselves and with a norm and an activation behind."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from dl.config.bounds import BelowOne, Count, NotNegative, Size
from dl.nn.norm import batch_norm

Sides = Size | tuple[Size, Size]
Padding = Count | tuple[Count, Count]
"""Of rows and columns; one number is both."""

_PYTORCH = nn.initializers.variance_scaling(1 / 3, 'fan_in', 'uniform')


def convolution(
  features: int,
  size: Sides,
  stride: int = 1,
  *,
  name: str,
  dtype: Any,
  padding: Padding | None = None,
  dilation: int = 1,
  groups: int = 1,
  use_bias: bool = False,
  kernel_init: nn.initializers.Initializer = _PYTORCH,
  bias_init: nn.initializers.Initializer = nn.initializers.zeros,
) -> nn.Conv:
  """PyTorch's `Conv2d`, which with stride 2 pads other sides than Flax's 'SAME'.

  Args:
    features: channels out.
    size: of the kernel.
    stride: step.
    name: of the layer.
    dtype: compute type.
    padding: zeros on each side; None for as many as keep the size of maps where the kernel is odd and the stride 1.
    dilation: distance of the taps.
    groups: groups of channels, each of which sees its own alone.
    use_bias: whether there is a bias.
    kernel_init: initializer of the kernel; by default PyTorch's own.
    bias_init: initializer of the bias.
  """
  size = (size, size) if isinstance(size, int) else size
  padding = (padding, padding) if isinstance(padding, int) else padding
  padding = tuple(dilation * (n - 1) // 2 for n in size) if padding is None else padding
  return nn.Conv(
    features,
    size,
    (stride, stride),
    padding=[(n, n) for n in padding],
    kernel_dilation=(dilation, dilation),
    feature_group_count=groups,
    use_bias=use_bias,
    kernel_init=kernel_init,
    bias_init=bias_init,
    dtype=dtype,
    name=name,
  )


class ConvNorm(nn.Module):
  """activation(norm(convolution)), without bias (Batch Normalization, arXiv 1502.03167).

  Attributes:
    features: channels out.
    size: of the kernel.
    stride: step.
    padding: zeros on each side; None as in `convolution`.
    groups: groups of channels.
    activation: what follows the norm.
    kernel_init: initializer of the kernel.
    epsilon: of the norm.
    momentum: of the norm.
    names: of the convolution and of the norm, as published weights have them.
    dtype: compute type; statistics are float32.
  """

  features: Size
  size: Sides = 1
  stride: Size = 1
  padding: Padding | None = None
  groups: Size = 1
  activation: Callable[[Array], Array] = nn.relu
  kernel_init: nn.initializers.Initializer = nn.initializers.variance_scaling(2.0, 'fan_out', 'normal')
  epsilon: NotNegative = 1e-5
  momentum: BelowOne = 0.9
  names: tuple[str, str] = ('conv', 'bn')
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: Float[Array, 'b h w c'], train: bool) -> Float[Array, 'b H W features']:
    conv = convolution(
      self.features,
      self.size,
      self.stride,
      padding=self.padding,
      groups=self.groups,
      kernel_init=self.kernel_init,
      dtype=self.dtype,
      name=self.names[0],
    )
    norm = batch_norm(train, self.dtype, epsilon=self.epsilon, momentum=self.momentum, name=self.names[1])
    return self.activation(norm(conv(x)))
