"""Piano rolls for people: a MIDI file to hear, and a picture to see."""

import struct
from collections.abc import Sequence

import numpy as np
from jaxtyping import Num, UInt8

from dl.show.pictures import figure, rasterize

TICKS = 96
"""Of a MIDI file, in a frame."""

_HEADER, _TRACK = b'MThd', b'MTrk'


def midi(roll: Num[np.ndarray, 'frames keys'], lowest: int, seconds: float = 0.5) -> bytes:
  """A Standard MIDI File, format 0, of one instrument: a piano.

  A key that sounds in frames which follow each other is held, since a roll does not say where a note is struck again.

  Args:
    roll: not 0 where a key sounds.
    lowest: MIDI number of the first key.
    seconds: of a frame, which is written as a quarter note: from 0.000001 to 16.777215, which a file has room for.
  """
  sounds = np.pad(np.asarray(roll) != 0, ((1, 1), (0, 0)))
  begins, ends = (sounds[1:] & ~sounds[:-1]), (~sounds[1:] & sounds[:-1])
  track, passed = b'\x00\xff\x51\x03' + round(seconds * 1e6).to_bytes(3, 'big') + b'\x00\xc0\x00', 0
  for frame in range(len(begins)):
    for status, keys in ((0x80, ends[frame]), (0x90, begins[frame])):  # what ends makes room for what begins
      for key in np.flatnonzero(keys):
        track += _variable((frame - passed) * TICKS) + bytes((status, lowest + int(key), 80 if status == 0x90 else 0))
        passed = frame
  track += _variable((len(roll) - passed) * TICKS) + b'\xff\x2f\x00'
  header = struct.pack('>4sIHHH', _HEADER, 6, 0, 1, TICKS)
  return header + struct.pack('>4sI', _TRACK, len(track)) + track


def _variable(number: int) -> bytes:
  """A quantity of variable length: seven bits a byte, the most significant first, whose last has no top bit."""
  result = [number & 0x7F]
  while number := number >> 7:
    result.append(0x80 | (number & 0x7F))
  return bytes(reversed(result))


def piano_roll(
  rolls: Sequence[Num[np.ndarray, 'frames keys']], names: Sequence[str], given: int = 0
) -> UInt8[np.ndarray, 'height width 3']:
  """Pieces one below the other, of those keys which sound in any of them.

  Args:
    rolls: not 0 where a key sounds.
    names: of the keys.
    given: frames at the beginning which were not drawn, but given; they are grey.
  """
  rolls = [np.asarray(roll) != 0 for roll in rolls]
  used = np.flatnonzero(np.any([roll.any(0) for roll in rolls], 0))
  low, high = (int(used[0]), int(used[-1]) + 1) if len(used) else (0, len(names))
  frames = max(map(len, rolls))
  fig = figure(max(6.0, min(0.11 * frames, 14.0)), (0.085 * (high - low) + 0.35) * len(rolls) + 0.5)
  panels = np.atleast_1d(fig.subplots(len(rolls), 1, sharex=True))
  ticks = [key for key in range(low, high) if names[key].startswith(('C', 'E', 'G')) and '#' not in names[key]]
  for axes, roll in zip(panels, rolls, strict=True):
    for key in range(low, high):
      for first, last in _runs(roll[:, key]):
        before = min(last, given)
        if first < before:
          axes.broken_barh([(first, before - first)], (key - 0.45, 0.9), facecolor='0.6')
        if max(first, given) < last:
          axes.broken_barh([(max(first, given), last - max(first, given))], (key - 0.45, 0.9), facecolor='C0')
    axes.set_yticks(ticks, [names[key] for key in ticks], fontsize=8)
    axes.set(xlim=(0, frames), ylim=(low - 0.8, high - 0.2))
    axes.grid(axis='y', alpha=0.35)
    axes.set_axisbelow(True)
    axes.spines[['top', 'right']].set_visible(False)
  panels[-1].set_xlabel('frame')
  return rasterize(fig)


def _runs(sounds: Num[np.ndarray, ' frames']) -> list[tuple[int, int]]:
  """(first frame, the one after the last) of each note of a key."""
  edges = np.flatnonzero(np.diff(np.pad(sounds.astype(np.int8), 1)))
  return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))
