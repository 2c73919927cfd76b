"""Pairs of texts: files, parts by source, vocabularies of one or both sides, lengths, buckets and references."""

import gzip
import json
import pathlib
import zipfile

import numpy as np
import pytest

from dl.contract.info import Info
from dl.data.make import make
from dl.data.pipeline import Pipeline
from dl.data.reading import read_inputs
from dl.data.source import as_batch, info_of
from dl.data.sources.pairs import Pairs
from dl.data.tokenizers.vocabulary import decode
from dl.errors import ConfigError

SHARED = pathlib.Path(__file__).parents[2] / '../shared/data'
ROWS = [('Go!', 'Va !'), ('Go!', 'Marche.'), ('I see you.', 'Je te vois.'), ('Run now', 'Cours vite')]


@pytest.fixture
def table(tmp_path):
  path = tmp_path / 'pairs.tsv'
  path.write_text('\n'.join(['source\ttarget', *('\t'.join(row) for row in ROWS)]) + '\n')
  return str(path)


def sides(source):
  """The two texts of each example, by their own vocabularies."""
  target = source.info.of_targets()
  both = zip(source.columns['source'], source.columns['target_tokens'], strict=True)
  return [(decode(a, source.info), decode(b, target)) for a, b in both]


def test_words_of_both_sides_and_the_end_of_targets(table):
  source = Pairs(table, lowercase=True)
  assert source.info.vocabulary[0] == '<eos>' and source.info.vocabulary[-1] == '<unk>'
  assert {'go', 'vois', '!'} < set(source.info.vocabulary) and source.info.of_targets() == source.info
  assert sides(source)[:3] == [('go !', 'va !\n'), ('go !', 'marche .\n'), ('i see you .', 'je te vois .\n')]
  assert source.columns['source'].shape == (4, 4) and source.columns['target_tokens'].shape == (4, 5)
  assert source.columns['target_tokens'][0, 2:].tolist() == [0, -1, -1] and source.info.fact('target_length') == 4
  assert source.paths[1] == f'{table}, row 3' and info_of(source).inputs(source.columns) == ('source',)
  batch = make(dict(name='pairs.Pairs', path=table, batch_size=2))[0]
  assert batch['source'].dtype == batch['target_tokens'].dtype == np.int32


def test_each_side_may_have_a_vocabulary_of_its_own(table):
  source = Pairs(table, target_vocabulary='characters')
  target = source.info.of_targets()
  assert 'Va' not in source.info.vocabulary and {'V', '\n'} < set(target.vocabulary)
  assert sides(source)[0] == ('Go !', 'Va !\n')
  assert Info.from_json(json.loads(json.dumps(source.info.to_json()))) == source.info
  bytewise = Pairs(table, vocabulary='characters', target_vocabulary='bytes')
  assert bytewise.info.of_targets().vocab_size == 256 and sides(bytewise)[0] == ('Go!', 'Va !\n')
  with pytest.raises(ConfigError, match='subwords are of both sides'):
    Pairs(table, target_vocabulary=dict(name='bpe', size=300))
  subwords = Pairs(table, vocabulary=dict(name='bpe', size=280))
  assert sides(subwords)[0] == ('Go!', 'Va !<|endoftext|>')
  with pytest.raises(ConfigError, match=f'tokens hold {target.vocab_size}'):
    as_batch({'target_tokens': np.array([[target.vocab_size]])}, source.info)


def test_equal_sources_stay_in_one_part(tmp_path):
  path = tmp_path / 'x.csv'
  path.write_text('b,a\n' + ''.join(f'T{i},s{i % 40}\n' for i in range(120)))
  options = dict(source='a', target='b', test=0.2, validation=0.1)
  parts = [Pairs(str(path), name, **options) for name in ('train', 'validation', 'test')]
  assert [len(part) for part in parts] == [84, 12, 24]
  seen = [{place.rpartition(' ')[2] for place in part.paths} for part in parts]
  assert len(set.union(*seen)) == 120
  texts = [{(int(row) - 2) % 40 for row in rows} for rows in seen]
  assert not texts[0] & texts[1] and not texts[0] & texts[2] and not texts[1] & texts[2]
  assert f's{min(texts[2])}' not in parts[0].info.vocabulary and parts[0].info == parts[2].info
  given = dict(train=str(path), test=str(path))
  held = [Pairs(given, name, source='a', target='b', validation=0.1) for name in ('train', 'validation', 'test')]
  assert [len(part) for part in held] == [108, 12, 120]


