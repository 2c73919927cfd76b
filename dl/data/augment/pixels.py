"""Changes of colours, each by a number for each image; as torchvision defines them for images of floats in [0, 1]."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Image = Float[Array, 'b h w c']
Factor = Float[Array, ' b']


def gray(image: Image) -> Float[Array, 'b h w 1']:
  """Luma of red, green and blue; a grey image as it is."""
  if image.shape[-1] == 1:
    return image
  return 0.2989 * image[..., :1] + 0.587 * image[..., 1:2] + 0.114 * image[..., 2:]


def blend(image: Image, other: Float[Array, 'b ...'], factor: Factor) -> Image:
  """`factor` of the image and `1 - factor` of another one, clipped to [0, 1]; above 1 a factor leads away from it."""
  factor = factor[:, None, None, None]
  return jnp.clip(factor * image + (1 - factor) * other, 0, 1)


def brightness(image: Image, factor: Factor) -> Image:
  """Times a factor: black at 0."""
  return blend(image, jnp.zeros_like(image), factor)


def contrast(image: Image, factor: Factor) -> Image:
  """Distance to the mean of the grey image, times a factor."""
  return blend(image, gray(image).mean((1, 2, 3), keepdims=True), factor)


def saturation(image: Image, factor: Factor) -> Image:
  """Distance to the grey image, times a factor."""
  return blend(image, gray(image), factor)


def sharpness(image: Image, factor: Factor) -> Image:
  """Distance to the smoothed image, times a factor."""
  return blend(image, smooth(image), factor)


def smooth(image: Image) -> Image:
  """Mean of the 3x3 neighbours where the pixel itself counts five times; the pixels of the edge stay."""
  if min(image.shape[1:3]) <= 2:
    return image
  rows = image[:, :-2] + image[:, 1:-1] + image[:, 2:]
  total = rows[:, :, :-2] + rows[:, :, 1:-1] + rows[:, :, 2:]
  return image.at[:, 1:-1, 1:-1].set((total + 4 * image[:, 1:-1, 1:-1]) / 13)


def hue(image: Image, turn: Factor) -> Image:
  """Hue (of HSV) turned by a share of the circle, of images in red, green and blue."""
  most, least = image.max(-1), image.min(-1)
  red, green, blue = (image[..., i] for i in range(3))
  spread = most - least
  safe = jnp.where(spread > 0, spread, 1)
  sextant = jnp.where(
    most == red,
    (green - blue) / safe,
    jnp.where(most == green, (blue - red) / safe + 2, (red - green) / safe + 4),
  )
  sextant = sextant + 6 * turn[:, None, None]
  # Each channel is a trapezoid of the hue, a third of the circle after the one before.
  channel = lambda i: most - spread * jnp.clip(2 - jnp.abs((sextant + i) % 6 - 2), 0, 1)
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
  histogram = jax.vmap(lambda at: jnp.zeros(256, jnp.int32).at[at].add(1))(level)
  up_to = jnp.cumsum(histogram, -1)
  brightest = jnp.take_along_axis(histogram, level.max(-1, keepdims=True), -1)
  step = (h * w - brightest) // 255
  table = jnp.minimum((up_to - histogram + step // 2) // jnp.maximum(step, 1), 255)
  table = jnp.where(step > 0, table, jnp.arange(256))
  found = jnp.take_along_axis(table, level, -1, mode='promise_in_bounds').astype(image.dtype) / 255
  return found.reshape(b, c, h, w).transpose(0, 2, 3, 1)
