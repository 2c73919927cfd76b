"""Sentences with a tag a word, in columns (CoNLL): a line a word, a blank line between sentences."""

import collections
import dataclasses
import pathlib
import re
from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Int

from dl.config.bounds import BelowOne, Count, Seed, Size, Whole
from dl.contract.info import Info
from dl.data import files, splits
from dl.data.source import Arrays
from dl.data.tokenizers.learned import frequent
from dl.data.tokenizers.vocabulary import UNKNOWN, UNKNOWN_CHARACTER, index_of
from dl.errors import ConfigError

SUFFIXES = ('.tsv', '.conll', '.bio', '.iob', '.iob2')
"""Endings of files in which `dl.predict` looks for columns; the lines of others are sentences."""

OUTSIDE = 'O'


@dataclasses.dataclass(frozen=True, kw_only=True)
class Columns:
  """What of a line is what.

  Attributes:
    word: number of the column of the words, from 0, or from -1 for the last.
    tag: that of the tags.
  """

  word: Whole = 0
  tag: Whole = -1


@dataclasses.dataclass(frozen=True)
class Sentence:
  """Words and their tags, and the number of the line of the first."""

  words: list[str]
  tags: list[str]
  line: Count


class Conll(Arrays):
  """Sentences as `words` [n, 1 + characters], and `tags` [n]: O, B-X of the first word of a span, I-X of its others.

  The first id of a word is that in the vocabulary, the others are those of its characters; -1 is what pads shorter
  words and sentences. Tags are numbered from O on, by their names.

  The class cuts the data itself, since the vocabulary is that of the training part.

  Attributes:
    paths: file and line of each sentence.
  """

  def __init__(
    self,
    path: str | dict,
    split: str = 'train',
    *,
    word: Whole = 0,
    tag: Whole = -1,
    lowercase: bool = False,
    digits: bool = False,
    min_count: Size = 1,
    size: Size | None = None,
    characters: Count = 20,
    length: Size | None = None,
    test: BelowOne | Count = 0.2,
    validation: BelowOne | Count = 0.0,
    split_seed: Seed = 0,
  ):
    """Reads the files.

    Args:
      path: a file; or a dict of split -> file, of a set that comes in parts.
      split: 'train', 'validation', 'test' or 'all'.
      word: number of the column of the words, from 0, or from -1 for the last; columns are apart by tabs or spaces.
      tag: that of the tags.
      lowercase: whether words are looked up without capitals; their characters have them.
      digits: whether every digit of a word is looked up as 0; its characters are what they are.
      min_count: how often a word or character is in the training part at least; others are unknown.
      size: the most words, the unknown one among them; None for no limit.
      characters: the most of a word that are read; 0 for the words alone.
      length: the most words of a sentence to learn from, which is cut behind them; None for all. Sentences of other
        parts are whole.
      test: size of the test part, a share or a number of the sentences; unused where `path` names the parts.
      validation: size of the validation part; of a set that comes in parts without one, a share of its training part.
      split_seed: of the shuffle which decides; it is not the run's seed.

    Raises:
      ConfigError: an unreadable file, a line without the columns, or tags which are not O, B-X and I-X in order.
    """
    where = Columns(word=word, tag=tag)
    paths = files.by_split(path) if isinstance(path, dict) else {'train': path}
    read_of = {name: list(read(one, where, tagged=True)) for name, one in paths.items()}
    sentences = [sentence for found in read_of.values() for sentence in found]
    places = [f'{paths[name]}, line {s.line}' for name, found in read_of.items() for s in found]
    given = splits.ranges({name: len(found) for name, found in read_of.items()})
    rules = dict(seed=split_seed, test=test, validation=validation)
    index, trained = splits.choose(split, len(sentences), None, given if isinstance(path, dict) else None, **rules)
    learned = [sentences[i] for i in trained]
    tags = sorted({tag for s in learned for tag in s.tags} - {OUTSIDE})
    names = (OUTSIDE, *tags)
    info = Info(
      num_classes=len(names),
      class_names=names,
      more=tuple(
        (name, value)
        for name, value in (
          ('columns_of_words', tuple(dataclasses.asdict(where).items())),
          ('lowercase', lowercase),
          ('digits', digits),
        )
        if value
      ),
    )
    counts = collections.Counter(looked_up(word, info) for s in learned for word in s.words)
    of_letters = collections.Counter(letter for s in learned for word in s.words for letter in word)
    vocabulary = frequent(counts, UNKNOWN, min_count, size)
    letters = frequent(of_letters, UNKNOWN_CHARACTER, min_count, None) if characters else None
    facts = {'vocab_size': len(vocabulary), 'vocabulary': vocabulary, 'characters': letters}
    info = info.completed({k: v for k, v in facts.items() if v} | {'most_characters': characters})
    wanted = [sentences[i] for i in index]
    longest = max(len(s.words) for s in wanted)
    longest = min(longest, length) if split == 'train' and length else longest
    number = {name: i for i, name in enumerate(names)}
    labels = np.full((len(wanted), longest), -1, np.int32)
    for row, s, i in zip(labels, wanted, index, strict=True):
      for t, tag in enumerate(s.tags[:longest]):
        if tag not in number:
          raise ConfigError(f'{places[i]}: no sentence of the training part has the tag {tag!r}, as word {t + 1} has')
        row[t] = number[tag]
    words = np.stack([encode(s.words[:longest], info, longest) for s in wanted])
    super().__init__({'words': words, 'tags': labels}, info)
    self.paths = [places[i] for i in index]


