"""Random rectangles of pixels: one for each example, without a loop over examples."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

TRIES = 10


def draw_sizes(
  key: Key[Array, ''], count: int, whole: tuple[int, int], scale: tuple[float, float], ratio: tuple[float, float]
) -> tuple[Int[Array, 'b tries'], Int[Array, 'b tries']]:
  """Long and short enough sides of `TRIES` rectangles per example; which of them fit is for the caller to choose.

  Args:
    key: draws.
    count: examples, b.
    whole: (height, width) of the image.
    scale: smallest and largest share of the image's area, drawn evenly.
    ratio: smallest and largest quotient of the first side by the second, drawn evenly in its logarithm.

  Returns:
    The first and the second side, in pixels.
  """
  area_key, ratio_key = jax.random.split(key)
  area = whole[0] * whole[1] * jax.random.uniform(area_key, (count, TRIES), minval=scale[0], maxval=scale[1])
  low, high = math.log(ratio[0]), math.log(ratio[1])
  quotient = jnp.exp(jax.random.uniform(ratio_key, (count, TRIES), minval=low, maxval=high))
  side = lambda x: jnp.round(jnp.sqrt(x)).astype(jnp.int32)
  return side(area * quotient), side(area / quotient)


def first(valid: Bool[Array, 'b tries'], values: Int[Array, 'b tries'], otherwise: int) -> Int[Array, ' b']:
  """The first valid try of each example."""
  chosen = jnp.take_along_axis(values, jnp.argmax(valid, 1)[:, None], 1)[:, 0]
  return jnp.where(valid.any(1), chosen, otherwise)


def place(key: Key[Array, ''], room: Int[Array, ' b']) -> Int[Array, ' b']:
  """A whole number from 0 to `room` for each example."""
  return jax.random.randint(key, room.shape, 0, room + 1)


def inside(
  size: tuple[int, int],
  top: Int[Array, ' b'],
  left: Int[Array, ' b'],
  bottom: Int[Array, ' b'],
  right: Int[Array, ' b'],
) -> Bool[Array, 'b h w 1']:
  """Which pixels of images of a size lie in each rectangle; bottom and right lie outside of it."""
  of = lambda x: x[:, None, None, None]
  rows, columns = jnp.arange(size[0])[:, None, None], jnp.arange(size[1])[:, None]
  return (rows >= of(top)) & (rows < of(bottom)) & (columns >= of(left)) & (columns < of(right))


def share(mask: Bool[Array, 'b h w 1']) -> Float[Array, ' b']:
  """The share of the pixels which are in each mask."""
  return mask.sum((1, 2, 3)) / math.prod(mask.shape[1:])
