"""GPT-2 (Radford et al., Language Models are Unsupervised Multitask Learners, 2019)."""

from collections.abc import Sequence
from typing import Any, ClassVar

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from dl.config.bounds import BelowOne, Count, Depth, Positive, Size
from dl.contract.axes import Axes
from dl.contract.weights import (
  Exports,
  Foreign,
  Layouts,
  Rules,
  Table,
  Tensors,
  inputs,
  only,
  outputs,
  rename,
  share_embedding,
)  # fmt: skip
from dl.nn import activations, products
from dl.nn.attention import Attention, Projections, rotary
from dl.nn.cached import Cached
from dl.nn.experts import Experts
from dl.nn.feed_forward import FeedForward
from dl.nn.ngrams import HashedNgrams
from dl.nn.norm import layer_norm
from dl.nn.stack import Remat, memory_savings, stack
from dl.nn.transformer import Block, Branch, begin, dropout

_INIT = nn.initializers.normal(0.02)
_EPSILON = 1e-5  # of norms
_CHUNK = 1024  # queries which attend at a time, where contexts are long and memory short

_HUGGINGFACE: Table = [
  (r'(?:transformer\.)?h\.\d+\.attn\.(?:masked_)?bias', None),  # which keys a query sees
  (r'(?:transformer\.)?wte\.(.*)', r'token.\1'),
  (r'(?:transformer\.)?wpe\.(.*)', r'position.\1'),
  *[
    (rf'(?:transformer\.)?h\.(\d+)\.{theirs}\.(weight|bias)', rf'block_\1.{ours}.\2')
    for theirs, ours in (
      ('ln_1', 'norm_0'),
      (r'attn\.c_attn', 'attention.qkv'),
      (r'attn\.c_proj', 'attention.out'),
      ('ln_2', 'norm_1'),
      (r'mlp\.c_fc', 'up'),
      (r'mlp\.c_proj', 'down'),
    )
  ],
  (r'(?:transformer\.)?ln_f\.(.*)', r'norm.\1'),
  (r'lm_head\.weight', 'out.weight'),
]


def _from_huggingface(tensors: Tensors, model: 'GPT') -> Tensors:
  """Those of a GPT-2, whose kernels are [in, out] (`Conv1D`); its last layer may be the embedding, named or not."""
  named = rename(tensors, _HUGGINGFACE)
  named = {k: v.T if k.startswith('block_') else v for k, v in named.items()}
  return share_embedding(named, model.tie_embeddings)


def _to_huggingface(model: 'GPT') -> Foreign:
  """As transformers' `GPT2LMHeadModel`."""
  only(model, 'Hugging Face', rope=False, use_bias=True, ngrams=(), experts=0)
  width, vocab = model.width, model.vocab_size
  layer = lambda name, *shape: {f'{name}.weight': shape, f'{name}.bias': shape[-1:]}
  block = {
    **layer('ln_1', width),
    **layer('attn.c_attn', width, 3 * width),
    **layer('attn.c_proj', width, width),
    **layer('ln_2', width),
    **layer('mlp.c_fc', width, 4 * width),
    **layer('mlp.c_proj', 4 * width, width),
  }
  shapes = {'wte.weight': (vocab, width), 'wpe.weight': (model.length, width), **layer('ln_f', width)}
  shapes |= {f'h.{i}.{name}': shape for i in range(model.layers) for name, shape in block.items()}
  shapes = {f'transformer.{name}': shape for name, shape in shapes.items()}
  return Foreign(
    config=dict(
      architectures=['GPT2LMHeadModel'],
      model_type='gpt2',
      vocab_size=vocab,
      n_positions=model.length,
      n_embd=width,
      n_layer=model.layers,
      n_head=model.heads,
      activation_function=activations.in_huggingface(model.activation),
      resid_pdrop=model.dropout,
      embd_pdrop=model.dropout,
      attn_pdrop=model.dropout,
      layer_norm_epsilon=_EPSILON,
      tie_word_embeddings=model.tie_embeddings,
      bos_token_id=None,
      eos_token_id=None,
    ),
    shapes=shapes if model.tie_embeddings else shapes | {'lm_head.weight': (vocab, width)},
  )


