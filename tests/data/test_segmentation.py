"""Pairs of images and label maps: what belongs together, splits by file, tiles, augmentation of both."""

import pathlib
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
from PIL import Image

from dl.config import build
from dl.data import augment
from dl.data.augment import maps
from dl.data.make import make
from dl.data.parts import part
from dl.data.sources.segmentation import Pairs
from dl.errors import ConfigError

RNG = np.random.default_rng(0)
KEY = jax.random.key(0)
FLY = pathlib.Path(__file__).parents[2] / '../shared/data/vnc_em/stack1.zip'
SPLITS = dict(train=':3', test='3:')


@pytest.fixture
def folder(tmp_path):
  """Five images of 12x16, named as the sets of the world are: raw/3.tif and maps/label0003.png."""
  for name in ('raw', 'maps'):
    (tmp_path / name).mkdir()
  for i in range(5):
    Image.fromarray(RNG.integers(0, 256, (12, 16), np.uint8)).save(tmp_path / 'raw' / f'{i}.tif')
    Image.fromarray(RNG.integers(0, 3, (12, 16), np.uint8)).save(tmp_path / 'maps' / f'label{i:04}.png')
  return tmp_path


def read(folder, split='train', **options):
  return part(Pairs(str(folder), **(dict(images='raw', labels='maps', splits=SPLITS) | options)), split)


def names(read):
  return tuple(read.whole.names[i] for i in read.index)


def test_pairs_by_number_and_splits_by_file(folder):
  train, test = read(folder), read(folder, split='test')
  assert (names(train), names(test)) == (('0', '1', '2'), ('3', '4'))
  example = test[1]
  assert np.array_equal(example['image'][..., 0], np.asarray(Image.open(folder / 'raw/4.tif')))
  assert np.array_equal(example['label_map'], np.asarray(Image.open(folder / 'maps/label0004.png')))
  assert example['image'].dtype == np.uint8 and example['label_map'].dtype == np.int32
  assert test[[1, 0]]['label_map'].shape == (2, 12, 16) and test[[1]]['label_map'].dtype == np.int32
  # Facts are of the training part, whichever part is read.
  pixels = train[[0, 1, 2]]
  for info in (train.info, test.info):
    assert info.mean[0] == pytest.approx(pixels['image'].mean() / 255)
    assert info.class_counts == tuple(np.bincount(pixels['label_map'].ravel()))
    assert (info.num_classes, info.image_size, info.channels) == (3, (12, 16), 1)


def test_a_zip_file_is_as_good_as_a_folder(folder, tmp_path):
  with zipfile.ZipFile(tmp_path / 'set.zip', 'w') as file:
    for path in sorted(folder.rglob('*')):
      if path.suffix in ('.tif', '.png'):
        file.write(path, pathlib.PurePath('set', path.relative_to(folder)))
  a, b = read(folder), read(tmp_path / 'set.zip', images='set/raw', labels='set/maps')
  assert a.info == b.info and all(np.array_equal(a.columns[k], b.columns[k]) for k in a.columns)
  (tmp_path / 'no.zip').write_text('no')
  with pytest.raises(ConfigError, match=r'no\.zip is not a \.zip file'):
    read(tmp_path / 'no.zip')


