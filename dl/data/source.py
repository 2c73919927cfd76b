"""What a source is, and the in-memory one.

A source is a class which is constructed with the arguments in the config. It needs `__len__` and `__getitem__(index:
int) -> dict of arrays`. Such a source is read example by example, by threads. One with `vectorized = True` also takes
an array of indices, and is gathered a whole batch at a time:

    class MySet:
      def __init__(self, path: str): ...
      def __len__(self): ...
      def __getitem__(self, index): return dict(image=..., label=...)

It is cut into parts, and its statistics are computed, by `dl.data.parts`; a class which does that itself takes an
argument `split`. It may also have

    info         `dl.contract.info.Info`: what it knows itself, such as `num_classes`
    kinds        column -> `dl.contract.kinds.Kind`, or its name: of columns which are not named after their kind
    parts        split -> indices: of a set which comes in parts
    default_test size of the test part where the config gives none; otherwise there is none
    labels       [n] classes of all its examples, to stratify by
    times        [n] when its examples were, numbers or numpy dates: then it is cut by time, in place of at random
    paths        [n] files of its examples, for error lines
    buckets      `dl.data.buckets.Buckets`: which of its examples go together in a batch, whose shape then varies
    ordered      whether training reads its examples in their own order, each epoch again, and not in a random one
    take         (indices) -> a source of these examples alone, to be used in its place; where there are neither labels
                 nor paths, it may cut each into several
    facts        () -> statistics of its examples by name, in place of those of `dl.data.statistics`

Keys are those which tasks read: `image` [h, w, c] (uint8, or floats in [0, 1]), `features` [f], `tokens` [length + 1],
`target_tokens` [length], `series` [steps, channels], `words` [n, 1 + characters], `label` (a class index), `tags` [n],
`target` (a number), or those of kinds of one's own.

A class of an installed package has to inherit from `Source`, or to set `vectorized`, to be taken for one.
"""

import copy
import dataclasses
import functools
import inspect
from collections.abc import Mapping
from typing import Any, ClassVar, Protocol, Self

import numpy as np
from jaxtyping import Int, Num

from dl.config import build
from dl.contract.info import Info
from dl.contract.kinds import KINDS, OTHER, Kind, Wrong
from dl.errors import ConfigError

Example = dict[str, np.ndarray]


class Source(Protocol):
  """The least that a source has."""

  def __len__(self) -> int: ...

  def __getitem__(self, index: int) -> Mapping[str, Any]: ...


class Arrays:
  """A source in memory: columns of equal length, gathered by one vectorized index.

  Attributes:
    columns: name -> array [examples, ...], with the dtypes of a batch (`standard`).
    info: facts about the data.
    parts: split -> indices, of a set which comes in parts; otherwise None.
    default_test: size of the test part, where the config gives none.
  """

  vectorized: ClassVar[bool] = True
  default_test: ClassVar[float | int] = 0
  parts: Mapping[str, Int[np.ndarray, ' k']] | None = None

  def __init__(self, columns: Mapping[str, Num[np.ndarray, 'n ...']], info: Info | None = None):
    """Takes the columns as they are, without a copy where their dtype is already that of a batch.

    Raises:
      ConfigError: no columns, columns of different lengths, or of a dtype which a batch cannot hold.
    """
    kinds = kinds_of(self)
    self.columns = {name: standard(name, values, kinds.get(name)) for name, values in columns.items()}
    lengths = {name: len(values) if values.ndim else None for name, values in self.columns.items()}
    if not lengths or None in lengths.values() or len(set(lengths.values())) > 1:
      raise ConfigError(f'columns must be arrays of the same length, got {lengths or "none"}')
    self.info = info or Info()

  @property
  def labels(self) -> Num[np.ndarray, 'n ...'] | None:
    """The class of each example, where there are classes."""
    return self.columns.get('label')

  def __len__(self) -> int:
    return len(next(iter(self.columns.values())))

  def __getitem__(self, index: int | Int[np.ndarray, ' b']) -> Example:
    """The example at an index, or the examples at an array of indices."""
    if np.ndim(index) == 0:
      return {name: values[index] for name, values in self.columns.items()}
    return {name: values.take(index, axis=0) for name, values in self.columns.items()}

  def take(self, index: Int[np.ndarray, ' k']) -> Self:
    """These examples alone, copied."""
    other = copy.copy(self)
    other.columns, other.parts = {name: values[index] for name, values in self.columns.items()}, None
    return other


