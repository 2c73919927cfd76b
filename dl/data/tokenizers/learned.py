"""The vocabulary of texts: what a config asks for, learned from those of the training part."""

import collections
from collections.abc import Mapping, Sequence
from typing import Any

from dl.contract.info import Info
from dl.data.tokenizers import subwords
from dl.data.tokenizers.vocabulary import EOS, UNKNOWN, UNKNOWN_CHARACTER, prepared

VOCABULARIES = ('words', 'characters', 'bytes')


def with_vocabulary(
  info: Info,
  vocabulary: str | Mapping[str, Any],
  texts: Sequence[str],
  min_count: int = 1,
  size: int | None = None,
  ends: bool = False,
) -> Info:
  """The facts, with the vocabulary of texts.

  Args:
    info: what is known of the texts (`dl.data.tokenizers.vocabulary.prepared`).
    vocabulary: one of `VOCABULARIES`, the path of a tokenizer, or a dict for `dl.data.tokenizers.subwords.learn`.
    texts: those of the training part.
    min_count: how often a word or character is in them at least.
    size: the most words or characters.
    ends: whether texts end in a token of their own (`dl.data.tokenizers.vocabulary.beginning`), which words or
      characters then have first.
  """
  if vocabulary == 'bytes':
    return info.completed({'vocab_size': 256})
  texts = [prepared(text, info) for text in texts]
  if vocabulary in ('words', 'characters'):
    of_words = vocabulary == 'words'
    counts = collections.Counter(token for text in texts for token in (text.split() if of_words else text))
    if ends:
      counts[EOS if of_words else '\n'] = counts.total() + min_count
    named = frequent(counts, UNKNOWN if of_words else UNKNOWN_CHARACTER, min_count, size)
    return info.completed({'vocab_size': len(named), 'vocabulary': named})
  return info.completed(subwords.of_config(vocabulary, texts, VOCABULARIES))


def frequent(counts: Mapping[str, int], unknown: str, min_count: int, size: int | None) -> tuple[str, ...]:
  """The vocabulary of what is counted, the most frequent first, and what stands for any other at the end."""
  known = [token for token, count in counts.items() if count >= min_count and token != unknown]
  known.sort(key=lambda token: (-counts[token], token))
  return (*known[: None if size is None else size - 1], unknown)
