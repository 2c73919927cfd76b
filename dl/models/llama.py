"""Llama (arXiv 2302.13971, 2307.09288 and 2407.21783): rotary positions, RMS norms, gated layers, few keys."""

import functools
from collections.abc import Sequence
from typing import Any, ClassVar

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from dl.config.bounds import Count, Depth, Positive, Size
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
from dl.nn.attention import Attention, rotary, separate
from dl.nn.cached import Cached
from dl.nn.feed_forward import FeedForward
from dl.nn.stack import Remat, memory_savings, stack
from dl.nn.transformer import Block, Branch, begin

_INIT = nn.initializers.normal(0.02)

_HUGGINGFACE: Table = [
  (r'(?:model\.)?layers\.\d+\.self_attn\.rotary_emb\.inv_freq', None),
  (r'(?:model\.)?embed_tokens\.weight', 'token.weight'),
  (r'(?:model\.)?layers\.(\d+)\.self_attn\.([qkvo])_proj\.weight', r'block_\1.attention.\2.weight'),
  (r'(?:model\.)?layers\.(\d+)\.mlp\.(gate|up|down)_proj\.weight', r'block_\1.\2.weight'),
  (r'(?:model\.)?layers\.(\d+)\.input_layernorm\.weight', r'block_\1.norm_0.weight'),
  (r'(?:model\.)?layers\.(\d+)\.post_attention_layernorm\.weight', r'block_\1.norm_1.weight'),
  (r'(?:model\.)?norm\.weight', 'norm.weight'),
  (r'lm_head\.weight', 'out.weight'),
]


def _from_huggingface(tensors: Tensors, model: 'Llama') -> Tensors:
  """Those of transformers' `LlamaForCausalLM`; its last layer may be the embedding, named or not."""
  named = rename(tensors, _HUGGINGFACE)
  return share_embedding(named, True) if model.tie_embeddings else named


def _to_huggingface(model: 'Llama') -> Foreign:
  """As transformers' `LlamaForCausalLM`."""
  width, vocab, groups = model.width, model.vocab_size, model.groups or model.heads
  head_dim = width // model.heads
  block = {
    'input_layernorm': (width,),
    'self_attn.q_proj': (width, width),
    'self_attn.k_proj': (groups * head_dim, width),
    'self_attn.v_proj': (groups * head_dim, width),
    'self_attn.o_proj': (width, width),
    'post_attention_layernorm': (width,),
    'mlp.gate_proj': (model.hidden, width),
    'mlp.up_proj': (model.hidden, width),
    'mlp.down_proj': (width, model.hidden),
  }
  shapes = {'model.embed_tokens.weight': (vocab, width), 'model.norm.weight': (width,)}
  shapes |= {f'model.layers.{i}.{name}.weight': s for i in range(model.layers) for name, s in block.items()}
  return Foreign(
    config=dict(
      architectures=['LlamaForCausalLM'],
      model_type='llama',
      vocab_size=vocab,
      hidden_size=width,
      intermediate_size=model.hidden,
      num_hidden_layers=model.layers,
      num_attention_heads=model.heads,
      num_key_value_heads=groups,
      head_dim=head_dim,
      hidden_act='silu',
      max_position_embeddings=model.length,
      rms_norm_eps=model.epsilon,
      rope_theta=model.rope_base,
      rope_parameters=dict(rope_type='default', rope_theta=model.rope_base),
      attention_bias=False,
      mlp_bias=False,
      tie_word_embeddings=model.tie_embeddings,
      bos_token_id=None,
      eos_token_id=None,
    ),
    shapes=shapes if model.tie_embeddings else shapes | {'lm_head.weight': (vocab, width)},
  )


