"""Readers of the files that a trained model predicts from, a class a kind of data."""

import dataclasses
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float, Num

from dl.contract.info import Info
from dl.contract.kinds import Kind
from dl.data import rows, tables
from dl.data.source import standard
from dl.data.sources import arrays, conll, images, text, ucr
from dl.data.tokenizers.vocabulary import encode, pad, signs_apart
from dl.errors import ConfigError

Rows = Iterator[tuple[str, np.ndarray]]


class FileReader:
  """Files to rows: of .npz, which any kind can be read of, and of what a subclass reads.

  Attributes:
    reads: what it reads, for error lines: 'images'.
    suffixes: lower-case endings of its files.
    any_suffix: whether a file that is named may have any other ending.
    by_lines: whether each line of a file can be an input of its own.
  """

  reads: ClassVar[str] = 'arrays'
  suffixes: ClassVar[tuple[str, ...]] = ()
  any_suffix: ClassVar[bool] = False
  by_lines: ClassVar[bool] = False

  def __init__(self, info: Info, column: str, kind: Kind):
    """Keeps the arguments.

    Args:
      info: what the run recorded about its data.
      column: the column of a batch which the model reads.
      kind: what that is.

    Raises:
      ConfigError: `info` lacks what is needed to read files as the training data were read.
    """
    self.info, self.column, self.kind = info, column, kind

  def rows(self, path: pathlib.Path, lines: bool) -> Rows:
    """(name, input as a batch holds it) of each input in a file; raises ConfigError, which names the file."""
    raise ConfigError(f'{path}: the model reads {self.reads}')

  def array(self, values: np.ndarray, where: str) -> Num[np.ndarray, 'n ...']:
    """An array of an .npz as rows of a batch; raises ConfigError, which begins with `where`."""
    return self.fit(standard(self.column, values, self.kind), where)

  def fit(self, values: np.ndarray, where: str) -> Num[np.ndarray, 'n ...']:
    """The rows, if they are what a task's `predict` takes: of kinds alone is decided what the model can read."""
    if wrong := self.kind.unfit(values, self.info):
      raise ConfigError(f'{where}: {wrong}')
    return values

  def join(self, rows: Sequence[np.ndarray]) -> Num[np.ndarray, 'b ...']:
    """Rows as a batch: what the kind makes of them in training, too."""
    return self.kind.join(rows)


class Images(FileReader):
  """Image files: [h, w, c], in bytes, or of an .npz in floats as well."""

  reads = 'images'
  suffixes = images.SUFFIXES

  def __init__(self, info: Info, column: str, kind: Kind):
    super().__init__(info, column, kind)
    if info.image_size is None or info.channels is None:
      raise ConfigError('inputs: the run did not record the size of its images')

  def rows(self, path: pathlib.Path, lines: bool) -> Rows:
    yield str(path), images.read_image(path, self.info.image_size, self.info.channels)

  def array(self, values: np.ndarray, where: str) -> Num[np.ndarray, 'n h w c']:
    if values.ndim not in (3, 4):
      raise ConfigError(f'{where}: expected images [n, h, w, c], got shape {values.shape}')
    values = standard(self.column, values if values.ndim == 4 else values[..., None], self.kind)
    return self.fit(arrays.check_images(values, where), where)


class Features(FileReader):
  """Tables, read as those of the training were, whose columns are found by their names: [f] float32."""

  reads = 'a .csv'
  suffixes = ('.csv', '.tsv', '.txt', '.data', '.dat')

  def __init__(self, info: Info, column: str, kind: Kind):
    super().__init__(info, column, kind)
    if info.mean is None and info.feature_names is None:
      raise ConfigError('inputs: the run did not record its features')

  def rows(self, path: pathlib.Path, lines: bool) -> Rows:
    names = self.info.feature_names
    if names is None:
      raise ConfigError(f'{path}: the run did not record the names of its features, so only .npz can be read')
    read = tables.Format.of_run(self.info)
    if path.suffix.lower() == '.tsv':
      read = dataclasses.replace(read, delimiter='\t')
    table = tables.read_table(path, read)
    numbers = [place.rpartition(' ')[2] for place in table.places]
    for number, row in zip(numbers, tables.features_for(table, names), strict=True):
      yield f'{path}:{number}', row

  def array(self, values: np.ndarray, where: str) -> Float[np.ndarray, 'n f']:
    return super().array(values, where).astype(np.float32)


