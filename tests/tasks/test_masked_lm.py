"""Masked language modelling: BERT's masks by their shares, what is learned, evaluations by text alone, and blanks."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from supervised_fit import fit

from dl.contract import metrics
from dl.contract.info import Info
from dl.data.tokenizers import subwords
from dl.data.tokenizers.vocabulary import BLANK, blank, decode, encode
from dl.errors import ConfigError
from dl.models.bert import BERT
from dl.models.gpt import GPT
from dl.models.rnn import RNN
from dl.tasks.masked_lm import MaskedLanguageModel, _numbers
from dl.training.prediction import Prediction

KEY = jax.random.key(0)
WORDS = tuple('abcdefgh')
INFO = Info(vocab_size=8, vocabulary=WORDS, columns=('tokens',), more=(('blank', BLANK),))
TINY = BERT(vocab_size=9, length=12, layers=2, heads=2, width=24, hidden=48, dropout=0.0)
TASK = MaskedLanguageModel(model=TINY, info=INFO, sentences=('ab[MASK]d',), guesses=3)


def texts(count, seed=0):
  """Runs of the alphabet, round and round, from any letter on: each one follows from either neighbour."""
  rng = np.random.default_rng(seed)
  tokens = (rng.integers(0, 8, (count, 1)) + np.arange(12)) % 8
  real = np.arange(12) < rng.integers(3, 13, (count, 1))
  return {'tokens': np.where(real, tokens, -1).astype(np.int32), 'mask': np.ones(count, np.float32)}


@pytest.fixture(scope='module')
def trained():
  train = texts(300)
  steps = [{k: v[i] for k, v in train.items()} for i in np.random.default_rng(2).integers(0, 300, (250, 64))]
  return fit(TASK, steps, optax.adam(3e-3))[0]


def test_tokens_are_hidden_replaced_and_kept_by_their_shares():
  tokens = jnp.asarray(np.random.default_rng(0).integers(0, 8, (500, 101)), jnp.int32).at[:, 100].set(-1)
  read, chosen = (np.asarray(x) for x in jax.jit(TASK.disturbed)(tokens, KEY))
  assert (chosen.sum(1) == 15).all() and not chosen[:, 100].any()
  np.testing.assert_array_equal(read[~chosen], np.asarray(tokens)[~chosen])
  assert abs(chosen[:, :50].mean() - 0.15) < 0.01  # anywhere
  hidden, same = read[chosen] == 8, read[chosen] == np.asarray(tokens)[chosen]
  assert abs(hidden.mean() - 0.8) < 0.02
  assert abs(same.mean() - (0.1 + 0.1 / 8)) < 0.015  # one in eight of the random ones is the same by chance
  assert set(read[chosen]) == set(range(9))
  again, _ = TASK.disturbed(tokens, jax.random.key(1))
  assert (np.asarray(again) != read).any()
  every = MaskedLanguageModel(model=TINY, info=INFO, chosen=1.0, random=0.0, kept=0.0)
  np.testing.assert_array_equal(every.disturbed(tokens, KEY)[0], np.where(np.asarray(tokens) >= 0, 8, -1))
  short = jnp.asarray([[3, -1, -1], [4, 5, -1], [-1, -1, -1]], jnp.int32)
  assert TASK.disturbed(short, KEY)[1].sum(1).tolist() == [1, 1, 0]  # one at least, of those that are there


def test_the_loss_is_that_of_chosen_tokens_alone():
  batch = texts(20)
  params, extra = TASK.init(KEY, batch)
  read, chosen = TASK.blanked(jnp.asarray(batch['tokens']))
  logits = np.asarray(TINY.apply({'params': params['model']}, read), np.float64)
  nats = np.log(np.exp(logits).sum(-1)) - np.take_along_axis(logits, batch['tokens'][..., None].clip(0), -1)[..., 0]
  loss, (_, found) = TASK.loss(params, extra, batch, KEY, False)
  found = metrics.compute(jax.device_get(found))
  assert float(loss) == pytest.approx(nats[np.asarray(chosen)].mean(), rel=1e-4) == pytest.approx(found['loss'])
  assert found['perplexity'] == pytest.approx(np.exp(found['loss']), rel=1e-4)
  # What a network makes of the places that are not chosen is of no account.
  gradient = jax.grad(lambda y: _loss_of(y, batch, chosen))(jnp.asarray(logits, jnp.float32))
  assert (np.asarray(gradient)[~np.asarray(chosen)] == 0).all()


def test_what_is_hidden_is_chosen_anew_in_each_step():
  batch = texts(20)
  params, extra = TASK.init(KEY, batch)
  run = jax.jit(lambda key, train: TASK.loss(params, extra, batch, key, train)[0], static_argnums=1)
  of = lambda train: {float(run(jax.random.key(i), train)) for i in range(4)}
  assert len(of(True)) == 4 and len(of(False)) == 1


def _loss_of(logits, batch, chosen):
  task = MaskedLanguageModel(model=TINY, info=INFO)
  object.__setattr__(task, 'apply', lambda *_: (logits, {}))
  return task.loss({}, {}, batch, KEY, False)[0]


def test_it_learns_and_evaluations_depend_on_the_texts_alone(trained):
  test = texts(200, 1)
  whole = metrics.compute(TASK.evaluate(trained, test, KEY))
  assert whole['accuracy'] > 0.93 and whole['loss'] < 0.3  # without its neighbours a letter is found once in eight
  parts = []
  for rows in (slice(0, 150), slice(150, 200)):
    batch = {k: v[rows] for k, v in test.items()}
    fill = {k: np.full((7, *v.shape[1:]), value, v.dtype) for (k, v), value in zip(test.items(), (3, 0), strict=True)}
    parts.append(TASK.evaluate(trained, {k: np.concatenate([v, fill[k]]) for k, v in batch.items()}, jax.random.key(9)))
  for name, value in metrics.compute(metrics.add(*parts)).items():
    np.testing.assert_allclose(value, whole[name], rtol=1e-5)
  tokens = jnp.asarray(np.random.default_rng(0).integers(0, 8, (50, 12)), jnp.int32)
  chosen = np.asarray(TASK.blanked(tokens)[1])
  assert len({tuple(row) for row in chosen}) > 20  # not the same places in all
  np.testing.assert_array_equal(TASK.blanked(tokens[::-1])[1], chosen[::-1])


def test_each_text_has_a_number_of_its_own_whatever_pads_it():
  """Were the number of some texts the same, the same places of them would be hidden."""
  every = np.stack(np.meshgrid(*[np.arange(12)] * 4), -1).reshape(-1, 4)
  numbers = lambda tokens: np.asarray(_numbers(jnp.asarray(tokens, jnp.int32), jnp.arange(tokens.shape[1], dtype='u4')))
  found = numbers(every)
  assert len(set(found.tolist())) > len(every) - 4  # chance makes 0.05 pairs of 12^4
  np.testing.assert_array_equal(numbers(np.pad(every, ((0, 0), (0, 5)), constant_values=-1)), found)


def test_blanks_are_filled_in(trained):
  assert encode('ab[MASK]d', INFO, 'text').tolist() == [0, 1, 8, 3]
  rows = np.array([[0, 1, 8, 3, -1, -1], [6, 8, 8, 1, 2, -1], [5, 6, 7, 0, -1, -1]], np.int32)
  found = jax.device_get(jax.jit(TASK.predict)(trained, rows, KEY))
  assert [decode(row, INFO) for row in found['tokens']] == ['abcd', 'ghabc', 'fgha']
  assert found['guesses'].shape == found['probability'].shape == (3, 6, 3)
  assert (found['guesses'][rows != 8] == -1).all() and (found['probability'][rows != 8] == 0).all()
  assert found['guesses'].max() < 8 and (np.diff(found['probability']) <= 0).all()
  row = Prediction('x', {k: v[1] for k, v in found.items()}, INFO).row()
  assert row['text'] == 'ghabc' and [guesses[0][0] for guesses in row['blanks']] == ['h', 'a']
  assert row['blanks'][0][0][1] > 0.5 and list(row) == ['input', 'text', 'blanks']
  (line,) = TASK.artifacts(trained, KEY)['blanks']
  assert line['text'] == 'ab[MASK]d' and line['filled in'] == 'abcd' and line['1'].startswith('c (')
  assert set(line) == {'text', 'filled in', '1', '2', '3'}
  several = dataclasses.replace(TASK, sentences=('[MASK]bcde', 'ab[MASK]d', 'f[MASK]hab[MASK]de'))
  lines = several.artifacts(trained, KEY)['blanks']
  assert [row['filled in'] for row in lines] == ['abcde', 'abcd', 'fghabcde', 'fghabcde'] and lines[1] == line
  assert dataclasses.replace(TASK, sentences=()).artifacts(trained, KEY) == {}
  assert TASK.predict(trained, np.zeros((2, 0), np.int32), KEY)['guesses'].shape == (2, 0, 3)
  # A text longer than the model reads is read in pieces.
  long = np.concatenate([np.arange(24) % 8, [0, 8, 2]])[None].astype(np.int32)
  assert TASK.predict(trained, long, KEY)['tokens'][0, -3:].tolist() == [0, 1, 2]


def test_where_the_token_of_blanks_comes_from():
  assert blank(Info(vocab_size=256)) == 256 and blank(Info()) is None
  assert blank(Info(vocab_size=3, vocabulary=('a', BLANK, '<unk>'))) == 1
  of_bytes = Info(vocab_size=256, more=(('blank', BLANK),))
  assert encode('é[MASK][MASK]', of_bytes, 'text').tolist() == [195, 169, 256, 256]
  assert encode(b'[MASK]\xff', of_bytes, 'text').tolist() == [256, 255]
  assert encode('[MASK]', Info(vocab_size=256), 'text').tolist() == list(b'[MASK]')
  of_words = Info(vocab_size=3, vocabulary=('a', 'b', '<unk>'), more=(('blank', BLANK), ('lowercase', True)))
  assert encode('A [MASK] b c', of_words, 'text').tolist() == [0, 3, 1, 2]
  with pytest.raises(ConfigError, match="text: character 4, 'x', is not in the vocabulary of 8 tokens"):
    encode('ab[MASK]x', INFO, 'text')
  corpus = ['the cat sat', 'the dog sat', 'a cat ran']
  pieces = subwords.learn(corpus, 'wordpiece', 60, lowercase=True)
  own = Info(vocab_size=subwords.size(pieces), tokenizer=pieces, more=(('blank', BLANK),))
  ids = encode('The [MASK] sat', own, 'text')
  assert ids[1] == blank(own) == subwords.blank(pieces) < own.vocab_size and decode(ids, own) == 'the [MASK] sat'
  pairs = subwords.learn(corpus, 'bpe', 300)
  other = Info(vocab_size=subwords.size(pairs), tokenizer=pairs, more=(('blank', BLANK),))
  assert subwords.blank(pairs) is None and blank(other) == other.vocab_size
  assert (encode('the [MASK]', other, 'text') == other.vocab_size).sum() == 1


@pytest.mark.parametrize(
  ('model', 'options', 'message'),
  [
    (TINY.clone(vocab_size=8), {}, r'config.model.vocab_size is 8, but there are 9 token ids, with the one .*\[MASK\]'),
    (TINY.clone(length=11), {}, 'config.model.length is 11, but the data has sequences of 12 tokens'),
    (TINY.clone(head='pooled', num_outputs=9), {}, r'needs logits \[batch, length, vocabulary\], the model gives'),
    (TINY.clone(head='each', num_outputs=8), {}, r'gives 8 logits, but there are 9 token ids'),
    (GPT(vocab_size=9, length=12, layers=1, heads=2, width=8), {}, 'GPT reads from left to right alone'),
    (TINY, dict(sentences=('abc',)), r"config.task.sentences: 'abc' has no \[MASK\] to fill in"),
    (TINY, dict(sentences=('x[MASK]',)), "sentences: .*: character 1, 'x', is not in the vocabulary"),
    (TINY, dict(sentences=('abcdefghabcd[MASK]',)), 'has 13 tokens, and the model reads 12'),
    (TINY, dict(random=0.6, kept=0.5), 'config.task.kept: 0.5 and random, 0.6, are more than all'),
    (TINY, dict(chosen=0.0), 'config.task.chosen: must be above 0'),
    (TINY, dict(info=Info()), 'needs the number of token ids; the source states vocab_size'),
  ],
)
def test_mistakes(model, options, message):
  batch = {k: jax.ShapeDtypeStruct(v.shape, v.dtype) for k, v in texts(2).items()}
  with pytest.raises(ConfigError, match=message):
    MaskedLanguageModel(**dict(model=model, info=INFO) | options).check(batch)


def test_a_recurrent_network_that_reads_both_ways_may_fill_in():
  model = RNN(9, vocab_size=9, width=8, pooling='none', bidirectional=True)
  batch = {k: jax.ShapeDtypeStruct(v.shape, v.dtype) for k, v in texts(2).items()}
  MaskedLanguageModel(model=model, info=INFO).check(batch)
  with pytest.raises(ConfigError, match='RNN reads from left to right alone'):
    MaskedLanguageModel(model=model.clone(bidirectional=False), info=INFO).check(batch)


def test_batches_without_tokens_are_refused():
  with pytest.raises(ConfigError, match='MaskedLanguageModel needs tokens in a batch, got image'):
    TASK.inputs({'image': np.zeros((1, 2))})
