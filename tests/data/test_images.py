"""Image folders: decoding, splits, and errors which name the file."""

import os
import pathlib

import numpy as np
import pytest
from PIL import Image

from dl.data.make import make
from dl.data.parts import part
from dl.data.sources.images import Folder, decode, read_image
from dl.errors import ConfigError

RNG = np.random.default_rng(0)


def write(path, size=(6, 5), mode='RGB'):
  path.parent.mkdir(parents=True, exist_ok=True)
  shape = (*size, len(mode)) if len(mode) > 1 else size
  array = RNG.integers(0, 256, shape, np.uint8)
  Image.fromarray(array).save(path)
  return array


@pytest.fixture
def folder(tmp_path):
  """Ten images each of cats and dogs: (path, array of each file)."""
  root = tmp_path / 'pets'
  files = [root / c / f'{i}.png' for c in ('cat', 'dog') for i in range(10)]
  return root, {p: write(p) for p in files}


@pytest.mark.parametrize('in_memory', [False, True])
def test_class_folders(folder, in_memory):
  root, arrays = folder
  source = Folder(str(root), (6, 5), in_memory=in_memory)
  assert len(source) == 20 and source.vectorized == in_memory
  for i, (path, array) in enumerate(arrays.items()):
    np.testing.assert_array_equal(source[i]['image'], array)
    assert source[i]['label'] == (path.parent.name == 'dog')
  train, test = (part(Folder(str(root), (6, 5), in_memory=in_memory), s, validation=4) for s in ('train', 'test'))
  assert (len(train), len(test)) == (12, 4)
  assert np.bincount(test.labels).tolist() == [2, 2]
  pixels = np.stack([train[i]['image'] for i in range(12)]) / 255
  for info in (train.info, test.info):
    np.testing.assert_allclose(info.mean, pixels.mean((0, 1, 2)), rtol=1e-6)
    np.testing.assert_allclose(info.std, pixels.std((0, 1, 2)), rtol=1e-6)
    assert (info.class_names, info.class_counts) == (('cat', 'dog'), (6, 6))
    assert (info.image_size, info.channels) == ((6, 5), 3)


def test_split_folders(tmp_path):
  for split, count in (('train', 8), ('val', 3), ('test', 2)):
    for name in ('a', 'b'):
      for i in range(count):
        write(tmp_path / split / name / f'{i}.png', mode='L')
  sizes = [len(part(Folder(str(tmp_path), (4, 4), channels=1), s)) for s in ('train', 'validation', 'test', 'all')]
  assert sizes == [16, 6, 4, 26]
  (tmp_path / 'extra').mkdir()
  with pytest.raises(ConfigError, match='expected folders train, validation and test'):
    Folder(str(tmp_path), (4, 4))


def test_decoding_turns_resizes_and_converts(tmp_path):
  array = write(tmp_path / 'a.png', (8, 6))
  assert read_image(tmp_path / 'a.png', None, 3).shape == (8, 6, 3)
  grey = read_image(tmp_path / 'a.png', (4, 3), 1)
  expected = Image.fromarray(array).convert('L').resize((3, 4), Image.Resampling.BILINEAR)
  np.testing.assert_array_equal(grey[..., 0], np.asarray(expected))
  exif = Image.Exif()
  exif[0x0112] = 6  # the camera was turned
  Image.fromarray(array).save(tmp_path / 'b.png', exif=exif)
  np.testing.assert_array_equal(read_image(tmp_path / 'b.png', None, 3), np.rot90(array, -1))
  deep = np.array([[0, 257, 65535]], np.uint16)
  Image.fromarray(deep).save(tmp_path / 'c.png')
  np.testing.assert_array_equal(read_image(tmp_path / 'c.png', None, 1)[..., 0], [[0, 1, 255]])
  Image.fromarray(array).convert('P').save(tmp_path / 'd.png', transparency=bytes(range(256)))
  assert read_image(tmp_path / 'd.png', None, 3).shape == (8, 6, 3)
  assert decode((tmp_path / 'd.png').read_bytes(), None, 4).shape == (8, 6, 4)


