"""MIDI files, by a strict reader of their own, and the picture of a piano roll."""

import struct

import numpy as np
import pytest

from dl.show import music


def read(content):
  """(ticks of a quarter note, microseconds of one, events (tick, status, data), length) by the letter of the format."""
  kind, size, form, tracks, division = struct.unpack('>4sIHHH', content[:14])
  assert (kind, size, form, tracks) == (b'MThd', 6, 0, 1)
  kind, size = struct.unpack('>4sI', content[14:22])
  assert kind == b'MTrk' and size == len(content) - 22
  at, tick, tempo, events = 22, 0, None, []

  def variable(at):
    value = 0
    while True:
      value, byte = value << 7 | content[at] & 0x7F, content[at]
      at += 1
      if byte < 0x80:
        return value, at

  while True:
    delta, at = variable(at)
    tick, status = tick + delta, content[at]
    if status == 0xFF:
      of, (length, begin) = content[at + 1], variable(at + 2)
      at = begin + length
      if of == 0x2F:
        assert length == 0 and at == len(content)
        return division, tempo, events, tick
      assert of == 0x51 and length == 3
      tempo = int.from_bytes(content[begin:at], 'big')
    else:
      count = 1 if status >> 4 == 0xC else 2
      data = content[at + 1 : at + 1 + count]
      assert all(byte < 0x80 for byte in data)
      events.append((tick, status, *data))
      at += 1 + count


def as_roll(events, division, frames, keys, lowest):
  roll, since = np.zeros((frames, keys), bool), {}
  for tick, status, *data in events:
    if status == 0x90:
      assert data[0] not in since and data[1] > 0
      since[data[0]] = tick
    elif status == 0x80:
      roll[since.pop(data[0]) // division : tick // division, data[0] - lowest] = True
  assert not since, 'every note ends'
  return roll


@pytest.mark.parametrize(('frames', 'share'), [(40, 0.3), (1, 1.0), (7, 0.0)])
def test_a_midi_file_says_the_roll(frames, share):
  roll = np.random.default_rng(0).random((frames, 88)) < share
  division, tempo, events, end = read(music.midi(roll, 21, seconds=0.25))
  assert tempo == 250_000 and end == frames * division
  np.testing.assert_array_equal(as_roll(events, division, frames, 88, 21), roll)


def test_a_long_silence_takes_several_bytes():
  roll = np.zeros((3000, 4), bool)
  roll[2999, 2] = True
  division, _, events, _ = read(music.midi(roll, 60))
  assert events[-2][0] == 2999 * division and events[-2][2] == 62


def test_a_picture_has_the_keys_that_sound():
  names = [f'{note}{octave}' for octave in range(2) for note in 'CDEFGAB']
  roll = np.zeros((20, 14))
  roll[2:9, 3] = 1
  empty = music.piano_roll([np.zeros((20, 14))], names)
  for given, colours in ((0, 1), (5, 2)):
    picture = music.piano_roll([roll, roll], names, given)
    assert picture.dtype == np.uint8 and picture.ndim == 3
    pixels = picture.reshape(-1, 3).astype(int)
    blue = (abs(pixels - [31, 119, 180]).sum(1) < 20).sum()
    grey = (abs(pixels - 153).sum(1) < 6).sum()
    assert blue > 200 and (grey > 200) == (colours == 2)
  assert not (abs(empty.reshape(-1, 3).astype(int) - [31, 119, 180]).sum(1) < 20).any()
