"""Pairs of texts, a source and its target: translations, commands and actions, facts and sentences."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from jaxtyping import Int, UInt8

from dl.config.bounds import BelowOne, Count, Seed, Size
from dl.contract.info import Info
from dl.contract.kinds import TOKENS
from dl.data import buckets as bucketing
from dl.data import rows, splits
from dl.data.rows import Column, Row
from dl.data.source import Arrays
from dl.data.tokenizers.learned import VOCABULARIES, with_vocabulary
from dl.data.tokenizers.vocabulary import beginning, encoder, pad
from dl.errors import ConfigError, nearest

TooLong = Literal['stop', 'drop', 'cut']
Tokens = Int[np.ndarray, ' n']


class Pairs(Arrays):
  """Pairs of texts as `source` [length] and `target_tokens` [target_length + 1], which ends in a token that says so.

  That token is `dl.data.tokenizers.vocabulary.beginning`: '<eos>' of words, an end of line of characters and bytes. A
  shorter text ends in tokens of -1.

  The class cuts the data itself, since the vocabulary is that of the training part. Pairs of equal sources stay in one
  part, where the files do not say otherwise.

  Attributes:
    paths: file and row of each pair.
    buckets: where a config names some: `dl.data.buckets`; examples are then in their order.
  """

  kinds = {'source': TOKENS}

  def __init__(
    self,
    path: str | dict,
    split: str = 'train',
    *,
    target_path: str | dict | None = None,
    source: Column = 'source',
    target: Column = 'target',
    header: bool = True,
    delimiter: str | None = None,
    pattern: str | None = None,
    vocabulary: str | Mapping[str, Any] = 'words',
    target_vocabulary: str | Mapping[str, Any] | None = None,
    lowercase: bool = False,
    punctuation: bool = True,
    min_count: Size = 1,
    size: Size | None = None,
    length: Size | None = None,
    target_length: Size | None = None,
    too_long: TooLong = 'stop',
    buckets: tuple[Size | tuple[Size, Size], ...] = (),
    references: bool = False,
    test: BelowOne | Count = 0.0,
    validation: BelowOne | Count = 0.0,
    split_seed: Seed = 0,
  ):
    """Reads the files.

    Args:
      path: a file (`dl.data.rows.read`), or a dict of split -> such a path, or a list of them.
      split: 'train', 'validation', 'test', 'all', or another name in `path`.
      target_path: where the targets are in files of their own, a line each beside that of the source: likewise.
      source: the column of the sources, by its name or its number.
      target: the column of the targets.
      header: False where the first row of a table is data; then columns have numbers alone.
      delimiter: what separates two cells; None for a comma in a .csv, and a tab in others.
      pattern: a regular expression that fits each line, with a named group for each column:
        r'IN: (?P<source>.*) OUT: (?P<target>.*)'.
      vocabulary: what a token is, as of `dl.data.sources.texts.Labelled`; of both sides, or of the source alone.
      target_vocabulary: likewise of the target, where it has a vocabulary of its own.
      lowercase: whether capitals become small letters.
      punctuation: whether signs are words of their own; otherwise a word is what stands between spaces.
      min_count: how often a word or character is in the training part at least; others are unknown.
      size: the most words or characters of a vocabulary; None for no limit.
      length: the most tokens of a source; None for the longest of all.
      target_length: the most tokens of a target, before the one that ends it; None for the longest of all.
      too_long: what to do about a pair with more: 'stop' says which it is, 'drop' leaves it out, 'cut' cuts it.
      buckets: lengths, ascending, of which each holds the pairs that no smaller one holds, both sides with the token
        that ends them; (20, 30) for 20 of a source and 30 of a target. The last one, with room for all, adds itself.
      references: whether pairs of one source are one example, of the first target, with the texts of all of them as
        UTF-8 in `references` [targets, bytes], zeros behind the end: for `dl.evaluators.decoded`.
      test: size of the test part, a share or a number of the different sources; unused where `path` names the parts.
      validation: size of the validation part; of a set that comes in parts without one, a share of its training part.
      split_seed: of the shuffle which decides; it is not the run's seed.

    Raises:
      ConfigError: an unreadable file, a missing column, a pair without a side, or one that is too long.
    """
    if too_long not in (known := ('stop', 'drop', 'cut')):
      raise ConfigError(f'too_long: there is no {too_long!r}; {nearest(too_long, known)}')
    where = rows.Format(text=source, header=header, delimiter=delimiter, pattern=pattern)
    files, beside = rows.by_split(path), target_path and rows.by_split(target_path, 'target_path')
    if beside and {name: len(one) for name, one in beside.items()} != {name: len(one) for name, one in files.items()}:
      raise ConfigError('target_path: needs a file for each of those in path')
    if beside:
      both = {name: list(zip(one, beside[name], strict=True)) for name, one in files.items()}
      found, given = rows.collect(both, lambda pair: _parallel(*pair))
    else:
      found, given = rows.collect(files, lambda one: rows.read(one, where, target))
    for row in found:
      if not row.text.strip() or not row.label.strip():
        side = 'target' if row.text.strip() else 'source'
        raise ConfigError(f'{row.place}: the pair has no {side}; leave it out')
    rules = dict(seed=split_seed, test=test, validation=validation)
    index, trained = _cut(split, [row.text for row in found], given if isinstance(path, Mapping) else None, rules)
    words = (vocabulary, target_vocabulary, min_count, size)
    info = _facts([found[i] for i in trained], where, *words, lowercase, punctuation)
    looked = range(len(found)) if length is None or target_length is None else index
    sides = _encoded(found, looked, info)
    longest = [max(len(sides[i][side]) for i in looked) for side in (0, 1)]
    room = [length or longest[0], longest[1] if target_length is None else target_length + 1]
    fits = {i: all(len(tokens) <= most for tokens, most in zip(sides[i], room, strict=True)) for i in index}
    if too_long == 'stop' and not all(fits.values()):
      i = next(i for i in index if not fits[i])
      counts = f'{len(sides[i][0])} tokens of the source and {len(sides[i][1])} of the target, with its end'
      raise ConfigError(
        f'{found[i].place}: has {counts}, where there is room for {room[0]} and {room[1]}; raise length and '
        "target_length, or set too_long='drop' or 'cut'"
      )
    chosen = [int(i) for i in index if fits[i] or too_long == 'cut']
    if not chosen:
      raise ConfigError('length: no pair is short enough')
    self.info = info.completed({'target_length': room[1] - 1})
    end = beginning(self.info.of_targets())
    short = lambda i: (sides[i][0][: room[0]], np.append(sides[i][1][:-1][: room[1] - 1], np.int32(end)))
    texts = {i: short(i) for i in chosen}
    groups = _groups([found[i].text for i in chosen], chosen) if references else [[i] for i in chosen]
    self.buckets = None
    if buckets:
      lengths = _rooms(buckets, room)
      sizes = {name: np.array([len(texts[g[0]][side]) for g in groups]) for side, name in enumerate(lengths[0])}
      of = bucketing.by_length(sizes, lengths)
      order = np.argsort(of.of, kind='stable')
      groups, self.buckets = [groups[i] for i in order], of.take(order)
    columns = {
      'source': pad([texts[group[0]][0] for group in groups], room[0]),
      'target_tokens': pad([texts[group[0]][1] for group in groups], room[1]),
    }
    if references:
      columns['references'] = _bytes([[found[i].label for i in group] for group in groups])
    super().__init__(columns, self.info)
    self.paths = [found[group[0]].place for group in groups]


def _parallel(path: str, other: str) -> list[Row]:
  """Rows of a file of sources and one of targets, a line each."""
  lines, beside = ((rows.contents(one).removesuffix('\n')).split('\n') for one in (path, other))
  if len(lines) != len(beside):
    raise ConfigError(f'{path} has {len(lines):,} lines, and {other} {len(beside):,}: the pairs cannot be told')
  return [Row(a.strip(), b.strip(), f'{path}, row {i}') for i, (a, b) in enumerate(zip(lines, beside, strict=True), 1)]


def _cut(
  split: str, sources: Sequence[str], given: Mapping[str, Tokens] | None, rules: Mapping[str, Any]
) -> tuple[Tokens, Tokens]:
  """(indices of a split, indices of the training part); equal sources stay together where it is cut here."""
  members = lambda which, of, among: among[np.isin(of, which)]
  number = np.unique(np.asarray(sources, object), return_inverse=True)[1]
  if given is None:
    units = np.unique(number)
    chosen = splits.choose(split, len(units), None, None, **rules)
    return tuple(members(which, number, np.arange(len(number))) for which in chosen)
  if 'validation' not in given and rules['validation']:
    train, seed = given['train'], rules['seed']
    units = np.unique(number[train])
    cut = lambda name: splits.select(name, len(units), seed=seed, test=0, validation=rules['validation'])
    given = dict(given) | {name: members(units[cut(name)], number[train], train) for name in ('train', 'validation')}
  return splits.choose(split, len(number), None, given, seed=rules['seed'], test=0)


def _facts(
  trained: Sequence[Row],
  where: rows.Format,
  vocabulary: str | Mapping[str, Any],
  target_vocabulary: str | Mapping[str, Any] | None,
  min_count: int,
  size: int | None,
  lowercase: bool,
  punctuation: bool,
) -> Info:
  """What is known of the data from its training part: the vocabularies, and how new texts are read."""
  apart = punctuation and 'words' in (vocabulary, target_vocabulary)
  facts = {'texts': where.facts(), 'lowercase': lowercase, 'punctuation': apart}
  base = Info(more=tuple((name, value) for name, value in facts.items() if value))
  learn = lambda of, *sides: with_vocabulary(
    base, of, [getattr(row, side) for row in trained for side in sides], min_count, size, ends=True
  )
  if target_vocabulary is None:
    return learn(vocabulary, 'text', 'label')
  of_target = learn(target_vocabulary, 'label')
  if of_target.tokenizer is not None:
    raise ConfigError(
      f'target_vocabulary: subwords are of both sides, as vocabulary; of one side there are {", ".join(VOCABULARIES)}'
    )
  own = {'target_vocab_size': of_target.vocab_size, 'target_vocabulary': of_target.vocabulary}
  return learn(vocabulary, 'text').completed({name: value for name, value in own.items() if value is not None})


def _encoded(found: Sequence[Row], which: Sequence[int], info: Info) -> dict[int, tuple[Tokens, Tokens]]:
  """Number of a row -> tokens of its source, and of its target with one more for its end."""
  of_source, of_target, texts = encoder(info), encoder(info.of_targets()), {}
  end = beginning(info.of_targets())
  for i in map(int, which):
    row = found[i]
    sides = of_source(row.text, row.place), of_target(row.label, row.place)
    if (sides[1] == end).any():
      raise ConfigError(f'{row.place}: the target holds the token that ends it, in its middle; leave that out')
    if not all(map(len, sides)):
      raise ConfigError(f'{row.place}: the pair has no token of its {"target" if len(sides[0]) else "source"}')
    texts[i] = sides[0], np.append(sides[1], np.int32(end))
  return texts


def _groups(sources: Sequence[str], numbers: Sequence[int]) -> list[list[int]]:
  """The numbers of equal sources together, in order of their first."""
  groups: dict[str, list[int]] = {}
  for text, number in zip(sources, numbers, strict=True):
    groups.setdefault(text, []).append(number)
  return list(groups.values())


def _rooms(buckets: Sequence[int | Sequence[int]], room: Sequence[int]) -> list[dict[str, int]]:
  """Bucket -> column -> its length, up to one with room for all."""
  both = [(b, b) if isinstance(b, int) else tuple(b) for b in buckets]
  if sorted(set(both)) != both or any(len(b) != 2 for b in both) or sorted(b[1] for b in both) != [b[1] for b in both]:
    raise ConfigError(f'buckets: expected lengths, or pairs of two, ascending, got {tuple(buckets)}')
  shapes = dict.fromkeys((min(a, room[0]), min(b, room[1])) for a, b in (*both, tuple(room)))
  return [{'source': a, 'target_tokens': b} for a, b in shapes]


def _bytes(texts: Sequence[Sequence[str]]) -> UInt8[np.ndarray, 'n targets bytes']:
  """Texts as UTF-8, zeros behind the end of each, and for those that an example has not."""
  encoded = [[text.encode() for text in of] for of in texts]
  most = max(map(len, encoded)), max(len(text) for of in encoded for text in of)
  joined = np.zeros((len(encoded), *most), np.uint8)
  for row, of in zip(joined, encoded, strict=True):
    for place, text in zip(row, of, strict=False):
      place[: len(text)] = np.frombuffer(text, np.uint8)
  return joined
