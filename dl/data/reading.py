"""Reading what a trained model is to predict: image files, CSV, .npz and text, without the data set."""

import pathlib
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Num

from dl.contract.info import Info
from dl.data import files
from dl.data.source import standard
from dl.data.sources import arrays, images, tabular, text
from dl.data.tokenizers.vocabulary import encode
from dl.errors import ConfigError, nearest

Kind = Literal['image', 'features', 'tokens']
Rows = Iterator[tuple[str, np.ndarray]]
NPZ, CSV = ('.npz',), ('.csv', '.tsv')
READS = {'image': 'images', 'features': 'a .csv', 'tokens': 'text'}


def read_inputs(
  paths: Sequence[str | pathlib.Path], info: Info, kind: Kind, batch_size: int = 256, lines: bool = False
) -> Iterator[tuple[list[str], Num[np.ndarray, 'b ...']]]:
  """Batches of raw model inputs, with a name for each row.

  Args:
    paths: files, folders or globs: of images; of .csv (columns are found by their names, others are ignored) or .tsv;
      of .npz (`FILE.npz`, whose array `x` or only array is read, or `FILE.npz:NAME`); of text.
    info: what the run recorded about its data.
    kind: what the model reads: 'image', 'features' or 'tokens'.
    batch_size: rows of a batch; the last one is smaller.
    lines: whether each line of a text file is an input of its own, rather than each file.

  Returns:
    An iterator of (names, batch): images [b, h, w, c] in bytes or floats; features [b, f] float32; tokens [b, n]
    int32 with -1 after the end of a shorter text, n being a power of two so that few sizes are compiled.

  Raises:
    ConfigError: a file which is missing or cannot be read, or which is not what the model reads; the missing files
      at once, the others when their turn comes.
  """
  if kind not in READS:
    raise ConfigError(f'inputs: nothing reads {kind!r}; {nearest(kind, READS)}')
  if lines and kind != 'tokens':
    raise ConfigError(f'lines: this model reads {READS[kind]}, not lines of text')
  if kind == 'image' and (info.image_size is None or info.channels is None):
    raise ConfigError('inputs: the run did not record the size of its images')
  if kind == 'features' and info.mean is None and info.feature_names is None:
    raise ConfigError('inputs: the run did not record its features')
  if kind == 'tokens' and info.vocabulary is None and info.vocab_size != 256:
    raise ConfigError('inputs: the run did not record its vocabulary')
  suffixes = {'image': (*images.SUFFIXES, *NPZ), 'features': (*CSV, *NPZ), 'tokens': (*text.SUFFIXES, *NPZ)}[kind]
  found = [f for path in paths for f in _find(path, suffixes, kind)]
  return _batches(found, info, kind, batch_size, lines)


def _find(path: str | pathlib.Path, suffixes: Sequence[str], kind: str) -> list[tuple[pathlib.Path, str | None]]:
  """(file, name of an array or None) of what one path stands for."""
  name = None
  if '.npz:' in str(path) and not pathlib.Path(path).exists():
    path, _, name = str(path).rpartition(':')
  found = files.expand(path, suffixes)
  for p in found:
    if kind != 'tokens' and p.suffix.lower() not in suffixes:
      raise ConfigError(f'{p}: the model reads {READS[kind]} or .npz, not {p.suffix or "a file without a suffix"}')
  return [(p, name) for p in found]


def _batches(
  found: Sequence[tuple[pathlib.Path, str | None]], info: Info, kind: str, batch_size: int, lines: bool
) -> Iterator[tuple[list[str], np.ndarray]]:
  names, values = [], []
  for path, array in found:
    for name, value in _rows(path, array, info, kind, lines):
      names.append(name)
      values.append(value)
      if len(values) == batch_size:
        yield names, _join(values, kind)
        names, values = [], []
  if values:
    yield names, _join(values, kind)


