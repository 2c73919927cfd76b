"""Norms as PyTorch computes them: the variance is the mean square of centred values.

Flax's own default is E[x^2] - E[x]^2, of which float32 keeps little where features lie far from zero.
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
