"""Text: windows, vocabularies, parts, and the standard library as a corpus."""

import ast
import gzip
import pathlib

import numpy as np
import pytest

from dl.contract.info import Info
from dl.data.sources import text
from dl.errors import ConfigError

SHAKESPEARE = pathlib.Path(__file__).parents[2] / '../shared/data/tiny_shakespeare/input.txt'


def decoded(source, index):
  return ''.join(source.info.vocabulary[t] for t in source[index]['tokens'])


@pytest.mark.parametrize(('length', 'stride', 'count'), [(4, None, 4), (4, 1, 14), (17, None, 1), (5, 3, 5)])
def test_windows(length, stride, count):
  tokens = np.arange(18, dtype=np.uint8)
  source = text.Windows(tokens, length, stride, Info())
  assert len(source) == count
  step = stride or length
  batch = source[np.arange(count)]['tokens']
  assert batch.dtype == np.int32
  for i, window in enumerate(batch):
    np.testing.assert_array_equal(window, tokens[i * step : i * step + length + 1])
    np.testing.assert_array_equal(source[i]['tokens'], window)
  if stride is None:  # each token but the first is a target once
    np.testing.assert_array_equal(batch[:, 1:].reshape(-1), np.arange(1, count * length + 1))


def test_characters_and_parts(tmp_path):
  content = 'żółw ' * 20
  (tmp_path / 'a.txt').write_text(content, encoding='utf-8')
  make = lambda split: text.TextFiles(str(tmp_path / 'a.txt'), 4, split, vocabulary='characters', test=0.2)
  parts = {s: make(s) for s in ('train', 'validation', 'test')}
  assert [len(p.tokens) for p in parts.values()] == [70, 10, 20]
  assert parts['test'].info.vocabulary == (' ', 'w', 'ó', 'ł', 'ż') and parts['test'].info.vocab_size == 5
  assert decoded(parts['train'], 0) == 'żółw '
  whole = ''.join(''.join(p.info.vocabulary[t] for t in p.tokens) for p in parts.values())
  assert whole == content
  assert len(make('all').tokens) == 100


def test_bytes_folders_globs_and_gzip(tmp_path):
  (tmp_path / 'b.txt').write_bytes(b'world')
  (tmp_path / 'a.txt.gz').write_bytes(gzip.compress(b'hello '))
  (tmp_path / 'c.bin').write_bytes(b'\xff\xfe')
  whole = lambda path: text.TextFiles(str(path), 1, 'all').tokens.tobytes()
  assert whole(tmp_path) == b'hello world'
  assert whole(tmp_path / '*.txt') == b'world'
  assert whole(tmp_path / 'c.bin') == b'\xff\xfe'
  parts = dict(train=str(tmp_path / 'a.txt.gz'), validation=str(tmp_path / 'b.txt'))
  source = text.TextFiles(parts, 2, 'validation')
  assert source.tokens.tobytes() == b'world' and source.info.vocab_size == 256 and source.info.vocabulary is None


@pytest.mark.parametrize(
  ('options', 'says'),
  [
    (dict(path='nope.txt'), 'there is no file nope.txt'),
    (dict(path='nope/*.txt'), 'no file matches'),
    (dict(length=0), 'length: expected'),
    (dict(length=1000), 'takes 1001 tokens'),
    (dict(stride=0), 'stride: expected'),
    (dict(split='tran'), "did you mean 'train'"),
    (dict(split='test'), "no 'test' part; set test=0.1"),
    (dict(validation=1.0), 'validation: expected a share'),
    (dict(validation=0.6, test=0.6), 'leave nothing to train on'),
    (dict(vocabulary='characters', path='latin.txt'), 'not UTF-8'),
    (dict(path='bad.gz'), 'cannot be read'),
  ],
)
def test_mistakes_are_one_line(tmp_path, monkeypatch, options, says):
  monkeypatch.chdir(tmp_path)
  pathlib.Path('a.txt').write_text('abc ' * 50)
  pathlib.Path('latin.txt').write_bytes('café '.encode('latin-1') * 50)
  pathlib.Path('bad.gz').write_bytes(b'not packed')
  with pytest.raises(ConfigError) as e:
    text.TextFiles(**dict(path='a.txt', length=8) | options)
  assert says in str(e.value) and '\n' not in str(e.value)


def test_the_standard_library_is_code_split_by_file():
  parts = {s: text.StandardLibrary(128, s) for s in ('train', 'validation', 'test')}
  sizes = np.array([len(p.tokens) for p in parts.values()])
  assert sizes.sum() > 5e6
  np.testing.assert_allclose(sizes / sizes.sum(), [0.9, 0.05, 0.05], atol=0.05)
  files = dict(text.library_files())
  assert 'argparse.py' in files and 'json/decoder.py' in files
  assert not [n for n in files if {'test', 'tests', 'site-packages'} & set(n.split('/'))]
  ast.parse(files['argparse.py'])
  owner = text.split_of('argparse.py')
  for split, part in parts.items():
    assert (files['argparse.py'] in part.tokens.tobytes()) == (split == owner)
  assert sizes.sum() == sum(len(c) for c in files.values())
  with pytest.raises(ConfigError, match="did you mean 'train'"):
    text.StandardLibrary(8, 'trian')


@pytest.mark.skipif(not SHAKESPEARE.exists(), reason='needs ../shared/data')
def test_tiny_shakespeare():
  train, validation = (
    text.TextFiles(str(SHAKESPEARE), 64, s, vocabulary='characters') for s in ('train', 'validation')
  )
  assert (len(train.tokens), len(validation.tokens)) == (1003854, 111540) or len(train.tokens) == 1003855
  assert train.info.vocab_size == 65
  assert decoded(train, 0).startswith('First Citizen:\nBefore we proceed')