@pytest.mark.parametrize('in_memory', [False, True])
def test_a_corrupt_file_is_named(folder, in_memory):
  root, _ = folder
  bad = root / 'cat' / '3.png'
  bad.write_bytes(bad.read_bytes()[:60])
  (root / 'dog' / 'notes.txt').write_text('not listed')
  spec = dict(name='images.Folder', path=str(root), image_size=[6, 5], split='all', batch_size=20, in_memory=in_memory)
  for read in (lambda p: p[0], lambda p: next(p.iterate(0))):
    with pytest.raises(ConfigError) as e:
      read(make(spec, train=False))
    assert str(bad) in str(e.value) and '\n' not in str(e.value)
  bad.write_text('hello')
  with pytest.raises(ConfigError, match=r'3\.png cannot be read as an image: it is not an image'):
    read_image(bad, None, 3)


def test_mistakes_are_one_line(folder, tmp_path):
  root, _ = folder
  (tmp_path / 'empty').mkdir()
  (tmp_path / 'half' / 'a').mkdir(parents=True)
  for path, options, says in (
    (tmp_path / 'pest', {}, "did you mean 'pets'"),
    (tmp_path / 'empty', {}, 'one folder a class'),
    (tmp_path / 'half', {}, 'no image in this class'),
    (root / 'cat' / '1.png', {}, 'is a file'),
    (root, dict(image_size=(0, 4)), 'image_size'),
    (root, dict(image_size=5), 'image_size'),
    (root, dict(channels=2), 'channels'),
    (root, dict(in_memory=True, resize=False), 'resize=True'),
  ):
    with pytest.raises(ConfigError) as e:
      Folder(str(path), **{'image_size': (6, 5)} | options)
    assert says in str(e.value) and '\n' not in str(e.value)


def test_what_cannot_be_listed_is_not_taken_for_nothing(folder, tmp_path, monkeypatch):
  """A folder that may not be read is not an empty one; a link that leads nowhere is a file that cannot be read."""
  root, _ = folder
  (root / 'cat' / 'link.png').symlink_to('nowhere.png')
  source = Folder(str(root), (6, 5))
  at = source.paths.index(root / 'cat' / 'link.png')
  with pytest.raises(ConfigError, match=r'link\.png cannot be read as an image: a link to nowhere\.png, which is not'):
    source[at]
  (root / 'horse').symlink_to('stable')
  with pytest.raises(ConfigError, match=r'horse is a link to stable, which is not there'):
    Folder(str(root), (6, 5))
  (root / 'horse').unlink()
  scan = os.scandir

  def closed(path):
    if pathlib.Path(path) == root / 'dog':
      raise PermissionError(13, 'Permission denied', str(path))
    return scan(path)

  monkeypatch.setattr(os, 'scandir', closed)
  with pytest.raises(ConfigError, match=r'cannot read the folder .*dog: Permission denied'):
    Folder(str(root), (6, 5))


def test_images_of_their_own_size_need_a_transform(tmp_path):
  for i in range(8):
    write(tmp_path / 'ab'[i % 2] / f'{i}.png', (8 + i, 20 - i))
  spec = dict(name='images.Folder', path=str(tmp_path), image_size=[4, 4], resize=False, split='all', batch_size=8)
  with pytest.raises(ConfigError, match="'image': examples differ in shape"):
    make(spec)[0]
  spec['transform'] = [dict(name='random_resized_crop', size=[4, 4])]
  pipeline = make(spec, seed=1)
  assert pipeline[0]['image'].shape == (8, 4, 4, 3)
  np.testing.assert_array_equal(pipeline[3]['image'], make(spec, seed=1)[3]['image'])
  assert not np.array_equal(pipeline[0]['image'], make(spec, seed=2)[0]['image'])
  for step, batch in zip(range(2, 5), pipeline.iterate(2), strict=False):
    np.testing.assert_array_equal(batch['image'], pipeline[step]['image'])
  evaluation = make(spec, seed=1, train=False), make(spec, seed=2, train=False)
  np.testing.assert_array_equal(*[p[0]['image'] for p in evaluation])