def test_files_in_archives_lines_by_a_pattern_and_files_side_by_side(tmp_path, table):
  lines = ''.join(f'IN: {a} OUT: {b}\n' for a, b in ROWS)
  (tmp_path / 'x.txt.gz').write_bytes(gzip.compress(lines.encode()))
  pattern = r'IN: (?P<source>.*) OUT: (?P<target>.*)'
  expected = sides(Pairs(table))
  assert sides(Pairs(str(tmp_path / 'x.txt.gz'), pattern=pattern)) == expected
  with zipfile.ZipFile(tmp_path / 'x.zip', 'w') as opened:
    opened.write(table, 'in/pairs.tsv')
  assert sides(Pairs(f'{tmp_path}/x.zip:in/pairs.tsv')) == expected
  for side, name in enumerate('ab'):
    (tmp_path / f'{name}.txt').write_text(''.join(row[side] + '\n' for row in ROWS))
  both = dict(path=dict(train=f'{tmp_path}/a.txt'), target_path=dict(train=f'{tmp_path}/b.txt'))
  assert sides(Pairs(**both)) == expected
  (tmp_path / 'b.txt').write_text('x\n')
  with pytest.raises(ConfigError, match=r'a\.txt has 4 lines, and .*b\.txt 1'):
    Pairs(**both)
  with pytest.raises(ConfigError, match=r"x\.zip has no 'in/pairs'; did you mean 'in/pairs.tsv'"):
    Pairs(f'{tmp_path}/x.zip:in/pairs')
  with pytest.raises(ConfigError, match=r'x\.txt\.gz, row 1: does not fit the pattern'):
    Pairs(str(tmp_path / 'x.txt.gz'), pattern='IN (.*)')
  (tmp_path / 'x.txt.gz').write_bytes(gzip.compress(lines.encode())[:-9])
  with pytest.raises(ConfigError, match='cannot be unpacked: it is damaged'):
    Pairs(str(tmp_path / 'x.txt.gz'), pattern=pattern)


@pytest.mark.parametrize(
  ('rows', 'options', 'says'),
  [
    (['a\t'], {}, 'row 2: the pair has no target; leave it out'),
    (['a\tb', ' \tb'], {}, 'row 3: the pair has no source; leave it out'),
    (['a b c\td'], dict(length=2), r'row 2: has 3 tokens of the source and 2 of the target, .* room for 2 and 2'),
    (['a\tb c'], dict(target_length=1), r'row 2: has 1 tokens of the source and 3 of the target'),
    (['a b\tc'], dict(length=1, too_long='drop'), 'length: no pair is short enough'),
    (['a\tb'], dict(too_long='skip'), "too_long: there is no 'skip'"),
    (['a\tb'], dict(buckets=(8, 4)), r'buckets: expected lengths, or pairs of two, ascending, got \(8, 4\)'),
    (['a\tb <eos> c'], dict(punctuation=False), 'row 2: the target holds the token that ends it'),
    (['a\tb'], dict(target_path='x'), 'there is no file x'),
    (['a\tb'], dict(source='text'), "row 2: there is no column 'text'"),
  ],
)
def test_what_is_wrong_is_said_in_a_line(tmp_path, rows, options, says):
  (tmp_path / 'x.tsv').write_text('\n'.join(['source\ttarget', *rows]))
  with pytest.raises(ConfigError, match=says) as caught:
    Pairs(str(tmp_path / 'x.tsv'), **options)
  assert '\n' not in str(caught.value)


def test_long_pairs_are_dropped_or_cut(table):
  dropped = Pairs(table, length=2, too_long='drop')
  assert [text for text, _ in sides(dropped)] == ['Go !', 'Go !', 'Run now']
  cut = Pairs(table, length=2, target_length=1, too_long='cut')
  assert sides(cut)[2] == ('I see', 'Je\n') and cut.columns['target_tokens'].shape == (4, 2)


def test_buckets_hold_both_sides(table):
  source = Pairs(table, buckets=(2, (3, 4)))
  assert source.buckets.lengths == (
    {'source': 2, 'target_tokens': 2}, {'source': 3, 'target_tokens': 4}, {'source': 4, 'target_tokens': 5}
  )  # fmt: skip
  assert source.buckets.of.tolist() == [1, 1, 1, 2] and sides(source)[3][0] == 'I see you .'
  shapes = {Pipeline(source, 1, seed=0)[i]['target_tokens'].shape for i in range(8)}
  assert shapes == {(1, 4), (1, 5)}


def test_references_of_a_source_are_one_example(table):
  source = Pairs(table, references=True)
  assert [text for text, _ in sides(source)] == ['Go !', 'I see you .', 'Run now']
  references = [[bytes(text).rstrip(b'\0').decode() for text in row] for row in source.columns['references']]
  assert references == [['Va !', 'Marche.'], ['Je te vois.', ''], ['Cours vite', '']]
  assert source.columns['references'].dtype == np.uint8


def test_new_sources_are_read_like_the_old(table, tmp_path):
  source = Pairs(table, lowercase=True)
  (tmp_path / 'new.txt').write_text('GO!\nnow\n')
  _, batch = next(read_inputs([tmp_path / 'new.txt'], info_of(source), 'source', lines=True))
  assert [decode(row, source.info) for row in batch] == ['go !', 'now']


@pytest.mark.skipif(not (SHARED / 'scan').exists(), reason='needs the shared data')
def test_scan():
  file = str(SHARED / 'scan/tasks_{}_length.txt.gz')
  pattern = r'IN: (?P<source>.*) OUT: (?P<target>.*)'
  paths = {name: file.format(name) for name in ('train', 'test')}
  source = Pairs(paths, pattern=pattern, target_vocabulary='words')
  assert len(source) == 16990 and source.info.vocab_size == 15 and source.info.of_targets().vocab_size == 8
  assert source.info.fact('target_length') == 48 and (source.columns['target_tokens'] >= 0).sum(1).max() == 23
