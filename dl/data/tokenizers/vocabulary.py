"""Between text and token ids: UTF-8 bytes, or the characters or (between spaces) words of a recorded vocabulary."""

import numpy as np
from jaxtyping import Int

from dl.contract.info import Info
from dl.errors import ConfigError


def by_character(info: Info) -> bool:
  """Whether each token is one byte or one character."""
  return info.vocabulary is None or all(len(token) == 1 for token in info.vocabulary)


def beginning(info: Info) -> int:
  """The token which stands for an empty prompt: the end of a line, or 0 if the vocabulary has none."""
  if info.vocabulary is None:
    return ord('\n')
  return info.vocabulary.index('\n') if '\n' in info.vocabulary else 0


def encode(text: str | bytes, info: Info, where: str) -> Int[np.ndarray, ' n']:
  """Token ids (int32) of a text, or of one in UTF-8; where tokens are bytes, of any bytes.

  Raises:
    ConfigError: bytes which are not UTF-8, or something that the vocabulary does not have; an '<unk>' in it stands
      for any word. The line begins with `where`.
  """
  if info.vocabulary is None:
    return np.frombuffer(text.encode() if isinstance(text, str) else text, np.uint8).astype(np.int32)
  if isinstance(text, bytes):
    try:
      text = text.decode()
    except UnicodeDecodeError as e:
      raise ConfigError(f'{where}: not UTF-8 text, which this vocabulary is for') from e
  index = {token: i for i, token in enumerate(info.vocabulary)}
  letters = by_character(info)
  pieces = text if letters else text.split()
  unknown = index.get('<unk>', -1)
  ids = np.fromiter((index.get(p, unknown) for p in pieces), np.int32, len(pieces))
  if (ids < 0).any():
    at = int((ids < 0).argmax())
    kind = 'character' if letters else 'word'
    raise ConfigError(f'{where}: {kind} {at + 1}, {pieces[at]!r}, is not in the vocabulary of {len(index)} tokens')
  return ids


def decode(tokens: Int[np.ndarray, ' n'], info: Info) -> str:
  """The text of token ids; bytes which are no UTF-8 become U+FFFD."""
  if info.vocabulary is None:
    return bytes(int(t) for t in tokens if 0 <= t < 256).decode('utf-8', errors='replace')
  return ('' if by_character(info) else ' ').join(info.vocabulary[t] for t in tokens if t >= 0)
