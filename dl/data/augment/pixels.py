"""Changes of colours, each by a number for each image; as torchvision defines them for images of floats in [0, 1]."""

import jax.numpy as jnp
from jaxtyping import Array, Float

Image = Float[Array, 'b h w c']
Factor = Float[Array, ' b']


def gray(image: Image) -> Float[Array, 'b h w 1']:
  """Luma of red, green and blue; a grey image as it is."""
  if image.shape[-1] == 1:
    return image
  return 0.2989 * image[..., :1] + 0.587 * image[..., 1:2] + 0.114 * image[..., 2:]


def mean_gray(image: Image) -> Float[Array, 'b 1 1 1']:
  """Mean of the grey image."""
  return gray(image.mean((1, 2), keepdims=True))  # of fewer numbers than the mean of all pixels' luma


def blend(image: Image, other: Float[Array, 'b ...'], factor: Factor) -> Image:
  """`factor` of the image and `1 - factor` of another one, clipped to [0, 1]; above 1 a factor leads away from it."""
  factor = factor[:, None, None, None]
  return jnp.clip(factor * image + (1 - factor) * other, 0, 1)


def brightness(image: Image, factor: Factor) -> Image:
  """Times a factor: black at 0."""
  return blend(image, jnp.zeros_like(image), factor)


def contrast(image: Image, factor: Factor) -> Image:
  """Distance to the mean of the grey image, times a factor."""
  return blend(image, mean_gray(image), factor)


def saturation(image: Image, factor: Factor) -> Image:
  """Distance to the grey image, times a factor."""
  return blend(image, gray(image), factor)


def sharpness(image: Image, factor: Factor) -> Image:
  """Distance to the smoothed image, times a factor."""
  return blend(image, smooth(image), factor)


def smooth(image: Image) -> Image:
  """Mean of the 3x3 neighbours where the pixel itself counts five times; the pixels of the edge stay."""
  height, width = image.shape[1:3]
  if min(height, width) <= 2:
    return image
  padded = jnp.pad(image, ((0, 0), (1, 1), (1, 1), (0, 0)))
  total = sum(padded[:, i : i + height, j : j + width] for i in range(3) for j in range(3))
  inner = lambda size: (jnp.arange(size) > 0) & (jnp.arange(size) < size - 1)
  return jnp.where((inner(height)[:, None] & inner(width))[..., None], (total + 4 * image) / 13, image)


def hue(image: Image, turn: Factor) -> Image:
  """Hue (of HSV) turned by a share of the circle, of images in red, green and blue."""
  red, green, blue = (image[..., i] for i in range(3))
  # Not image.max(-1), nor %: XLA on CPUs takes ten times as long.
  most, least = jnp.maximum(jnp.maximum(red, green), blue), jnp.minimum(jnp.minimum(red, green), blue)
  spread = most - least
  choose = lambda *values: jnp.where(most == red, values[0], jnp.where(most == green, values[1], values[2]))
  sextant = choose(green - blue, blue - red, red - green) / jnp.where(spread > 0, spread, 1) + choose(0.0, 2.0, 4.0)

  def channel(after: int) -> Float[Array, 'b h w']:
    """Each channel is a trapezoid of the hue, a third of the circle after the one before."""
    at = sextant + 6 * turn[:, None, None] + after
    return most - spread * jnp.clip(2 - jnp.abs(at - 6 * jnp.floor(at / 6) - 2), 0, 1)

  return jnp.stack([channel(5), channel(3), channel(1)], -1)


def posterize(image: Image, bits: Factor) -> Image:
  """`2 ** bits` levels for each channel."""
  levels = 2 ** bits[:, None, None, None]
  return jnp.clip(jnp.floor(image * levels), 0, levels - 1) / levels


def solarize(image: Image, threshold: Factor) -> Image:
  """The negative where a pixel is at least as bright as a threshold."""
  return jnp.where(image >= threshold[:, None, None, None], 1 - image, image)


def autocontrast(image: Image) -> Image:
  """Each channel stretched to the whole of [0, 1]."""
  least, most = image.min((1, 2), keepdims=True), image.max((1, 2), keepdims=True)
  flat = least == most
  return jnp.clip(jnp.where(flat, image, (image - least) / jnp.where(flat, 1, most - least)), 0, 1)


def equalize(image: Image) -> Image:
  """Each channel with as flat a histogram of 256 levels as a table of levels can give it.

  The table is Pillow's: a step is 1/255 of the pixels which are not of the brightest level, and the new level of a
  pixel counts the steps in the number of darker pixels. Without a whole step a channel stays, rounded to its levels.
  """
  b, h, w, c = image.shape
  # 255.999 gives all levels the same width.
  level = jnp.clip(jnp.floor(image * 255.999), 0, 255).astype(jnp.int32).transpose(0, 3, 1, 2).reshape(b * c, h * w)
  cells = jnp.zeros((b * c, 256))
  histogram = cells.at[jnp.arange(b * c)[:, None], level].add(1, mode='promise_in_bounds')
  # In floats, as XLA on CPUs builds the table anew for each pixel: a half makes a rounded quotient safe to round down.
  divide = lambda x, y: jnp.floor((x + 0.5) / y)
  brightest = jnp.where(jnp.cumsum(histogram, -1) == h * w, histogram, 0).max(-1, keepdims=True)
  step = divide(h * w - brightest, 255)
  darker = jnp.cumsum(histogram, -1) - histogram
  table = jnp.minimum(divide(darker + divide(step, 2), jnp.maximum(step, 1)), 255)
  table = jnp.where(step > 0, table, jnp.arange(256)) / 255
  equalized = jnp.take_along_axis(table, level, -1, mode='promise_in_bounds').astype(image.dtype)
  return equalized.reshape(b, c, h, w).transpose(0, 2, 3, 1)
