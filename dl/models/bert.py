"""BERT (arXiv 1810.04805): a transformer encoder that reads in both directions, with a head for each kind of answer."""

import re
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from dl.config.bounds import BelowOne, Depth, Positive, Size
from dl.contract.axes import Axes
from dl.contract.weights import Exports, Foreign, Layouts, Rules, Table, Tensors, inputs, outputs, rename
from dl.errors import ConfigError
from dl.nn import activations, products, time
from dl.nn.attention import Attention, separate
from dl.nn.context import Context
from dl.nn.feed_forward import FeedForward
from dl.nn.norm import layer_norm
from dl.nn.stack import Remat, memory_savings, stack
from dl.nn.transformer import Block, Branch, begin, dropout, post_norm

_INIT = nn.initializers.normal(0.02)

_ENCODER = r'(?:bert\.)?'
_LAYER = _ENCODER + r'encoder\.layer\.(\d+)\.'
_HUGGINGFACE: Table = [
  (_ENCODER + r'embeddings\.position_ids', None),
  (_ENCODER + r'embeddings\.word_embeddings\.weight', 'token.weight'),
  (_ENCODER + r'embeddings\.position_embeddings\.weight', 'position.weight'),
  (_ENCODER + r'embeddings\.token_type_embeddings\.weight', 'segment.weight'),
  (_ENCODER + r'embeddings\.LayerNorm\.(.*)', r'norm.\1'),
  (_LAYER + r'attention\.self\.(q|k|v)(?:uery|ey|alue)\.(.*)', r'block_\1.attention.\2.\3'),
  (_LAYER + r'attention\.output\.dense\.(.*)', r'block_\1.attention.out.\2'),
  (_LAYER + r'attention\.output\.LayerNorm\.(.*)', r'block_\1.norm_0.\2'),
  (_LAYER + r'intermediate\.dense\.(.*)', r'block_\1.up.\2'),
  (_LAYER + r'output\.dense\.(.*)', r'block_\1.down.\2'),
  (_LAYER + r'output\.LayerNorm\.(.*)', r'block_\1.norm_1.\2'),
  (_ENCODER + r'pooler\.dense\.(.*)', r'pooler.\1'),
  (r'cls\.predictions\.transform\.dense\.(.*)', r'transform.\1'),
  (r'cls\.predictions\.transform\.LayerNorm\.(.*)', r'transform_norm.\1'),
  (r'cls\.predictions\.bias', 'out.bias'),
  (r'cls\.predictions\.decoder\.(?:weight|bias)', None),  # the embedding, and the bias again
  (r'cls\.seq_relationship\..*', None),
  (r'classifier\.(.*)', r'out.\1'),
]

_OF_HEADS = {'masked': r'transform.*', 'pooled': r'pooler\..*'}


def _from_huggingface(tensors: Tensors, model: 'BERT') -> Tensors:
  """Those of transformers' BERT models; a file of a whole one has parts that belong to other heads than the model's."""
  old = {'gamma': 'weight', 'beta': 'bias'}
  named = {re.sub(r'LayerNorm\.(gamma|beta)$', lambda m: f'LayerNorm.{old[m[1]]}', k): v for k, v in tensors.items()}
  named = rename(named, _HUGGINGFACE)
  others = [pattern for head, pattern in _OF_HEADS.items() if head != model.head]
  own = lambda name: model.has_out or not name.startswith('out.')
  return {k: v for k, v in named.items() if own(k) and not any(re.fullmatch(p, k) for p in others)}


