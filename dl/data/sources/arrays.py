"""Arrays in .npz files."""

import pathlib
import zipfile
from typing import Any, Literal

import numpy as np
from jaxtyping import Num

from dl.contract.info import Info
from dl.contract.kinds import IMAGE
from dl.data import files, splits, statistics
from dl.data.source import Arrays, standard
from dl.errors import ConfigError, first_line, nearest

PARTS = {'train': ('train',), 'validation': ('validation', 'val', 'valid'), 'test': ('test',)}


class Npz(Arrays):
  """Inputs and targets of one .npz file, or of several, which are the parts of the set.

  Inputs of shape [n, h, w] or [n, h, w, c] are images (bytes, or floats in [0, 1]), those of [n, f] or [n] features.
  Whole numbers, booleans and strings as targets are classes, in their order; floats are a regression target.
  """

  default_test = 0.2

  def __init__(
    self,
    path: str | dict,
    *,
    inputs: str = 'x',
    targets: str | None = 'y',
    kind: Literal['classification', 'regression'] | None = None,
  ):
    """Reads the file.

    Args:
      path: a .npz file; or a dict of split -> file, such as dict(train='a.npz', test='b.npz').
      inputs: name of the array of inputs. A file that has `x_train` and `x_test` in place of `x` comes in parts.
      targets: name of the array of targets; None for inputs alone.
      kind: of the targets; None infers it from their dtype.

    Raises:
      ConfigError: an unreadable file, a missing array, or arrays which do not go together.
    """
    parts = _read_parts(path, inputs, targets)
    x = _concatenate([p[0] for p in parts.values()], inputs)
    name, x = _as_inputs(x, inputs)
    columns, facts = {name: x}, {}
    if targets is not None:
      y = _concatenate([p[1] for p in parts.values()], targets)
      if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
      if len(y) != len(x):
        raise ConfigError(f'{inputs!r} has {len(x)} rows and {targets!r} {len(y)}')
      if y.ndim != 1:
        raise ConfigError(f'{targets!r} must hold one number or class a row, got shape {y.shape}')
      if (kind or ('regression' if y.dtype.kind == 'f' else 'classification')) == 'classification':
        columns['label'], facts['class_names'] = statistics.encode_labels(y)
      else:
        columns['target'] = standard('target', y).astype(np.float32)
      facts['target_name'] = targets
    if name == 'features':
      facts['feature_names'] = tuple(f'{inputs}_{i}' for i in range(x.shape[1]))
    super().__init__(columns, Info(**facts))
    if None not in parts:
      self.parts = splits.ranges({split: len(p[0]) for split, p in parts.items()})


def load_npz(path: str | pathlib.Path) -> dict[str, np.ndarray]:
  """Every array of a .npz file; raises ConfigError where it cannot be read."""
  path = files.existing(path)
  try:
    loaded = np.load(path, allow_pickle=False)
    if isinstance(loaded, np.ndarray):
      raise ConfigError(f'{path} holds a single array; save it with np.savez')
    with loaded:
      arrays = dict(loaded)
    if not all(isinstance(v, np.ndarray) for v in arrays.values()):
      raise ConfigError(f'{path} holds something else than arrays')
    return arrays
  except ConfigError:
    raise
  except (ValueError, OSError, EOFError, zipfile.BadZipFile) as e:
    raise ConfigError(f'{path} cannot be read as .npz: {first_line(e)}') from e


def _read_parts(path: str | dict, inputs: str, targets: str | None) -> dict[str | None, tuple[Any, Any]]:
  """Split -> (inputs, targets); the key None stands for a whole set which is to be split."""
  if isinstance(path, dict):
    return {split: _pick(load_npz(p), p, inputs, targets) for split, p in files.by_split(path).items()}
  arrays = load_npz(path)
  if inputs in arrays:
    return {None: _pick(arrays, path, inputs, targets)}
  parts = {}
  for split, suffixes in PARTS.items():
    for suffix in suffixes:
      if f'{inputs}_{suffix}' in arrays:
        y = None if targets is None else f'{targets}_{suffix}'
        parts[split] = _pick(arrays, path, f'{inputs}_{suffix}', y)
        break
  return parts or {None: _pick(arrays, path, inputs, targets)}


def _pick(arrays: dict[str, np.ndarray], path: Any, inputs: str, targets: str | None) -> tuple[Any, Any]:
  for name in (inputs, targets):
    if name is not None and name not in arrays:
      raise ConfigError(f'{path} has no array {name!r}; {nearest(name, arrays)}; set inputs= and targets=')
    if name is not None and not arrays[name].ndim:
      raise ConfigError(f'{path}: {name!r} is a single number, not an array of examples')
    if name is not None and not len(arrays[name]):
      raise ConfigError(f'{path}: {name!r} has no rows: its shape is {arrays[name].shape}')
  return arrays[inputs], None if targets is None else arrays[targets]


def _concatenate(arrays: list[np.ndarray], name: str) -> np.ndarray:
  if len({a.shape[1:] for a in arrays}) > 1:
    raise ConfigError(f'{name!r} differs in shape between the parts: {" and ".join(str(a.shape) for a in arrays)}')
  return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def _as_inputs(x: Num[np.ndarray, 'n ...'], name: str) -> tuple[str, np.ndarray]:
  """('image' or 'features', the array as a batch holds it)."""
  if x.ndim in (1, 2):
    x = standard('features', x).astype(np.float32)
    kind, x = 'features', x[:, None] if x.ndim == 1 else x
  elif x.ndim in (3, 4):
    x = x.astype(np.float32) if x.dtype == bool else x
    kind, x = 'image', check_images(standard('image', x if x.ndim == 4 else x[..., None]), name)
  else:
    raise ConfigError(f'{name!r} has shape {x.shape}; expected [n, f] features or [n, h, w] or [n, h, w, c] images')
  return kind, x


def check_images(x: Num[np.ndarray, 'n h w c'], name: str) -> Num[np.ndarray, 'n h w c']:
  """Images as bytes or floats in [0, 1]; raises ConfigError for others. Whole numbers that fit are made bytes."""
  if x.dtype == np.int32 and x.size and x.min() >= 0 and x.max() <= 255:
    x = x.astype(np.uint8 if x.max() > 1 else np.float32)  # 0 and 1 alone are black and white
  if wrong := IMAGE.wrong(x, Info()):
    raise ConfigError(f'{name!r}: example {wrong[0]}: {wrong[1]}')
  return x
