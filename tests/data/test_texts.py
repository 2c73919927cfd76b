"""Texts with labels: files, parts, the vocabulary of the training part, and the same tokens for new texts."""

import json
import pathlib

import numpy as np
import pytest

from dl.data.make import make
from dl.data.reading import read_inputs
from dl.data.sources.texts import Labelled
from dl.data.tokenizers.vocabulary import decode
from dl.errors import ConfigError

SHARED = pathlib.Path(__file__).parents[2] / '../shared/data'
ROWS = [('Good, very good!', 'up'), ('Bad "day', 'down'), ("Don't go", 'down'), ('good \x85 end', 'up')]


@pytest.fixture
def table(tmp_path):
  """ROWS with tabs between, and others to test on."""
  (tmp_path / 'train.tsv').write_text('\n'.join(['text\tlabel', *('\t'.join(row) for row in ROWS)]) + '\n')
  (tmp_path / 'test.tsv').write_text('text\tlabel\nGOOD  news\tdown\n')
  return dict(train=str(tmp_path / 'train.tsv'), test=str(tmp_path / 'test.tsv'))


def texts_of(source):
  return [decode(row, source.info) for row in source.columns['tokens']]


def test_words_are_those_of_the_training_part(table):
  train, test = (Labelled(table, split, lowercase=True) for split in ('train', 'test'))
  assert train.info == test.info and train.info.vocab_size == len(train.info.vocabulary)
  assert train.info.vocabulary[0] == 'good' and train.info.vocabulary[-1] == '<unk>'
  assert texts_of(train) == ['good , very good !', 'bad " day', "don't go", 'good end']
  assert texts_of(test) == ['good <unk>'] and test.columns['label'].tolist() == [0]
  assert train.columns['tokens'].shape == (4, 5) and train.columns['tokens'][2, 2:].tolist() == [-1] * 3
  assert train.info.class_names == ('down', 'up') and train.info.class_counts == (2, 2)
  assert test.paths == [f'{table["test"]}, row 2']
  assert make(dict(name='texts.Labelled', path=table, batch_size=2))[0]['tokens'].dtype == np.int32


def test_rare_words_are_unknown_and_long_texts_cut(table):
  source = Labelled(table, lowercase=True, min_count=2, length=2)
  assert source.info.vocabulary == ('good', '<unk>')
  assert texts_of(source) == ['good <unk>', '<unk> <unk>', '<unk> <unk>', 'good <unk>']
  assert Labelled(table, size=3).info.vocab_size == 3
  assert 'Good,' in Labelled(table, punctuation=False).info.vocabulary


def test_characters_and_bytes(table):
  characters = Labelled(table, 'test', vocabulary='characters')
  assert texts_of(characters) == ['G\ufffd\ufffdD  ne\ufffd\ufffd']
  small = Labelled(table, 'test', vocabulary='bytes', lowercase=True)
  assert texts_of(small) == ['good  news'] and small.info.vocab_size == 256


def test_parts_are_cut_with_the_shares_of_the_classes(tmp_path):
  path = tmp_path / 'all.csv'
  path.write_text('label,text\n' + ''.join(f'{"ab"[i % 2]},"word{i}, ""x"""\n' for i in range(20)))
  parts = [Labelled(str(path), split, test=0.2, validation=0.1) for split in ('train', 'validation', 'test')]
  assert [len(part) for part in parts] == [14, 2, 4]
  assert [np.bincount(part.columns['label']).tolist() for part in parts] == [[7, 7], [1, 1], [2, 2]]
  assert all('word' not in text for text in texts_of(parts[2])) and parts[0].info.vocab_size == 14 + 3 + 1


@pytest.mark.parametrize('ending', ['.json', '.json:good', '.jsonl'])
def test_json(tmp_path, ending):
  rows = [dict(text='a b', label=i % 2) for i in range(4)]
  path = tmp_path / f'x{ending.partition(":")[0]}'
  named = {'good': rows} if ':' in ending else rows
  path.write_text('\n'.join(map(json.dumps, rows)) if ending == '.jsonl' else json.dumps(named))
  source = Labelled(dict(train=f'{tmp_path}/x{ending}'))
  assert len(source) == 4 and source.paths[3] == f'{tmp_path}/x{ending}, row 4'


def test_new_texts_have_the_same_tokens(table, tmp_path):
  source = Labelled(table, lowercase=True)
  (tmp_path / 'new.txt').write_text('GOOD, very good!\n\nx\n')
  lines = list(read_inputs([tmp_path / 'new.txt'], source.info, 'tokens', lines=True))
  assert lines[0][0] == [f'{tmp_path}/new.txt:1', f'{tmp_path}/new.txt:3'] and lines[0][1].shape == (2, 5)
  assert decode(lines[0][1][0], source.info) == 'good , very good !' and decode(lines[0][1][1], source.info) == '<unk>'
  names, batch = next(read_inputs([table['train']], source.info, 'tokens'))
  np.testing.assert_array_equal(batch, source.columns['tokens'])
  assert names[0] == f'{table["train"]}:2'


@pytest.mark.parametrize(
  ('content', 'options', 'says'),
  [
    ('text\tlabel\na\n', {}, 'row 2: 1 cells, and 2 columns'),
    ('text\tlabel\na\tx\n \ty\n', {}, 'row 3: the text is empty; leave it out'),
    ('words\tlabel\na\tx\n', {}, "row 2: there is no column 'text'"),
    ('a\tx\n', dict(header=False), "row 1: the columns have no names; give the number of 'text', from 0"),
    ('a\tx\n', dict(header=False, text=0, label=2), 'row 1: there is no column number 2'),
    ('text\tlabel\n', {}, 'has no rows'),
    ('text\tlabel\na\tx\na\ty\n', dict(vocabulary='word'), "vocabulary: there is no 'word'"),
  ],
)
def test_mistakes_are_one_line(tmp_path, content, options, says):
  (tmp_path / 'x.tsv').write_text(content)
  with pytest.raises(ConfigError, match=says):
    Labelled(dict(train=str(tmp_path / 'x.tsv')), **options)


def test_a_class_without_a_text_to_learn_from(table, tmp_path):
  (tmp_path / 'test.tsv').write_text('text\tlabel\na\tsideways\n')
  with pytest.raises(ConfigError, match=r"test.tsv, row 2: there is no text of the class 'sideways' to learn from"):
    Labelled(table)
  (tmp_path / 'test.json').write_text('{"a": []}')
  with pytest.raises(ConfigError, match=r'has lists by name; name one, as in .*test.json:a'):
    Labelled(dict(train=str(tmp_path / 'test.json')))
  with pytest.raises(ConfigError, match="has no list 'b'"):
    Labelled(dict(train=f'{tmp_path}/test.json:b'))


@pytest.mark.skipif(not SHARED.exists(), reason='the sets are not here')
def test_real_sets():
  spam = Labelled(str(SHARED / 'sms_spam/SMSSpamCollection'), 'all', header=False, text=1, label=0)
  assert len(spam) == 5574 and np.bincount(spam.columns['label']).tolist() == [4827, 747]
  film = Labelled(dict(train=str(SHARED / 'sentiment_sentences/imdb_labelled.txt')), header=False, text=0, label=1)
  assert film.info.class_counts == (500, 500)
