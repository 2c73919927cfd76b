"""Chains of operations which are drawn for each example."""

import functools
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key

from dl.config.bounds import Count, Depth, Number, Size
from dl.data.augment import checks, pixels
from dl.data.augment.checks import Batch
from dl.data.augment.geometry import affine
from dl.errors import ConfigError, nearest

OPERATIONS = (
  'identity',
  'shear_x',
  'shear_y',
  'translate_x',
  'translate_y',
  'rotate',
  'brightness',
  'color',
  'contrast',
  'sharpness',
  'posterize',
  'solarize',
  'autocontrast',
  'equalize',
)
_GEOMETRY = OPERATIONS[1:6]
_BLENDS = OPERATIONS[6:10]

Drawn = dict[str, Bool[Array, ' b']]  # operation -> the examples which drew it


def rand_augment(
  key: Key[Array, ''],
  batch: Batch,
  num_ops: Depth = 2,
  magnitude: Count = 9,
  bins: Size = 31,
  fill: Number = 0.0,
  operations: tuple[str, ...] = OPERATIONS,
) -> Batch:
  """A few random operations, all of one strength ("RandAugment", arXiv 1909.13719).

  Operations and magnitudes are torchvision's; those of geometry interpolate linearly. The operation and its sign are
  drawn for each example and step; a step resamples all images once and chooses among the changes of colours.

  Cite: cubuk2020randaugment

  Args:
    key: draws.
    batch: has `image`, with 1 or 3 channels.
    num_ops: operations, one after the other.
    magnitude: strength, from 0 to `bins - 1`.
    bins: number of strengths.
    fill: what moves in from outside an image.
    operations: which to draw from.
  """
  image = checks.image_to_move(batch, 'rand_augment')
  checks.at_least(0, num_ops=num_ops)
  checks.colours(image, 'rand_augment')
  if not 0 <= magnitude < bins or bins < 2:
    raise ConfigError(f'rand_augment: magnitude must be from 0 to bins - 1, got {magnitude} of {bins} bins')
  if not operations:
    raise ConfigError('rand_augment: operations must not be empty')
  for name in operations:
    if name not in OPERATIONS:
      raise ConfigError(f'rand_augment.operations: nothing is called {name!r}; {nearest(name, OPERATIONS)}')
  operation_key, sign_key = jax.random.split(key)
  shape = (num_ops, len(image))
  numbers = jnp.asarray([OPERATIONS.index(n) for n in operations])
  operation = numbers[jax.random.randint(operation_key, shape, 0, len(operations))]
  sign = jax.random.rademacher(sign_key, shape, image.dtype)

  def step(image, now):
    # A name which cannot be drawn is known to be so, and its operation is left out of the program.
    drawn = {n: now[0] == OPERATIONS.index(n) for n in operations}
    return _step(image, drawn, now[1], magnitude / (bins - 1), fill), None

  # A loop is compiled once, and keeps XLA from computing pixels anew for each one of the next step which needs them.
  return batch | {'image': jax.lax.scan(step, image, (operation, sign))[0]}


def _step(
  image: Float[Array, 'b h w c'], drawn: Drawn, sign: Float[Array, ' b'], level: float, fill: float
) -> Float[Array, 'b h w c']:
  """One operation on each image."""
  every = lambda value: jnp.full(sign.shape, value, image.dtype)
  changes = (
    (_GEOMETRY, lambda: affine(image - fill, *_motion(image.shape[1:3], drawn, sign, level)) + fill),
    (_BLENDS, lambda: pixels.blend(image, _other(image, drawn), 1 + 0.9 * level * sign)),
    (('posterize',), lambda: pixels.posterize(image, every(round(8 - 4 * level)))),
    (('solarize',), lambda: pixels.solarize(image, every(1 - level))),
    (('autocontrast',), lambda: pixels.autocontrast(image)),
    (('equalize',), lambda: pixels.equalize(image)),
  )
  stepped = image
  for names, change in changes:
    of_these = [drawn[n] for n in names if n in drawn]
    if of_these:
      stepped = jnp.where(_per_image(functools.reduce(jnp.logical_or, of_these)), change(), stepped)
  return stepped


def _motion(
  size: tuple[int, int], drawn: Drawn, sign: Float[Array, ' b'], level: float
) -> tuple[Float[Array, 'b 2 2'], Float[Array, 'b 2']]:
  """Where each pixel comes from: all that is not drawn is zero, so that one matrix says it for every operation."""
  height, width = size
  amount = lambda name, value: jnp.where(drawn.get(name, False), value * sign, 0.0)
  shear_x, shear_y = amount('shear_x', 0.3 * level), amount('shear_y', 0.3 * level)
  right = amount('translate_x', math.floor(150 / 331 * width * level))
  down = amount('translate_y', math.floor(150 / 331 * height * level))
  angle = amount('rotate', math.radians(30 * level))
  cos, sin = jnp.cos(angle), jnp.sin(angle)
  matrix = jnp.stack([jnp.stack([cos, sin + shear_y], -1), jnp.stack([shear_x - sin, cos], -1)], -2)
  # Shears keep the upper left corner where it is.
  return matrix, jnp.stack([shear_y * width / 2 - down, shear_x * height / 2 - right], -1)


def _other(image: Float[Array, 'b h w c'], drawn: Drawn) -> Float[Array, 'b h w c']:
  """What each image is blended with: black (for brightness), its grey version, the mean of that, or itself smoothed."""
  other = jnp.zeros_like(image)
  others = {'color': pixels.gray(image), 'contrast': pixels.mean_gray(image), 'sharpness': pixels.smooth(image)}
  for name, changed in others.items():
    if name in drawn:
      other = jnp.where(_per_image(drawn[name]), changed, other)
  return other


def _per_image(x: Bool[Array, ' b']) -> Bool[Array, 'b 1 1 1']:
  return x[:, None, None, None]
