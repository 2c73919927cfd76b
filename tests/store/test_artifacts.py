import csv
import os

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from dl.show import pictures
from dl.store import artifacts


def test_files_are_named_by_step_and_kind(tmp_path):
  paths = artifacts.write(
    tmp_path,
    1200,
    {'samples': np.zeros((8, 8, 1), np.float32), 'text': 'def f():\n  return "ü"\n', 'table': [{'a': 1}]},
  )
  assert [p.relative_to(tmp_path).as_posix() for p in paths] == [
    'artifacts/00001200_samples.png', 'artifacts/00001200_text.txt', 'artifacts/00001200_table.csv',
  ]  # fmt: skip
  assert sorted(os.listdir(tmp_path / 'artifacts')) == sorted(p.name for p in paths)
  assert paths[1].read_bytes().decode() == 'def f():\n  return "ü"\n'


@pytest.mark.parametrize('channels', [1, 3])
def test_a_small_image_is_enlarged_by_a_whole_factor(tmp_path, channels):
  image = np.random.default_rng(0).integers(0, 256, (8, 6, channels), np.uint8)
  (path,) = artifacts.write(tmp_path, 1, {'x': image})
  with Image.open(path) as file:
    assert file.mode == {1: 'L', 3: 'RGB'}[channels]
    pixels = np.asarray(file).reshape(256, 192, channels)
  np.testing.assert_array_equal(pixels[::32, ::32], image)
  np.testing.assert_array_equal(pixels[31::32, 31::32], image)


def test_a_large_image_keeps_its_size(tmp_path):
  (path,) = artifacts.write(tmp_path, 1, {'x': np.zeros((200, 300, 3), np.uint8)})
  with Image.open(path) as file:
    assert file.size == (300, 200)


def test_floats_are_clipped_and_rounded():
  pixels = pictures.to_uint8(jnp.asarray([-1.0, 0.0, 0.5, 1.0, 7.0, jnp.nan]))
  assert pixels.tolist() == [0, 0, 128, 255, 255, 0]
  assert pictures.to_uint8(jnp.asarray([0.5], jnp.bfloat16)).tolist() == [128]
  assert pictures.to_uint8(np.array([True, False])).tolist() == [255, 0]
  with pytest.raises(ValueError, match='int32'):
    pictures.to_uint8(np.zeros(3, np.int32))


def test_a_table_has_all_columns_in_order(tmp_path):
  rows = [{'label': 'a,b', 'n': 1}, {'label': 'say "c"\nd', 'score': 0.1}]
  (path,) = artifacts.write(tmp_path, 1, {'t': rows})
  with open(path, newline='', encoding='utf-8') as f:
    read = list(csv.DictReader(f))
  assert read == [
    {'label': 'a,b', 'n': '1', 'score': ''}, {'label': 'say "c"\nd', 'n': '', 'score': '0.1'},
  ]  # fmt: skip


@pytest.mark.parametrize('name', ['../x', 'a/b', '', '.hidden', 'a b'])
def test_a_name_must_be_a_file_name(tmp_path, name):
  with pytest.raises(ValueError, match='a name that a file can have'):
    artifacts.write(tmp_path, 1, {name: 'text'})


def test_what_is_no_image_is_refused(tmp_path):
  with pytest.raises(ValueError, match=r'\(4, 8, 8, 1\)'):
    artifacts.write(tmp_path, 1, {'x': np.zeros((4, 8, 8, 1))})


def test_grid_places_images_row_by_row():
  images = np.arange(5, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 3, 1), np.uint8)
  result = pictures.grid(images, columns=3)
  assert result.shape == (5, 11, 1)
  np.testing.assert_array_equal(result[:2, :3], 0)
  np.testing.assert_array_equal(result[:2, 4:7], 1)
  np.testing.assert_array_equal(result[3:, 4:7], 4)
  np.testing.assert_array_equal(result[2], 255)
  np.testing.assert_array_equal(result[3:, 8:], 255)
  assert pictures.grid(images, columns=10).shape == (2, 19, 1)
  assert pictures.grid(np.zeros((9, 4, 4, 3), np.float32)).shape == (14, 14, 3)


def test_a_plot_is_an_image_and_leaves_no_figure_open(tmp_path):
  import matplotlib.pyplot as plt

  image = pictures.curves({'a': ([0, 1], [0, 1]), 'b': ([0, 1], [1, 0])}, x='x', y='y', title='t')
  assert image.shape == (480, 720, 3) and image.dtype == np.uint8
  assert image.min() < 100 and image.max() == 255
  assert plt.get_fignums() == []
  artifacts.write(tmp_path, 1, {'plot': image})
