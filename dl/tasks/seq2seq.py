"""Sequence to sequence: a text from another one, token by token."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key, PyTree

from dl.config.bounds import BelowOne, Count, Number, Size
from dl.contract.metrics import Mean, average, correct
from dl.contract.state import State
from dl.contract.task import Batch, Metrics
from dl.data.tokenizers import vocabulary
from dl.decoding import beam
from dl.decoding.decoder import Decoder
from dl.errors import ConfigError
from dl.losses import cross_entropy
from dl.show import attention
from dl.tasks.network import Network
from dl.tasks.supervised import of_tokens, without_padding


@dataclasses.dataclass(frozen=True, kw_only=True)
class Seq2Seq(Network):
  """Batches hold `source` [b, m] and `target_tokens` [b, n], with the token that ends a target; -1 behind the end.

  The model is called with {'source', 'target'}, where the target begins with a token of its own, gives logits of the
  next token of each (teacher forcing), and is a `dl.decoding.decoder.Decoder` whose `prefill` takes the `source`: as
  `dl.nn.cached.CachedPair` is. Weights [b, heads, n, m] of its attention to the source, in the collection 'attention',
  are drawn.

  Metrics: loss (nats a token), perplexity and accuracy, of tokens; evaluations add exact_match, the share of targets
  which greedy decoding gives token for token, as it does where each of their tokens is the likeliest after those before
  it. `dl.evaluators.decoded.Decoded` measures what a search finds, and BLEU.

  Attributes:
    label_smoothing: share of the loss which is spread evenly over the vocabulary, in training (arXiv 1512.00567).
    begin: the token that targets begin with; None for the one which ends them.
    beams: of the search by `predict` and for the artifacts (`dl.decoding.beam`); 1 takes the likeliest token each time.
    length_penalty: of a search with several beams.
    sentences: sources whose targets are shown among the artifacts, with a picture of the attention to each.
  """

  label_smoothing: BelowOne = 0.0
  begin: Count | None = None
  beams: Size = 1
  length_penalty: Number = 1.0
  sentences: tuple[str, ...] = ()

  def __post_init__(self):
    super().__post_init__()
    if self.info.vocab_size is not None:
      self._sentences()

  @property
  def end(self) -> int:
    """The token that ends a target."""
    return vocabulary.beginning(self.info.of_targets())

  def inputs(self, batch: Batch) -> dict[str, Int[Array, 'b _']]:
    if lacking := {'source', 'target_tokens'} - set(batch):
      raise ConfigError(f'config.data: Seq2Seq needs {min(lacking)} in a batch, got {", ".join(sorted(batch))}')
    targets = jnp.maximum(batch['target_tokens'][:, :-1], 0)
    return {'source': batch['source'], 'target': jnp.concatenate([self._first(len(targets)), targets], 1)}

  def check(self, batch: PyTree) -> None:
    shapes = jax.tree.map(lambda x: x.shape, jax.eval_shape(self.inputs, batch))
    if any(len(shape) != 2 for shape in shapes.values()):
      raise ConfigError(f'config.data: source and target_tokens must be [batch, length], got {shapes}')
    if not isinstance(self.model, Decoder):
      name = type(self.model).__name__
      raise ConfigError(f'config.model: {name} cannot write: it needs length, prefill and step of a Decoder')
    target, model = self.info.of_targets(), self.model
    if (size := self.info.vocab_size) and getattr(model, 'vocab_size', size) < size:
      raise ConfigError(f'config.model.vocab_size is {model.vocab_size}, but the data has {size} token ids')
    if target is not self.info and getattr(model, 'target_vocab_size', 0) is None:
      raise ConfigError(
        'config.model.target_vocab_size: the data has a vocabulary for each side; that of the target has '
        f'{target.vocab_size} token ids'
      )
    if model.length is not None and model.length < self.most + 1:
      raise ConfigError(
        f'config.model.length is {model.length}, but the data has targets of {self.most} tokens with the last; '
        f'{self.most + 1} are needed'
      )
    shape, wanted = self.outputs_shape(batch), shapes['target']
    if shape[:2] != wanted or len(shape) != 3:
      raise ConfigError(f'config.model: Seq2Seq needs logits [*{wanted}, vocabulary], the model gives {shape}')
    if target.vocab_size is not None and shape[2] < target.vocab_size:
      raise ConfigError(f'config.model gives {shape[2]} logits, but targets have {target.vocab_size} token ids')

  @property
  def most(self) -> int:
    """The most tokens of a target, with the one that ends it: how far a search goes."""
    known = self.info.fact('target_length')
    return known + 1 if known is not None else (self.model.length or 257) - 1

  def loss(
    self, params: dict[str, PyTree], extra: Any, batch: Batch, key: Key[Array, ''], train: bool
  ) -> tuple[Float[Array, ''], tuple[Any, Metrics]]:
    batch = without_padding(batch)
    logits, extra = self.apply(params, extra, self.inputs(batch), key, train)
    targets = batch['target_tokens']
    real = targets >= 0
    metrics = of_tokens(logits, targets, batch['mask'][:, None] * real)
    if train and self.label_smoothing:
      nats = cross_entropy(logits, jnp.maximum(targets, 0), self.label_smoothing)
      metrics['loss'] = Mean.of(nats, batch['mask'][:, None] * real, better='min')
    if not train:
      right = (correct(logits, targets) | ~real).all(1)
      metrics['exact_match'] = Mean.of(right, batch['mask'], better='max')
    return average(metrics['loss']), (extra, metrics)

  def search(
    self, state: State, source: Int[Array, 'b m'], beams: int, length_penalty: float = 1.0
  ) -> tuple[Int[Array, 'b n'], Float[Array, ' b']]:
    """The best target that is found of each source, -1 from its end on, and its score: see `dl.decoding.beam`.

    Args:
      state: the training state.
      source: token ids, negative ones behind the end.
      beams: of the search; 1 takes the likeliest token each time.
      length_penalty: where there are more.
    """
    penalty = length_penalty if beams > 1 else 0.0  # with one, the search would go on behind the end
    options = dict(length=self.most, width=beams, stop=self.end, length_penalty=penalty)
    options['vocab_size'] = self.info.of_targets().vocab_size
    first, given = self._first(len(source)), {'source': jnp.asarray(source)}
    texts, scores = beam.search(self.model, self.decoder_variables(state), first, given, **options)
    return jnp.where(texts[:, 0] == self.end, -1, texts[:, 0]), scores[:, 0]

  def predict(self, state: State, inputs: Int[Array, 'b m'], key: Key[Array, '']) -> dict[str, Array]:
    """The targets of sources.

    Args:
      state: the training state.
      inputs: token ids, negative ones behind the end of a shorter source.
      key: not used.

    Returns:
      target_tokens [b, n], -1 from the end of each on, and score [b]: its log probability, which is divided by
      tokens ** length_penalty where there are beams.
    """
    tokens, scores = self.search(state, jnp.asarray(inputs, jnp.int32), self.beams, self.length_penalty)
    return {'target_tokens': tokens, 'score': scores}

  def source_text(self, tokens: Int[np.ndarray, ' m']) -> str:
    """The text of a source."""
    return vocabulary.decode(tokens, self.info)

  def target_text(self, tokens: Int[np.ndarray, ' n']) -> str:
    """The text of a target, without the token that ends it."""
    return vocabulary.decode(np.where(tokens == self.end, -1, tokens), self.info.of_targets())

  def artifacts(self, state: State, key: Key[Array, '']) -> dict[str, Any]:
    """A table of `sentences` and their targets, and a picture of the attention to each: a column a head."""
    table, pictures = [], {}
    for i, (sentence, source) in enumerate(zip(self.sentences, self._sentences(), strict=True), 1):
      found = jax.device_get(jax.jit(self.predict)(state, source[None], key))
      tokens = found['target_tokens'][0]
      tokens = np.append(tokens[tokens >= 0], self.end)[: self.most]
      table.append({'source': sentence, 'target': self.target_text(tokens)})
      weights = self.attention(state, source, tokens)
      if len(weights):
        each = lambda text, ids: [text(ids[i : i + 1]).strip() or '\N{RETURN SYMBOL}' for i in range(len(ids))]
        named = each(self.source_text, source), each(self.target_text, tokens)
        pictures[f'attention_{i}'] = attention.picture(weights, *named)
    return ({'sentences': table} if table else {}) | pictures

  def attention(
    self, state: State, source: Int[np.ndarray, ' m'], target: Int[np.ndarray, ' n']
  ) -> Float[np.ndarray, 'layers heads n m']:
    """What each token of a target is written with an eye on; of no layers, where the model does not say."""
    texts = self.inputs({'source': jnp.asarray(source[None]), 'target_tokens': jnp.asarray(target[None])})
    show = jax.jit(lambda variables: self.model.apply(variables, texts, mutable=['attention'])[1])
    kept = jax.device_get(show(self.decoder_variables(state))).get('attention', {})
    leaves = sorted(jax.tree_util.tree_leaves_with_path(kept), key=lambda leaf: [_number(key) for key in leaf[0]])
    shape = (0, 1, len(target), len(source))
    return np.stack([np.asarray(weights[0], np.float32) for _, weights in leaves]) if leaves else np.zeros(shape)

  def _first(self, rows: int) -> Int[Array, 'b 1']:
    return jnp.full((rows, 1), self.end if self.begin is None else self.begin, jnp.int32)

  def _sentences(self) -> list[Int[np.ndarray, ' n']]:
    """The token ids of `sentences`; raises ConfigError for one that cannot be encoded, or an empty one."""
    where = 'config.task.sentences'
    found = [vocabulary.encode(text, self.info, f'{where}: {text!r}') for text in self.sentences]
    for text, tokens in zip(self.sentences, found, strict=True):
      if not len(tokens):
        raise ConfigError(f'{where}: {text!r} has no token')
    return found


def _number(key: Any) -> tuple[str, int]:
  """A part of a path, so that decoder_10 comes after decoder_9."""
  name = jax.tree_util.keystr((key,), simple=True)
  head = name.rstrip('0123456789')
  return head, int(name[len(head) :] or 0)
