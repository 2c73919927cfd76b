"""LeNet-5 (LeCun, Bottou, Bengio and Haffner, Gradient-Based Learning Applied to Document Recognition, 1998)."""

from typing import Any, ClassVar, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dl.config.bounds import Size
from dl.contract.weights import Rules, inputs, outputs
from dl.nn import activations, maps
from dl.nn.pooling import max_pool

_SIZE = 32


class LeNet5(nn.Module):
  """The convolutional network of 1998 on 32x32 images: 61,706 parameters for ten classes of one channel.

  Two simplifications are the common ones: layer C3 sees all maps of S2, and the output is linear, not radial basis
  functions. The subsampling layers have no weights. `LeNet5Original` has all of these.

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

  num_classes: Size
  activation: activations.Activation = 'tanh'
  pooling: Literal['average', 'max'] = 'average'
  fit: Literal['pad', 'resize'] = 'pad'
  dtype: Any = jnp.float32

  sharding_rules: ClassVar[Rules] = (*outputs('dense_0'), *inputs('dense_1'))

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
  """Images as 32x32: see `LeNet5`; raises ValueError if they are none, or too large to pad."""
  maps.check(x, 'LeNet5')
  b, h, w, c = x.shape
  if (h, w) == (_SIZE, _SIZE):
    return x
  if fit == 'resize':
    return jax.image.resize(x, (b, _SIZE, _SIZE, c), 'bilinear')
  if max(h, w) > _SIZE:
    raise ValueError(f"fit: images of {h}x{w} do not fit into 32x32; use fit='resize'")
  pads = [((_SIZE - n) // 2, (_SIZE - n + 1) // 2) for n in (h, w)]
  return jnp.pad(x, ((0, 0), *pads, (0, 0)))


_SEEN = (
  *((0, 1, 2), (1, 2, 3), (2, 3, 4), (3, 4, 5), (0, 4, 5), (0, 1, 5)),
  *((0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5), (0, 3, 4, 5), (0, 1, 4, 5), (0, 1, 2, 5)),
  *((0, 1, 3, 4), (1, 2, 4, 5), (0, 2, 3, 5), (0, 1, 2, 3, 4, 5)),
)
"""Which maps of S2 each of the 16 maps of C3 sees: table I of the paper."""


class LeNet5Original(nn.Module):
  """LeNet-5 as the paper has it: 60,000 trained parameters on one channel.

  Layer C3 sees a part of the maps of S2, subsampling is a sum with a trained coefficient and bias a map, units are
  1.7159 tanh(2x/3), and a class is as likely as the last layer is near to its code: the logits are the negative squared
  distances. Codes are 84 fixed signs a class; the paper's are pictures of characters, these are drawn once and for all.

  Cite: lecun1998gradient

  Attributes:
    num_classes: number of logits.
    fit: how images of another size are brought to 32x32, 'pad' or 'resize'; see `LeNet5`.
    dtype: compute type; distances are float32.
  """

  num_classes: Size
  fit: Literal['pad', 'resize'] = 'pad'
  dtype: Any = jnp.float32

  sharding_rules: ClassVar[Rules] = (*outputs('c5'), *inputs('f6'))

  @nn.compact
  def __call__(self, x: Float[Array, 'b h w c'], train: bool = False) -> Float[Array, 'b classes']:
    squash = lambda x: 1.7159 * jnp.tanh(x * (2 / 3))
    x = to_size(x, self.fit).astype(self.dtype)
    x = squash(nn.Conv(6, (5, 5), padding='VALID', dtype=self.dtype, name='c1')(x))
    x = squash(_Subsampling(self.dtype, name='s2')(x))
    x = squash(_SparseConv(self.dtype, name='c3')(x))
    x = squash(_Subsampling(self.dtype, name='s4')(x))
    x = squash(nn.Dense(120, dtype=self.dtype, name='c5')(x.reshape(len(x), -1)))
    x = squash(nn.Dense(84, dtype=self.dtype, name='f6')(x)).astype(jnp.float32)
    codes = jax.random.rademacher(jax.random.key(1998), (self.num_classes, 84), jnp.float32)
    return -((x[:, None] - codes) ** 2).sum(-1)


class _Subsampling(nn.Module):
  """Sums of 2x2 places, with a coefficient and a bias a map."""

  dtype: Any

  @nn.compact
  def __call__(self, x: Float[Array, 'b h w c']) -> Float[Array, 'b H W c']:
    scale = self.param('scale', nn.initializers.constant(0.25), x.shape[-1:]).astype(self.dtype)
    bias = self.param('bias', nn.initializers.zeros, x.shape[-1:]).astype(self.dtype)
    return 4 * nn.avg_pool(x, (2, 2), (2, 2)) * scale + bias


class _SparseConv(nn.Module):
  """C3: a 5x5 kernel for each pair of maps in `_SEEN`."""

  dtype: Any

  @nn.compact
  def __call__(self, x: Float[Array, 'b h w 6']) -> Float[Array, 'b H W 16']:
    pairs = [(i, j) for j, seen in enumerate(_SEEN) for i in seen]
    deviation = (25 * len(pairs) / len(_SEEN)) ** -0.5
    kernel = self.param('kernel', nn.initializers.normal(deviation), (5, 5, len(pairs))).astype(self.dtype)
    bias = self.param('bias', nn.initializers.zeros, (len(_SEEN),)).astype(self.dtype)
    sources, targets = map(jnp.asarray, zip(*pairs, strict=True))
    whole = jnp.zeros((5, 5, 6, len(_SEEN)), self.dtype).at[:, :, sources, targets].set(kernel)
    dimensions = ('NHWC', 'HWIO', 'NHWC')
    return jax.lax.conv_general_dilated(x, whole, (1, 1), 'VALID', dimension_numbers=dimensions) + bias
