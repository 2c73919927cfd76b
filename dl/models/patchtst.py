"""PatchTST: a transformer over patches of each channel (A Time Series is Worth 64 Words, arXiv 2211.14730)."""

from collections.abc import Sequence
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dl.config.bounds import BelowOne, Depth, Size
from dl.contract.weights import Layouts, Rules, Table, inputs, outputs
from dl.nn import activations, time
from dl.nn.attention import Attention, separate
from dl.nn.context import Context
from dl.nn.feed_forward import FeedForward
from dl.nn.norm import batch_norm
from dl.nn.stack import stack
from dl.nn.transformer import Block, Branch, begin, dropout, post_norm

_LAYER = r'model\.encoder\.layers\.(\d+)\.'
_HUGGINGFACE: Table = [
  (r'model\.encoder\.embedder\.input_embedding\.(.*)', r'embed.\1'),
  (r'model\.encoder\.positional_encoder\.position_enc', 'position'),
  (_LAYER + r'self_attn\.([qkv])_proj\.(.*)', r'block_\1.attention.\2.\3'),
  (_LAYER + r'self_attn\.out_proj\.(.*)', r'block_\1.attention.out.\2'),
  (_LAYER + r'norm_sublayer1\.batchnorm\.(.*)', r'block_\1.norm_0.\2'),
  (_LAYER + r'norm_sublayer3\.batchnorm\.(.*)', r'block_\1.norm_1.\2'),
  (_LAYER + r'ff\.0\.(.*)', r'block_\1.up.\2'),
  (_LAYER + r'ff\.3\.(.*)', r'block_\1.down.\2'),
  (r'head\.projection\.(.*)', r'head.\1'),
]


class PatchTST(nn.Module):
  """Channels are forecast one by one, by the same network: patches in time are its tokens.

  Each series is normalized by its own mean and deviation (RevIN), which the forecast gets back. Blocks are those of
  2017 with batch norm after each branch, over all tokens of a batch. The defaults are the paper's for the small sets
  (ETTh1). Weights of transformers' `PatchTSTForPrediction` load with the layout 'huggingface'.

  Cite: nie2023time, kim2022reversible, vaswani2017attention

  Attributes:
    horizon: steps that are forecast.
    patch: steps of a patch.
    stride: steps from one patch to the next.
    pad: whether the last value is repeated `stride` times, for one more patch; without that, the first steps that make
      up no whole patch are left out.
    width: features of a token.
    layers: number of blocks.
    heads: attention heads a block; must divide `width`.
    hidden: features between the dense layers of a block.
    activation: of the dense layers.
    affine: whether RevIN has parameters.
    dropout: rate after the embeddings, each attention and each dense layer of the blocks.
    head_dropout: rate before the last layer.
    dtype: compute type; norms, softmax and forecasts are float32.
  """

  horizon: Size
  patch: Size = 16
  stride: Size = 8
  pad: bool = True
  width: Size = 16
  layers: Depth = 3
  heads: Size = 4
  hidden: Size = 128
  activation: activations.Activation = 'gelu_exact'
  affine: bool = False
  dropout: BelowOne = 0.3
  head_dropout: BelowOne = 0.0
  dtype: Any = jnp.float32

  sharding_rules: ClassVar[Rules] = (
    *outputs('attention/[qkv]'),
    *inputs('attention/out'),
    *outputs('up'),
    *inputs('down'),
  )
  layouts: ClassVar[Layouts] = {'huggingface': _HUGGINGFACE}

  @nn.compact
  def __call__(self, x: Float[Array, 'b n c'], train: bool = False) -> Float[Array, 'b horizon c']:
    time.check(x, 'PatchTST')
    x, undo = time.RevIN(self.affine, name='revin')(x)
    b, _, c = x.shape
    x = self._patches(x.transpose(0, 2, 1).reshape(b * c, -1))
    tokens = nn.Dense(self.width, dtype=self.dtype, name='embed')(x)
    position = self.param('position', _uniform, (x.shape[1], self.width))
    drop = lambda rate, y: nn.Dropout(rate, deterministic=not train)(y) if rate else y
    tokens = drop(self.dropout, tokens + position.astype(self.dtype))
    block = lambda name, _: Block(lambda: self._branches(train), post_norm, name=name)
    tokens, _ = stack(block, self.layers, begin(tokens), Context(train=train))
    flat = drop(self.head_dropout, tokens.reshape(b, c, -1))
    y = nn.Dense(self.horizon, dtype=self.dtype, name='head')(flat).astype(jnp.float32)
    return undo(y.transpose(0, 2, 1))

  @nn.nowrap
  def _patches(self, x: Float[Array, 'k n']) -> Float[Array, 'k patches patch']:
    """The patches of each row, in time."""
    if x.shape[1] < self.patch:
      raise ValueError(f'patch: of {self.patch} steps, but the series have {x.shape[1]}')
    if self.pad:
      x = jnp.pad(x, ((0, 0), (0, self.stride)), mode='edge')
    else:
      x = x[:, (x.shape[1] - self.patch) % self.stride :]
    starts = jnp.arange(0, x.shape[1] - self.patch + 1, self.stride)
    return x[:, starts[:, None] + jnp.arange(self.patch)]

  @nn.nowrap
  def _branches(self, train: bool) -> Sequence[Branch]:
    """Attention and a feed-forward layer; made inside of a block."""
    if self.width % self.heads:
      raise ValueError(f'{self.heads} heads do not divide a width of {self.width}')
    attention = Attention(
      project=separate(self.heads, self.width // self.heads, dtype=self.dtype), dtype=self.dtype, name='attention'
    )
    each = FeedForward(
      self.hidden, self.activation, dropout=self.dropout, names=('up', 'down'), dtype=self.dtype, parent=None
    )
    norm = lambda name: batch_norm(train, self.dtype, name=name)
    return Branch(norm('norm_0'), attention, dropout(self.dropout)), Branch(norm('norm_1'), each.layers)


def _uniform(key: Array, shape: tuple[int, ...]) -> Array:
  return jax.random.uniform(key, shape, jnp.float32, -0.02, 0.02)
