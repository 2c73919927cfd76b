"""Between text and token ids: UTF-8 bytes, characters or (between spaces) words of a recorded vocabulary, or subwords.

Where a vocabulary of words has an '<eos>', it stands for the end of a line. What was done to the texts that a
vocabulary was made of is done to all others: see `prepared`.
"""

import functools
import re
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from jaxtyping import Int

from dl.contract.info import Info
from dl.data.tokenizers import subwords
from dl.errors import ConfigError

EOS, UNKNOWN = '<eos>', '<unk>'

UNKNOWN_CHARACTER = '\ufffd'
"""What stands for any other, in a vocabulary of characters that has it."""

BLANK = '[MASK]'
"""What a token that is to be found stands as in a text, where the data are for a task which finds them."""

_WORD_OR_SIGN = re.compile(r"\w+(?:['’]\w+)*|[^\w\s]")


def by_character(info: Info) -> bool:
  """Whether each token is one byte or one character."""
  return info.tokenizer is None and (info.vocabulary is None or all(len(token) == 1 for token in info.vocabulary))


def beginning(info: Info) -> int:
  """The token which stands for an empty prompt: the end of a line or of a text, or 0 if the vocabulary has none."""
  if info.tokenizer is not None:
    return subwords.beginning(info.tokenizer)
  if info.vocabulary is None:
    return ord('\n')
  return next((info.vocabulary.index(end) for end in ('\n', EOS) if end in info.vocabulary), 0)


def blank(info: Info) -> int | None:
  """The token that hides another: the vocabulary's own, or one id more than it has; None if its size is not known."""
  if info.tokenizer is not None:
    own = subwords.blank(info.tokenizer)
    return info.vocab_size if own is None else own
  if BLANK in (info.vocabulary or ()):
    return info.vocabulary.index(BLANK)
  return info.vocab_size


def encode(text: str | bytes, info: Info, where: str) -> Int[np.ndarray, ' n']:
  """Token ids (int32) of a text, or of one in UTF-8; where tokens are bytes, of any bytes.

  Raises:
    ConfigError: bytes which are not UTF-8, or something that the vocabulary does not have; an '<unk>' in it stands
      for any word, a U+FFFD for any character, and what the data call a 'blank' (`BLANK`) for a token that is hidden.
      The line begins with `where`.
  """
  return encoder(info)(text, where)


def encoder(info: Info) -> Callable[[str | bytes, str], Int[np.ndarray, ' n']]:
  """`encode` as a function of (text, where): for many texts, since to find a vocabulary again takes its time."""
  mark, known = info.fact('blank'), None
  if info.vocabulary is not None and info.tokenizer is None:
    known = index_of(info.vocabulary), by_character(info)

  def ids(text: str | bytes, where: str) -> Int[np.ndarray, ' n']:
    if mark is None:
      return _encode(text, info, where, 0, known)
    found = []
    for piece in text.split(mark if isinstance(text, str) else mark.encode()):
      found += [[blank(info)]] if found else []
      found.append(_encode(piece, info, where, sum(map(len, found)), known))
    return np.concatenate(found).astype(np.int32)

  return ids


def _encode(
  text: str | bytes, info: Info, where: str, before: int, known: tuple[Mapping[str, int], bool] | None
) -> Int[np.ndarray, ' n']:
  """`encode` of a text without blanks, behind `before` tokens of its own, by (ids, whether tokens are characters)."""
  text = prepared(text, info)
  if info.vocabulary is None and info.tokenizer is None:
    return np.frombuffer(text.encode() if isinstance(text, str) else text, np.uint8).astype(np.int32)
  if isinstance(text, bytes):
    try:
      text = text.decode()
    except UnicodeDecodeError as e:
      raise ConfigError(f'{where}: not UTF-8 text, which this vocabulary is for') from e
  if info.tokenizer is not None:
    return subwords.encode(text, info.tokenizer, where)
  index, letters = known
  pieces = text if letters else words(text, EOS in index)
  unknown = index.get(UNKNOWN_CHARACTER if letters else UNKNOWN, -1)
  ids = np.fromiter((index.get(p, unknown) for p in pieces), np.int32, len(pieces))
  if (ids < 0).any():
    at = int((ids < 0).argmax())
    kind = 'character' if letters else 'word'
    raise ConfigError(
      f'{where}: {kind} {before + at + 1}, {pieces[at]!r}, is not in the vocabulary of {len(index)} tokens'
    )
  return ids


def decode(tokens: Int[np.ndarray, ' n'], info: Info) -> str:
  """The text of token ids; bytes which are no UTF-8 become U+FFFD."""
  if info.tokenizer is not None:
    return subwords.decode(tokens, info.tokenizer)
  if info.vocabulary is None:
    return bytes(int(t) for t in tokens if 0 <= t < 256).decode('utf-8', errors='replace')
  if by_character(info):
    return ''.join(info.vocabulary[t] for t in tokens if t >= 0)
  lines: list[list[str]] = [[]]
  for word in (info.vocabulary[t] for t in tokens if t >= 0):
    lines.append([]) if word == EOS else lines[-1].append(word)
  return '\n'.join(map(' '.join, lines))


def pad(encoded: Sequence[Int[np.ndarray, ' n']], length: int) -> Int[np.ndarray, 'b length']:
  """Texts as one array, cut behind `length` tokens; shorter ones end in -1."""
  joined = np.full((len(encoded), length), -1, np.int32)
  for row, tokens in zip(joined, encoded, strict=True):
    row[: len(tokens)] = tokens[:length]
  return joined


def prepared(text: str | bytes, info: Info) -> str | bytes:
  """A text as those were that the vocabulary was made of, by two facts of the data.

  With `lowercase` it has no capitals; with `punctuation`, signs stand alone, between spaces. Bytes that are no UTF-8
  are left for others to complain about.
  """
  lowercase, apart = info.fact('lowercase'), info.fact('punctuation')
  if not lowercase and not apart:
    return text
  if isinstance(text, bytes):
    try:
      text = text.decode()
    except UnicodeDecodeError:
      return text
  text = text.lower() if lowercase else text
  return ' '.join(signs_apart(text)) if apart else text


def signs_apart(text: str) -> list[str]:
  """The words of a text, and its signs, each alone."""
  return _WORD_OR_SIGN.findall(text)


@functools.lru_cache(maxsize=8)
def index_of(vocabulary: tuple[str, ...]) -> Mapping[str, int]:
  """Token -> its id."""
  return {token: i for i, token in enumerate(vocabulary)}


def words(text: str, ends: bool) -> list[str]:
  """What stands between spaces, and, with `ends`, an '<eos>' at the end of each line."""
  if not ends:
    return text.split()
  lines = text.split('\n')
  rest = lines.pop()  # after the last end of a line
  return [word for line in lines for word in (*line.split(), EOS)] + rest.split()
