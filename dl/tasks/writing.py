"""How a language model writes: texts from their prompts, one text piece by piece, and with a draft model."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, Key, PyTree

from dl.contract.info import Info
from dl.data.tokenizers.vocabulary import beginning, decode, encode, pad
from dl.decoding import sampling, speculative
from dl.decoding.choice import Choice
from dl.decoding.decoder import Decoder, Rewindable
from dl.errors import ConfigError

_PIECE = 8  # tokens of a compiled call, after which a reader sees more


@dataclasses.dataclass(frozen=True, eq=False)
class Draft:
  """A smaller language model, which proposes what a larger one reads (`dl.decoding.speculative`).

  Attributes:
    model: a `dl.decoding.decoder.Rewindable`.
    variables: its variables.
    info: facts of its data: the vocabulary has to be the larger model's.
    noted: is told of what was drawn and how much of the draft was accepted, where somebody wants to know.
  """

  model: nn.Module
  variables: PyTree
  info: Info
  noted: Callable[[speculative.Drafted], None] | None = None


def check_draft(model: nn.Module, draft: Draft, info: Info) -> None:
  """Raises ConfigError for a model and a draft which cannot write together."""
  for who, one in (('the model', model), ('the draft', draft.model)):
    if not isinstance(one, Rewindable):
      raise ConfigError(f'sample.draft: {who}, {type(one).__name__}, cannot go back to an earlier token')
  facts = ('vocab_size', 'vocabulary', 'tokenizer', 'lowercase', 'punctuation')
  if any(info.fact(name) != draft.info.fact(name) for name in facts):
    raise ConfigError('sample.draft: has another vocabulary than the model')


def prompt_tokens(prompt: str, info: Info, where: str, most: int | None) -> Int[np.ndarray, ' n']:
  """Token ids of a prompt, one or more: the empty one stands for the beginning of a line or a text.

  Raises:
    ConfigError: what the vocabulary does not have, or more than `most` tokens; the line begins with `where`.
  """
  tokens = np.asarray(encode(prompt, info, where) if prompt else [beginning(info)], np.int32)
  if most is not None and len(tokens) > most:
    raise ConfigError(f'{where}: has {len(tokens):,} tokens, and the model reads {most:,} at most; shorten it')
  return tokens


def write(
  model: Decoder,
  variables: PyTree,
  prompts: Sequence[Int[np.ndarray, ' n']],
  key: Key[Array, ''],
  choice: Choice,
  length: int,
  vocab_size: int | None,
  draft: Draft | None = None,
  drafted: int = 4,
) -> Int[np.ndarray, 'b length']:
  """`length` tokens more of each prompt; raises ValueError for prompts that do not fit the model."""
  sizes = [len(tokens) for tokens in prompts]
  start = pad(prompts, max(sizes))
  common = dict(length=length, vocab_size=vocab_size)
  if draft is not None:
    both = model, variables, draft.model, draft.variables
    drawn = speculative.generate(*both, jnp.asarray(start), key, choice, ahead=drafted, **common)
    if draft.noted is not None:
      draft.noted(drawn)
    return np.asarray(drawn.tokens)
  shared = None if min(sizes) == max(sizes) else min(sizes)
  return np.asarray(sampling.generate(model, variables, jnp.asarray(start), key, choice, shared=shared, **common))


def pieces(
  model: Decoder,
  variables: PyTree,
  prompt: str,
  info: Info,
  key: Key[Array, ''],
  choice: Choice,
  length: int,
  stop: str = '',
) -> Iterator[str]:
  """A text of a prompt and `length` tokens more, piece by piece.

  What may yet change is held back: a part of a character, and what may be the beginning of `stop`.
  """
  start = prompt_tokens(prompt, info, 'prompt', model.length)
  room = -(-length // _PIECE) * _PIECE
  common = dict(vocab_size=info.vocab_size)
  texts = sampling.begin(model, variables, jnp.asarray(start[None]), choice, length=room, **common)
  given, new, shown, ended = start if prompt else start[:0], np.zeros(0, np.int32), '', False
  while not ended:
    texts, more = sampling.go_on(model, variables, texts, key, choice, length=_PIECE, **common)
    new = np.concatenate([new, np.asarray(more[0])])[:length]
    text, ended = until(stop, given, new, info)
    ended |= len(new) == length
    if not ended:
      text = text.rstrip('\ufffd')
      text = text[: len(text) - max(len(stop) - 1, 0)]
    if text.startswith(shown):
      yield text[len(shown) :]
      shown = text


def until(stop: str, given: Int[np.ndarray, ' p'], new: Int[np.ndarray, ' n'], info: Info) -> tuple[str, bool]:
  """(a text up to the first `stop` behind what was given, whether there is one)."""
  text = decode(np.concatenate([given, new]), info)
  at = text.find(stop, len(decode(given, info))) if stop else -1
  return (text[: at + len(stop)], True) if at >= 0 else (text, False)
