"""Vision transformers (An Image is Worth 16x16 Words, arXiv 2010.11929)."""

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dl.config.bounds import BelowOne, Depth, Factor, Size
from dl.contract.weights import Layouts, Resampling, Rules, Table, inputs, outputs
from dl.models.variants import size_of
from dl.nn import position
from dl.nn.attention import Attention, Projections
from dl.nn.context import Context
from dl.nn.feed_forward import FeedForward
from dl.nn.norm import layer_norm
from dl.nn.patches import Patches
from dl.nn.stack import Remat, memory_savings, stack
from dl.nn.stochastic_depth import StochasticDepth, linear_rates
from dl.nn.transformer import Block, Branch, begin, dropout

_INIT = nn.initializers.truncated_normal(0.02)

_HUGGINGFACE: Table = [
  (r'(?:vit\.)?pooler\..*', None),  # a layer for pre-training alone
  (r'(?:vit\.)?embeddings\.cls_token', 'cls_token'),
  (r'(?:vit\.)?embeddings\.position_embeddings', 'pos_embed'),
  (r'(?:vit\.)?embeddings\.patch_embeddings\.projection\.(.*)', r'patch_embed.proj.\1'),
  # Names inside a layer are those of the published files, or of a module of transformers 5.
  *[
    (rf'(?:vit\.)?(?:encoder\.layer|layers)\.(\d+)\.{theirs}\.(weight|bias)', rf'blocks.\1.{ours}.\2{part}')
    for theirs, ours, part in (
      (r'attention\.(?:attention\.query|q_proj)', 'attn.qkv', '#0'),
      (r'attention\.(?:attention\.key|k_proj)', 'attn.qkv', '#1'),
      (r'attention\.(?:attention\.value|v_proj)', 'attn.qkv', '#2'),
      (r'attention\.(?:output\.dense|o_proj)', 'attn.proj', ''),
      (r'(?:intermediate\.dense|mlp\.fc1)', 'mlp.fc1', ''),
      (r'(?:output\.dense|mlp\.fc2)', 'mlp.fc2', ''),
      ('layernorm_before', 'norm1', ''),
      ('layernorm_after', 'norm2', ''),
    )
  ],
  (r'(?:vit\.)?layernorm\.(.*)', r'norm.\1'),
  (r'classifier\.(.*)', r'head.\1'),
]

_TORCHVISION: Table = [
  ('class_token', 'cls_token'),
  (r'conv_proj\.(.*)', r'patch_embed.proj.\1'),
  (r'encoder\.pos_embedding', 'pos_embed'),
  *[
    (rf'encoder\.layers\.encoder_layer_(\d+)\.{theirs}(weight|bias)', rf'blocks.\1.{ours}.\2')
    for theirs, ours in (
      (r'ln_1\.', 'norm1'),
      (r'ln_2\.', 'norm2'),
      (r'self_attention\.in_proj_', 'attn.qkv'),
      (r'self_attention\.out_proj\.', 'attn.proj'),
      (r'mlp\.(?:0|linear_1)\.', 'mlp.fc1'),
      (r'mlp\.(?:3|linear_2)\.', 'mlp.fc2'),
    )
  ],
  (r'encoder\.ln\.(.*)', r'norm.\1'),
  (r'heads\.head\.(.*)', r'head.\1'),
]