def _rows(path: pathlib.Path, array: str | None, info: Info, kind: str, lines: bool) -> Rows:
  if path.suffix.lower() in NPZ:
    values = _from_npz(path, array, info, kind)
    return ((f'{path}:{i}', v) for i, v in enumerate(values))
  if kind == 'image':
    return iter([(str(path), images.read_image(path, info.image_size, info.channels))])
  if kind == 'features':
    return _from_table(path, info)
  return _from_text(path, info, lines)


def _from_table(path: pathlib.Path, info: Info) -> Rows:
  if info.feature_names is None:
    raise ConfigError(f'{path}: the run did not record the names of its features, so only .npz can be read')
  table = tabular.read_table(path, '\t' if path.suffix.lower() == '.tsv' else ',')
  numbers = [place.rpartition(' ')[2] for place in table.places]
  return ((f'{path}:{n}', row) for n, row in zip(numbers, tabular.features_for(table, info.feature_names), strict=True))


def _from_text(path: pathlib.Path, info: Info, lines: bool) -> Rows:
  content = text.read_bytes(path)
  pieces = content.splitlines() if lines else [content]
  for number, piece in enumerate(pieces, 1):
    name = f'{path}:{number}' if lines else str(path)
    tokens = encode(piece, info, name)
    if len(tokens) > 1:
      yield name, tokens
    elif not lines or piece:
      raise ConfigError(f'{name}: needs at least two tokens, and has {len(tokens)}')


def _from_npz(path: pathlib.Path, name: str | None, info: Info, kind: str) -> Num[np.ndarray, 'n ...']:
  found = arrays.load_npz(path)
  if name is None:
    name = next((n for n in ('x', kind) if n in found), None)
    if name is None and len(found) != 1:
      raise ConfigError(f'{path} has no array x, but {", ".join(sorted(found))}; choose one as {path}:{min(found)}')
    name = name or next(iter(found))
  if name not in found:
    raise ConfigError(f'{path} has no array {name!r}; {nearest(name, found)}')
  where = f'{path}:{name}'
  values = found[name]
  if kind == 'features':
    return _features(values, info, where)
  if kind == 'tokens':
    if values.ndim != 2 or values.dtype.kind not in 'iu':
      raise ConfigError(f'{where}: expected token ids [n, length], got {values.dtype} {values.shape}')
    if values.size and int(values.max()) >= info.vocab_size:
      raise ConfigError(f'{where}: token {values.max()} is not below the vocabulary size, {info.vocab_size}')
    return standard('tokens', values)
  if values.ndim not in (3, 4):
    raise ConfigError(f'{where}: expected images [n, h, w, c], got shape {values.shape}')
  values = standard('image', values if values.ndim == 4 else values[..., None])
  wanted = (*info.image_size, info.channels)
  if values.shape[1:] != wanted:
    raise ConfigError(f'{where}: the model reads images of shape {wanted}, got {values.shape[1:]}')
  return arrays.check_images(values, where)


def _features(values: np.ndarray, info: Info, where: str) -> Float[np.ndarray, 'n f']:
  wanted = len(info.feature_names if info.mean is None else info.mean)
  if values.ndim != 2 or values.shape[1] != wanted:
    raise ConfigError(f'{where}: the model reads {wanted} features a row, got shape {values.shape}')
  values = standard('features', values).astype(np.float32)
  if not np.isfinite(values).all():
    raise ConfigError(f'{where}: holds a number which is not finite')
  return values


def _join(values: list[Any], kind: str) -> Num[np.ndarray, 'b ...']:
  if kind != 'tokens':
    if len({v.dtype for v in values}) > 1:  # bytes of files beside floats of an .npz
      values = [v.astype(np.float32) / np.float32(255) if v.dtype == np.uint8 else v for v in values]
    return np.stack(values)
  longest = max(len(v) for v in values)
  joined = np.full((len(values), 1 << (longest - 1).bit_length()), -1, np.int32)
  for row, v in zip(joined, values, strict=True):
    row[: len(v)] = v
  return joined
