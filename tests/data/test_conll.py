"""Sentences in columns: words, characters and tags, mistakes by their line, and new sentences."""

import pathlib

import numpy as np
import pytest

from dl.contract import kinds
from dl.data.reading import read_inputs
from dl.data.sources.conll import Conll
from dl.errors import ConfigError

NCBI = pathlib.Path(__file__).parents[2] / '../shared/data/ncbi_disease'
TRAIN = '-DOCSTART-\tO\n\nBreast\tB-D\ncancer\tI-D\nin\tO\n1999\tO\n\nin\tO\ncancer\tB-D\n'
TEST = 'the\tO\nbreast\tB-D\n'


@pytest.fixture
def paths(tmp_path):
  (tmp_path / 'train.tsv').write_text(TRAIN)
  (tmp_path / 'test.tsv').write_text(TEST)
  return dict(train=str(tmp_path / 'train.tsv'), test=str(tmp_path / 'test.tsv'))


def test_words_characters_and_tags(paths):
  options = dict(lowercase=True, digits=True, characters=6)
  train, test = (Conll(paths, split, **options) for split in ('train', 'test'))
  assert train.info.vocabulary == ('cancer', 'in', '0000', 'breast', '<unk>') and train.info == test.info
  assert train.columns['words'].shape == (2, 4, 7) and test.columns['words'].shape == (1, 2, 7)
  assert train.columns['words'][:, :, 0].tolist() == [[3, 0, 1, 2], [1, 0, -1, -1]]
  assert test.columns['words'][0, :, 0].tolist() == [4, 3]
  letters = train.info.fact('characters')
  assert ''.join(letters[i] for i in train.columns['words'][0, 0, 1:]) == 'Breast'
  assert test.columns['words'][0, 0, 1:].tolist() == [letters.index(x) for x in ('t', '\ufffd', 'e')] + [-1] * 3
  assert train.info.class_names == ('O', 'B-D', 'I-D')
  assert train.columns['tags'].tolist() == [[1, 2, 0, 0], [0, 1, -1, -1]]
  assert train.paths == [f'{paths["train"]}, line 3', f'{paths["train"]}, line 8']


def test_only_sentences_to_learn_from_are_cut(paths):
  train, test = (Conll(paths, split, length=1, characters=0, min_count=2) for split in ('train', 'test'))
  assert train.columns['words'].shape == (2, 1, 1) and test.columns['tags'].shape == (1, 2)
  assert train.info.vocabulary == ('cancer', 'in', '<unk>')


@pytest.mark.parametrize(
  ('content', 'says'),
  [
    ('a\tB-D\nb\tO\nc\tI-D\n', 'line 3: I-D comes after O; a span begins with B-D'),
    ('a\tB-D\nb\tI-E\n', 'line 2: I-E comes after B-D; a span begins with B-E'),
    ('a\tB-D\n\nb\tI-D\n', 'line 3: I-D begins a sentence; a span begins with B-D'),
    ('a\tS-D\n', "line 1: the tag is 'S-D'; tags are O, B-NAME"),
    ('a\tO\n\tO\n', 'line 2: there is no column 0, of 2'),
    ('\n', 'has no words'),
  ],
)
def test_mistakes_by_their_line(tmp_path, content, says):
  (tmp_path / 'x.tsv').write_text(content)
  with pytest.raises(ConfigError, match=says):
    Conll(dict(train=str(tmp_path / 'x.tsv')))


def test_a_tag_that_was_never_learned(paths):
  pathlib.Path(paths['test']).write_text('a\tB-E\n')
  with pytest.raises(ConfigError, match=r"test.tsv, line 1: no sentence of the training part has the tag 'B-E'"):
    Conll(paths, 'test')
  with pytest.raises(ConfigError, match='there is no column 5'):
    Conll(paths, tag=5)


def test_new_sentences_are_named_by_themselves(paths, tmp_path):
  info = Conll(paths, lowercase=True, characters=6).info
  (tmp_path / 'new.txt').write_text('Breast-cancer, in!\n\nin\n')
  names, batch = next(read_inputs([tmp_path / 'new.txt'], info, 'words'))
  assert names == ['Breast - cancer , in !', 'in'] and batch.shape == (2, 8, 7)
  index = info.vocabulary.index
  assert batch[0, :, 0].tolist() == [*map(index, ['breast', '<unk>', 'cancer', '<unk>', 'in', '<unk>']), -1, -1]
  names, batch = next(read_inputs([paths['train']], info, 'words'))
  np.testing.assert_array_equal(batch, Conll(paths, lowercase=True, characters=6).columns['words'])
  assert kinds.WORDS.wrong(batch, info) is None
  assert kinds.WORDS.wrong(np.where(batch == 0, 99, batch), info)[1].startswith('the tokens hold 99')
  batch[1, 0, 1] = 50
  assert kinds.WORDS.wrong(batch, info) == (1, 'a word holds the character 50; ids go from 0 to 11')
  assert kinds.TAGS.wrong(np.asarray([[0, 2, -1], [3, 0, 0]]), info)[0] == 1


@pytest.mark.thorough
@pytest.mark.skipif(not NCBI.exists(), reason='the corpus is not here')
def test_the_real_corpus():
  source = Conll(dict(train=str(NCBI / 'train.tsv'), test=str(NCBI / 'test.tsv')), 'test')
  assert len(source) == 940 and (source.columns['tags'] == 1).sum() == 960
