"""The encoder-decoder Transformer of 2017 (Vaswani et al., Attention Is All You Need, arXiv 1706.03762)."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from dl.config.bounds import BelowOne, Depth, Size
from dl.contract.axes import Axes
from dl.contract.weights import Rules, inputs, outputs
from dl.nn import products
from dl.nn.attention import Attention, separate
from dl.nn.cached import CachedPair
from dl.nn.context import Context
from dl.nn.feed_forward import FeedForward
from dl.nn.norm import layer_norm
from dl.nn.position import sinusoidal
from dl.nn.stack import Remat, memory_savings, stack
from dl.nn.transformer import Block, Branch, begin, dropout, post_norm

_INIT = nn.initializers.xavier_uniform()


class Transformer(CachedPair, nn.Module):
  """Reads a source whole, and gives the next token of a target; the defaults are the paper's base model.

  It has 63,082,496 parameters with a vocabulary of 37,000 for both sides, as in the paper; the big model has a width of
  1024, 16 heads, 4096 hidden features and 214,245,376. Negative ids after the end of a shorter text are padding.

  Cite: vaswani2017attention

  Attributes:
    vocab_size: number of token ids of the source and, where `target_vocab_size` is None, of the target.
    target_vocab_size: token ids of the target, where it has a vocabulary of its own; None for one of both, whose
      embedding is also the output layer.
    length: the most tokens of a target.
    layers: blocks of the encoder, and of the decoder.
    heads: attention heads a block; must divide `width`.
    width: features a token; even.
    hidden: features between the dense layers of a block.
    dropout: rate on embeddings and each sublayer's output.
    scan: whether the blocks of a side are one scanned block with stacked parameters (`dl.nn.stack`).
    remat: what the backward pass computes again: 'none', 'dots' or 'full' (`dl.nn.stack`).
    dtype: compute type; softmax and logits are float32.
  """

  vocab_size: Size = 37000
  target_vocab_size: Size | None = None
  length: Size = 512
  layers: Depth = 6
  heads: Size = 8
  width: Size = 512
  hidden: Size = 2048
  dropout: BelowOne = 0.1
  scan: bool = False
  remat: Remat = 'none'
  dtype: Any = jnp.float32

  sharding_rules: ClassVar[Rules] = (
    *outputs('(attention|across)/[qkv]'),
    *inputs('(attention|across)/out'),
    *outputs('up'),
    *inputs('down'),
    ('(^|/)(token|target)/embedding$', ('model', None)),
  )

  @nn.compact
  def __call__(
    self, texts: Mapping[str, Int[Array, 'b _']], train: bool = False, decode: bool = False
  ) -> Float[Array, 'b n vocab']:
    """Logits of the token after each one of a target.

    Args:
      texts: `source` [b, m] and `target` [b, n], which begins with the token that all targets begin with.
      train: whether things are dropped out.
      decode: whether the target continues those of earlier calls (with mutable=['cache']); the first has a `source`.
    """
    if self.width % self.heads or self.width % 2:
      raise ValueError(f'width: must be even and a multiple of {self.heads} heads, got {self.width}')
    draw = nn.initializers.normal(self.width**-0.5)
    table = lambda size, name: nn.Embed(size, self.width, embedding_init=draw, dtype=self.dtype, name=name)
    token = table(self.vocab_size, 'token')
    target = token if self.target_vocab_size is None else table(self.target_vocab_size, 'target')
    embed = {'encoder': token, 'decoder': target}
    x = self.decoded(texts, train, decode, lambda name, *given: self._side(name, embed[name], *given))
    return Axes(('batch', 'query', 'vocab'))(products.unembed(x, target.embedding))

  @nn.nowrap
  def _side(self, name: str, embed: nn.Embed, tokens: Int[Array, 'b n'], context: Context) -> Float[Array, 'b n width']:
    """The blocks of the encoder or the decoder, over embedded tokens."""
    positions = jnp.arange(tokens.shape[1]) if context.positions is None else context.positions
    x = embed(jnp.maximum(tokens, 0)) * self.width**0.5 + sinusoidal(positions, self.width).astype(self.dtype)
    x = nn.Dropout(self.dropout, deterministic=not context.train)(x) if self.dropout else x
    branches = self._decoder if name == 'decoder' else self._encoder
    block = lambda name, _: Block(branches, post_norm, name=name)
    return stack(block, self.layers, begin(x), context, scan=self.scan, remat=self.remat, prefix=name)[0]

  @nn.nowrap
  def _encoder(self) -> Sequence[Branch]:
    return [self._branch(0, self._attention('attention')), self._branch(1, self._feed_forward())]

  @nn.nowrap
  def _decoder(self) -> Sequence[Branch]:
    itself, memory = self._attention('attention', causal=True), self._attention('across', across=True)
    return [self._branch(0, itself), self._branch(1, memory), self._branch(2, self._feed_forward())]

  @nn.nowrap
  def _branch(self, number: int, part: Any) -> Branch:
    return Branch(layer_norm(1e-5, self.dtype, name=f'norm_{number}'), part, dropout(self.dropout))

  @nn.nowrap
  def _attention(self, name: str, **kind: bool) -> Attention:
    project = separate(self.heads, self.width // self.heads, dtype=self.dtype, kernel_init=_INIT)
    return Attention(project, length=self.length, out_init=_INIT, dtype=self.dtype, name=name, **kind)

  @nn.nowrap
  def _feed_forward(self) -> Any:
    return FeedForward(self.hidden, 'relu', names=('up', 'down'), dtype=self.dtype, parent=None).layers

  @nn.nowrap
  def memory_savings(self) -> dict[str, Any]:
    """Arguments with which it keeps fewer activations, the least costly first."""
    return memory_savings(self.remat)
