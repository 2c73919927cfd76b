"""Labelled time series in .ts files: parts, classes, lengths, and mistakes by their line."""

import pathlib

import numpy as np
import pytest

from dl.contract.info import Info
from dl.data.make import make
from dl.data.parts import part
from dl.data.reading import read_inputs
from dl.data.sources.ucr import Ts, read_ts
from dl.errors import ConfigError
from dl.models.conv1d import FCN
from dl.tasks.classify import Classify

UCR = pathlib.Path(__file__).parents[2] / '../shared/data/ucr'
HEADER = '#A comment: with a colon\n@problemName Two\n@timeStamps false\n@classLabel true up down\n@data\n'
TRAIN = '1,2,3:4,5,6:up\n3,2,1:6,5,4:down\n1,2,2:0,0,0:up\n'
TEST = '\n9,8,7:1,1,1:down\n'


def write(folder, train=HEADER + TRAIN, test=HEADER + TEST):
  (folder / 'Two_TRAIN.ts').write_text(train)
  (folder / 'Two_TEST.ts').write_text(test)
  return str(folder)


def test_parts_classes_and_statistics_of_the_training_part(tmp_path):
  folder = write(tmp_path)
  train, test = (part(Ts(folder, 'Two'), split) for split in ('train', 'test'))
  assert train.columns['series'].shape == (3, 3, 2) and train.columns['label'].tolist() == [0, 1, 0]
  assert train.columns['series'][0].tolist() == [[1, 4], [2, 5], [3, 6]]
  assert test.columns['series'].tolist() == [[[9, 1], [8, 1], [7, 1]]]
  assert test.info.class_names == ('up', 'down') and test.info.class_counts == (2, 1)
  np.testing.assert_allclose(test.info.mean, train.columns['series'].mean((0, 1)))
  assert test.paths == [f'{folder}/Two_TEST.ts, line 7'] and test.info.fact('length') == 3


def test_shorter_series_end_in_nan_and_need_a_network_that_knows(tmp_path):
  folder = write(tmp_path, HEADER + '1,2,3:4,5,6:up\n3:6:down\n')
  source = part(Ts(folder, 'Two'))
  np.testing.assert_array_equal(source.columns['series'][1], [[3, 6], [np.nan] * 2, [np.nan] * 2])
  np.testing.assert_allclose(source.info.mean, [9 / 4, 21 / 4])
  batch = make(dict(name='ucr.Ts', path=folder, dataset='Two', batch_size=2))[0]
  shapes = {k: np.broadcast_to(v, v.shape) for k, v in batch.items()}
  with pytest.raises(
    ConfigError, match=r'config.model.padded: the series of the data differ in length; set it to True'
  ):
    Classify(model=FCN(2), info=source.info).check(shapes)
  Classify(model=FCN(2, padded=True), info=source.info).check(shapes)


@pytest.mark.parametrize(
  ('train', 'says'),
  [
    (HEADER + TRAIN + '1,2,x:1,2,3:up\n', "Two_TRAIN.ts, line 9, channel 0: 'x' is not a number"),
    (HEADER + '1,?,3:1,2,3:up\n', "line 6, channel 0: '?' is not a number; fill in what is missing"),
    (HEADER + '1,2,3:1,nan,3:up\n', 'line 6, channel 1: not all of its values are finite'),
    (HEADER + '1,2,3:1,2:up\n', r'line 6: expected values and, behind a colon, a class; channels of [3, 2]'),
    (HEADER + 'up\n', 'line 6: expected values and, behind a colon, a class; channels of []'),
    (HEADER + TRAIN + '1,2,3:up\n', 'line 9: 1 channels, but the first series has 2'),
    (HEADER + '1,2,3:1,2,3:left\n', "line 6: the class 'left' is none of up, down"),
    (HEADER, 'Two_TRAIN.ts has no series'),
    (TRAIN, 'Two_TRAIN.ts has no series: no line @data'),
    (HEADER.replace('@classLabel true up down', '@classLabel false') + TRAIN, 'its header names no classes'),
    (HEADER.replace('@timeStamps false', '@timestamps True') + TRAIN, 'its series have time stamps'),
    (HEADER.replace('up down', 'up down left') + TRAIN, 'the classes of Two in training are'),
    (HEADER + '1,2,3:up\n', 'the parts of Two differ in their number of channels'),
  ],
)
def test_mistakes_are_one_line(tmp_path, train, says):
  folder = write(tmp_path, train)
  with pytest.raises(ConfigError) as e:
    Ts(folder, 'Two')
  assert says in str(e.value) and '\n' not in str(e.value)


def test_names_that_are_not_there(tmp_path):
  write(tmp_path)
  with pytest.raises(ConfigError, match=r"there is no .*Tow_TRAIN.ts; did you mean 'Two'"):
    Ts(str(tmp_path), 'Tow')
  with pytest.raises(ConfigError, match='there is no folder'):
    Ts(str(tmp_path / 'none'), 'Two')
  (tmp_path / 'Two_TEST.ts').write_bytes(b'\xff\xfe')
  with pytest.raises(ConfigError, match=r'Two_TEST\.ts cannot be read as text'):
    Ts(str(tmp_path), 'Two')


def test_a_trained_run_reads_other_files(tmp_path):
  folder = write(tmp_path)
  info = part(Ts(folder, 'Two')).info
  ((names, read),) = read_inputs([f'{folder}/Two_TRAIN.ts'], info, 'series')
  assert names == [f'{folder}/Two_TRAIN.ts:{line}' for line in (6, 7, 8)] and read.shape == (3, 3, 2)
  longer = write(tmp_path, HEADER + '1,2,3,4:1,2,3,4:up\n')
  with pytest.raises(ConfigError, match=r'line 6: expected series \[batch, 3, 2\], got the shape \(1, 4, 2\)'):
    list(read_inputs([f'{longer}/Two_TRAIN.ts'], info, 'series'))
  ragged = write(tmp_path, HEADER + '1,2,3:1,2,3:up\n3:6:down\n')
  ((_, read),) = read_inputs([f'{ragged}/Two_TRAIN.ts'], Info(mean=(0.0, 0.0), std=(1.0, 1.0)), 'series')
  assert np.isnan(read).sum() == 4
  (tmp_path / 'a.csv').write_text('a,b\n1,2\n')
  with pytest.raises(ConfigError, match=r'learned from series of no table, so only .ts and .npz can be read'):
    list(read_inputs([tmp_path / 'a.csv'], info, 'series'))


@pytest.mark.skipif(not UCR.exists(), reason='needs ../shared/data')
@pytest.mark.parametrize(
  ('name', 'train', 'test', 'classes'),
  [('GunPoint', (50, 150, 1), 150, 2), ('OSULeaf', (200, 427, 1), 242, 6), ('JapaneseVowels', (270, 29, 12), 370, 9)],
)
def test_sets_of_the_archive(name, train, test, classes):
  source = Ts(str(UCR), name)
  assert part(source).columns['series'].shape == train and len(part(source, 'test')) == test
  assert part(source).info.num_classes == classes and part(source).info.fact('ragged') == (classes == 9 or None)
  if classes == 9:
    lengths = [len(s) for s in read_ts(UCR / f'{name}_TRAIN.ts').series]
    assert (min(lengths), max(lengths)) == (7, 26)
