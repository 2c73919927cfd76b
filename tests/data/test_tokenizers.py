"""Words and subwords: learned from the training part, kept beside the run, and read again without the data."""

import json

import jax
import numpy as np
import pytest
from small import records, small

import dl
from dl.contract.info import Info
from dl.data.sources.text import TextFiles
from dl.data.tokenizers import subwords
from dl.data.tokenizers.vocabulary import decode, encode
from dl.errors import ConfigError
from dl.store import workdir as workdirs

TEXT = 'the cat sat on the mat.\nthe dog sat on the log, and the cat saw it!\n' * 60


@pytest.mark.parametrize('kind', subwords.KINDS)
def test_learned_twice_it_is_the_same_and_gives_the_text_back(kind):
  text = subwords.learn(TEXT.splitlines(keepends=True), kind, size=290)
  if kind != 'unigram':
    assert text == subwords.learn(TEXT.splitlines(keepends=True), kind, size=290)
  info = Info(vocab_size=subwords.size(text), tokenizer=text)
  assert 20 < info.vocab_size <= 290
  sentence = 'the dog sat on the mat.'
  ids = encode(sentence, info, 'here')
  assert ids.max() < info.vocab_size
  assert len(ids) < len(sentence) / (1 if kind == 'unigram' else 2)  # whose pieces are of a larger text's use
  assert decode(ids, info).replace(' .', '.') == sentence  # WordPiece does not know what stood before a full stop
  assert decode(np.append(ids, -1), info) == decode(ids, info)


def test_bytes_that_were_never_seen_have_tokens_in_bpe_and_are_unknown_in_the_others():
  other = 'Größe 猫 \x00'
  for kind in subwords.KINDS:
    info = Info(tokenizer=subwords.learn([TEXT], kind, size=300))
    assert (decode(encode(other, info, 'here'), info) == other) == (kind == 'bpe')


def test_what_a_tokenizer_would_leave_out_is_refused():
  tokenizers = pytest.importorskip('tokenizers')
  bare = tokenizers.Tokenizer(tokenizers.models.BPE())
  bare.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
  bare.train_from_iterator(['the cat sat'], tokenizers.trainers.BpeTrainer(vocab_size=30, show_progress=False))
  assert bare.encode('the dog').tokens == ['the']
  said = "a.txt: the tokenizer has no token for a part of 'cats!', and none for the unknown"
  with pytest.raises(ConfigError, match=said):
    subwords.encode('the  cat\nthe cats! sat', bare.to_str(), 'a.txt')
  assert subwords.decode(subwords.encode('the  cat\n', bare.to_str(), ''), bare.to_str()) == 'the cat'


def test_it_is_the_file_of_hugging_face(tmp_path):
  transformers = pytest.importorskip('transformers')
  text = subwords.learn([TEXT], 'bpe', size=300, lowercase=True)
  (tmp_path / 'tokenizer.json').write_text(text)
  theirs = transformers.PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / 'tokenizer.json'))
  sentence = 'The LOG saw the cat'
  np.testing.assert_array_equal(theirs(sentence)['input_ids'], encode(sentence, Info(tokenizer=text), 'here'))
  assert subwords.read(str(tmp_path)) == text


def test_a_vocabulary_of_words_is_that_of_the_training_part(tmp_path):
  (tmp_path / 'a.txt').write_text('a b a\nc a\n' * 9 + 'z a\n' * 2)
  train, validation = (TextFiles(str(tmp_path / 'a.txt'), 4, s, vocabulary='words') for s in ('train', 'validation'))
  assert train.info == validation.info
  assert train.info.vocabulary == ('a', '<eos>', 'b', 'c', '<unk>')
  text = 'a b\nc zz\n'
  ids = encode(text, train.info, 'here')
  assert decode(ids, train.info) == 'a b\nc <unk>\n'


def test_a_run_keeps_its_tokenizer_in_a_file_and_needs_nothing_else(tmp_path):
  (tmp_path / 'a.txt').write_text(TEXT)
  data = dict(name='text.TextFiles', path=str(tmp_path / 'a.txt'), vocabulary=dict(name='bpe', size=280))
  experiment = small(
    'gpt', f'data={data | dict(length=16, batch_size=4)!r}', 'model.vocab_size=280', 'expect={}', 'baselines={}'
  )
  dl.run(experiment, tmp_path / 'run')
  (tmp_path / 'a.txt').unlink()
  said = json.loads((tmp_path / 'run/run.json').read_text())['data']['info']['tokenizer']
  assert list(said) == ['sha256']
  task, state = dl.load(tmp_path / 'run')
  assert 'bits_per_character' not in records(tmp_path / 'run')[-1]
  (sampled,) = task.sample(state, jax.random.key(0), 1, prompt='the cat', length=8)
  assert sampled.startswith('the cat') and len(sampled) > len('the cat')
  (tmp_path / 'run/tokenizer.json').write_text(subwords.learn([TEXT], 'bpe', size=270))
  with pytest.raises(ConfigError, match='is not the tokenizer that this run began with'):
    workdirs.read_run(tmp_path / 'run')


@pytest.mark.parametrize(
  ('vocabulary', 'said'),
  [
    ('byte', "vocabulary: there is no 'byte'; did you mean 'bytes'?"),
    (dict(name='bqe'), "vocabulary.name: there is no 'bqe'; did you mean 'bpe'?"),
    (dict(name='bpe', sise=3), 'vocabulary.sise: there is no such argument'),
    (dict(name='unigram'), "vocabulary.name: the library learns 'unigram' a little differently each time"),
    (dict(name='bpe', size=0), 'vocabulary.size: '),
    ('{tmp}/b.json', 'b.json: no tokenizer.json of the library tokenizers'),
    ('{tmp}/c.json', 'c.json cannot be read'),
  ],
)
def test_mistakes(vocabulary, said, tmp_path):
  (tmp_path / 'a.txt').write_text(TEXT)
  (tmp_path / 'b.json').write_text('{}')
  vocabulary = vocabulary.format(tmp=tmp_path) if isinstance(vocabulary, str) else vocabulary
  with pytest.raises(ConfigError, match=said.replace('?', '[?]')):
    TextFiles(str(tmp_path / 'a.txt'), 4, vocabulary=vocabulary)
