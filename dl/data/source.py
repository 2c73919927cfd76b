"""What a source is, and the in-memory one.

A source is a class which is constructed with the arguments in the config, and with `split` if it has splits. It needs
`__len__` and `__getitem__(index: int) -> dict of arrays`; it may have `info: dl.contract.info.Info`, whose statistics
are of the training part whatever split is built. Such a source is read example by example, by threads. One with
`vectorized = True` also takes an array of indices, and is gathered a whole batch at a time:

    class MySet:
      def __init__(self, path: str, split: str): ...
      def __len__(self): ...
      def __getitem__(self, index): return dict(image=..., label=...)

Keys are those which tasks read: `image` [h, w, c] (uint8, or floats in [0, 1]), `features` [f], `tokens` [length + 1],
`label` (a class index), `target` (a number).

A class of an installed package has to inherit from `Source`, or to set `vectorized`, to be taken for one.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Protocol

import numpy as np
from jaxtyping import Int, Num

from dl.contract.info import Info
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
  """

  vectorized: ClassVar[bool] = True

  def __init__(self, columns: Mapping[str, Num[np.ndarray, 'n ...']], info: Info | None = None):
    """Takes the columns as they are, without a copy where their dtype is already that of a batch.

    Raises:
      ConfigError: no columns, columns of different lengths, or of a dtype which a batch cannot hold.
    """
    self.columns = {name: standard(name, values) for name, values in columns.items()}
    lengths = {name: len(values) if values.ndim else None for name, values in self.columns.items()}
    if not lengths or None in lengths.values() or len(set(lengths.values())) > 1:
      raise ConfigError(f'columns must be arrays of the same length, got {lengths or "none"}')
    self.info = info or Info()

  def __len__(self) -> int:
    return len(next(iter(self.columns.values())))

  def __getitem__(self, index: int | Int[np.ndarray, ' b']) -> Example:
    """The example at an index, or the examples at an array of indices."""
    if np.ndim(index) == 0:
      return {name: values[index] for name, values in self.columns.items()}
    return {name: values.take(index, axis=0) for name, values in self.columns.items()}


def standard(name: str, values: Any) -> np.ndarray:
  """`values` as an array of one of the dtypes that batches hold: uint8, int32 or float32.

  Labels and tokens are int32; 16-bit images become floats in [0, 1]; a copy is made only where the dtype changes.

  Raises:
    ConfigError: text, objects, complex numbers, or integers beyond 32 bits.
  """
  values = np.asarray(values)
  kind = values.dtype.kind
  if name == 'mask':
    raise ConfigError("'mask' is the pipeline's own column; call it something else")
  if name == 'image' and values.dtype == np.uint16:
    return values.astype(np.float32) / np.float32(65535)
  if kind == 'f':
    return values.astype(np.float32, copy=False)
  if kind not in 'biu':
    raise ConfigError(f'column {name!r} holds {values.dtype}; a batch holds numbers alone, so encode it')
  if kind == 'b' or values.dtype == np.uint8:
    return values.astype(np.int32 if name in ('label', 'tokens') else np.uint8, copy=False)
  if values.dtype in (np.int64, np.uint64, np.uint32) and values.size:
    low, high = int(values.min()), int(values.max())
    if low < -(2**31) or high >= 2**31:
      raise ConfigError(f'column {name!r} holds integers from {low} to {high}, beyond 32 bits')
  return values.astype(np.int32, copy=False)