class GPT(Cached, nn.Module):
  """A decoder-only transformer with norms before each sublayer; the defaults are GPT-2's of 124,439,808 parameters.

  Published weights load with the layout 'huggingface'.

  Cite: radford2019language, vaswani2017attention

  Attributes:
    vocab_size: number of token ids.
    length: the most tokens it can read at once (the context).
    layers: number of blocks.
    heads: attention heads a block; must divide `width`.
    width: features a token.
    dropout: rate on the embeddings, the attention weights and each sublayer's output.
    tie_embeddings: whether the output layer is the token embedding (arXiv 1608.05859).
    use_bias: whether dense layers and norms have biases.
    rope: rotary positions (RoFormer, arXiv 2104.09864) in place of learned ones.
    attention_chunk: queries that attend at a time, which saves memory in long contexts; 0 for all at once.
    activation: of the MLP; 'gelu' is the tanh approximation, as in GPT-2.
    ngrams: orders of the hashed n-grams whose embeddings are added to the token's (`dl.nn.ngrams`); () for none.
    ngram_buckets: rows of each of their tables.
    experts: feed-forward layers of a block, of which each token uses a few (`dl.nn.experts`); 0 for one, of all tokens.
    experts_per_token: how many it uses.
    capacity_factor: how many tokens an expert may have taken at a position, as a multiple of its even share of those up
      to there (`dl.nn.experts`).
    scan: whether the blocks are one scanned block with stacked parameters (`dl.nn.stack`): it compiles in no time.
    remat: what the backward pass computes again: 'none', 'dots' or 'full' (`dl.nn.stack`).
    dtype: compute type; softmax and logits are float32.
  """

  vocab_size: Size = 50257
  length: Size = 1024
  layers: Depth = 12
  heads: Size = 12
  width: Size = 768
  dropout: BelowOne = 0.0
  tie_embeddings: bool = True
  use_bias: bool = True
  rope: bool = False
  attention_chunk: Count = 0
  activation: activations.Activation = 'gelu'
  ngrams: tuple[Depth, ...] = ()
  ngram_buckets: Size = 2**14
  experts: Count = 0
  experts_per_token: Size = 2
  capacity_factor: Positive = 1.25
  scan: bool = False
  remat: Remat = 'none'
  dtype: Any = jnp.float32

  sharding_rules: ClassVar[Rules] = (
    ('(^|/)experts/up$', ('expert', None, 'model')),
    ('(^|/)experts/down$', ('expert', 'model', None)),
    *outputs('attention/qkv'),
    *inputs('attention/out'),
    *outputs('up'),
    *inputs('down'),
    ('(^|/)token/embedding$', ('model', None)),
    *outputs('^out'),
  )
  layouts: ClassVar[Layouts] = {'huggingface': _from_huggingface}
  exports: ClassVar[Exports] = {'huggingface': _to_huggingface}

  @nn.compact
  def __call__(
    self, tokens: Int[Array, 'b n'], train: bool = False, decode: bool = False
  ) -> Float[Array, 'b n vocab'] | dict[str, Array]:
    """Logits of the token after each one; in training with experts, {'out': logits, 'balance': mean loss of a block}.

    With `decode=True` and `mutable=['cache']`, tokens continue those of earlier calls, `length` of them at most.
    """
    if self.rope and (self.width // self.heads) % 2:
      raise ValueError(f'rope needs an even head width, got {self.width // self.heads}')
    context = self.context(tokens.shape[1], train, decode)
    embed = nn.Embed(self.vocab_size, self.width, embedding_init=_INIT, dtype=self.dtype, name='token')
    x = embed(tokens)
    if self.ngrams:
      ngrams = HashedNgrams(tuple(self.ngrams), self.ngram_buckets, self.width, self.dtype, name='ngrams')
      x = x + ngrams(tokens, context)
    if not self.rope:
      position = nn.Embed(self.length, self.width, embedding_init=_INIT, dtype=self.dtype, name='position')
      x = x + position(context.positions)
    if self.dropout:
      x = nn.Dropout(self.dropout, deterministic=not train)(x)
    block = lambda name, _: Block(self._branches, name=name)
    x, balance = stack(block, self.layers, begin(x), context, scan=self.scan, remat=self.remat)
    x = self._norm('norm')(x)
    of_vocab = Axes(('batch', 'query', 'vocab'))
    if self.tie_embeddings:
      logits = of_vocab(products.unembed(x, embed.embedding))
    else:
      out = nn.Dense(self.vocab_size, use_bias=False, dtype=self.dtype, kernel_init=_INIT, name='out')
      logits = of_vocab(out(x).astype(jnp.float32))
    return {'out': logits, 'balance': balance / self.layers} if self.experts and train else logits

  @nn.nowrap
  def _norm(self, name: str) -> nn.Module:
    return layer_norm(_EPSILON, self.dtype, use_bias=self.use_bias, name=name)

  @nn.nowrap
  def _branches(self) -> Sequence[Branch]:
    """Attention and a feed-forward layer, or experts; made inside of a block."""
    # Each layer adds twice to the residual stream, whose variance should not grow with depth.
    out_init = nn.initializers.normal(0.02 / (2 * self.layers) ** 0.5)
    after = dropout(self.dropout)
    attention = Attention(
      project=lambda: Projections(self.heads, self.use_bias, self.dtype, _INIT, name='qkv'),
      causal=True,
      length=self.length,
      process_heads=rotary if self.rope else None,
      dropout=self.dropout,
      chunk=self.attention_chunk,
      use_bias=self.use_bias,
      out_init=out_init,
      dtype=self.dtype,
      name='attention',
    )
    common = dict(
      hidden=4 * self.width, activation=self.activation, kernel_init=_INIT, out_init=out_init, dtype=self.dtype
    )
    if self.experts:
      each = Experts(self.experts, self.experts_per_token, self.capacity_factor, **common, name='experts')
    else:
      each = FeedForward(**common, use_bias=self.use_bias, names=('up', 'down'), parent=None).layers
    return Branch(self._norm('norm_0'), attention, after), Branch(self._norm('norm_1'), each, after)

  @nn.nowrap
  def memory_savings(self) -> dict[str, Any]:
    """Arguments with which it keeps fewer activations, the least costly first."""
    whole = self.length >= 4 * _CHUNK and not self.attention_chunk and not self.dropout
    return memory_savings(self.remat) | ({'attention_chunk': _CHUNK} if whole else {})
