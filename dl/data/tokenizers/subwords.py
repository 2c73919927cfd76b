"""Subword tokenizers of the library `tokenizers`: byte-level BPE, WordPiece and Unigram, learned or read from a file.

A tokenizer is its JSON, as in the file `tokenizer.json` that Hugging Face's libraries read and write: plain text, which
a run keeps beside its checkpoints.
"""

import functools
import json
import os
import pathlib
import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int

from dl.config.bounds import Size as Bounded
from dl.config.bounds import problem
from dl.errors import ConfigError, first_line, nearest

KINDS = ('bpe', 'wordpiece', 'unigram')
END = '<|endoftext|>'
"""A token that stands between texts, and for an empty prompt."""


def learn(texts: Sequence[str], kind: str, size: int = 4096, lowercase: bool = False) -> str:
  """The JSON of a tokenizer which is learned from texts.

  Args:
    texts: what to learn from; the training part alone.
    kind: 'bpe', pairs of bytes joined by how often they follow each other (arXiv 1508.07909), which can write any
      text; 'wordpiece', as BERT's (arXiv 1810.04805); or 'unigram', pieces of the likeliest split (arXiv 1804.10959),
      which are not quite the same when they are learned again.
    size: how many tokens there are to be; a short text may give fewer.
    lowercase: whether capital letters are made small first.

  Raises:
    ConfigError: an unknown kind, a size out of range, or the package is missing.
  """
  library = _library()
  if kind not in KINDS:
    raise ConfigError(f'vocabulary.name: there is no {kind!r}; {nearest(kind, KINDS)}')
  if wrong := problem(size, Bounded):
    raise ConfigError(f'vocabulary.size: {wrong}')
  normalizers, pre, decoders = library.normalizers, library.pre_tokenizers, library.decoders
  common = dict(vocab_size=size, show_progress=False)
  if kind == 'bpe':
    new = library.Tokenizer(library.models.BPE())
    new.pre_tokenizer, new.decoder = pre.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = sorted(pre.ByteLevel.alphabet())
    trainer = library.trainers.BpeTrainer(special_tokens=[END], initial_alphabet=alphabet, **common)
  elif kind == 'wordpiece':
    new = library.Tokenizer(library.models.WordPiece(unk_token='<unk>'))
    new.pre_tokenizer, new.decoder = pre.BertPreTokenizer(), decoders.WordPiece()
    # The library counts in an order of chance: named first, the characters inside of words have ids all the same.
    letters = sorted({c for text in texts for c in (text.lower() if lowercase else text)})
    inside = [f'##{letter}' for letter in letters if not letter.isspace()]
    special = ['<unk>', END, '[MASK]', *inside]
    trainer = library.trainers.WordPieceTrainer(special_tokens=special, initial_alphabet=letters, **common)
  else:
    new = library.Tokenizer(library.models.Unigram())
    new.pre_tokenizer, new.decoder = pre.Metaspace(), decoders.Metaspace()
    trainer = library.trainers.UnigramTrainer(special_tokens=['<unk>', END], unk_token='<unk>', **common)
  if lowercase:
    new.normalizer = normalizers.Lowercase()
  threads = os.environ.get('TOKENIZERS_PARALLELISM')
  os.environ['TOKENIZERS_PARALLELISM'] = 'false'  # sums of threads would depend on their order
  try:
    new.train_from_iterator(texts, trainer)
  finally:
    os.environ.pop('TOKENIZERS_PARALLELISM') if threads is None else os.environ.update(TOKENIZERS_PARALLELISM=threads)
  if kind != 'wordpiece':
    return new.to_str()
  parts = json.loads(new.to_str())  # '##e' in a text is no such character
  parts['added_tokens'] = [token for token in parts['added_tokens'] if token['content'] not in inside]
  return json.dumps(parts, ensure_ascii=False)


def read(path: str) -> str:
  """The JSON in a file `tokenizer.json`, or in the folder that holds one; raises ConfigError if it is none."""
  file = pathlib.Path(path).expanduser()
  file = file / 'tokenizer.json' if file.is_dir() else file
  try:
    text = file.read_text(encoding='utf-8')
  except (OSError, UnicodeDecodeError) as e:
    raise ConfigError(f'vocabulary: {file} cannot be read: {first_line(e)}') from e
  parse(text, str(file))
  return text