def _to_huggingface(model: 'BERT') -> Foreign:
  """As transformers' BERT with the head that the model has."""
  kinds = {
    ('masked', False): 'BertForMaskedLM',
    ('features', False): 'BertModel',
    ('pooled', False): 'BertModel',
    ('pooled', True): 'BertForSequenceClassification',
    ('each', True): 'BertForTokenClassification',
  }
  kind = kinds.get((model.head, model.num_outputs is not None))
  if kind is None:
    raise ConfigError(f'Hugging Face has no BERT with the head {model.head!r}')
  width, vocab, hidden, outputs = model.width, model.vocab_size, model.hidden, model.num_outputs
  layer = lambda name, *shape: {f'{name}.weight': shape, f'{name}.bias': shape[:1]}
  block = {
    **layer('attention.self.query', width, width),
    **layer('attention.self.key', width, width),
    **layer('attention.self.value', width, width),
    **layer('attention.output.dense', width, width),
    **layer('attention.output.LayerNorm', width),
    **layer('intermediate.dense', hidden, width),
    **layer('output.dense', width, hidden),
    **layer('output.LayerNorm', width),
  }
  shapes = {
    'embeddings.word_embeddings.weight': (vocab, width),
    'embeddings.position_embeddings.weight': (model.length, width),
    'embeddings.token_type_embeddings.weight': (model.segments, width),
    **layer('embeddings.LayerNorm', width),
    **{f'encoder.layer.{i}.{name}': shape for i in range(model.layers) for name, shape in block.items()},
    **(layer('pooler.dense', width, width) if model.head == 'pooled' else {}),
  }
  shapes = shapes if kind == 'BertModel' else {f'bert.{name}': shape for name, shape in shapes.items()}
  if model.head == 'masked':
    predictions = layer('transform.dense', width, width) | layer('transform.LayerNorm', width) | {'bias': (vocab,)}
    shapes |= {f'cls.predictions.{name}': shape for name, shape in predictions.items()}
  return Foreign(
    config=dict(
      architectures=[kind],
      model_type='bert',
      vocab_size=vocab,
      hidden_size=width,
      num_hidden_layers=model.layers,
      num_attention_heads=model.heads,
      intermediate_size=hidden,
      hidden_act=activations.in_huggingface(model.activation),
      hidden_dropout_prob=model.dropout,
      attention_probs_dropout_prob=model.dropout,
      max_position_embeddings=model.length,
      type_vocab_size=model.segments,
      layer_norm_eps=model.epsilon,
      pad_token_id=None,
      **({} if outputs is None else {'id2label': {str(i): f'LABEL_{i}' for i in range(outputs)}}),
    ),
    shapes=shapes if outputs is None else shapes | layer('classifier', outputs, width),
  )


