"""T5 (arXiv 1910.10683): an encoder-decoder whose attention knows how far apart tokens are, and no positions."""

import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from dl.config.bounds import BelowOne, Depth, Positive, Size
from dl.contract.axes import Axes
from dl.contract.weights import (
  Exports,
  Foreign,
  Layouts,
  Rules,
  Table,
  Tensors,
  inputs,
  outputs,
  rename,
  share_embedding,
)  # fmt: skip
from dl.nn import products
from dl.nn.attention import Attention, Projection
from dl.nn.cached import CachedPair
from dl.nn.context import Context
from dl.nn.feed_forward import FeedForward
from dl.nn.position import bucket_bias
from dl.nn.stack import Remat, memory_savings, stack
from dl.nn.transformer import Block, Branch, begin, dropout

_BLOCK = r'(encoder|decoder)\.block\.(\d+)\.layer\.'
_HUGGINGFACE: Table = [
  (r'shared\.weight', 'token.weight'),
  (r'(?:encoder|decoder)\.embed_tokens\.weight', None),  # the same again
  (r'(encoder|decoder)\.block\.0\.layer\.0\.SelfAttention\.relative_attention_bias\.weight', r'\1_distance.weight'),
  (r'decoder\.block\.0\.layer\.1\.EncDecAttention\.relative_attention_bias\.weight', None),  # of no use
  (_BLOCK + r'0\.SelfAttention\.([qkvo])\.weight', r'\1_\2.attention.\3.weight'),
  (_BLOCK + r'1\.EncDecAttention\.([qkvo])\.weight', r'\1_\2.across.\3.weight'),
  (_BLOCK + r'\d\.DenseReluDense\.wi\.weight', r'\1_\2.up.weight'),
  (_BLOCK + r'\d\.DenseReluDense\.wi_0\.weight', r'\1_\2.gate.weight'),
  (_BLOCK + r'\d\.DenseReluDense\.wi_1\.weight', r'\1_\2.up.weight'),
  (_BLOCK + r'\d\.DenseReluDense\.wo\.weight', r'\1_\2.down.weight'),
  (_BLOCK + r'(\d)\.layer_norm\.weight', r'\1_\2.norm_\3.weight'),
  (r'(encoder|decoder)\.final_layer_norm\.weight', r'\1_norm.weight'),
  (r'lm_head\.weight', 'out.weight'),
]


def _from_huggingface(tensors: Tensors, model: 'T5') -> Tensors:
  """Those of transformers' `T5ForConditionalGeneration`; its last layer may be the embedding, named or not."""
  return share_embedding(rename(tensors, _HUGGINGFACE), model.tie_embeddings)


def _to_huggingface(model: 'T5') -> Foreign:
  """As transformers' `T5ForConditionalGeneration`."""
  width, hidden, vocab, inner = model.width, model.hidden, model.vocab_size, model.heads * model.head_dim
  attention = {'q': (inner, width), 'k': (inner, width), 'v': (inner, width), 'o': (width, inner)}
  first = {'wi_0': (hidden, width), 'wi_1': (hidden, width)} if model.gated else {'wi': (hidden, width)}
  dense = {**first, 'wo': (width, hidden)}
  parts = {'SelfAttention': attention, 'EncDecAttention': attention, 'DenseReluDense': dense}
  shapes = {'shared.weight': (vocab, width)}
  for side, names in (('encoder', [*parts][::2]), ('decoder', [*parts])):
    table = 'block.0.layer.0.SelfAttention.relative_attention_bias'
    shapes |= {f'{side}.{table}.weight': (model.buckets, model.heads), f'{side}.final_layer_norm.weight': (width,)}
    for i, (number, name) in itertools.product(range(model.layers), enumerate(names)):
      at = f'{side}.block.{i}.layer.{number}'
      shapes |= {f'{at}.{name}.{part}.weight': shape for part, shape in parts[name].items()}
      shapes[f'{at}.layer_norm.weight'] = (width,)
  return Foreign(
    config=dict(
      architectures=['T5ForConditionalGeneration'],
      model_type='t5',
      is_encoder_decoder=True,
      vocab_size=vocab,
      d_model=width,
      d_kv=model.head_dim,
      d_ff=hidden,
      num_layers=model.layers,
      num_decoder_layers=model.layers,
      num_heads=model.heads,
      relative_attention_num_buckets=model.buckets,
      relative_attention_max_distance=model.distance,
      dropout_rate=model.dropout,
      layer_norm_epsilon=model.epsilon,
      feed_forward_proj='gated-gelu' if model.gated else 'relu',
      tie_word_embeddings=model.tie_embeddings,
      decoder_start_token_id=0,
      pad_token_id=0,
      eos_token_id=1,
    ),
    shapes=shapes if model.tie_embeddings else shapes | {'lm_head.weight': (vocab, width)},
  )


