"""Norms as PyTorch computes them: the variance is the mean square of centred values.

Flax's own default is E[x^2] - E[x]^2, of which float32 keeps little where features lie far from zero. A second pass
over [64, 32, 32, 64] took 17 % more of the time of a norm, there and back, and 1 % more of a 3x3 convolution with it
(medians of 25 turns on 2 CPU cores).
"""

import functools
from typing import Any

import flax.linen as nn

layer_norm = functools.partial(nn.LayerNorm, use_fast_variance=False)
"""`flax.linen.LayerNorm` (Layer Normalization, arXiv 1607.06450)."""

group_norm = functools.partial(nn.GroupNorm, use_fast_variance=False)
"""`flax.linen.GroupNorm` (Group Normalization, arXiv 1803.08494)."""


def batch_norm(
  train: bool,
  dtype: Any,
  *,
  name: str,
  epsilon: float = 1e-5,
  momentum: float = 0.9,
  scale_init: nn.initializers.Initializer = nn.initializers.ones,
) -> nn.BatchNorm:
  """A batch norm over all but the last axis (Batch Normalization, arXiv 1502.03167), with the constants of PyTorch.

  Args:
    train: whether to take the statistics of the batch, and to add them to the running ones, which are taken otherwise.
    dtype: compute type; statistics are float32.
    name: of the layer.
    epsilon: added to variances.
    momentum: share of a running average which stays; PyTorch's is one minus this.
    scale_init: initializer of the scale.
  """
  return nn.BatchNorm(
    use_running_average=not train,
    momentum=momentum,
    epsilon=epsilon,
    dtype=dtype,
    scale_init=scale_init,
    use_fast_variance=False,
    name=name,
  )
