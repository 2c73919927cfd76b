"""Language modelling: each token from those before it."""

import dataclasses
import math
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key, PyTree

from dl.config.bounds import NotNegative, Number, Positive, PositiveShare, Size
from dl.config.build import check_bounds
from dl.contract.metrics import Mean, average
from dl.contract.state import State
from dl.contract.task import Batch, Metrics
from dl.data.tokenizers.vocabulary import by_character
from dl.decoding import beam
from dl.decoding.choice import Choice
from dl.decoding.decoder import Continuing, Decoder, Rewindable
from dl.errors import ConfigError, own_words
from dl.tasks import likelihood, network, writing
from dl.tasks.network import Network
from dl.tasks.supervised import of_tokens, without_padding
from dl.tasks.writing import Draft


@dataclasses.dataclass(frozen=True, kw_only=True)
class LanguageModel(Network):
  """Next-token cross entropy; batches hold `tokens` [b, length + 1], in which negative ids are padding.

  Metrics: loss (nats a token), perplexity, accuracy, and, where a token is a byte or a character, bits_per_character.

  With `carry`, training is truncated backpropagation through time (arXiv 1211.5063, section 1): each row of a batch
  goes on from the state that this row of the batch before has left, `State.extra['carry']`, through which no gradient
  flows back; at the beginning of a stream it begins anew. The data is cut into streams: `streams` of
  `dl.data.sources.text.TextFiles`. An evaluation reads each row from its beginning to its end, a piece at a time, with
  the state in between: a row is a whole stream where the data of the evaluation has `length=None`.

  Attributes:
    carry: whether the states of a recurrent network go on from batch to batch.
    balance_weight: factor of the load-balancing loss of a network with experts (arXiv 2101.03961).
    activation_weight: factor of the mean square of what the last layer gives, of a recurrent network with `penalties`
      (arXiv 1708.01009).
    temporal_weight: factor of the mean square of its change from token to token, of such a network.
    prompt: what the samples among the artifacts continue.
    sample_length: tokens of each such sample.
    temperature: softmax temperature of such samples.
  """

  by_row = ('carry',)

  carry: bool = False
  balance_weight: NotNegative = 0.01
  activation_weight: NotNegative = 2.0
  temporal_weight: NotNegative = 1.0
  prompt: str = ''
  sample_length: Size = 256
  temperature: NotNegative = 0.8

  def __post_init__(self):
    super().__post_init__()
    if self.prompt and self.info.vocab_size is not None:
      writing.prompt_tokens(self.prompt, self.info, 'config.task.prompt', getattr(self.model, 'length', None))

  def inputs(self, batch: Batch) -> Int[Array, 'b n']:
    if 'tokens' not in batch:
      raise ConfigError(f'config.data: LanguageModel needs tokens in a batch, got {", ".join(sorted(batch))}')
    return jnp.maximum(batch['tokens'][:, :-1], 0)

  def init(self, key: Key[Array, ''], batch: Batch) -> tuple[dict[str, PyTree], Any]:
    if self.carry and not isinstance(self.model, Continuing):
      name = type(self.model).__name__
      raise ConfigError(
        f'config.task.carry: {name} goes on from no state; take rnn.RecurrentLanguageModel, or no carry'
      )
    if self.carry and self.info.fact('streams') is None:
      raise ConfigError('config.data.streams: is needed by config.task.carry; as many as config.data.batch_size')
    if self.carry and 'first' not in batch:
      raise ConfigError('config.task.carry: a window is a whole stream, with which nothing goes on; take no carry')
    params, extra = super().init(key, batch)
    return params, {**extra, 'carry': self.model.begin(self.info.fact('streams'))} if self.carry else extra

  def check(self, batch: PyTree) -> None:
    self.check_direction('token')
    streams = self.info.fact('streams')
    if self.carry and streams is not None and 'tokens' in batch and batch['tokens'].shape[0] != streams:
      raise ConfigError(
        f'config.data.batch_size: is {batch["tokens"].shape[0]}, and the text is cut into {streams} streams; with '
        'config.task.carry a batch has a row of each'
      )
    if 'tokens' in batch and (len(batch['tokens'].shape) != 2 or batch['tokens'].shape[1] < 2):
      raise ConfigError(f'config.data: tokens must be [batch, length + 1], got {batch["tokens"].shape}')
    length, context = jax.eval_shape(self.inputs, batch).shape[1], getattr(self.model, 'length', None)
    if context is not None and context < length:
      raise ConfigError(f'config.model.length is {context}, but the data has sequences of {length} tokens')
    shape, size = self.outputs_shape(batch), self.info.vocab_size
    if len(shape) != 3:
      raise ConfigError(f'config.model: LanguageModel needs logits [batch, length, vocabulary], got {shape}')
    if size is not None and shape[-1] < size:
      raise ConfigError(f'config.model.vocab_size is {shape[-1]}, but the data has {size} token ids')

  def limits(self, batch: PyTree) -> dict[str, int]:
    return {} if self.info.vocab_size is not None else {'vocab_size': self.outputs_shape(batch)[-1]}

  def loss(
    self, params: dict[str, PyTree], extra: Any, batch: Batch, key: Key[Array, ''], train: bool
  ) -> tuple[Float[Array, ''], tuple[Any, Metrics]]:
    batch = without_padding(batch)
    if self.carry and not train:
      metrics = self._read(params, extra, batch)
      return average(metrics['loss']), (extra, metrics)
    if self.carry:
      anew = batch['first'] > 0
      begin = lambda new, old: jnp.where(anew.reshape(-1, *[1] * (old.ndim - 1)), new, old)
      carry = jax.tree.map(begin, self.model.begin(len(anew)), extra['carry'])
      outputs, carry, extra = self._go_on(params, extra, self.inputs(batch), carry, key, not self.frozen_statistics)
      extra = {**extra, 'carry': carry}
    else:
      outputs, extra = self.apply(params, extra, self.inputs(batch), key, train)
    penalties = dict(outputs) if isinstance(outputs, dict) else {'out': outputs}
    metrics = self._measure(penalties.pop('out'), batch)
    loss = average(metrics['loss'])
    for name, value in penalties.items():
      metrics[name] = Mean(value, jnp.ones(()), better='min')
      loss += getattr(self, f'{name}_weight') * value
    return loss, (extra, metrics)

  def _measure(self, logits: Float[Array, 'b n v'], batch: Batch) -> Metrics:
    targets = batch['tokens'][:, 1:]
    weight = batch['mask'][:, None] * (targets >= 0)
    metrics = of_tokens(logits, targets, weight)
    if by_character(self.info):
      loss = metrics['loss']
      metrics['bits_per_character'] = Mean(loss.total / math.log(2), loss.weight, better='min')
    return metrics

  def _go_on(
    self, params: dict[str, PyTree], extra: Any, inputs: Array, carry: PyTree, key: Any, train: bool
  ) -> tuple[Any, PyTree, Any]:
    """(outputs, state after the last token, new extra) from a state before the first."""
    given = dict(carry=carry, state=True)
    (logits, carry), changed = network.apply(self.model, params['model'], extra['model'], inputs, train, key, **given)
    return jax.tree.map(lambda x: x.astype(jnp.float32), logits), carry, {**extra, 'model': changed}

  def _read(self, params: dict[str, PyTree], extra: Any, batch: Batch) -> Metrics:
    """Metrics of rows which are read from beginning to end, a piece at a time: their logits would fill the memory."""
    if 'first' in batch:
      raise ConfigError(
        'each window of a stream would begin without the state that config.task.carry is about; set length=None, with '
        'which a row is a whole stream, or streams=None, for windows which do begin anew'
      )
    go_on = lambda carry, tokens: self._go_on(params, extra, tokens, carry, None, False)[:2]
    measure = lambda logits, tokens: self._measure(logits, batch | {'tokens': tokens})
    start = self.model.begin(len(batch['tokens']))
    return likelihood.in_pieces(go_on, start, batch['tokens'], likelihood.PIECE, measure)

  def predict(self, state: State, inputs: Int[Array, 'b n'], key: Key[Array, '']) -> dict[str, Array]:
    """How likely texts are.

    A text longer than the model's context is read in windows, each of which begins with the last token of the one
    before, so that all tokens but the very first are predicted once. A model of no longest text goes on from piece to
    piece.

    Args:
      state: the training state.
      inputs: token ids; negative ids after the end of a shorter text.
      key: not used.

    Returns:
      log_likelihood [b] in nats, tokens [b] (how many were predicted), perplexity [b], and, where a token is a byte
      or a character, bits_per_character [b].

    Raises:
      ConfigError: texts too long for a model which can only read them at once.
    """
    inputs = jnp.asarray(inputs, jnp.int32)
    nats, count = self._scored(state, jnp.pad(inputs, ((0, 0), (0, max(2 - inputs.shape[1], 0))), constant_values=-1))
    mean = nats / jnp.maximum(count, 1)
    outputs = {'log_likelihood': -nats, 'tokens': count, 'perplexity': jnp.exp(mean)}
    return outputs | ({'bits_per_character': mean / math.log(2)} if by_character(self.info) else {})

  def _scored(self, state: State, tokens: Int[Array, 'b n']) -> tuple[Float[Array, ' b'], Int[Array, ' b']]:
    """(nats, number) of all tokens of each text but the first."""
    model, size = self.model, getattr(self.model, 'length', None)
    score = lambda read, start, tokens, size: likelihood.in_pieces(read, start, tokens, size, likelihood.scored)
    if size is None and isinstance(model, Continuing):
      go_on = lambda carry, piece: self._go_on(state.params, state.extra, piece, carry, None, False)[:2]
      return score(go_on, model.begin(len(tokens)), tokens, likelihood.PIECE)
    if size is None and isinstance(model, Rewindable):
      variables = self.decoder_variables(state)
      logits, cache = model.prefill(variables, tokens[:, :1])
      go_on = lambda cache, piece: model.read(variables, cache, piece)
      first, rest = likelihood.scored(logits[:, None], tokens[:, :2]), tokens[:, 1:]
      return jax.tree.map(jnp.add, first, score(go_on, cache, rest, likelihood.PIECE))
    at_once = lambda _, piece: (self.apply(state.params, state.extra, piece, None, False)[0], None)
    if size is None:
      logits = jax.eval_shape(at_once, None, tokens[:, :-1])[0]
      if logits.size > likelihood.MOST:
        raise ConfigError(
          f'predict: {type(model).__name__} reads texts of {tokens.shape[1]:,} tokens at once, and {len(tokens)} of '
          f'them give {logits.size:,} logits; cut them, or predict fewer at a time (--batch_size)'
        )
    return score(at_once, None, tokens, size or tokens.shape[1])

  def sample(
    self,
    state: State,
    key: Key[Array, ''],
    count: int,
    prompt: str = '',
    length: Size = 256,
    temperature: NotNegative = 1.0,
    top_k: Size | None = None,
    top_p: PositiveShare | None = None,
    min_p: PositiveShare | None = None,
    repetition_penalty: Positive | None = None,
    stop: str = '',
    beams: Size | None = None,
    length_penalty: Number | None = None,
    prompts: tuple[str, ...] = (),
    drafted: Size | None = None,
    draft: Draft | None = None,
  ) -> list[str]:
    """`count` texts which begin with the prompt and go on for `length` tokens, of a model which is a `Decoder`.

    Args:
      state: the training state.
      key: random key.
      count: number of texts.
      prompt: text to continue; the empty one stands for the beginning of a line (or for token 0, if there is no '\\n').
      length: tokens to add.
      temperature: softmax temperature; 0 takes the likeliest token each time.
      top_k: draw among the k likeliest tokens alone.
      top_p: draw among the fewest tokens whose probabilities add to this (arXiv 1904.09751).
      min_p: draw among tokens of at least this share of the largest probability (arXiv 2407.01082).
      repetition_penalty: above 1, tokens that stand in the text already are less likely (arXiv 1909.05858).
      stop: a text ends after this.
      beams: in place of drawing, search the likeliest texts with so many beams (`dl.decoding.beam`).
      length_penalty: of such a search; None for 1.
      prompts: texts to continue in place of one prompt, each `count` times; they may differ in length.
      drafted: tokens which a draft model proposes at a time; None for 4.
      draft: a smaller model of the same vocabulary, which drafts what this one reads (`dl.decoding.speculative`): texts
        are drawn as without it, in fewer calls of the larger model.

    Raises:
      ConfigError: a prompt which the vocabulary does not have, or which is longer than the context; an option out of
        range, or without a use beside another; a model without the methods of a `dl.decoding.decoder.Decoder`.
    """
    variables = self.decoder_variables(state)
    if draft is not None:
      writing.check_draft(self.model, draft, self.info)
    filters = dict(top_k=top_k, top_p=top_p, min_p=min_p, repetition_penalty=repetition_penalty)
    values = dict(length=length, temperature=temperature, beams=beams, length_penalty=length_penalty, **filters)
    check_bounds(self.sample, values | {'drafted': drafted}, 'sample')
    whole = dict(prompts=prompts, prompt=prompt, beams=beams, draft=draft)
    for one, other in (('prompts', 'prompt'), ('prompts', 'beams'), ('prompts', 'draft'), ('draft', 'beams')):
      if whole[one] and whole[other]:
        raise ConfigError(f'sample.{one}: has no use beside {other}; leave one of the two out')
    for option, needed, missing in (
      ('length_penalty', 'beams', length_penalty is not None and beams is None),
      ('drafted', 'draft', drafted is not None and draft is None),
    ):
      if missing:
        raise ConfigError(f'sample.{option}: has no use without {needed}')
    read = lambda text, where: writing.prompt_tokens(text, self.info, where, self.model.length)
    texts = [read(text, f'prompts[{i}]') for i, text in enumerate(prompts)] or [read(prompt, 'prompt')]
    rows = [row for row in range(len(texts)) for _ in range(count)]
    common = dict(length=length, vocab_size=self.info.vocab_size)
    try:
      if beams is not None:
        drawn = filters | {'temperature': None if temperature == 1 else temperature}
        penalty = 1.0 if length_penalty is None else length_penalty
        new = self._likeliest(variables, jnp.asarray(texts), count, beams, penalty, drawn, **common)
      else:
        more = dict(draft=draft, drafted=drafted or 4, **common)
        new = writing.write(
          self.model, variables, [texts[row] for row in rows], key, Choice(temperature, **filters), **more
        )
    except ValueError as e:
      if isinstance(e, ConfigError) or (words := own_words(e)) is None:
        raise
      raise ConfigError(f'sample.{"prompts" if prompts else "draft" if draft else "length"}: {words}') from e
    given = [tokens if text else tokens[:0] for text, tokens in zip(prompts or (prompt,), texts, strict=True)]
    return [writing.until(stop, given[row], added, self.info)[0] for row, added in zip(rows, new, strict=True)]

  def stream(
    self,
    state: State,
    key: Key[Array, ''],
    prompt: str = '',
    length: Size = 256,
    temperature: NotNegative = 1.0,
    top_k: Size | None = None,
    top_p: PositiveShare | None = None,
    min_p: PositiveShare | None = None,
    repetition_penalty: Positive | None = None,
    stop: str = '',
  ) -> Iterator[str]:
    """The text of `sample(state, key, 1, ...)`, piece by piece, as it is written."""
    variables = self.decoder_variables(state)
    filters = dict(top_k=top_k, top_p=top_p, min_p=min_p, repetition_penalty=repetition_penalty)
    check_bounds(self.stream, dict(length=length, temperature=temperature, **filters), 'sample')
    choice = Choice(temperature, **filters)
    return writing.pieces(self.model, variables, prompt, self.info, key, choice, length, stop)

  def _likeliest(
    self,
    variables: PyTree,
    start: Int[Array, '1 p'],
    count: int,
    beams: int,
    length_penalty: float,
    unused: Mapping[str, Any],
    **more: Any,
  ) -> Int[np.ndarray, 'count length']:
    """The likeliest texts of a search, best first; raises ConfigError for options that it has no use for."""
    if given := [name for name, value in unused.items() if value is not None]:
      raise ConfigError(f'sample.{given[0]}: nothing is drawn with beams; leave one of the two out')
    if count > beams:
      raise ConfigError(f'sample.beams: {beams} beams find as many texts, not {count}; ask for fewer (--count)')
    more |= dict(width=beams, length_penalty=length_penalty)
    return np.asarray(beam.search(self.model, variables, start, **more)[0][0, :count])

  def artifacts(self, state: State, key: Key[Array, '']) -> dict[str, Any]:
    """Samples, of a model which is a `Decoder`; nothing of another one, which can be trained all the same."""
    if not isinstance(self.model, Decoder):
      return {}
    texts = self.sample(state, key, 4, self.prompt, self.sample_length, self.temperature)
    return {'samples': ('\n' + '-' * 80 + '\n').join(texts) + '\n'}