class Llama(Cached, nn.Module):
  """A decoder-only transformer; the defaults are those of Llama 2 7B, of 6,738,415,616 parameters.

  Llama 3.1 8B, of 8,030,261,248, is `vocab_size=128256, length=131072, groups=8, hidden=14336, rope_base=5e5`, less the
  scaling of its rotary frequencies, which matters beyond 8,192 tokens. Published weights load with the layout
  'huggingface'.

  Cite: touvron2023llama, touvron2023llama2, grattafiori2024llama, su2024roformer, ainslie2023gqa, shazeer2020glu

  Attributes:
    vocab_size: number of token ids.
    length: the most tokens it can read at once (the context).
    layers: number of blocks.
    heads: attention heads of the queries in a block; must divide `width`.
    groups: heads of keys and values, each for as many heads of queries (arXiv 2305.13245); None for `heads`.
    width: features a token.
    hidden: features between the gated layers.
    rope_base: base of the rotary frequencies (RoFormer, arXiv 2104.09864).
    epsilon: what RMS norms (arXiv 1910.07467) add to mean squares.
    tie_embeddings: whether the output layer is the token embedding.
    attention_chunk: queries that attend at a time, which saves memory in long contexts; 0 for all at once.
    scan: whether the blocks are one scanned block with stacked parameters (`dl.nn.stack`).
    remat: what the backward pass computes again: 'none', 'dots' or 'full' (`dl.nn.stack`).
    dtype: compute type; norms, softmax and logits are float32.
  """

  vocab_size: Size = 32000
  length: Size = 4096
  layers: Depth = 32
  heads: Size = 32
  groups: Size | None = None
  width: Size = 4096
  hidden: Size = 11008
  rope_base: Positive = 10_000.0
  epsilon: Positive = 1e-5
  tie_embeddings: bool = False
  attention_chunk: Count = 0
  scan: bool = False
  remat: Remat = 'none'
  dtype: Any = jnp.float32

  sharding_rules: ClassVar[Rules] = (
    *outputs('attention/[qkv]'),
    *inputs('attention/o'),
    *outputs('(up|gate)'),
    *inputs('down'),
    ('(^|/)token/embedding$', ('model', None)),
    *outputs('^out'),
  )
  layouts: ClassVar[Layouts] = {'huggingface': _from_huggingface}
  exports: ClassVar[Exports] = {'huggingface': _to_huggingface}

  @nn.compact
  def __call__(self, tokens: Int[Array, 'b n'], train: bool = False, decode: bool = False) -> Float[Array, 'b n vocab']:
    """Logits of the token after each one.

    With `decode=True` and `mutable=['cache']`, tokens continue those of earlier calls, `length` of them at most.
    """
    if self.width % self.heads or (self.width // self.heads) % 2:
      raise ValueError(f'width: {self.heads} heads need a multiple of {2 * self.heads}, got {self.width}')
    context = self.context(tokens.shape[1], train, decode)
    embed = nn.Embed(self.vocab_size, self.width, embedding_init=_INIT, dtype=self.dtype, name='token')
    block = lambda name, _: Block(self._branches, name=name)
    x, _ = stack(block, self.layers, begin(embed(tokens)), context, scan=self.scan, remat=self.remat)
    x = self._norm('norm')(x)
    if self.tie_embeddings:
      logits = products.unembed(x, embed.embedding)
    else:
      out = nn.Dense(self.vocab_size, use_bias=False, dtype=self.dtype, kernel_init=_INIT, name='out')
      logits = out(x).astype(jnp.float32)
    return Axes(('batch', 'query', 'vocab'))(logits)

  @nn.nowrap
  def _norm(self, name: str) -> nn.Module:
    return nn.RMSNorm(self.epsilon, self.dtype, use_fast_variance=False, name=name)

  @nn.nowrap
  def _branches(self) -> Sequence[Branch]:
    """Attention and a gated layer; made inside of a block."""
    project = separate(
      self.heads, self.width // self.heads, self.groups, use_bias=False, dtype=self.dtype, kernel_init=_INIT
    )
    attention = Attention(
      project=project,
      causal=True,
      length=self.length,
      process_heads=functools.partial(rotary, base=self.rope_base),
      chunk=self.attention_chunk,
      use_bias=False,
      out_init=_INIT,
      out='o',
      dtype=self.dtype,
      name='attention',
    )
    gated = FeedForward(
      self.hidden, 'silu', gate='gate', use_bias=False, kernel_init=_INIT, names=('up', 'down'), dtype=self.dtype,
      parent=None,
    )  # fmt: skip
    return Branch(self._norm('norm_0'), attention), Branch(self._norm('norm_1'), gated.layers)

  @nn.nowrap
  def memory_savings(self) -> dict[str, Any]:
    """Arguments with which it keeps fewer activations, the least costly first."""
    return memory_savings(self.remat)
