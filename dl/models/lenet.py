"""LeNet-5 (LeCun, Bottou, Bengio and Haffner, Gradient-Based Learning Applied to Document Recognition, 1998)."""

from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dl.errors import ConfigError
from dl.nn import activations
from dl.nn.pooling import max_pool

_SIZE = 32


class LeNet5(nn.Module):
  """The convolutional network of 1998 on 32x32 images: 61,706 parameters for ten classes of one channel.

  Two simplifications are the common ones: layer C3 sees all maps of S2, and the output is linear, not radial basis
  functions. The subsampling layers have no weights.

  Images of another size are brought to 32x32: 'pad' puts them in the middle of zeros (28x28 digits, as in the paper);
  'resize' stretches them bilinearly, for images whose content fills them, such as 8x8 digits.

  Cite: lecun1998gradient

  Attributes:
    num_classes: number of logits.
    activation: name, dotted path or function (`dl.nn.activations`).
    pooling: 'average', as in the paper, or 'max'.
    fit: 'pad' or 'resize'.
    dtype: compute type.
  """

  num_classes: int
  activation: activations.Activation = 'tanh'
  pooling: Literal['average', 'max'] = 'average'
  fit: Literal['pad', 'resize'] = 'pad'
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: Float[Array, 'b h w c'], train: bool = False) -> Float[Array, 'b classes']:
    activation = activations.get(self.activation)
    largest = lambda x: max_pool(x, 2, 2)
    pool = {'average': lambda x: nn.avg_pool(x, (2, 2), (2, 2)), 'max': largest}[self.pooling]
    x = to_size(x, self.fit).astype(self.dtype)
    for i, features in enumerate((6, 16)):
      x = nn.Conv(features, (5, 5), padding='VALID', dtype=self.dtype, name=f'conv_{i}')(x)
      x = pool(activation(x))
    x = x.reshape(len(x), -1)
    for i, features in enumerate((120, 84)):
      x = activation(nn.Dense(features, dtype=self.dtype, name=f'dense_{i}')(x))
    return nn.Dense(self.num_classes, dtype=self.dtype, name='out')(x).astype(jnp.float32)


def to_size(x: Float[Array, 'b h w c'], fit: str) -> Float[Array, 'b 32 32 c']:
  """Images as 32x32: see `LeNet5`; raises ConfigError if they are none, or too large to pad."""
  if x.ndim != 4:
    raise ConfigError(f'config.model: LeNet5 takes images [height, width, channels], the data has shape {x.shape[1:]}')
  b, h, w, c = x.shape
  if (h, w) == (_SIZE, _SIZE):
    return x
  if fit == 'resize':
    return jax.image.resize(x, (b, _SIZE, _SIZE, c), 'bilinear')
  if max(h, w) > _SIZE:
    raise ConfigError(f"config.model.fit: images of {h}x{w} do not fit into 32x32; use fit='resize'")
  pads = [((_SIZE - n) // 2, (_SIZE - n + 1) // 2) for n in (h, w)]
  return jnp.pad(x, ((0, 0), *pads, (0, 0)))
