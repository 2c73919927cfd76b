"""Text as windows of tokens: bytes, characters, words or subwords."""

import collections
import dataclasses
import gzip
import hashlib
import pathlib
import sys
import sysconfig
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Int, Integer

from dl.config.bounds import BelowOne, Size
from dl.contract.info import Info
from dl.data import files
from dl.data.source import Example
from dl.data.splits import SPLITS
from dl.data.tokenizers import subwords
from dl.data.tokenizers.vocabulary import EOS, UNKNOWN, encode, words
from dl.errors import ConfigError, first_line, nearest

VOCABULARIES = ('bytes', 'characters', 'words')

SUFFIXES = ('.txt', '.text', '.md', '.py', '.tokens', '.gz')


class Windows:
  """One long array of tokens, as windows of `length + 1` which begin every `stride` tokens.

  With the default stride, the windows overlap by one token, so that each token but the first is a target once; fewer
  than `length` tokens at the very end are left out.

  With `streams`, the tokens are cut into so many streams of equal length, and window number k * streams + i is the k-th
  of stream i. In batches of as many rows, in this order, each row goes on where that row of the batch before ended. An
  example then also holds `first`, 1 of the first window of a stream, unless a window is a whole stream; what does not
  fill windows of all is left out.

  Attributes:
    tokens: all the tokens of this part, in one array.
    info: facts about the data, among them the number of `streams`, where there are some.
    ordered: whether the order of the windows has to stay, as that of streams.
    vectorized: a batch is one gather.
  """

  vectorized: ClassVar[bool] = True

  def __init__(
    self,
    tokens: Integer[np.ndarray, ' n'],
    length: Size | None,
    stride: Size | None,
    info: Info,
    streams: Size | None = None,
  ):
    """Takes the tokens as they are.

    Raises:
      ConfigError: a length, stride or number of streams that cannot be, or fewer tokens than one window takes.
    """
    if streams is not None and (isinstance(streams, bool) or not isinstance(streams, int) or streams < 1):
      raise ConfigError(f'streams: expected how many there are, got {streams!r}')
    if length is None:
      if streams is None:
        raise ConfigError('length: expected a number of tokens, got None, which is for a whole stream; give streams')
      length = max((len(tokens) - 1) // streams, 1)
    if streams is not None and stride not in (None, length):
      raise ConfigError(f'stride: windows of a stream follow each other, so leave it out, got {stride!r}')
    stride = length if stride is None else stride
    for name, value in (('length', length), ('stride', stride)):
      if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigError(f'{name}: expected a number of tokens, got {value!r}')
    if len(tokens) < length + 1:
      raise ConfigError(f'length: a window takes {length + 1} tokens, and this part of the text has {len(tokens)}')
    self.tokens, self.length, self.stride, self.info = tokens, length, stride, info
    self.ordered, self._goes_on, self._streams = streams is not None, False, streams
    windows = np.lib.stride_tricks.sliding_window_view(tokens, length + 1)
    if streams is None:
      self._windows = windows[::stride]
      return
    each = (len(tokens) - 1) // streams
    if each < length:
      raise ConfigError(f'streams: each of {streams} streams has {each} tokens to predict, and a window has {length}')
    self._goes_on = each // length > 1
    self._windows = windows[np.add.outer(np.arange(each // length) * length, np.arange(streams) * each).ravel()]
    self.info = dataclasses.replace(info, more=(*(info.more or ()), ('streams', streams)))

  def __len__(self) -> int:
    return len(self._windows)

  @property
  def contents(self) -> dict[str, Integer[np.ndarray, ' n']]:
    """What the windows are of, by which a run knows its data."""
    return {'tokens': self.tokens}

  def __getitem__(self, index: int | Int[np.ndarray, ' b']) -> Example:
    example = {'tokens': self._windows[index].astype(np.int32)}
    return example | {'first': np.asarray(index < self._streams, np.uint8)} if self._goes_on else example


class TextFiles(Windows):
  """Plain text files, as bytes, characters, words or subwords.

  The text is cut by position: its beginning is the training part, then comes the validation part, then the test part.
  This class does so itself, before there are windows, so that no window lies in two parts.
  """

  def __init__(
    self,
    path: str | dict,
    length: Size | None,
    split: str = 'train',
    *,
    vocabulary: str | Mapping[str, Any] = 'bytes',
    stride: Size | None = None,
    streams: Size | None = None,
    validation: BelowOne = 0.1,
    test: BelowOne = 0.0,
  ):
    """Reads the files.

    Args:
      path: a text file, a folder or a glob, whose files are joined in order of their names (.gz is unpacked); or a
        dict of split -> such a path, and then nothing is cut.
      length: tokens which a window predicts; it holds one more. None for those of a whole stream.
      split: which part: 'train', 'validation', 'test' or 'all'.
      vocabulary: 'bytes' (256 ids); 'characters' (those that occur in any part, in order of code point); 'words' (what
        stands between spaces in the training part, the most frequent first, with '<eos>' for the end of a line and
        '<unk>' for words which that part lacks); dict(name='bpe', size=4096), or 'wordpiece': subwords
        learned from the training part (`dl.data.tokenizers.subwords`); or the path of a tokenizer.json.
      stride: tokens from one window to the next; None means `length`.
      streams: cut the text into so many streams, whose windows follow each other from batch to batch: for a network
        which goes on from them (`carry` of `dl.tasks.lm.LanguageModel`), in batches of as many rows.
      validation: share of the text.
      test: share of the text.

    Raises:
      ConfigError: unreadable files, a part too short for one window, or no such vocabulary.
    """
    if isinstance(path, dict):
      parts = {name: _read(p) for name, p in files.by_split(path).items()}
    else:
      parts = _cut(_read(path), validation, test, vocabulary, path)
    if split not in SPLITS:
      raise ConfigError(f'split: there is no split {split!r}; {nearest(split, SPLITS)}')
    wanted = list(parts) if split == 'all' else [split]
    if split != 'all' and not parts.get(split):
      hint = f'; set {split}=0.1, say' if split != 'train' and not isinstance(path, dict) else ''
      raise ConfigError(f'split: the text has no {split!r} part{hint}')
    content = b''.join(parts[name] for name in wanted)
    tokens, info = _tokens(content, parts, vocabulary, path)
    super().__init__(tokens, length, stride, info, streams)


class StandardLibrary(Windows):
  """The source of the running Python's standard library, byte by byte: real code which every machine has.

  Every .py file which is UTF-8, in order of its path, without tests and installed packages. A hash of its path puts
  a whole file into the training (90 %), validation (5 %) or test part (5 %), so that no window lies in two. The text
  depends on the version of Python and, by `_sysconfigdata*.py` (how this Python was built), a little on the machine:
  numbers compare on one machine.
  """

  def __init__(self, length: Size, split: str = 'train', *, stride: Size | None = None, packages: bool = True):
    """Reads the files of the part; `length` and `stride` are those of `TextFiles`.

    Args:
      length: tokens which a window predicts.
      split: 'train', 'validation', 'test' or 'all'.
      stride: tokens from one window to the next.
      packages: False leaves out packages, and with them generated tables: the modules of one file remain.

    Raises:
      ConfigError: an unknown split, or no source to be found.
    """
    if split not in SPLITS:
      raise ConfigError(f'split: there is no split {split!r}; {nearest(split, SPLITS)}')
    named = [(name, text) for name, text in library_files() if packages or '/' not in name]
    content = [text for name, text in named if split in ('all', split_of(name))]
    if not content:
      raise ConfigError(f'this Python ({sys.executable}) has no source of its standard library')
    super().__init__(np.frombuffer(b''.join(content), np.uint8), length, stride, Info(vocab_size=256))


LEFT_OUT = frozenset({'site-packages', 'dist-packages', 'test', 'tests', 'idle_test', '__pycache__'})


def library_files() -> list[tuple[str, bytes]]:
  """(relative path, content) of every file of the corpus, in order; each ends with a newline."""
  root = pathlib.Path(sysconfig.get_path('stdlib'))
  paths = []
  for path in root.rglob('*.py'):
    relative = path.relative_to(root)
    if not LEFT_OUT.intersection(relative.parts):
      paths.append((relative.as_posix(), path))
  result = []
  for name, path in sorted(paths):
    try:
      content = path.read_bytes()
      content.decode('utf-8')
    except (OSError, UnicodeDecodeError):  # a few files try out other encodings
      continue
    if content:
      result.append((name, content if content.endswith(b'\n') else content + b'\n'))
  return result


def split_of(name: str) -> str:
  """The part which a relative path belongs to, by its SHA-256."""
  percent = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]) % 100
  return 'train' if percent < 90 else 'validation' if percent < 95 else 'test'


def read_bytes(path: pathlib.Path) -> bytes:
  """The content of a file, unpacked if its name ends in .gz; raises ConfigError if it cannot be read."""
  try:
    return gzip.decompress(path.read_bytes()) if path.suffix == '.gz' else path.read_bytes()
  except (OSError, EOFError) as e:
    raise ConfigError(f'{path} cannot be read: {first_line(e)}') from e


def code_points(content: bytes, path: object) -> Integer[np.ndarray, ' n']:
  """The characters of UTF-8 text, as numbers; raises ConfigError if it is not UTF-8."""
  return np.frombuffer(decoded(content, path).encode('utf-32-le'), np.uint32)


def decoded(content: bytes, path: object) -> str:
  """UTF-8 text; raises ConfigError if it is not."""
  try:
    return content.decode('utf-8')
  except UnicodeDecodeError as e:
    raise ConfigError(f"{path} is not UTF-8 text; vocabulary='bytes' takes any file") from e


def _tokens(
  content: bytes, parts: Mapping[str, bytes], vocabulary: str | Mapping[str, Any], path: object
) -> tuple[Integer[np.ndarray, ' n'], Info]:
  """(the tokens of a text, what is said of them), where `parts` are what a vocabulary is made of."""
  if vocabulary == 'bytes':
    return np.frombuffer(content, np.uint8), Info(vocab_size=256)
  if vocabulary == 'characters':
    points = np.unique(np.concatenate([np.unique(code_points(p, path)) for p in parts.values()]))
    info = Info(vocab_size=len(points), vocabulary=tuple(chr(p) for p in points))
    return _narrow(np.searchsorted(points, code_points(content, path)), info), info
  learned = ('train' in parts and parts['train']) or content
  if vocabulary == 'words':
    counts = collections.Counter(words(decoded(learned, path), ends=True))
    for name in (EOS, UNKNOWN):
      counts.setdefault(name, 0)
    named = tuple(sorted(counts, key=lambda word: (-counts[word], word)))
    info = Info(vocab_size=len(named), vocabulary=named)
  else:
    info = Info(**subwords.of_config(vocabulary, decoded(learned, path).splitlines(keepends=True), VOCABULARIES))
  return _narrow(encode(decoded(content, path), info, str(path)), info), info


def _narrow(tokens: Integer[np.ndarray, ' n'], info: Info) -> Integer[np.ndarray, ' n']:
  """In the narrowest type that holds every id of the vocabulary."""
  size = info.vocab_size
  return tokens.astype(np.uint8 if size <= 2**8 else np.uint16 if size <= 2**16 else np.int32)


def _read(path: str) -> bytes:
  paths, folder = files.expand(path, SUFFIXES), pathlib.Path(path).expanduser().resolve()
  for p in paths if folder.is_dir() else ():
    if not p.resolve().is_relative_to(folder):  # a folder may be of others, and what is read is learned
      raise ConfigError(f'{p} is a link out of {path}; copy the file, or name it itself')
  return b''.join(map(read_bytes, paths))


def _cut(content: bytes, validation: float, test: float, vocabulary: str, path: str) -> dict[str, bytes]:
  for name, share in (('validation', validation), ('test', test)):
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share < 1:
      raise ConfigError(f'{name}: expected a share of the text below 1, got {share!r}')
  if validation + test >= 1:
    raise ConfigError(f'validation and test: {validation} and {test} of the text leave nothing to train on')
  if vocabulary == 'bytes':
    ends = [round(len(content) * share) for share in (1 - validation - test, 1 - test, 1)]
    pieces = [content[a:b] for a, b in zip([0, *ends], ends, strict=False)]
  else:  # never inside a character
    points = code_points(content, path)
    ends = [round(len(points) * share) for share in (1 - validation - test, 1 - test, 1)]
    pieces = [points[a:b].tobytes().decode('utf-32-le').encode() for a, b in zip([0, *ends], ends, strict=False)]
  return dict(zip(('train', 'validation', 'test'), pieces, strict=True))
