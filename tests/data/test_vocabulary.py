"""Text to tokens and back, for bytes, characters and words."""

import numpy as np
import pytest

from dl.contract.info import Info
from dl.data.tokenizers.vocabulary import beginning, by_character, decode, encode
from dl.errors import ConfigError

BYTES = Info(vocab_size=256)
LETTERS = Info(vocab_size=3, vocabulary=('a', 'ż', '\n'))
WORDS = Info(vocab_size=2, vocabulary=('the', 'cat'))
LINES = Info(vocab_size=3, vocabulary=('the', 'cat', '<eos>'))
ANY_WORDS = Info(vocab_size=3, vocabulary=('the', 'cat', '<unk>'))


@pytest.mark.parametrize(
  ('info', 'text', 'ids'),
  [
    (BYTES, 'é\n', [0xC3, 0xA9, 10]),
    (LETTERS, 'aż\n', [0, 1, 2]),
    (WORDS, 'cat the', [1, 0]),
    (WORDS, '', []),
    (LINES, '\n\nthe cat\n\n\ncat\n', [2, 2, 0, 1, 2, 2, 2, 1, 2]),
    (LINES, 'the\ncat', [0, 2, 1]),
  ],
)
def test_there_and_back(info, text, ids):
  for given in (text, text.encode()):
    tokens = encode(given, info, 'x')
    assert tokens.tolist() == ids and tokens.dtype == np.int32
  assert decode(np.array([*ids, -1]), info) == text


def test_what_is_not_text():
  assert encode(b'\xff', BYTES, 'x').tolist() == [255]
  assert decode(np.array([0xC3, 0xA9, 0xC3, 97]), BYTES) == 'é\ufffda'
  with pytest.raises(ConfigError, match='x: not UTF-8'):
    encode(b'\xff', LETTERS, 'x')


def test_what_the_vocabulary_lacks():
  with pytest.raises(ConfigError, match="prompt: character 2, 'c', is not in the vocabulary of 3 tokens"):
    encode('ac', LETTERS, 'prompt')
  with pytest.raises(ConfigError, match="x: word 3, 'dog', is not in the vocabulary of 2 tokens"):
    encode(b'the\ncat dog', WORDS, 'x')
  assert encode('the  dog', ANY_WORDS, 'x').tolist() == [0, 2]


def test_facts_of_a_vocabulary():
  assert [beginning(i) for i in (BYTES, LETTERS, WORDS)] == [10, 2, 0]
  assert [by_character(i) for i in (BYTES, LETTERS, WORDS)] == [True, True, False]
