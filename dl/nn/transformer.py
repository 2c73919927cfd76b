"""A transformer block, put together from its parts."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from dl.contract.axes import Axes
from dl.nn import products
from dl.nn.context import Context

Stream = tuple[Float[Array, 'b n width'], Float[Array, '']]
"""What blocks pass on: the features, and the sum of what their parts add to the loss."""

Function = Callable[[Array], Array]


def pre_norm(x: Array, norm: Function, branch: Function) -> Array:
  """x + branch(norm(x)), as in GPT-2 (On Layer Normalization in the Transformer Architecture, arXiv 2002.04745)."""
  return x + branch(norm(x))


def post_norm(x: Array, norm: Function, branch: Function) -> Array:
  """norm(x + branch(x)), as in the first transformer (arXiv 1706.03762) and in BERT."""
  return norm(x + branch(x))


class Branch(NamedTuple):
  """A sublayer of a block.

  Attributes:
    norm: the norm.
    part: a module of (features, context) -> features, or -> (features, what is added to the loss): attention, a
      feed-forward layer, experts.
    after: what its output passes before it is added, a function of (features, context): dropout, stochastic depth.
  """

  norm: Function
  part: Callable[[Array, Context], Array | tuple[Array, Array]]
  after: Callable[[Array, Context], Array] = lambda y, context: y


class Block(nn.Module):
  """Branches of a residual stream, one after another.

  Attributes:
    branches: makes them; it is called inside of the block, whose modules are those that it makes. Most networks have
      attention and a feed-forward layer; a decoder has attention across between them.
    order: how a norm, a branch and the stream are joined: `pre_norm`, `post_norm`, or a function of one's own.
  """

  branches: Callable[[], Sequence[Branch]]
  order: Callable[[Array, Function, Function], Array] = pre_norm

  @nn.compact
  def __call__(self, stream: Stream, context: Context) -> Stream:
    x, loss = stream
    for norm, part, after in self.branches():
      added = []

      def branch(y: Array, part=part, after=after, added=added) -> Array:
        y = part(y, context)
        if isinstance(y, tuple):
          y, more = y
          added.append(more)
        return after(y, context)

      x = products.joint(self.order(Axes(('batch', 'length', None))(x), norm, branch))
      loss = sum(added, loss)
    return x, loss


def begin(x: Float[Array, 'b n width']) -> Stream:
  """The stream that the first block takes."""
  return x, jnp.zeros((), jnp.float32)


def dropout(rate: float) -> Callable[[Array, Context], Array]:
  """Dropout as `Branch.after`; one for several branches draws from one stream of keys."""
  drop = nn.Dropout(rate)
  return lambda y, context: drop(y, deterministic=not context.train)
