"""GPT-2 (Radford et al., Language Models are Unsupervised Multitask Learners, 2019)."""

import functools
from typing import Any, ClassVar

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from dl.contract.axes import Axes
from dl.contract.weights import Layouts, Rules, Table, Tensors, inputs, outputs, rename
from dl.errors import ConfigError
from dl.nn import activations
from dl.nn.attention import CausalSelfAttention
from dl.nn.experts import Experts
from dl.nn.ngrams import HashedNgrams
from dl.nn.stack import Remat, stack


class Block(nn.Module):
  """x + attention(norm(x)), then x + mlp(norm(x)), beside the sum of load-balancing losses; attributes as `GPT`."""

  layers: int
  heads: int
  length: int
  dropout: float
  use_bias: bool
  rope: bool
  attention_chunk: int
  activation: activations.Activation
  experts: int
  experts_per_token: int
  capacity_factor: float
  dtype: Any

  @nn.compact
  def __call__(
    self, carry: tuple[Float[Array, 'b n width'], Float[Array, '']], train: bool, start: Int[Array, ''] | None
  ) -> tuple[Float[Array, 'b n width'], Float[Array, '']]:
    x, balance = carry
    width = x.shape[-1]
    init = nn.initializers.normal(0.02)
    # Each layer adds twice to the residual stream, whose variance should not grow with depth.
    out_init = nn.initializers.normal(0.02 / (2 * self.layers) ** 0.5)
    norm = lambda name: nn.LayerNorm(1e-5, self.dtype, use_bias=self.use_bias, name=name)
    drop = nn.Dropout(self.dropout, deterministic=not train) if self.dropout else lambda y: y
    x = Axes(('batch', 'length', None))(x)
    y = CausalSelfAttention(
      self.heads,
      self.length,
      self.dropout,
      self.use_bias,
      self.rope,
      self.attention_chunk,
      init,
      out_init,
      self.dtype,
      name='attention',
    )(norm('norm_0')(x), train, start)
    x = Axes(('batch', 'length', None))(x + drop(y))
    if self.experts:
      y, unevenness = Experts(
        self.experts, self.experts_per_token, self.capacity_factor, 4 * width, self.activation, init, out_init,
        self.dtype, name='experts',
      )(norm('norm_1')(x))  # fmt: skip
      return x + drop(y), balance + unevenness
    y = nn.Dense(4 * width, self.use_bias, self.dtype, kernel_init=init, name='up')(norm('norm_1')(x))
    y = Axes(('batch', 'query', 'hidden'))(activations.get(self.activation)(y))
    y = nn.Dense(width, self.use_bias, self.dtype, kernel_init=out_init, name='down')(y)
    return x + drop(y), balance


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
  token = named.get('token.weight')
  if model.tie_embeddings and token is not None and np.array_equal(named.get('out.weight', token), token):
    named.pop('out.weight', None)
  elif not model.tie_embeddings and token is not None:
    named.setdefault('out.weight', token)
  return named


class GPT(nn.Module):
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
    capacity_factor: places of an expert, as a multiple of its even share of the tokens.
    scan: whether the blocks are one scanned block with stacked parameters (`dl.nn.stack`): it compiles in no time.
    remat: what the backward pass computes again: 'none', 'dots' or 'full' (`dl.nn.stack`).
    dtype: compute type; softmax and logits are float32.
  """

  vocab_size: int = 50257
  length: int = 1024
  layers: int = 12
  heads: int = 12
  width: int = 768
  dropout: float = 0.0
  tie_embeddings: bool = True
  use_bias: bool = True
  rope: bool = False
  attention_chunk: int = 0
  activation: activations.Activation = 'gelu'
  ngrams: tuple[int, ...] = ()
  ngram_buckets: int = 2**14
  experts: int = 0
  experts_per_token: int = 2
  capacity_factor: float = 1.25
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

  @nn.compact
  def __call__(
    self, tokens: Int[Array, 'b n'], train: bool = False, decode: bool = False
  ) -> Float[Array, 'b n vocab'] | dict[str, Array]:
    """Logits of the token after each one; in training with experts, {'out': logits, 'balance': mean loss of a block}.

    With `decode=True` and `mutable=['cache']`, tokens continue those of earlier calls, `length` of them at most.
    """
    n = tokens.shape[1]
    if n > self.length:
      raise ConfigError(f'config.model.length is {self.length}, but there are {n} tokens to read')
    if self.width % self.heads:
      raise ConfigError(f'config.model.heads: {self.heads} heads do not divide a width of {self.width}')
    if self.rope and (self.width // self.heads) % 2:
      raise ConfigError(f'config.model.rope: needs an even head width, got {self.width // self.heads}')
    init = nn.initializers.normal(0.02)
    start = None
    if decode:
      index = self.variable('cache', 'index', jnp.zeros, (), jnp.int32)
      start = index.value
      index.value = start + n
    embed = nn.Embed(self.vocab_size, self.width, embedding_init=init, dtype=self.dtype, name='token')
    x = embed(tokens)
    if self.ngrams:
      if min(self.ngrams) < 2:
        raise ConfigError(f'config.model.ngrams: orders start at 2, got {min(self.ngrams)}')
      x = x + HashedNgrams(tuple(self.ngrams), self.ngram_buckets, self.width, self.dtype, name='ngrams')(tokens, start)
    if not self.rope:
      positions = jnp.arange(n) + (0 if start is None else start)
      x = x + nn.Embed(self.length, self.width, embedding_init=init, dtype=self.dtype, name='position')(positions)
    if self.dropout:
      x = nn.Dropout(self.dropout, deterministic=not train)(x)
    block = functools.partial(
      Block, self.layers, self.heads, self.length, self.dropout, self.use_bias, self.rope, self.attention_chunk,
      self.activation, self.experts, self.experts_per_token, self.capacity_factor, self.dtype,
    )  # fmt: skip
    carry = (x, jnp.zeros((), jnp.float32))
    x, balance = stack(
      lambda name: block(name=name), self.layers, carry, train, start, scan=self.scan, remat=self.remat
    )
    x = nn.LayerNorm(1e-5, self.dtype, use_bias=self.use_bias, name='norm')(x)
    of_vocab = Axes(('batch', 'query', 'vocab'))
    if self.tie_embeddings:
      table = embed.embedding.astype(self.dtype)
      logits = of_vocab(jnp.einsum('bnw,vw->bnv', x, table, preferred_element_type=jnp.float32))
    else:
      out = nn.Dense(self.vocab_size, use_bias=False, dtype=self.dtype, kernel_init=init, name='out')
      logits = of_vocab(out(x).astype(jnp.float32))
    return {'out': logits, 'balance': balance / self.layers} if self.experts and train else logits
