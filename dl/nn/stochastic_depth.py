"""Stochastic depth: residual branches left out at random while a network learns."""

import flax.linen as nn
from jaxtyping import Array, Float

from dl.config.bounds import BelowOne


class StochasticDepth(nn.Module):
  """Drops a whole residual branch, for each example by itself (Deep Networks with Stochastic Depth, arXiv 1603.09382).

  In training a branch of an example is zero with probability `rate`, and otherwise divided by `1 - rate`, so that its
  expectation is what evaluation computes. It draws from the 'dropout' stream.

  Cite: huang2016deep

  Attributes:
    rate: probability of leaving a branch out.
  """

  rate: BelowOne

  @nn.compact
  def __call__(self, x: Float[Array, 'b *shape'], train: bool) -> Float[Array, 'b *shape']:
    return nn.Dropout(self.rate, broadcast_dims=tuple(range(1, x.ndim)), deterministic=not train)(x)


def linear_rates(last: float, branches: int) -> list[float]:
  """A rate for each branch, from 0 for the first to `last` for the last one."""
  return [last * i / max(branches - 1, 1) for i in range(branches)]