def _resample(positions: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
  """Position embeddings [1, n, width] of a square grid for another one."""
  fits = positions.ndim == 3 and positions.shape[::2] == shape[::2]
  return np.asarray(position.fit(positions, shape[1])) if fits else positions


class ViT(nn.Module):
  """A transformer over the patches of an image (An Image is Worth 16x16 Words, arXiv 2010.11929).

  Blocks normalize before each branch; a learned embedding of its position is added to each patch. Images may have any
  size that `patch` divides, and any channels. Parts are named as timm names them; 'huggingface' is a layout as well.

  Cite: dosovitskiy2021image, vaswani2017attention

  Attributes:
    num_classes: number of logits.
    patch: side of a patch in pixels.
    width: features a token.
    depth: number of blocks.
    heads: attention heads a block; must divide `width`.
    mlp_ratio: hidden features of a block's MLP, as a multiple of `width`.
    pool: what the head reads: the class 'token', or the 'average' of the patches.
    class_token: whether there is one; None for where `pool` reads it.
    grid: rows and columns of the position embeddings, which are resampled to those of an image; None for those of the
      images which initialize the network, which then takes no others. Weights of another size are resampled when
      they are loaded, in either case.
    dropout: rate after the embeddings, each attention and each dense layer of the MLPs.
    stochastic_depth: rate of the last block's branches, which grows linearly from 0 (arXiv 1603.09382).
    zero_head: whether the head starts at zero, as for fine-tuning in the paper.
    remat: what the backward pass computes again: 'none', 'dots' or 'full' (`dl.nn.stack`).
    dtype: compute type; softmax and logits are float32.
  """

  num_classes: Size
  patch: Size = 16
  width: Size = 384
  depth: Depth = 12
  heads: Size = 6
  mlp_ratio: Factor = 4.0
  pool: Literal['token', 'average'] = 'token'
  class_token: bool | None = None
  grid: tuple[Size, Size] | None = None
  dropout: BelowOne = 0.0
  stochastic_depth: BelowOne = 0.0
  zero_head: bool = False
  remat: Remat = 'none'
  dtype: Any = jnp.float32

  sharding_rules: ClassVar[Rules] = (
    *outputs('attn/qkv'),
    *inputs('attn/proj'),
    *outputs('mlp/fc1'),
    *inputs('mlp/fc2'),
  )
  layouts: ClassVar[Layouts] = {'huggingface': _HUGGINGFACE, 'torchvision': _TORCHVISION}
  resampling: ClassVar[Resampling] = {'(^|/)pos_embed$': _resample}

  @nn.compact
  def __call__(self, x: Float[Array, 'b h w c'], train: bool = False) -> Float[Array, 'b classes']:
    class_token = self.pool == 'token' if self.class_token is None else self.class_token
    if self.pool == 'token' and not class_token:
      raise ValueError("pool='token' reads the class token; pool='average' does without")
    # Each patch is one dense layer's input, so that its initialization is that of a dense layer.
    x = Patches(self.patch, self.width, 'ViT', dtype=self.dtype, name='patch_embed')(x)
    b, *grid, _ = x.shape
    x = x.reshape(b, -1, self.width)
    if class_token:
      token = self.param('cls_token', nn.initializers.normal(1e-6), (1, 1, self.width))
      x = jnp.concatenate([jnp.broadcast_to(token.astype(x.dtype), (b, 1, self.width)), x], axis=1)
    x = x + self._positions(tuple(grid), int(class_token)).astype(x.dtype)
    x = nn.Dropout(self.dropout, deterministic=not train)(x)
    rates = linear_rates(self.stochastic_depth, self.depth)
    block = lambda name, i: Block(lambda: self._branches(rates[i]), name=name)
    x, _ = stack(block, self.depth, begin(x), Context(train=train), remat=self.remat, prefix='blocks')
    # As in timm, an average is taken before the last norm, which then has another name.
    if self.pool == 'token':
      x = self._norm('norm')(x[:, 0])
    else:
      x = self._norm('fc_norm')(x[:, int(class_token) :].mean(axis=1))
    init = nn.initializers.zeros if self.zero_head else _INIT
    return nn.Dense(self.num_classes, dtype=self.dtype, kernel_init=init, name='head')(x).astype(jnp.float32)

  def _positions(self, grid: tuple[int, int], prefix: int) -> Float[Array, '1 n width']:
    """The position embeddings of a grid of patches and of the tokens before them."""
    rows, columns = self.grid or grid
    shape = (1, prefix + rows * columns, self.width)
    if self.has_variable('params', 'pos_embed') and not self.grid:
      tokens = jnp.shape(self.get_variable('params', 'pos_embed'))[1]
      if tokens != shape[1]:
        raise ValueError(
          f'position embeddings of {tokens} tokens do not fit the {shape[1]} of these images; '
          'give the (rows, columns) of the embeddings, and they are resampled'
        )
    embedding = self.param('pos_embed', _INIT, shape)
    return position.resample(embedding, (rows, columns), grid, prefix)

  @nn.nowrap
  def memory_savings(self) -> dict[str, Any]:
    """Arguments with which it keeps fewer activations, the least costly first."""
    return memory_savings(self.remat)

  @nn.nowrap
  def _norm(self, name: str) -> nn.Module:
    return layer_norm(1e-6, self.dtype, name=name)

  @nn.nowrap
  def _branches(self, rate: float) -> Sequence[Branch]:
    """Attention and an MLP, left out at a rate; made inside of a block."""
    attention = Attention(
      project=lambda: Projections(self.heads, dtype=self.dtype, kernel_init=_INIT, name='qkv'),
      out_init=_INIT,
      out='proj',
      dtype=self.dtype,
      name='attn',
    )
    mlp = FeedForward(
      int(self.width * self.mlp_ratio), dropout=self.dropout, kernel_init=_INIT, dtype=self.dtype, name='mlp'
    )
    drop = dropout(self.dropout)
    skip = lambda y, context: StochasticDepth(rate)(y, context.train)
    return (
      Branch(self._norm('norm1'), attention, lambda y, context: skip(drop(y, context), context)),
      Branch(self._norm('norm2'), mlp, skip),
    )


@size_of(ViT, patch=16, width=192, heads=3)
def ViT_Ti16() -> ViT:
  """ViT-Ti/16 (arXiv 2012.12877): 5,717,416 parameters at 224x224 and 1,000 classes."""


@size_of(ViT, patch=16, width=384, heads=6)
def ViT_S16() -> ViT:
  """ViT-S/16 (arXiv 2012.12877): 22,050,664 parameters at 224x224 and 1,000 classes."""


@size_of(ViT, patch=32, width=384, heads=6)
def ViT_S32() -> ViT:
  """ViT-S/32: 22,878,952 parameters at 224x224 and 1,000 classes."""


@size_of(ViT, patch=16, width=768, heads=12)
def ViT_B16() -> ViT:
  """ViT-B/16: 86,567,656 parameters at 224x224 and 1,000 classes."""


@size_of(ViT, patch=32, width=768, heads=12)
def ViT_B32() -> ViT:
  """ViT-B/32: 88,224,232 parameters at 224x224 and 1,000 classes."""


@size_of(ViT, patch=16, width=1024, depth=24, heads=16)
def ViT_L16() -> ViT:
  """ViT-L/16: 304,326,632 parameters at 224x224 and 1,000 classes."""


@size_of(ViT, patch=32, width=1024, depth=24, heads=16)
def ViT_L32() -> ViT:
  """ViT-L/32: 306,535,400 parameters at 224x224 and 1,000 classes."""