def standard(name: str, values: Any, kind: Kind | None = None) -> np.ndarray:
  """`values` as an array of one of the dtypes that batches hold: uint8, int32 or float32.

  A copy is made only where the dtype changes, which is up to the kind: by default that of the column's name.

  Raises:
    ConfigError: text, objects, complex numbers, or integers beyond 32 bits.
  """
  values = np.asarray(values)
  if name == 'mask':
    raise ConfigError("'mask' is the pipeline's own column; call it something else")
  if values.dtype.kind not in 'fbiu':
    raise ConfigError(f'column {name!r} holds {values.dtype}; a batch holds numbers alone, so encode it')
  if values.dtype in (np.int64, np.uint64, np.uint32) and values.size:
    low, high = int(values.min()), int(values.max())
    if low < -(2**31) or high >= 2**31:
      raise ConfigError(f'column {name!r} holds integers from {low} to {high}, beyond 32 bits')
  return (kind or KINDS.get(name, OTHER)).batch(values)


def as_batch(columns: Mapping[str, Any], info: Info) -> Example:
  """Columns [b, ...] as a batch holds them.

  Raises:
    ConfigError: what a batch cannot hold, or what its kind calls wrong.
  """
  batch = {}
  for name, values in columns.items():
    batch[name] = standard(name, values, info.kind(name))
    if wrong := wrong_with(name, batch[name], info):
      raise ConfigError(wrong[1])
  return batch


def wrong_with(column: str, values: Num[np.ndarray, 'b ...'], info: Info) -> Wrong | None:
  """(row, what is wrong with it) of the first of a column's values that its kind calls wrong, or None."""
  kind = info.kind(column)
  wrong = kind.wrong(values, info)
  return wrong if wrong is None or column == kind.name else (wrong[0], f'{column!r}: {wrong[1]}')


def stated(source: Any) -> Info:
  """What a source says about itself without work: its `info`, unless that is computed, and the `kinds` of columns.

  Raises:
    ConfigError: an `info` or kinds which are none.
  """
  if isinstance(own := getattr(source, 'stated', None), Info):  # of a part of a source
    return own
  computed = isinstance(inspect.getattr_static(source, 'info', None), property | functools.cached_property)
  return _with_kinds(None if computed else getattr(source, 'info', None), source)


def info_of(source: Any) -> Info:
  """All that a source says about itself.

  Raises:
    ConfigError: an `info` or kinds which are none.
  """
  return _with_kinds(getattr(source, 'info', None), source)


def _with_kinds(info: Any, source: Any) -> Info:
  if info is not None and not isinstance(info, Info):
    raise ConfigError(f'{title(source)}.info must be a dl.contract.info.Info, got {info!r}')
  info, kinds = info or Info(), kinds_of(source)
  return dataclasses.replace(info, kinds=tuple(kinds.items())) if kinds else info


def kinds_of(source: Any) -> dict[str, Kind]:
  """Column -> kind, as a source states them.

  Raises:
    ConfigError: no mapping to kinds, or a kind which is not found again by its name.
  """
  kinds = getattr(source, 'kinds', None) or {}
  if not isinstance(kinds, Mapping):
    raise ConfigError(f'{title(source)}.kinds must map columns to kinds, got {kinds!r}')
  by_column = {}
  for column, kind in kinds.items():
    by_column[column] = kind if isinstance(kind, Kind) else find_kind(kind)
    if find_kind(by_column[column].name) is not by_column[column]:
      name = by_column[column].name
      raise ConfigError(f'{title(source)}.kinds: the kind of {column!r} says that its name is {name!r}: of another one')
  return by_column


def find_kind(name: str) -> Kind:
  """The kind of a name: one of `KINDS`, or a dotted path to one's own.

  Raises:
    ConfigError: nothing of this name, or something else than a kind.
  """
  if name in KINDS:
    return KINDS[name]
  kind = build.resolve(name, 'dl.contract.kinds', 'kinds')
  if not isinstance(kind, Kind):
    raise ConfigError(f'kinds: {name!r} is no dl.contract.kinds.Kind, but {kind!r}')
  return kind


def places(source: Any, index: Any) -> Any:
  """Where examples of a source stand in the user's own, of which it may be a part: what error lines and tables say."""
  own = getattr(source, 'index', None)
  return own[index] if isinstance(own, np.ndarray) else index


def title(source: Any) -> str:
  """What an error line calls a source: the name of its class."""
  return type(getattr(source, 'whole', source)).__name__
