"""Piano rolls: pieces of unequal length by part, names of keys, and files that are none."""

import pathlib

import numpy as np
import pytest
from scipy import io

from dl.data.parts import part
from dl.data.sources.music import PianoRolls
from dl.errors import ConfigError

JSB = pathlib.Path(__file__).parents[2] / '../shared/data/jsb_chorales/JSB_Chorales.mat'


def write(path, **parts):
  cells = {}
  for name, pieces in parts.items():
    cells[name] = np.empty((1, len(pieces)), object)
    for i, piece in enumerate(pieces):
      cells[name][0, i] = piece
  io.savemat(path, cells)
  return str(path)


def roll(frames, keys=88, seed=0):
  return (np.random.default_rng(seed).random((frames, keys)) < 0.1).astype(np.uint8)


def test_pieces_end_in_frames_of_nan_and_parts_are_as_long_as_their_longest(tmp_path):
  pieces = [roll(5), roll(3, seed=1)], [roll(9, seed=2)], [roll(4, seed=3)]
  path = write(tmp_path / 'a.mat', **dict(zip(('traindata', 'validdata', 'testdata'), pieces, strict=True)))
  train = part(PianoRolls(path), 'train')
  series = train[np.arange(2)]['series']
  assert series.shape == (2, 5, 88)
  np.testing.assert_array_equal(series[0], pieces[0][0])
  np.testing.assert_array_equal(series[1, :3], pieces[0][1])
  assert np.isnan(series[1, 3:]).all()
  assert train.info.feature_names[0] == 'A0' and train.info.feature_names[39] == 'C4'
  assert train.info.feature_names[-1] == 'C8' and train.info.fact('lowest_pitch') == 21
  assert part(PianoRolls(path), 'validation')[0]['series'].shape == (9, 88)


@pytest.mark.parametrize(
  ('parts', 'words'),
  [
    (dict(traindata=[roll(3)], validdata=[roll(3)]), 'has no cell array testdata'),
    (dict(traindata=[roll(3)], validdata=[roll(3, 40)], testdata=[roll(3)]), 'validdata, piece 1: has 40 keys'),
    (dict(traindata=[roll(3) * 2], validdata=[roll(3)], testdata=[roll(3)]), 'and here is 2'),
    (dict(traindata=[roll(3)], validdata=[roll(3)], testdata=['abc']), 'testdata, piece 1: expected numbers'),
  ],
)
def test_what_is_no_set_of_piano_rolls_is_named(tmp_path, parts, words):
  with pytest.raises(ConfigError, match=words):
    PianoRolls(write(tmp_path / 'a.mat', **parts))


def test_what_is_no_mat_file_is_named(tmp_path):
  (tmp_path / 'a.mat').write_bytes(b'no such thing')
  with pytest.raises(ConfigError, match=r'a\.mat cannot be read as a \.mat file'):
    PianoRolls(str(tmp_path / 'a.mat'))
  with pytest.raises(ConfigError, match='there is no file'):
    PianoRolls(str(tmp_path / 'b.mat'))


@pytest.mark.skipif(not JSB.exists(), reason='needs ../shared/data')
def test_the_chorales():
  whole = PianoRolls(str(JSB))
  assert {name: len(index) for name, index in whole.parts.items()} == {'train': 229, 'validation': 76, 'test': 77}
  frames = {name: int((~np.isnan(part(whole, name).columns['series'][..., 0])).sum()) for name in whole.parts}
  assert frames == {'train': 13807, 'validation': 4602, 'test': 4725}