def read(path: str | pathlib.Path, where: Columns, tagged: bool = False) -> Iterator[Sentence]:
  """The sentences of a file; lines that begin with -DOCSTART- are left out.

  Args:
    path: of the file.
    where: the columns.
    tagged: whether tags are wanted, and checked.

  Raises:
    ConfigError: no such file, not UTF-8, no words, a line without the columns, or with a tag which cannot be there.
  """
  try:
    content = files.existing(path).read_bytes().decode('utf-8-sig')
  except (OSError, UnicodeDecodeError) as e:
    raise ConfigError(f'{path} cannot be read as UTF-8 text') from e
  sentence, found = Sentence([], [], 1), False
  for number, line in enumerate((*content.split('\n'), ''), 1):
    cells = line.rstrip('\r').split('\t') if '\t' in line else line.split()
    if not any(cell.strip() for cell in cells) or cells[0] == '-DOCSTART-':
      if sentence.words:
        yield sentence
      sentence = Sentence([], [], number + 1)
      continue
    found = True
    sentence.words.append(_cell(cells, where.word, path, number))
    if tagged:
      tag = _cell(cells, where.tag, path, number)
      _check(tag, sentence.tags[-1] if sentence.tags else None, f'{path}, line {number}')
      sentence.tags.append(tag)
  if not found:
    raise ConfigError(f'{path} has no words')


def looked_up(word: str, info: Info) -> str:
  """A word as it stands in the vocabulary."""
  word = word.lower() if info.fact('lowercase') else word
  return re.sub(r'\d', '0', word) if info.fact('digits') else word


def encode(words: Sequence[str], info: Info, length: int) -> Int[np.ndarray, 'n ids']:
  """The ids of words and their characters, of a sentence padded to `length`."""
  vocabulary, letters, most = info.vocabulary, info.fact('characters'), info.fact('most_characters') or 0
  ids = np.full((length, 1 + most), -1, np.int32)
  of_word = index_of(vocabulary)
  of_letter = index_of(letters) if letters else {}
  for row, word in zip(ids, words, strict=False):
    row[0] = of_word.get(looked_up(word, info), of_word[UNKNOWN])
    for place, letter in enumerate(word[:most], 1):
      row[place] = of_letter.get(letter, of_letter[UNKNOWN_CHARACTER])
  return ids


def _cell(cells: Sequence[str], column: int, path: str | pathlib.Path, number: int) -> str:
  if not -len(cells) <= column < len(cells) or not cells[column].strip():
    raise ConfigError(f'{path}, line {number}: there is no column {column}, of {len(cells)}')
  return cells[column].strip()


def _check(tag: str, before: str | None, place: str) -> None:
  """Raises ConfigError for a tag that cannot come after another one, or at the beginning of a sentence."""
  if tag == OUTSIDE or (tag.startswith('B-') and len(tag) > 2):
    return
  if not tag.startswith('I-') or len(tag) < 3:
    raise ConfigError(f'{place}: the tag is {tag!r}; tags are O, B-NAME of the first word of a span, and I-NAME')
  if before is None or before[2:] != tag[2:]:
    after = 'begins a sentence' if before is None else f'comes after {before}'
    raise ConfigError(f'{place}: {tag} {after}; a span begins with B-{tag[2:]}')
