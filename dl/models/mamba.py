"""Mamba (arXiv 2312.00752): a language model of selective state spaces, whose memory does not grow with the text."""

import math
from typing import Any, ClassVar

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from dl.config.bounds import Depth, Positive, Size
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
from dl.nn.cached import Cached
from dl.nn.context import Context
from dl.nn.stack import Remat, memory_savings, stack
from dl.nn.state_space import Mixer
from dl.nn.transformer import Block, Branch, begin

_INIT = nn.initializers.normal(0.02)

_HUGGINGFACE: Table = [
  (r'(?:backbone\.)?embeddings?\.weight', 'token.weight'),
  (r'(?:backbone\.)?layers\.(\d+)\.norm\.weight', r'block_\1.norm.weight'),
  (r'(?:backbone\.)?layers\.(\d+)\.mixer\.(.*)', r'block_\1.mixer.\2'),
  (r'(?:backbone\.)?norm_f\.weight', 'norm.weight'),
  (r'lm_head\.weight', 'out.weight'),
]


def _from_huggingface(tensors: Tensors, model: 'Mamba') -> Tensors:
  """Those of transformers' `MambaForCausalLM`, whose last layer is the embedding, named or not."""
  return share_embedding(rename(tensors, _HUGGINGFACE), True)


def _to_huggingface(model: 'Mamba') -> Foreign:
  """As transformers' `MambaForCausalLM`."""
  width, inner, states, rank = model.width, 2 * model.width, model.states, model.inner_rank
  mixer = {
    'A_log': (inner, states),
    'D': (inner,),
    'in_proj.weight': (2 * inner, width),
    'conv1d.weight': (inner, 1, model.kernel_size),
    'conv1d.bias': (inner,),
    'x_proj.weight': (rank + 2 * states, inner),
    'dt_proj.weight': (inner, rank),
    'dt_proj.bias': (inner,),
    'out_proj.weight': (width, inner),
  }
  block = {'norm.weight': (width,), **{f'mixer.{name}': shape for name, shape in mixer.items()}}
  shapes = {'embeddings.weight': (model.vocab_size, width), 'norm_f.weight': (width,)}
  shapes |= {f'layers.{i}.{name}': shape for i in range(model.layers) for name, shape in block.items()}
  return Foreign(
    config=dict(
      architectures=['MambaForCausalLM'],
      model_type='mamba',
      vocab_size=model.vocab_size,
      hidden_size=width,
      intermediate_size=inner,
      expand=2,
      state_size=states,
      num_hidden_layers=model.layers,
      time_step_rank=rank,
      conv_kernel=model.kernel_size,
      layer_norm_epsilon=model.epsilon,
      hidden_act='silu',
      use_bias=False,
      use_conv_bias=True,
      tie_word_embeddings=True,
      bos_token_id=None,
      eos_token_id=None,
      pad_token_id=None,
    ),
    shapes={f'backbone.{name}': shape for name, shape in shapes.items()},
  )


class Mamba(Cached, nn.Module):
  """Blocks of an RMS norm and a selective state space, each with as many features again inside of it.

  The defaults are those of mamba-130m, of 129,135,360 parameters. It reads a text of any length, and remembers as much
  of a long one as of a short one. Published weights load with the layout 'huggingface'.

  Cite: gu2024mamba

  Attributes:
    vocab_size: number of token ids.
    layers: number of blocks.
    width: features a token.
    states: numbers remembered of each of the 2 width features inside of a block.
    rank: of the product that the steps come from; None for width / 16.
    kernel_size: positions of the short convolution.
    epsilon: what RMS norms add to mean squares.
    chunk: positions which are scanned at once (`dl.nn.state_space.selective_scan`).
    scan: whether the blocks are one scanned block with stacked parameters (`dl.nn.stack`).
    remat: what the backward pass computes again: 'none', 'dots' or 'full' (`dl.nn.stack`).
    dtype: compute type of the products; the recurrence, norms and logits are float32.
  """

  vocab_size: Size = 50280
  layers: Depth = 24
  width: Size = 768
  states: Size = 16
  rank: Size | None = None
  kernel_size: Size = 4
  epsilon: Positive = 1e-5
  chunk: Size = 64
  scan: bool = False
  remat: Remat = 'none'
  dtype: Any = jnp.float32

  length: ClassVar[int | None] = None
  sharding_rules: ClassVar[Rules] = (
    *outputs('mixer/(in_proj|dt_proj)'),
    *inputs('mixer/(x_proj|out_proj)'),
    ('(^|/)token/embedding$', ('model', None)),
  )
  layouts: ClassVar[Layouts] = {'huggingface': _from_huggingface}
  exports: ClassVar[Exports] = {'huggingface': _to_huggingface}

  @property
  def inner_rank(self) -> int:
    """`rank`, also where it is not given."""
    return self.rank or math.ceil(self.width / 16)

  @nn.compact
  def __call__(self, tokens: Int[Array, 'b n'], train: bool = False, decode: bool = False) -> Float[Array, 'b n vocab']:
    """Logits of the token after each one; with `decode=True` and `mutable=['cache']`, tokens continue earlier ones."""
    context = Context(train=train, decode=decode)
    embed = nn.Embed(self.vocab_size, self.width, embedding_init=_INIT, dtype=self.dtype, name='token')
    block = lambda name, _: Block(self._branches, name=name)
    x = embed(tokens).astype(jnp.float32)
    x, _ = stack(block, self.layers, begin(x), context, scan=self.scan, remat=self.remat)
    logits = products.unembed(self._norm('norm')(x), embed.embedding)
    return Axes(('batch', 'query', 'vocab'))(logits)

  @nn.nowrap
  def _norm(self, name: str) -> nn.Module:
    return nn.RMSNorm(self.epsilon, self.dtype, use_fast_variance=False, name=name)

  @nn.nowrap
  def _branches(self) -> tuple[Branch, ...]:
    """The one branch of a block; made inside of it."""
    # Each block adds to the residual stream, whose variance should not grow with depth.
    shrunk = nn.initializers.variance_scaling(1 / (3 * self.layers), 'fan_in', 'uniform')
    mixer = Mixer(
      2 * self.width, self.states, self.inner_rank, self.kernel_size, shrunk, self.chunk,
      self.dtype, name='mixer',
    )  # fmt: skip
    return (Branch(self._norm('norm'), mixer),)

  @nn.nowrap
  def memory_savings(self) -> dict[str, Any]:
    """Arguments with which it keeps fewer activations, the least costly first."""
    return memory_savings(self.remat)
