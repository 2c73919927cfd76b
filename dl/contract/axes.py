"""Names of the dimensions of an activation, by which a mesh of devices may split it."""

import flax.linen as nn
import jax
from jaxtyping import Array, PyTree


class Axes(nn.Module):
  """Returns its input, and says what its dimensions are; `dl.parallel.activations` intercepts it to place it.

  The names: 'batch'; 'length', of tokens between sublayers; 'query' and 'key', of tokens within attention; 'heads',
  or features ordered by them; 'hidden', of a feed-forward layer; 'vocab'; 'expert'. None leaves a dimension to XLA.

  Attributes:
    names: one a dimension.
  """

  names: tuple[str | None, ...]

  def __call__(self, x: Array) -> Array:
    return x


class Rows(nn.Module):
  """Merges all dimensions of its input but the last; `dl.parallel.activations` merges none, which a mesh may split."""

  def __call__(self, x: Array) -> Array:
    return x.reshape(-1, x.shape[-1])


def named(tree: PyTree, names: tuple[str | None, ...]) -> PyTree:
  """`Axes` outside of modules: the arrays of a tree, whose first dimensions have these names."""
  return jax.tree.map(lambda x: Axes((*names, *[None] * (x.ndim - len(names)))).apply({}, x), tree)
