"""What augmentations ask of a batch and of their arguments: one helpful line for a mistake."""

import math

from jaxtyping import Array, Float

from dl.errors import ConfigError

Batch = dict[str, Array]


def image_of(batch: Batch, who: str) -> Float[Array, 'b h w c']:
  """The images of a batch.

  Raises:
    ConfigError: there are none.
  """
  if 'image' not in batch:
    raise ConfigError(f'{who} needs image in a batch, got {", ".join(sorted(batch))}')
  return batch['image']


def image_to_move(batch: Batch, who: str) -> Float[Array, 'b h w c']:
  """The images of a batch, for a change of places within them.

  Raises:
    ConfigError: there are none, or each pixel of theirs has a label, which would stay where it is.
  """
  if 'label_map' in batch:
    raise ConfigError(f'{who} would move images and not their label_map; dl.data.augment.maps has what moves both')
  return image_of(batch, who)


def image_or_features(batch: Batch, who: str) -> str:
  """Which of the two a batch has.

  Raises:
    ConfigError: neither.
  """
  name = next((n for n in ('image', 'features') if n in batch), None)
  if name is None:
    raise ConfigError(f'{who} needs image or features in a batch, got {", ".join(sorted(batch))}')
  return name


def colours(image: Float[Array, 'b h w c'], who: str) -> int:
  """The number of channels.

  Raises:
    ConfigError: neither one (grey) nor three (red, green, blue).
  """
  channels = image.shape[-1]
  if channels not in (1, 3):
    raise ConfigError(f'{who} needs images with 1 or 3 channels, got {channels}')
  return channels


def at_least(least: float, **values: float) -> None:
  """Raises ConfigError for an argument below a limit."""
  for name, value in values.items():
    if value < least:
      raise ConfigError(f'{name}: must be at least {least}, got {value!r}')


def above_zero(**values: float) -> None:
  """Raises ConfigError for an argument which is not above zero."""
  for name, value in values.items():
    if not value > 0:
      raise ConfigError(f'{name}: must be above 0, got {value!r}')


def share(**values: float) -> None:
  """Raises ConfigError for an argument which is no probability or share."""
  for name, value in values.items():
    if not 0 <= value <= 1:
      raise ConfigError(f'{name}: must be from 0 to 1, got {value!r}')


def interval(who: str, least: float, most: float, **values: tuple[float, float]) -> None:
  """Raises ConfigError for an argument which is not (smallest, largest) from `least` to `most`, both included."""
  for name, (low, high) in values.items():
    if not least <= low <= high <= most:
      limits = f'from {least} to {most}' if most < math.inf else f'at least {least}'
      raise ConfigError(f'{who}: {name} must be (smallest, largest), {limits}, got {(low, high)!r}')


def interval_above_zero(who: str, most: float = math.inf, **values: tuple[float, float]) -> None:
  """Raises ConfigError for an argument which is not (smallest, largest) above 0, up to `most`."""
  for name, (low, high) in values.items():
    if not 0 < low <= high <= most:
      limits = f'above 0 and up to {most}' if most < math.inf else 'above 0'
      raise ConfigError(f'{who}: {name} must be (smallest, largest) {limits}, got {(low, high)!r}')
