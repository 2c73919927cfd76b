"""Reading what is to be predicted: every kind of file, names of rows, and errors of one line."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

from dl.contract.info import Info
from dl.data.reading import read_inputs
from dl.data.sources.tabular import Csv
from dl.errors import ConfigError

RNG = np.random.default_rng(0)
IMAGE = Info(image_size=(4, 5), channels=1)
TABLE = Info(feature_names=('a', 'b'), mean=(0.0, 0.0), std=(1.0, 1.0))
BYTES = Info(vocab_size=256)
CHARACTERS = Info(vocab_size=3, vocabulary=('c', 'a', 'ż'))
WORDS = Info(vocab_size=2, vocabulary=('the', 'cat'))


def whole(*arguments, **options):
  """(names, rows) of all the batches."""
  batches = list(read_inputs(*arguments, **options))
  return [n for names, _ in batches for n in names], [row for _, b in batches for row in b]


@pytest.fixture
def pictures(tmp_path):
  arrays = {}
  for name in ('a.png', 'sub/b.png', 'c.bmp'):
    path = tmp_path / 'pictures' / name
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays[str(path)] = RNG.integers(0, 256, (4, 5), np.uint8)
    Image.fromarray(arrays[str(path)]).save(path)
  (tmp_path / 'pictures' / 'notes.txt').write_text('hello')
  return tmp_path / 'pictures', arrays


def test_images_of_files_folders_and_globs(pictures):
  root, arrays = pictures
  names, rows = whole([root], IMAGE, 'image')
  assert sorted(names) == sorted(arrays)
  for name, row in zip(names, rows, strict=True):
    np.testing.assert_array_equal(row[..., 0], arrays[name])
  assert len(whole([root / '*.png'], IMAGE, 'image')[0]) == 1
  assert len(whole([str(root / 'a.png'), str(root / '**/b.png')], IMAGE, 'image')[0]) == 2
  batches = list(read_inputs([root], IMAGE, 'image', batch_size=2))
  assert [len(n) for n, _ in batches] == [2, 1] and batches[0][1].shape == (2, 4, 5, 1)
  resized = next(read_inputs([root], Info(image_size=(2, 2), channels=3), 'image'))[1]
  assert resized.shape == (3, 2, 2, 3) and resized.dtype == np.uint8


def test_tables_by_column_name(tmp_path):
  (tmp_path / 'x.csv').write_text('b,target,a\n2,?,1\n\n4,?,3\n')
  names, rows = whole([tmp_path / 'x.csv'], TABLE, 'features')
  assert [n.rpartition(':')[2] for n in names] == ['2', '4']
  np.testing.assert_array_equal(rows, [[1, 2], [3, 4]])
  (tmp_path / 'x.tsv').write_text('a\tb\n1\t2\n')
  assert whole([tmp_path / 'x.tsv'], TABLE, 'features')[1][0].tolist() == [1, 2]


def test_a_table_goes_through_the_training_sets_encoding(tmp_path):
  path = tmp_path / 'x.csv'
  path.write_text('colour,size,y\n' + ''.join(f'{"red" if i % 2 else "blue"},{i},{i % 2}\n' for i in range(20)))
  source = Csv(str(path), 'y')
  np.testing.assert_array_equal(whole([path], source.info, 'features')[1], source.columns['features'])


@pytest.mark.parametrize(
  ('table', 'says'),
  [
    ((('delimitr', ';'),), "delimitr: Format takes no argument 'delimitr'; did you mean 'delimiter'"),
    ((('dates', (('b', ('month',)),)),), 'dates: expected'),
    (('delimiter',), 'is damaged'),
  ],
)
def test_what_a_run_says_of_its_tables_is_checked(tmp_path, table, says):
  (tmp_path / 'x.csv').write_text('b,a\n2,1\n')
  with pytest.raises(ConfigError, match=rf'run.json: data.info.table.*{says}'):
    whole([tmp_path / 'x.csv'], dataclasses.replace(TABLE, table=table), 'features')


def test_npz(tmp_path):
  images = RNG.integers(0, 256, (3, 4, 5), np.uint8)
  np.savez(tmp_path / 'a.npz', x=images, y=np.zeros(3))
  np.savez(tmp_path / 'b.npz', other=images)
  np.savez(tmp_path / 'c.npz', one=images, two=images / 255)
  names, rows = whole([tmp_path / 'a.npz'], IMAGE, 'image')
  assert names[2] == f'{tmp_path}/a.npz:2'
  np.testing.assert_array_equal(np.stack(rows)[..., 0], images)
  assert len(whole([tmp_path / 'b.npz'], IMAGE, 'image')[0]) == 3
  assert whole([f'{tmp_path}/c.npz:two'], IMAGE, 'image')[1][0].dtype == np.float32
  np.savez(tmp_path / 'd.npz', features=np.ones((2, 2)))
  np.testing.assert_array_equal(whole([tmp_path / 'd.npz'], TABLE, 'features')[1], np.ones((2, 2)))
  np.savez(tmp_path / 'e.npz', tokens=np.ones((2, 6), int))
  assert whole([tmp_path / 'e.npz'], BYTES, 'tokens')[1][0].tolist() == [1] * 6 + [-1] * 2


def test_text(tmp_path):
  (tmp_path / 'a.txt').write_bytes(b'hello\nyou\n')
  (tmp_path / 'b.txt').write_bytes(b'hi')
  names, rows = whole([tmp_path], BYTES, 'tokens')
  assert names == [f'{tmp_path}/a.txt', f'{tmp_path}/b.txt']
  assert bytes(rows[0][rows[0] >= 0].astype(np.uint8)) == b'hello\nyou\n' and rows[1][2:].max() == -1
  assert len(rows[0]) == 16
  names, rows = whole([tmp_path / 'a.txt'], BYTES, 'tokens', lines=True)
  assert names == [f'{tmp_path}/a.txt:1', f'{tmp_path}/a.txt:2'] and rows[1][:3].tolist() == list(b'you')
  (tmp_path / 'c.txt').write_text('żac', encoding='utf-8')
  assert whole([tmp_path / 'c.txt'], CHARACTERS, 'tokens')[1][0].tolist() == [2, 1, 0, -1]
  (tmp_path / 'd.txt').write_text('cat the\ncat')
  assert whole([tmp_path / 'd.txt'], WORDS, 'tokens')[1][0].tolist() == [1, 0, 1, -1]


@pytest.mark.parametrize(
  ('name', 'content', 'info', 'kind', 'says'),
  [
    ('x.png', b'hello', IMAGE, 'image', 'x.png cannot be read as an image'),
    ('x.csv', b'a,b\n1,2\n', IMAGE, 'image', 'the model reads images or .npz, not .csv'),
    ('x.png', b'', TABLE, 'features', 'the model reads a .csv or .npz, not .png'),
    ('x.csv', b'a,c\n1,2\n', TABLE, 'features', "no column 'b'"),
    ('x.csv', b'a,b\n1,two\n', TABLE, 'features', "row 2, column 'b': 'two'"),
    ('x.txt', 'ćc'.encode(), CHARACTERS, 'tokens', "x.txt: character 1, 'ć', is not in the vocabulary"),
    ('x.txt', b'the dog', WORDS, 'tokens', "x.txt: word 2, 'dog', is not in the vocabulary"),
    ('x.txt', b'c', CHARACTERS, 'tokens', 'at least two tokens'),
    ('x.txt', b'\xff\xff', CHARACTERS, 'tokens', 'not UTF-8'),
    ('x.npz', b'', IMAGE, 'image', 'cannot be read as .npz'),
    ('x.txt', b'', Info(), 'image', 'did not record the size of its images'),
    ('x.txt', b'', Info(), 'features', 'did not record its features'),
    ('x.txt', b'', Info(), 'tokens', 'did not record its vocabulary'),
    ('x.txt', b'', Info(), 'sound', "nothing reads 'sound'"),
  ],
)
def test_mistakes_are_one_line(tmp_path, name, content, info, kind, says):
  (tmp_path / name).write_bytes(content)
  with pytest.raises(ConfigError) as e:
    list(read_inputs([tmp_path / name], info, kind))
  assert says in str(e.value) and '\n' not in str(e.value)


def test_missing_files_are_found_at_once(tmp_path, pictures):
  root, _ = pictures
  for path, says in (
    (root / 'A.png', "did you mean 'a.png'"),
    (root / '*.gif', 'no file matches'),
    ('/no/x', 'no file'),
  ):
    with pytest.raises(ConfigError, match=says):
      read_inputs([root, path], IMAGE, 'image')
  (tmp_path / 'void').mkdir()
  with pytest.raises(ConfigError, match=r'no \.png or \.jpg'):
    read_inputs([tmp_path / 'void'], IMAGE, 'image')


@pytest.mark.parametrize(
  ('arrays', 'suffix', 'info', 'kind', 'says'),
  [
    (dict(a=np.zeros(2), b=np.zeros(2)), '', TABLE, 'features', 'choose one as'),
    (dict(a=np.zeros(2)), ':b', TABLE, 'features', "no array 'b'"),
    (dict(x=np.zeros((2, 3))), '', TABLE, 'features', 'from 2 features a row, got the shape (2, 3)'),
    (dict(x=np.full((2, 2), np.inf)), '', TABLE, 'features', 'row 0: the features hold inf'),
    (dict(x=np.zeros((2, 6, 6))), '', IMAGE, 'image', 'from images of 4x5, got 6x6'),
    (dict(x=np.full((2, 4, 5), 9.0)), '', IMAGE, 'image', 'floats from 0 to 1'),
    (dict(x=np.zeros(2)), '', IMAGE, 'image', 'expected images'),
    (dict(x=np.full((2, 4), 300)), '', BYTES, 'tokens', 'ids go from 0 to 255'),
    (dict(x=np.zeros((2, 4))), '', BYTES, 'tokens', 'expected token ids'),
  ],
)
def test_npz_mistakes_are_one_line(tmp_path, arrays, suffix, info, kind, says):
  np.savez(tmp_path / 'x.npz', **arrays)
  with pytest.raises(ConfigError) as e:
    list(read_inputs([f'{tmp_path}/x.npz{suffix}'], info, kind))
  assert says in str(e.value) and '\n' not in str(e.value)