class Series(FileReader):
  """Series [steps, channels]: those of .ts files, where the run has learned from such.

  Of tables, which are read as the long series of the training was, the last steps are the input.
  """

  reads = 'a .csv or .ts'
  suffixes = (*Features.suffixes, '.ts')

  def __init__(self, info: Info, column: str, kind: Kind):
    super().__init__(info, column, kind)
    self.length = info.fact('length')

  def join(self, rows: Sequence[np.ndarray]) -> Num[np.ndarray, 'b steps channels']:
    return ucr.pad(rows)

  def rows(self, path: pathlib.Path, lines: bool) -> Rows:
    if path.suffix.lower() == '.ts':
      read = ucr.read_ts(path)
      for place, series in zip(read.places, read.series, strict=True):
        yield f'{path}:{place.rpartition(" ")[2]}', self.fit(series[None], place)[0]
      return
    if self.info.table is None or self.length is None:
      raise ConfigError(f'{path}: the run has learned from series of no table, so only .ts and .npz can be read')
    table = tables.read_table(path, tables.Format.of_run(self.info))
    time = self.info.fact('time')
    if time in table.header:
      tables.check_even(table, time)
    if len(table.rows) < self.length:
      raise ConfigError(f'{path}: has {len(table.rows)} rows, and the model reads the last {self.length}')
    yield str(path), tables.features_for(table, self.info.feature_names)[-self.length :]


class Tokens(FileReader):
  """Text: token ids [n] int32, with -1 after the end of a shorter one in a batch.

  Where the run has learned from texts in a column, tables are read for theirs; they are cut as those were.
  """

  reads = 'text'
  suffixes = text.SUFFIXES
  any_suffix = True
  by_lines = True

  def __init__(self, info: Info, column: str, kind: Kind):
    super().__init__(info, column, kind)
    if info.vocabulary is None and info.tokenizer is None and info.vocab_size != 256:
      raise ConfigError('inputs: the run did not record its vocabulary')
    column = info.fact('texts')
    self.texts = None if column is None else rows.Format(**dict(column))
    self.least, self.length = (2 if column is None else 1), (None if column is None else info.fact('length'))

  def rows(self, path: pathlib.Path, lines: bool) -> Rows:
    for name, tokens in self._encoded(path, lines):
      if len(tokens) < self.least:
        needed = 'two tokens' if self.least > 1 else 'one token'
        raise ConfigError(f'{name}: needs at least {needed}, and has {len(tokens)}')
      yield name, tokens[: self.length]

  def _encoded(self, path: pathlib.Path, lines: bool) -> Rows:
    """(name, token ids) of each text of a file."""
    if self.texts is not None and path.suffix.lower() in rows.TABLES:
      for row in rows.read(path, self.texts):
        yield f'{path}:{row.place.rpartition(" ")[2]}', encode(row.text, self.info, row.place)
      return
    content = text.read_bytes(path)
    for number, piece in enumerate(content.splitlines() if lines else [content], 1):
      name = f'{path}:{number}' if lines else str(path)
      if piece or not lines:
        yield name, encode(piece, self.info, name)

  def array(self, values: np.ndarray, where: str) -> Num[np.ndarray, 'n length']:
    if values.ndim != 2 or values.dtype.kind not in 'iu':
      raise ConfigError(f'{where}: expected token ids [n, length], got {values.dtype} {values.shape}')
    return super().array(values, where)

  def join(self, rows: Sequence[Any]) -> Num[np.ndarray, 'b length']:
    size = 1 << (max(len(row) for row in rows) - 1).bit_length()  # few sizes, so few compilations
    return pad(rows, size if self.length is None else min(size, self.length))


class Words(FileReader):
  """Sentences of words and their characters: [n, 1 + characters].

  Of tables of columns, as the training data were, the words are read. Each line of other files is a sentence; signs are
  words of their own. A sentence is named by itself, its words between spaces.
  """

  reads = 'sentences'
  suffixes = (*conll.SUFFIXES, *text.SUFFIXES)
  any_suffix = True
  by_lines = True

  def __init__(self, info: Info, column: str, kind: Kind):
    super().__init__(info, column, kind)
    if info.vocabulary is None or info.fact('columns_of_words') is None:
      raise ConfigError('inputs: the run did not record its vocabulary')
    self.where = conll.Columns(**dict(info.fact('columns_of_words')))

  def rows(self, path: pathlib.Path, lines: bool) -> Rows:
    if path.suffix.lower() in conll.SUFFIXES:
      sentences = [sentence.words for sentence in conll.read(path, self.where)]
    else:
      content = text.decoded(text.read_bytes(path), path)
      sentences = [found for line in content.split('\n') if (found := signs_apart(line))]
    for words in sentences:
      yield ' '.join('_'.join(word.split()) for word in words), conll.encode(words, self.info, len(words))

  def join(self, rows: Sequence[np.ndarray]) -> Num[np.ndarray, 'b n ids']:
    size = 1 << (max(map(len, rows)) - 1).bit_length()  # few sizes, so few compilations
    return np.stack([np.pad(row, ((0, size - len(row)), (0, 0)), constant_values=-1) for row in rows])
