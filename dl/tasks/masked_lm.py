"""Masked language modelling: tokens that are hidden, from those on both sides of them."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, PyTree, UInt32

from dl.config.bounds import PositiveShare, Share, Size
from dl.contract.metrics import average
from dl.contract.state import State
from dl.contract.task import Batch, Metrics
from dl.data.tokenizers.vocabulary import BLANK, blank, decode, encode, pad
from dl.decoding.decoder import Decoder
from dl.errors import ConfigError
from dl.show.words import percent
from dl.tasks.network import Network
from dl.tasks.supervised import of_tokens, without_padding


@dataclasses.dataclass(frozen=True, kw_only=True)
class MaskedLanguageModel(Network):
  """Batches hold `tokens` [b, n], negative ids after the end of a shorter text.

  Of each text some tokens are chosen anew in each step, at least one. Most of them are hidden behind the token that
  stands for `[MASK]`, some are replaced by any token, and some stay as they are; the loss is the cross entropy of what
  stood there. That token is the vocabulary's own, where it has one, as that of a WordPiece tokenizer; otherwise it is
  one id more, which `vocab_size` of the model has to have room for.

  In evaluations the choice is a function of the text alone, and all that is chosen is hidden.

  Metrics, of the chosen tokens: loss (nats a token), perplexity, accuracy.

  Cite: devlin2019bert

  Attributes:
    chosen: share of the tokens of a text.
    random: share of the chosen ones that are replaced by any token.
    kept: share of the chosen ones that stay as they are.
    sentences: texts with one `[MASK]` or more, which are filled in among the artifacts.
    guesses: how many tokens `predict` gives for each `[MASK]`.
  """

  says = {'blank': BLANK}

  chosen: PositiveShare = 0.15
  random: Share = 0.1
  kept: Share = 0.1
  sentences: tuple[str, ...] = ()
  guesses: Size = 5

  def __post_init__(self):
    super().__post_init__()
    if self.random + self.kept > 1:
      raise ConfigError(f'config.task.kept: {self.kept} and random, {self.random}, are more than all that is chosen')
    if self.info.vocab_size is not None:
      self._sentences()

  @property
  def hidden(self) -> int:
    """The token that stands for `[MASK]`."""
    found = blank(self.info)
    if found is None:
      raise ConfigError('config.data: MaskedLanguageModel needs the number of token ids; the source states vocab_size')
    return found

  def inputs(self, batch: Batch) -> Int[Array, 'b n']:
    if 'tokens' not in batch:
      raise ConfigError(f'config.data: MaskedLanguageModel needs tokens in a batch, got {", ".join(sorted(batch))}')
    return batch['tokens']

  def check(self, batch: PyTree) -> None:
    label, name = type(self).__name__, type(self.model).__name__
    tokens, length = jax.eval_shape(self.inputs, batch).shape, getattr(self.model, 'length', None)
    if len(tokens) != 2:
      raise ConfigError(f'config.data: tokens must be [batch, length], got {tokens}')
    if isinstance(self.model, Decoder) and not getattr(self.model, 'bidirectional', False):
      raise ConfigError(f'config.model: {name} reads from left to right alone; {label} needs one that reads both ways')
    if length is not None and length < tokens[1]:
      raise ConfigError(f'config.model.length is {length}, but the data has sequences of {tokens[1]} tokens')
    size, least = getattr(self.model, 'vocab_size', None), max(self.info.vocab_size or 0, self.hidden + 1)
    more = f', with the one that stands for {BLANK}' if least > (self.info.vocab_size or 0) else ''
    if size is not None and size < least:  # an embedding would give no number, and no error
      raise ConfigError(f'config.model.vocab_size is {size}, but there are {least} token ids{more}')
    shape = self.outputs_shape(batch)
    if shape[:-1] != tokens:
      raise ConfigError(f'config.model: {label} needs logits [batch, length, vocabulary], the model gives {shape}')
    if shape[-1] < least:
      raise ConfigError(f'config.model gives {shape[-1]} logits, but there are {least} token ids{more}')
    for row, sentence in zip(self._sentences(), self.sentences, strict=True):
      if length is not None and len(row) > length:
        raise ConfigError(f'config.task.sentences: {sentence!r} has {len(row)} tokens, and the model reads {length}')

  def loss(
    self, params: dict[str, PyTree], extra: Any, batch: Batch, key: Key[Array, ''], train: bool
  ) -> tuple[Float[Array, ''], tuple[Any, Metrics]]:
    batch = without_padding(batch)
    tokens, (choice_key, drop_key) = self.inputs(batch), jax.random.split(key)
    read, chosen = self.disturbed(tokens, choice_key) if train else self.blanked(tokens)
    logits, extra = self.apply(params, extra, read, drop_key, train)
    metrics = of_tokens(logits, tokens, batch['mask'][:, None] * chosen)
    return average(metrics['loss']), (extra, metrics)

  def disturbed(self, tokens: Int[Array, 'b n'], key: Key[Array, '']) -> tuple[Int[Array, 'b n'], Bool[Array, 'b n']]:
    """(what the model reads while it learns, which tokens are chosen)."""
    choice_key, fate_key, token_key = jax.random.split(key, 3)
    chosen = choose(tokens, jax.random.uniform(choice_key, tokens.shape), self.chosen)
    fate = jax.random.uniform(fate_key, tokens.shape)
    other = jax.random.randint(token_key, tokens.shape, 0, self.info.vocab_size, tokens.dtype)
    new = jnp.where(fate < self.kept, tokens, jnp.where(fate < self.kept + self.random, other, self.hidden))
    return jnp.where(chosen, new, tokens), chosen

  def blanked(self, tokens: Int[Array, 'b n']) -> tuple[Int[Array, 'b n'], Bool[Array, 'b n']]:
    """(what the model reads while it is evaluated, which tokens are chosen)."""
    place = jnp.arange(tokens.shape[1], dtype=jnp.uint32)
    draw = lambda text: jax.random.uniform(jax.random.fold_in(jax.random.key(0), text), place.shape)
    chosen = choose(tokens, jax.vmap(draw)(_numbers(tokens, place)), self.chosen)
    return jnp.where(chosen, self.hidden, tokens), chosen

  def predict(self, state: State, inputs: Int[Array, 'b n'], key: Key[Array, '']) -> dict[str, Array]:
    """What stands in the blanks of texts.

    A text longer than the model reads is read in pieces of its length.

    Args:
      state: the training state.
      inputs: token ids, among them that of `[MASK]`; negative ids after the end of a shorter text.
      key: not used.

    Returns:
      tokens [b, n]: the texts, with the likeliest token in each blank; guesses [b, n, guesses]: the likeliest tokens of
      each blank, best first, -1 elsewhere; and probability [b, n, guesses] of each of these, 0 elsewhere.
    """
    tokens = jnp.asarray(inputs, jnp.int32)
    rows, n = tokens.shape
    size = min(getattr(self.model, 'length', None) or n, n) or 1
    whole = max(-(-n // size), 1) * size
    pieces = jnp.pad(tokens, ((0, 0), (0, whole - n)), constant_values=-1).reshape(-1, size)
    logits, _ = self.apply(state.params, state.extra, pieces, key, False)
    ids = jnp.arange(logits.shape[-1])
    logits = jnp.where((ids < self.info.vocab_size) & (ids != self.hidden), logits, -jnp.inf)
    shares, guesses = jax.lax.top_k(jax.nn.softmax(logits), min(self.guesses, self.info.vocab_size))
    shares, guesses = (x.reshape(rows, whole, x.shape[-1])[:, :n] for x in (shares, guesses))
    empty = (tokens == self.hidden)[..., None]
    return {
      'tokens': jnp.where(empty[..., 0], guesses[..., 0], tokens),
      'guesses': jnp.where(empty, guesses, -1).astype(jnp.int32),
      'probability': jnp.where(empty, shares, 0.0),
    }

  def artifacts(self, state: State, key: Key[Array, '']) -> dict[str, Any]:
    """The sentences with what is filled in: a row a blank, with the likeliest tokens and their probabilities."""
    if not self.sentences:
      return {}
    rows, table = self._sentences(), []
    found = jax.device_get(jax.jit(self.predict)(state, pad(rows, max(map(len, rows))), key))  # compiled once
    for i, sentence in enumerate(self.sentences):
      filled = decode(found['tokens'][i], self.info)
      for guesses, shares in zip(found['guesses'][i], found['probability'][i], strict=True):
        if guesses[0] >= 0:
          named = [f'{decode([t], self.info)} ({percent(p)})' for t, p in zip(guesses, shares, strict=True)]
          best = {str(number): guess for number, guess in enumerate(named, 1)}
          table.append({'text': sentence, 'filled in': filled} | best)
    return {'blanks': table}

  def _sentences(self) -> list[Int[np.ndarray, ' n']]:
    """The token ids of `sentences`; raises ConfigError for one that cannot be encoded, or that has no blank."""
    where, info = 'config.task.sentences', self.info.completed(self.says)
    encoded = [encode(sentence, info, f'{where}: {sentence!r}') for sentence in self.sentences]
    for sentence, row in zip(self.sentences, encoded, strict=True):
      if not (row == self.hidden).any():
        raise ConfigError(f'{where}: {sentence!r} has no {BLANK} to fill in')
    return encoded


def choose(tokens: Int[Array, 'b n'], draws: Float[Array, 'b n'], share: float) -> Bool[Array, 'b n']:
  """Which tokens are chosen: of each text the real ones of the smallest draws, a share of all and at least one."""
  real = tokens >= 0
  draws = jnp.where(real, draws, jnp.inf)
  before = (draws[:, None, :] < draws[:, :, None]).sum(-1)  # unlike sorting, this is split over devices as the rows are
  return real & (before < jnp.maximum(jnp.round(share * real.sum(1)), 1)[:, None])


def _numbers(tokens: Int[Array, 'b n'], place: UInt32[Array, ' n']) -> UInt32[Array, ' b']:
  """A number of each text, which is another for another text but by chance; what pads it counts for nothing."""
  mixed = tokens.astype(jnp.uint32) * jnp.uint32(0x9E3779B1) + (place + 1) * jnp.uint32(0x85EBCA77)
  for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):  # MurmurHash3's: sums of products would often be alike
    mixed = (mixed ^ (mixed >> shift)) * jnp.uint32(factor)
  return jnp.where(tokens < 0, 0, mixed ^ (mixed >> 16)).sum(1, dtype=jnp.uint32)
