"""Texts with labels, in tables (CSV and TSV) and JSON: a row a text."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from dl.config.bounds import BelowOne, Count, Seed, Size
from dl.contract.info import Info
from dl.data import rows, splits, statistics
from dl.data.rows import Column
from dl.data.source import Arrays
from dl.data.tokenizers.learned import with_vocabulary
from dl.data.tokenizers.vocabulary import encoder, pad
from dl.errors import ConfigError


class Labelled(Arrays):
  """Texts as `tokens` [length], and the `label` of each.

  Between tabs a cell is what it is; elsewhere quotes hold cells together, as in any CSV. JSON is a list of rows, or of
  objects whose keys are the columns; a .jsonl has one a line. A shorter text ends in tokens of -1.

  The class cuts the data itself, since the vocabulary is that of the training part.

  Attributes:
    paths: file and row of each text.
  """

  def __init__(
    self,
    path: str | dict,
    split: str = 'train',
    *,
    text: Column = 'text',
    label: Column = 'label',
    header: bool = True,
    delimiter: str | None = None,
    vocabulary: str | Mapping[str, Any] = 'words',
    lowercase: bool = False,
    punctuation: bool = True,
    min_count: Size = 1,
    size: Size | None = None,
    length: Size | None = None,
    test: BelowOne | Count = 0.2,
    validation: BelowOne | Count = 0.0,
    stratify: bool = True,
    split_seed: Seed = 0,
  ):
    """Reads the files.

    Args:
      path: a file; FILE.json:NAME for the list of that name in it; or a dict of split -> such a path, or a list of
        them, of a set that comes in parts.
      split: 'train', 'validation', 'test', 'all', or another name in `path`.
      text: the column of the texts, by its name or its number.
      label: the column of the classes, likewise; they are numbered in the order of their names.
      header: False where the first row of a table is data; then columns have numbers alone.
      delimiter: what separates two cells; None for a comma in a .csv, and a tab in others.
      vocabulary: what a token is: one of the 'words' or 'characters' of the training part, the most frequent first,
        with one more for any other; one of the 'bytes' of UTF-8; or of subwords (`dl.data.sources.text.TextFiles`),
        also of those of another run, by its folder.
      lowercase: whether capitals become small letters.
      punctuation: whether signs are words of their own; otherwise a word is what stands between spaces.
      min_count: how often a word or character is in the training part at least; others are unknown.
      size: the most words or characters, the unknown one among them; None for no limit.
      length: the most tokens of a text, which is cut behind them; None for the longest text of all.
      test: size of the test part, a share or a number; unused where `path` names the parts.
      validation: size of the validation part; of a set that comes in parts without one, a share of its training part.
      stratify: whether each part has the classes' shares.
      split_seed: of the shuffle which decides; it is not the run's seed.

    Raises:
      ConfigError: an unreadable file, a missing column, an empty text, or a class without an example to learn from.
    """
    where = rows.Format(text=text, header=header, delimiter=delimiter)
    found, given = rows.collect(rows.by_split(path), lambda one: rows.read(one, where, label))
    labels, classes = statistics.encode_labels([row.label for row in found])
    rules = dict(seed=split_seed, test=test, validation=validation, stratify=stratify, names=classes)
    parts = given if isinstance(path, dict) else None
    index, trained = splits.choose(split, len(found), labels, parts, **rules)
    lacking = np.setdiff1d(np.arange(len(classes)), labels[trained])
    if len(lacking):
      first = int(np.argmax(labels == lacking[0]))
      raise ConfigError(f'{found[first].place}: there is no text of the class {classes[lacking[0]]!r} to learn from')
    facts = {'texts': where.facts(), 'lowercase': lowercase}
    facts['punctuation'] = punctuation and vocabulary == 'words'
    info = Info(
      class_names=classes,
      target_name=label if isinstance(label, str) else None,
      more=tuple((name, value) for name, value in facts.items() if value),
    )
    info = with_vocabulary(info, vocabulary, [found[i].text for i in trained], min_count, size)
    tokens_of = encoder(info)
    encoded = [tokens_of(row.text, row.place) for row in found]
    for row, tokens in zip(found, encoded, strict=True):
      if not len(tokens):
        raise ConfigError(f'{row.place}: the text is empty; leave it out')
    length = length or max(map(len, encoded))
    info = statistics.complete(info.completed({'length': length}), {'label': labels[trained]})
    super().__init__({'tokens': pad([encoded[i] for i in index], length), 'label': labels[index]}, info)
    self.paths = [found[i].place for i in index]