def test_equal_names_come_before_numbers(tmp_path):
  for name, image in (('a1_x2', 10), ('b1_x2', 20)):
    for side in ('images', 'labels'):
      (tmp_path / side).mkdir(exist_ok=True)
      Image.fromarray(np.full((4, 4), image if side == 'images' else image // 10 - 1, np.uint8)).save(
        tmp_path / side / f'{name}.png'
      )
  pairs = Pairs(str(tmp_path))
  assert pairs.names == ('a1_x2', 'b1_x2') and pairs.info.num_classes == 2
  assert [int(pairs[i]['label_map'].max()) for i in range(2)] == [0, 1]


@pytest.mark.parametrize('chosen, expected', [('-2:', '34'), ([4, 0], '40'), (['2'], '2'), ('1:-2', '12')])
def test_parts_are_ranges_numbers_or_names(folder, chosen, expected):
  train = [i for i in range(5) if str(i) not in expected]
  assert names(read(folder, split='test', splits=dict(train=train, test=chosen))) == tuple(expected)


def test_a_set_without_parts_is_cut_like_any_other(folder):
  source = Pairs(str(folder), images='raw', labels='maps', tile=(6, 8))
  assert [len(part(source, split)) for split in ('train', 'test', 'all')] == [4 * 4, 4, 5 * 4]  # a fifth of the images
  tested = [names(part(source, 'test', folds=5, fold=fold)) for fold in range(5)]
  assert sorted(tested) == [('0',), ('1',), ('2',), ('3',), ('4',)]
  spec = dict(
    name='segmentation.Pairs', path=str(folder), images='raw', labels='maps', tile=(6, 8), batch_size=2, validation=1
  )
  assert [len(make(spec, split=split, train=False).source) for split in ('train', 'validation', 'test')] == [12, 4, 4]
  assert source[0]['image'].shape == (12, 16, 1)  # the whole set has whole images


def test_tiles_cover_each_pixel_once(folder):
  whole, tiles = read(folder), read(folder, tile=(6, 4))
  assert len(tiles) == 3 * 2 * 4 and tiles.info.image_size == (12, 16)
  for name in ('image', 'label_map'):
    cut = tiles.columns[name].reshape(3, 2, 4, 6, 4, -1)
    joined = cut.transpose(0, 1, 3, 2, 4, 5).reshape(3, 12, 16, -1)
    assert np.array_equal(joined.squeeze(), whole.columns[name].squeeze())
  filled = read(folder, tile=10, void_label=255)
  assert filled[0]['label_map'].shape == (10, 10) and len(filled) == 3 * 2 * 2
  real = filled.columns['label_map'] != 255
  assert real.sum() == 3 * 12 * 16
  assert np.array_equal(np.bincount(filled.columns['label_map'][real]), whole.info.class_counts)
  with pytest.raises(ConfigError, match='tile: 5x5 does not divide an image of 12x16; void_label=255'):
    read(folder, tile=5)


def test_images_of_several_sizes_need_tiles(folder):
  Image.fromarray(np.zeros((6, 8), np.uint8)).save(folder / 'raw/4.tif')
  Image.fromarray(np.zeros((6, 8), np.uint8)).save(folder / 'maps/label0004.png')
  with pytest.raises(ConfigError, match='images of 6x8 and of 12x16; give a tile'):
    read(folder, split='all')
  assert len(read(folder, split='all', tile=(6, 8))) == 4 * 4 + 1


def test_values_palettes_and_void(folder):
  for i in range(5):
    coded = Image.fromarray(np.asarray([[0, 255], [128, 7]], np.uint8).repeat(6, 0).repeat(8, 1), 'L')
    coded.save(folder / 'maps' / f'label{i:04}.png')
  labels = read(folder, values=(0, 128, 255), void_label=7)[0]['label_map']
  assert labels[::6, ::8].tolist() == [[0, 2], [1, 7]]
  assert read(folder, values=(0, 128, 255), void_label=7).info.class_counts == (144, 144, 144)
  with pytest.raises(ConfigError, match=r'label0000\.png holds 7, which is not among the values'):
    read(folder, values=(0, 128, 255))
  palette = Image.fromarray(np.ones((12, 16), np.uint8), 'P')
  palette.putpalette([9, 9, 9, 200, 100, 50])
  palette.save(folder / 'maps/label0000.png')
  Image.fromarray(np.eye(12, 16, dtype=bool)).save(folder / 'maps/label0001.png')
  read_labels = read(folder, split='a', splits=dict(train=':3', a=[3], b=[4]), class_names=tuple('x' * 256))
  assert read_labels.info.num_classes == 256
  both = read(folder, splits=dict(train=':2')).columns['label_map']
  assert (both[0] == 1).all() and np.array_equal(both[1], np.eye(12, 16))


@pytest.mark.parametrize(
  'change, options, says',
  [
    (None, dict(images='row'), "there is no folder 'row'; did you mean 'raw'"),
    ('raw/2.tif', {}, r'maps/label0002\.png has no partner in raw$'),
    ('maps/label0001.png', {}, r'raw/1\.tif has no partner in maps$'),
    (None, dict(splits=dict(train=':3', test='2:')), 'splits.test: 2 is in the training part, too'),
    (None, dict(splits=dict(test='2:')), "splits: has no 'train', only test"),
    (None, dict(splits=dict(train='9:')), r"splits\.train: '9:' is empty; there are 5 images"),
    (None, dict(splits=dict(train='two')), "splits.train: expected a range such as ':15'"),
    (None, dict(splits=dict(train=['7'])), "there is no image '7' among the 5 from 0 to 4"),
    (None, dict(split='tset'), "there is no split 'tset'; did you mean 'test'"),
    (None, dict(class_names=('a', 'b')), r'label000\d\.png holds 2, but there are 2 classes; set values or void_label'),
    (None, dict(tile=0), r'tile: expected \(height, width\), got 0'),
    (None, dict(channels=2), 'channels: expected 1, 3 or 4'),
    (None, dict(values=(0, 300)), 'values: expected whole numbers below 256'),
  ],
)
def test_mistakes_are_one_line(folder, change, options, says):
  if change:
    (folder / change).unlink()
  with pytest.raises(ConfigError, match=says) as e:
    read(folder, **options)
  assert '\n' not in str(e.value)


def test_bad_files_are_named(folder):
  (folder / 'raw/0.tif').write_text('no image')
  with pytest.raises(ConfigError, match=r'raw/0\.tif cannot be read as an image'):
    read(folder)
  Image.fromarray(np.zeros((12, 16, 3), np.uint8)).save(folder / 'maps/label0000.png')
  Image.fromarray(np.zeros((12, 16), np.uint8)).save(folder / 'raw/0.tif')
  with pytest.raises(ConfigError, match=r'label0000\.png is no label map'):
    read(folder)
  Image.fromarray(np.zeros((4, 4), np.uint8)).save(folder / 'maps/label0000.png')
  with pytest.raises(ConfigError, match=r'label0000\.png has the size \(4, 4\), its image \(12, 16\)'):
    read(folder)
  with pytest.raises(ConfigError, match='there is no folder'):
    read(folder / 'nowhere')


def test_a_config_names_it_and_trains_on_crops_but_is_judged_on_whole_images(folder):
  spec = dict(
    name='segmentation.Pairs', path=str(folder), images='raw', labels='maps', splits=SPLITS, tile=(6, 8), batch_size=4,
    augment=[dict(name='dl.data.augment.maps.random_crop_map', size=4)],
  )  # fmt: skip
  train = make(spec, split='train')
  assert train[0]['label_map'].shape == (4, 6, 8)
  batch = {k: jnp.asarray(v) for k, v in train[0].items()}
  assert train.augment(KEY, batch)['label_map'].shape == (4, 4, 4)
  test = make({k: v for k, v in spec.items() if k != 'augment'} | dict(tile=None), split='test', train=False)
  assert test[0]['image'].shape == (4, 12, 16, 1) and test[0]['mask'].tolist() == [1, 1, 0, 0]


# Augmentation of both.


def marked(n=64, h=8, w=8):
  """Images whose pixels are all different, and maps of the same numbers."""
  labels = jnp.tile(jnp.arange(h * w, dtype=jnp.int32).reshape(1, h, w), (n, 1, 1))
  return {'image': labels[..., None] / 64.0, 'label_map': labels, 'mask': jnp.ones(n)}


def run(name, batch, **arguments):
  function = build.resolve(f'dl.data.augment.maps.{name}', 'dl.data.augment', 'here')
  return jax.jit(lambda key, batch: function(key, batch, **arguments))(KEY, batch)


@pytest.mark.parametrize('name, options', [('random_dihedral', {}), ('random_crop_map', dict(size=(5, 6)))])
def test_images_and_maps_move_alike_and_each_by_itself(name, options):
  out = run(name, marked(), **options)
  np.testing.assert_array_equal(out['image'][..., 0] * 64, out['label_map'])
  assert out['label_map'].dtype == jnp.int32
  assert len({np.asarray(x).tobytes() for x in out['label_map']}) > 6
  np.testing.assert_array_equal(out['mask'], 1)


def test_dihedral_has_all_eight_symmetries_and_a_rectangle_four():
  square = np.arange(64).reshape(8, 8)
  eight = {np.rot90(x, k).tobytes() for k in range(4) for x in (square, square.T)}
  out = np.asarray(run('random_dihedral', marked(200))['label_map'], square.dtype)
  assert {x.tobytes() for x in out} == eight
  rectangle = np.arange(24).reshape(4, 6)
  out = np.asarray(run('random_dihedral', marked(200, 4, 6))['label_map'], square.dtype)
  assert {x.tobytes() for x in out} == {rectangle[::a, ::b].tobytes() for a in (1, -1) for b in (1, -1)}


def test_crops_are_parts_at_every_place():
  square = np.arange(64).reshape(8, 8)
  out = np.asarray(run('random_crop_map', marked(200), size=6)['label_map'], square.dtype)
  assert {x.tobytes() for x in out} == {square[a : a + 6, b : b + 6].tobytes() for a in range(3) for b in range(3)}
  with pytest.raises(ConfigError, match='9x9 is no part of images of 8x8'):
    run('random_crop_map', marked(), size=9)


def test_elastic_deforms_smoothly_and_both_alike():
  y, x = np.mgrid[:32, :32]
  image = jnp.tile(jnp.asarray(np.stack([y, x], -1) / 31.0, jnp.float32)[None], (16, 1, 1, 1))
  labels = jnp.tile(jnp.asarray(y >= 16, jnp.int32)[None], (16, 1, 1))
  out = run('random_elastic', {'image': image, 'label_map': labels}, std=2.0)
  rows, columns = (np.asarray(out['image'][..., i]) * 31 for i in range(2))
  moved = np.stack([rows - y, columns - x])[:, :, 8:24, 8:24]
  assert 0.8 < moved.std() < 3 and np.abs(np.diff(moved, axis=2)).max() < 1
  # A pixel's label is that of the place which it comes from, but for those on the border itself.
  clear = np.abs(rows - 15.5) > 0.51
  assert ((rows > 15.5) == np.asarray(out['label_map']))[clear].all()
  still = run('random_elastic', {'image': image, 'label_map': labels}, std=0.0)
  np.testing.assert_allclose(still['image'], image, atol=1e-6)
  np.testing.assert_array_equal(still['label_map'], labels)


def test_elastic_is_scipys():
  image = RNG.random((1, 16, 16, 1)).astype(np.float32)
  labels = RNG.integers(0, 4, (1, 16, 16)).astype(np.int32)
  out = run('random_elastic', {'image': jnp.asarray(image), 'label_map': jnp.asarray(labels)}, std=3.0, grid=3)
  coarse = 3.0 * jax.random.normal(KEY, (1, 2, 3, 3))
  at = np.asarray(jax.image.resize(coarse, (1, 2, 16, 16), 'cubic'))[0] + np.mgrid[:16, :16]
  expected = scipy.ndimage.map_coordinates(image[0, ..., 0], at, order=1, mode='mirror')
  np.testing.assert_allclose(out['image'][0, ..., 0], expected, atol=1e-4)
  nearest = scipy.ndimage.map_coordinates(labels[0], at, order=0, mode='mirror')
  assert (np.asarray(out['label_map'][0]) == nearest).mean() > 0.98


def test_mistakes_of_augmentation():
  for function in ('random_dihedral', 'random_elastic'):
    with pytest.raises(ConfigError, match=f'{function} needs image and label_map in a batch, got image'):
      run(function, {'image': jnp.ones((1, 4, 4, 1))})
  with pytest.raises(ConfigError, match=r'images \(4, 4\) and label maps \(4, 5\) differ'):
    run('random_dihedral', {'image': jnp.ones((1, 4, 4, 1)), 'label_map': jnp.ones((1, 4, 5), jnp.int32)})
  with pytest.raises(ConfigError, match='a grid of at least 2'):
    maps.random_elastic(KEY, marked(), grid=1)
  with pytest.raises(ConfigError, match=r'augment\.0\.sise: random_crop_map takes no argument'):
    augment.make([dict(name='dl.data.augment.maps.random_crop_map', sise=4)])


@pytest.mark.skipif(not FLY.exists(), reason='needs ../shared/data')
def test_the_sections_of_the_fly():
  source = Pairs(str(FLY), images='stack1/raw', labels='stack1/membranes', splits=dict(train=':15', test='15:'))
  found = part(source, 'test')
  assert len(found) == 5 and found[0]['image'].shape == (1024, 1024, 1)
  assert found.info.num_classes == 2 and sum(found.info.class_counts) == 15 * 2**20
  # Membranes are dark.
  example = found[0]
  assert example['image'][example['label_map'] == 1].mean() + 40 < example['image'][example['label_map'] == 0].mean()
