"""MLP-Mixer (MLP-Mixer: An all-MLP Architecture for Vision, arXiv 2105.01601)."""

from typing import Any, ClassVar

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from dl.config.bounds import BelowOne, Depth, Factor, Size
from dl.contract.weights import Rules, inputs, outputs
from dl.models.variants import size_of
from dl.nn.context import Context
from dl.nn.feed_forward import FeedForward
from dl.nn.norm import layer_norm
from dl.nn.patches import Patches
from dl.nn.stochastic_depth import StochasticDepth, linear_rates


class MLPMixer(nn.Module):
  """MLPs in turn over the patches of an image, and over the features of each (MLP-Mixer, arXiv 2105.01601).

  Images may have any size that `patch` divides, and any channels; but the network is made for the size which
  initializes it. Parts are named as timm names them.

  Cite: tolstikhin2021mlp

  Attributes:
    num_classes: number of logits.
    patch: side of a patch in pixels.
    width: features a patch.
    depth: number of blocks.
    token_ratio: hidden features of the MLPs over the patches, as a multiple of `width`.
    channel_ratio: hidden features of the MLPs over the features, likewise.
    dropout: rate after each dense layer of the MLPs.
    stochastic_depth: rate of the last block's branches, which grows linearly from 0 (arXiv 1603.09382).
    zero_head: whether the head starts at zero, as in the paper.
    dtype: compute type; logits are float32.
  """

  num_classes: Size
  patch: Size = 16
  width: Size = 512
  depth: Depth = 8
  token_ratio: Factor = 0.5
  channel_ratio: Factor = 4.0
  dropout: BelowOne = 0.0
  stochastic_depth: BelowOne = 0.0
  zero_head: bool = True
  dtype: Any = jnp.float32

  sharding_rules: ClassVar[Rules] = (*outputs('mlp_(tokens|channels)/fc1'), *inputs('mlp_(tokens|channels)/fc2'))

  @nn.compact
  def __call__(self, x: Float[Array, 'b h w c'], train: bool = False) -> Float[Array, 'b classes']:
    x = Patches(self.patch, self.width, 'MLPMixer', dtype=self.dtype, name='stem')(x)
    x = x.reshape(len(x), -1, self.width)
    for i, rate in enumerate(linear_rates(self.stochastic_depth, self.depth)):
      x = Block(
        int(self.width * self.token_ratio),
        int(self.width * self.channel_ratio),
        self.dropout,
        rate,
        self.dtype,
        name=f'blocks_{i}',
      )(x, train)
    x = layer_norm(1e-6, self.dtype, name='norm')(x).mean(axis=1)
    init = nn.initializers.zeros if self.zero_head else nn.initializers.xavier_uniform()
    return nn.Dense(self.num_classes, dtype=self.dtype, kernel_init=init, name='head')(x).astype(jnp.float32)


class Block(nn.Module):
  """x + mlp(norm(x)) over the patches, then the same over the features.

  Attributes:
    tokens_hidden: hidden features of the first MLP.
    channels_hidden: of the second.
    dropout: rate after each dense layer.
    stochastic_depth: rate at which a branch is left out.
    dtype: compute type.
  """

  tokens_hidden: Size
  channels_hidden: Size
  dropout: BelowOne = 0.0
  stochastic_depth: BelowOne = 0.0
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: Float[Array, 'b n width'], train: bool) -> Float[Array, 'b n width']:
    norm = lambda name: layer_norm(1e-6, self.dtype, name=name)
    mlp = lambda hidden, name: FeedForward(
      hidden, dropout=self.dropout, bias_init=nn.initializers.normal(1e-6), dtype=self.dtype, name=name
    )
    skip = lambda y: StochasticDepth(self.stochastic_depth)(y, train)
    context = Context(train=train)
    y = mlp(self.tokens_hidden, 'mlp_tokens')(norm('norm1')(x).swapaxes(1, 2), context)
    x = x + skip(y.swapaxes(1, 2))
    return x + skip(mlp(self.channels_hidden, 'mlp_channels')(norm('norm2')(x), context))


@size_of(MLPMixer, patch=16)
def MixerS16() -> MLPMixer:
  """Mixer-S/16: 18,528,264 parameters at 224x224 and 1,000 classes."""


@size_of(MLPMixer, patch=32)
def MixerS32() -> MLPMixer:
  """Mixer-S/32: 19,104,624 parameters at 224x224 and 1,000 classes."""


@size_of(MLPMixer, patch=16, width=768, depth=12)
def MixerB16() -> MLPMixer:
  """Mixer-B/16: 59,880,472 parameters at 224x224 and 1,000 classes."""