class T5(CachedPair, nn.Module):
  """Reads a source whole, and gives the next token of a target; the defaults are T5 small, of 60,506,624 parameters.

  T5 base, of 222,903,552, is `layers=12, heads=12, width=768, hidden=3072`. T5 1.1 has `gated=True` and
  `tie_embeddings=False`; its small model, of 76,961,152, `layers=8, heads=6, hidden=1024` besides. Targets begin with
  token 0 and end with token 1. Negative ids after the end of a shorter text are padding. Published weights load with
  the layout 'huggingface'.

  Cite: raffel2020exploring, vaswani2017attention, shaw2018self, shazeer2020glu

  Attributes:
    vocab_size: number of token ids, of the source and of the target.
    length: the most tokens of a target; a source may be of any length.
    layers: blocks of the encoder, and of the decoder.
    heads: attention heads a block.
    head_dim: features of each; together they need not be `width`.
    width: features a token.
    hidden: features between the dense layers of a block.
    gated: whether these are gated by a GELU, as in T5 1.1; otherwise a ReLU is between them.
    tie_embeddings: whether the output layer is the token embedding; its inputs are then divided by sqrt(width).
    buckets: of distances between tokens, a multiple of 4; each head of a side adds a number a bucket to its scores, the
      same in all blocks.
    distance: from which on all are alike; above a half of the buckets.
    epsilon: what RMS norms (arXiv 1910.07467) add to mean squares.
    dropout: rate on embeddings, attention weights, hidden features and each sublayer's output.
    scan: whether the blocks of a side are one scanned block with stacked parameters (`dl.nn.stack`).
    remat: what the backward pass computes again: 'none', 'dots' or 'full' (`dl.nn.stack`).
    dtype: compute type; norms, softmax and logits are float32.
  """

  vocab_size: Size = 32128
  length: Size = 512
  layers: Depth = 6
  heads: Size = 8
  head_dim: Size = 64
  width: Size = 512
  hidden: Size = 2048
  gated: bool = False
  tie_embeddings: bool = True
  buckets: Size = 32
  distance: Size = 128
  epsilon: Positive = 1e-6
  dropout: BelowOne = 0.1
  scan: bool = False
  remat: Remat = 'none'
  dtype: Any = jnp.float32

  sharding_rules: ClassVar[Rules] = (
    *outputs('(attention|across)/[qkv]'),
    *inputs('(attention|across)/o'),
    *outputs('(up|gate)'),
    *inputs('down'),
    ('(^|/)token/embedding$', ('model', None)),
    *outputs('^out'),
  )
  layouts: ClassVar[Layouts] = {'huggingface': _from_huggingface}
  exports: ClassVar[Exports] = {'huggingface': _to_huggingface}

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
    if self.buckets % 4:
      raise ValueError(f'buckets: must be a multiple of 4, got {self.buckets}')
    if self.distance <= self.buckets // 2:
      raise ValueError(f'distance: must be above half of the {self.buckets} buckets, got {self.distance}')
    token = nn.Embed(
      self.vocab_size, self.width, embedding_init=nn.initializers.normal(1.0), dtype=self.dtype, name='token'
    )
    x = self.decoded(texts, train, decode, lambda name, *given: self._side(name, token, *given))
    if self.tie_embeddings:
      logits = products.unembed(x * self.width**-0.5, token.embedding)
    else:
      init = nn.initializers.normal(self.width**-0.5)
      out = nn.Dense(self.vocab_size, use_bias=False, dtype=self.dtype, kernel_init=init, name='out')
      logits = products.by_rows(out, x).astype(jnp.float32)
    return Axes(('batch', 'query', 'vocab'))(logits)

  @nn.nowrap
  def _side(self, name: str, embed: nn.Embed, tokens: Int[Array, 'b n'], context: Context) -> Float[Array, 'b n width']:
    """The blocks of the encoder or the decoder, over embedded tokens, and a norm behind them."""
    init = nn.initializers.normal(self.width**-0.5)
    table = nn.Embed(self.buckets, self.heads, embedding_init=init, name=f'{name}_distance').embedding
    bias = functools.partial(bucket_bias, embedding=table, most=self.distance, both=name == 'encoder')
    drop = dropout(self.dropout)
    branches = functools.partial(self._decoder if name == 'decoder' else self._encoder, bias)
    block = lambda name, _: Block(branches, name=name)
    x = begin(drop(embed(jnp.maximum(tokens, 0)), context))
    x, _ = stack(block, self.layers, x, context, scan=self.scan, remat=self.remat, prefix=name)
    return drop(self._norm(f'{name}_norm')(x), context)

  @nn.nowrap
  def _encoder(self, bias: Callable[[Array, Array], Array]) -> Sequence[Branch]:
    return [self._attention(0, 'attention', bias=bias), self._feed_forward(1)]

  @nn.nowrap
  def _decoder(self, bias: Callable[[Array, Array], Array]) -> Sequence[Branch]:
    itself = self._attention(0, 'attention', bias=bias, causal=True)
    return [itself, self._attention(1, 'across', across=True), self._feed_forward(2)]

  @nn.nowrap
  def _norm(self, name: str) -> nn.Module:
    return nn.RMSNorm(self.epsilon, self.dtype, use_fast_variance=False, name=name)

  @nn.nowrap
  def _attention(self, number: int, name: str, **kind: Any) -> Branch:
    """Attention whose scores are not divided: its queries begin that much smaller."""
    spread = {'q': (self.width * self.head_dim) ** -0.5, 'k': self.width**-0.5, 'v': self.width**-0.5}
    draw = nn.initializers.normal
    attention = Attention(
      project=lambda: tuple(
        Projection(self.heads, self.head_dim, False, self.dtype, draw(deviation), name=part)
        for part, deviation in spread.items()
      ),
      length=self.length,
      scale=1.0,
      dropout=self.dropout,
      use_bias=False,
      out_init=draw((self.heads * self.head_dim) ** -0.5),
      out='o',
      dtype=self.dtype,
      name=name,
      **kind,
    )
    return Branch(self._norm(f'norm_{number}'), attention, dropout(self.dropout))

  @nn.nowrap
  def _feed_forward(self, number: int) -> Branch:
    layers = FeedForward(
      self.hidden,
      'gelu' if self.gated else 'relu',
      gate='gate' if self.gated else None,
      dropout=self.dropout,
      use_bias=False,
      kernel_init=nn.initializers.normal(self.width**-0.5),
      out_init=nn.initializers.normal(self.hidden**-0.5),
      names=('up', 'down'),
      dtype=self.dtype,
      parent=None,
    ).layers
    return Branch(self._norm(f'norm_{number}'), layers)

  @nn.nowrap
  def memory_savings(self) -> dict[str, Any]:
    """Arguments with which it keeps fewer activations, the least costly first."""
    return memory_savings(self.remat)