def of_config(vocabulary: str | Mapping[str, Any], texts: Sequence[str], others: Sequence[str]) -> dict[str, Any]:
  """`vocab_size` and `tokenizer`, facts of the data, of what a config asks for.

  Args:
    vocabulary: dict(name=..., **arguments of `learn`), or the path of a tokenizer.
    texts: what to learn from.
    others: names of vocabularies that the source has besides.

  Raises:
    ConfigError: no such vocabulary, or one that cannot be learned or read.
  """
  if isinstance(vocabulary, str):
    if not vocabulary.endswith('.json') and not pathlib.Path(vocabulary).exists():
      raise ConfigError(f'vocabulary: there is no {vocabulary!r}; {nearest(vocabulary, others)}, or a path of one')
    return _facts(read(vocabulary))
  arguments = dict(vocabulary)
  kind = arguments.pop('name', None)
  if unknown := sorted(arguments.keys() - {'size', 'lowercase'}):
    raise ConfigError(f'vocabulary.{unknown[0]}: there is no such argument; there are name, size and lowercase')
  if kind == 'unigram':
    raise ConfigError(
      "vocabulary.name: the library learns 'unigram' a little differently each time, so that a run could not go on; "
      'write the JSON of dl.data.tokenizers.subwords.learn to a file once, and name that'
    )
  return _facts(learn(texts, str(kind), **arguments))


def _facts(text: str) -> dict[str, Any]:
  return {'vocab_size': size(text), 'tokenizer': text}


def size(text: str) -> int:
  """How many tokens there are."""
  return parse(text).get_vocab_size()


def encode(content: str, text: str, where: str) -> Int[np.ndarray, ' n']:
  """Token ids (int32); raises ConfigError for what the tokenizer has no token for."""
  tokenizer = parse(text)
  try:
    encoded = tokenizer.encode(content, add_special_tokens=False)
  except Exception as e:  # the library has no types of its own
    raise ConfigError(f'{where}: the tokenizer cannot encode this: {first_line(e)}') from e
  if _leaves_out(text) and (word := _left_out(content, encoded.offsets)) is not None:
    raise ConfigError(f'{where}: the tokenizer has no token for a part of {word!r}, and none for the unknown')
  return np.asarray(encoded.ids, np.int32)


@functools.lru_cache(maxsize=8)
def _leaves_out(text: str) -> bool:
  """Whether a tokenizer has no tokens for some characters, nor one for the unknown: BPE then says nothing of them."""
  model = json.loads(text)['model']
  if model['type'] != 'BPE' or model.get('unk_token') is not None or model.get('byte_fallback'):
    return False
  return '"ByteLevel"' not in text or not set(_library().pre_tokenizers.ByteLevel.alphabet()) <= model['vocab'].keys()


def _left_out(content: str, offsets: Sequence[tuple[int, int]]) -> str | None:
  """The first word with a character which no token is of, but for marks and controls; None if there is none."""
  change = np.zeros(len(content) + 1, np.int64)
  for at, sign in ((0, 1), (1, -1)):
    np.add.at(change, [offset[at] for offset in offsets], sign)
  shown = lambda c: not c.isspace() and unicodedata.category(c)[0] not in 'CM'
  rest = (int(i) for i in np.flatnonzero(np.cumsum(change)[:-1] <= 0))
  first = next((i for i in rest if shown(content[i])), None)
  if first is None:
    return None
  # Within a word, offsets count the characters that are left.
  return re.search(r'\S*$', content[:first])[0] + re.match(r'\S+', content[first:])[0]


def decode(ids: Int[np.ndarray, ' n'], text: str) -> str:
  """The text of token ids; negative ones are padding."""
  return parse(text).decode([int(i) for i in ids if i >= 0], skip_special_tokens=False)


def beginning(text: str) -> int:
  """The token that stands for an empty prompt: the end of a text before it, or of a line, or 0."""
  tokenizer = parse(text)
  ends = [i for i in map(tokenizer.token_to_id, (END, '<s>', '[CLS]', '</s>')) if i is not None]
  return (ends or tokenizer.encode('\n', add_special_tokens=False).ids or [0])[0]


def blank(text: str) -> int | None:
  """The token that hides another, as BERT's or RoBERTa's; None where there is none."""
  token = roles(text).get('mask_token')
  return None if token is None else parse(text).token_to_id(token)


def roles(text: str) -> dict[str, str]:
  """The tokens of a tokenizer that stand for something, by what Hugging Face calls them: 'mask_token', ..."""
  token_to_id = parse(text).token_to_id
  known = {
    'eos_token': (END, '</s>', '[SEP]'),
    'mask_token': ('[MASK]', '<mask>'),
    'unk_token': ('<unk>', '[UNK]'),
  }
  found = {role: next((t for t in tokens if token_to_id(t) is not None), None) for role, tokens in known.items()}
  return {role: token for role, token in found.items() if token is not None}


@functools.lru_cache(maxsize=8)
def parse(text: str, where: str = 'tokenizer') -> Any:
  """The library's tokenizer; raises ConfigError if the text is none."""
  try:
    json.loads(text)
    return _library().Tokenizer.from_str(text)
  except ConfigError:
    raise
  except Exception as e:  # the library has no types of its own
    raise ConfigError(f'{where}: no tokenizer.json of the library tokenizers: {first_line(e)}') from e


def _library() -> Any:
  try:
    import tokenizers
  except ImportError as e:
    raise ConfigError("vocabulary: subwords need the package tokenizers: pip install 'dl[text]'") from e
  return tokenizers