class BERT(nn.Module):
  """A transformer encoder with norms after each sublayer; the defaults are those of BERT base.

  Tokens below 0 pad a shorter text: nothing attends to them. Published weights load with the layout 'huggingface'.

  Cite: devlin2019bert, vaswani2017attention

  Attributes:
    head: what it gives: 'masked', logits over the vocabulary at each token; 'pooled', of the first token (the text's
      class), and 'mean', of the mean of all tokens (likewise, of texts that begin with no token for that); 'each', at
      each token (tags); 'features', those of the last block.
    num_outputs: outputs of the heads 'pooled', 'mean' and 'each'; None gives the pooled or mean features themselves.
    vocab_size: number of token ids.
    length: the most tokens it can read.
    layers: number of blocks.
    heads: attention heads a block; must divide `width`.
    width: features a token.
    hidden: features between the dense layers of a block.
    segments: of how many kinds of text a token may be (the first sentence, the second).
    dropout: rate on embeddings, attention weights, each sublayer's output and before the output layer.
    activation: of the dense layers.
    epsilon: what norms add to variances.
    scan: whether the blocks are one scanned block with stacked parameters (`dl.nn.stack`).
    remat: what the backward pass computes again: 'none', 'dots' or 'full' (`dl.nn.stack`).
    dtype: compute type; norms, softmax and outputs are float32.
  """

  head: Literal['masked', 'pooled', 'mean', 'each', 'features'] = 'masked'
  num_outputs: Size | None = None
  vocab_size: Size = 30522
  length: Size = 512
  layers: Depth = 12
  heads: Size = 12
  width: Size = 768
  hidden: Size = 3072
  segments: Size = 2
  dropout: BelowOne = 0.1
  activation: activations.Activation = 'gelu_exact'
  epsilon: Positive = 1e-12
  scan: bool = False
  remat: Remat = 'none'
  dtype: Any = jnp.float32

  bidirectional: ClassVar[bool] = True
  sharding_rules: ClassVar[Rules] = (
    *outputs('attention/[qkv]'),
    *inputs('attention/out'),
    *outputs('up'),
    *inputs('down'),
    ('(^|/)token/embedding$', ('model', None)),
  )
  layouts: ClassVar[Layouts] = {'huggingface': _from_huggingface}
  exports: ClassVar[Exports] = {'huggingface': _to_huggingface}

  @property
  def has_out(self) -> bool:
    """Whether there is an output layer of any kind."""
    return self.head == 'masked' or self.num_outputs is not None

  @nn.compact
  def __call__(
    self, tokens: Int[Array, 'b n'], train: bool = False, segments: Int[Array, 'b n'] | None = None
  ) -> Float[Array, 'b n outputs'] | Float[Array, 'b outputs']:
    """What the head gives; `segments` says which kind of text each token is of, None that all are of the first."""
    n = tokens.shape[1]
    if n > self.length:
      raise ValueError(f'a length of {self.length}, but there are {n} tokens to read')
    heads = {'each'} if self.num_outputs is None else {'masked', 'features'}  # which need it, or have no use for it
    if self.head in heads:
      raise ValueError(
        f"num_outputs: of the heads 'pooled', 'mean' and 'each', got {self.num_outputs} with {self.head!r}"
      )
    context = Context(train=train, mask=tokens >= 0)
    drop = nn.Dropout(self.dropout, deterministic=not train) if self.dropout else lambda x: x
    table = lambda size, name: nn.Embed(size, self.width, embedding_init=_INIT, dtype=self.dtype, name=name)
    embed = table(self.vocab_size, 'token')
    x = embed(jnp.maximum(tokens, 0)) + table(self.length, 'position')(jnp.arange(n))
    x = x + table(self.segments, 'segment')(jnp.zeros_like(tokens) if segments is None else segments)
    x = drop(self._norm('norm')(x))
    block = lambda name, _: Block(self._branches, post_norm, name=name)
    x, _ = stack(block, self.layers, begin(x), context, scan=self.scan, remat=self.remat)
    dense = lambda features, name: nn.Dense(features, dtype=self.dtype, kernel_init=_INIT, name=name)
    if self.head == 'masked':
      y = self._norm('transform_norm')(activations.get(self.activation)(dense(self.width, 'transform')(x)))
      bias = self.param('out_bias', nn.initializers.zeros, (self.vocab_size,))
      logits = products.unembed(y, embed.embedding) + bias
      return Axes(('batch', 'query', 'vocab'))(logits)
    if self.head == 'pooled':
      x = jnp.tanh(dense(self.width, 'pooler')(x[:, 0]))
    if self.head == 'mean':
      x = time.mean(x, context.mask[..., None])
    if self.num_outputs is not None:
      x = dense(self.num_outputs, 'out')(drop(x))
    return x.astype(jnp.float32)

  @nn.nowrap
  def _norm(self, name: str) -> nn.Module:
    return layer_norm(self.epsilon, self.dtype, name=name)

  @nn.nowrap
  def _branches(self) -> Sequence[Branch]:
    """Attention and a feed-forward layer; made inside of a block."""
    if self.width % self.heads:
      raise ValueError(f'{self.heads} heads do not divide a width of {self.width}')
    attention = Attention(
      project=separate(self.heads, self.width // self.heads, dtype=self.dtype, kernel_init=_INIT),
      dropout=self.dropout,
      out_init=_INIT,
      dtype=self.dtype,
      name='attention',
    )
    each = FeedForward(
      self.hidden, self.activation, kernel_init=_INIT, names=('up', 'down'), dtype=self.dtype, parent=None
    )
    after = dropout(self.dropout)
    return Branch(self._norm('norm_0'), attention, after), Branch(self._norm('norm_1'), each.layers, after)

  @nn.nowrap
  def memory_savings(self) -> dict[str, Any]:
    """Arguments with which it keeps fewer activations, the least costly first."""
    return memory_savings(self.remat)
