"""Polyphonic music as piano rolls: which keys sound in each frame of a piece."""

import itertools
from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from jaxtyping import Float, Int

from dl.contract.info import Info
from dl.data import files, splits
from dl.data.source import Arrays
from dl.errors import ConfigError, first_line

LOWEST = 21
"""The MIDI number of the lowest key of a piano, A0."""

PARTS = {'train': 'traindata', 'validation': 'validdata', 'test': 'testdata'}

_NOTES = ('C', 'C#', 'D', 'D#', 'E', 'F', 'F#', 'G', 'G#', 'A', 'A#', 'B')


class PianoRolls(Arrays):
  """Pieces as `series` [frames, keys], 1 where a key sounds; a shorter piece ends in frames of NaN.

  The file has a MATLAB cell array of pieces for each part: `traindata`, `validdata` and `testdata`, as those of
  JSB Chorales, MuseData, Nottingham and Piano-midi.de are handed on (arXiv 1206.6392). The keys are the 88 of a piano,
  from A0 on, or fewer.

  Cite: boulanger2012modeling
  """

  def __init__(self, path: str):
    """Reads the file.

    Args:
      path: a .mat file, of a version below 7.3.

    Raises:
      ConfigError: an unreadable file, one without the parts, or a piece which is no piano roll.
    """
    pieces = _read(path)
    rolls = list(itertools.chain(*pieces.values()))
    keys = rolls[0].shape[1]
    series = np.full((len(rolls), max(map(len, rolls)), keys), np.nan, np.float32)
    for row, roll in zip(series, rolls, strict=True):
      row[: len(roll)] = roll
    names = tuple(f'{_NOTES[n % 12]}{n // 12 - 1}' for n in range(LOWEST, LOWEST + keys))
    super().__init__({'series': series}, Info(feature_names=names, more=(('lowest_pitch', LOWEST),)))
    self.parts = splits.ranges({name: len(found) for name, found in pieces.items()})

  def take(self, index: Int[np.ndarray, ' k']) -> Self:
    other = super().take(index)
    series = other.columns['series']
    longest = int((~np.isnan(series[:, :, 0])).sum(1).max()) if len(series) else 0
    other.columns = {'series': series[:, :longest]}  # not padded to a piece which is elsewhere
    return other


def _read(path: str) -> dict[str, list[Float[np.ndarray, 'frames keys']]]:
  """The pieces of each part."""
  from scipy import io

  file = files.existing(path)
  try:
    found = io.loadmat(file)
  except Exception as e:  # whatever a damaged file makes of the reader
    raise ConfigError(f'{path} cannot be read as a .mat file: {first_line(e)}') from e
  result, keys = {}, None
  for part, name in PARTS.items():
    result[part] = _pieces(found, name, path)
    for number, roll in enumerate(result[part], 1):
      keys = roll.shape[1] if keys is None else keys
      where = f'{path}, {name}, piece {number}'
      if roll.shape[1] != keys or not 0 < keys <= 88:
        raise ConfigError(f'{where}: has {roll.shape[1]} keys; all pieces have the same, and at most 88')
      if not np.isin(roll, (0, 1)).all():
        raise ConfigError(f'{where}: a key sounds (1) or does not (0), and here is {roll[~np.isin(roll, (0, 1))][0]}')
  return result


def _pieces(found: Mapping[str, Any], name: str, path: str) -> list[Float[np.ndarray, 'frames keys']]:
  cells = found.get(name)
  if not isinstance(cells, np.ndarray) or cells.dtype != object or not cells.size:
    raise ConfigError(
      f'{path} has no cell array {name} of pieces; one of each part is needed: {", ".join(PARTS.values())}'
    )
  rolls = list(cells.ravel())
  for number, roll in enumerate(rolls, 1):
    if not isinstance(roll, np.ndarray) or roll.ndim != 2 or roll.dtype.kind not in 'biuf' or not len(roll):
      raise ConfigError(f'{path}, {name}, piece {number}: expected numbers [frames, keys]')
  return rolls
