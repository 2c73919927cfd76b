"""Sequence to sequence: its metrics against NumPy, decoding, errors of one line, and the picture of attention."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small import Reversed, interrupted, records, small

from dl.contract import metrics
from dl.contract.info import Info
from dl.contract.state import State
from dl.data.pipeline import Pipeline
from dl.data.source import info_of
from dl.decoding.sampling import generate
from dl.errors import ConfigError
from dl.models.bert import BERT
from dl.models.rnn_seq2seq import EncoderDecoder
from dl.models.seq2seq import Transformer
from dl.models.t5 import T5
from dl.tasks.seq2seq import Seq2Seq
from dl.training import assemble, loop, restore
from dl.training.prediction import Prediction

KEY = jax.random.key(0)
SOURCE = Reversed()
INFO = info_of(SOURCE)
SIZES = dict(vocab_size=8, length=8, layers=2, heads=2)
MODELS = [
  Transformer(**SIZES, width=8, hidden=12, dropout=0.0),
  T5(**SIZES, head_dim=4, width=8, hidden=12, dropout=0.0),
  EncoderDecoder(vocab_size=8, width=8, embedding=8),
]
TASK = Seq2Seq(model=MODELS[0], info=INFO, label_smoothing=0.1)
BATCH = {k: jnp.asarray(v) for k, v in Pipeline(SOURCE, 16, train=False)[0].items()}


def drawn(task, scale=0.4):
  """A state of weights so large that the likeliest tokens differ."""
  params, extra = task.init(KEY, BATCH)
  leaves, tree = jax.tree.flatten(params)
  keys = jax.random.split(jax.random.key(1), len(leaves))
  params = jax.tree.unflatten(tree, [x + scale * jax.random.normal(k, x.shape) for x, k in zip(leaves, keys)])
  return State(step=0, params=params, opt={}, extra=extra)


STATE = drawn(TASK)


def measured(task, state, batch, train=False):
  loss, (_, sums) = task.loss(state.params, state.extra, batch, KEY, train)
  return float(loss), metrics.compute(jax.device_get(sums))


def test_metrics_are_those_of_numpy():
  targets, source = np.array(BATCH['target_tokens']), BATCH['source']
  first = np.concatenate([np.zeros((16, 1), int), np.maximum(targets[:, :-1], 0)], 1)
  texts = {'source': source, 'target': jnp.asarray(first)}
  log_p = np.array(jax.nn.log_softmax(TASK.model.apply({'params': STATE.params['model']}, texts)), np.float64)
  real = targets >= 0
  nats = -np.take_along_axis(log_p, np.maximum(targets, 0)[..., None], 2)[..., 0]
  loss, found = measured(TASK, STATE, BATCH)
  assert loss == pytest.approx(nats[real].mean(), rel=1e-5) == found['loss']
  assert found['perplexity'] == pytest.approx(np.exp(nats[real].mean()), rel=1e-5)
  hit = log_p.argmax(2) == targets
  assert found['accuracy'] == pytest.approx(hit[real].mean()) and 0 < hit[real].mean() < 1
  smooth, training = measured(TASK, STATE, BATCH, train=True)
  assert smooth == pytest.approx((0.9 * nats[real] - 0.1 * log_p.mean(2)[real]).mean(), rel=1e-5)
  assert training['loss'] == pytest.approx(smooth) and training['perplexity'] == pytest.approx(found['perplexity'])
  assert 'exact_match' not in training


def test_what_pads_counts_for_nothing():
  wide = {k: jnp.pad(BATCH[k], ((0, 0), (0, 3)), constant_values=-1) for k in ('source', 'target_tokens')}
  _, found = measured(TASK, STATE, BATCH)
  roomy = dataclasses.replace(TASK, model=MODELS[0].clone(length=10))
  assert measured(roomy, STATE, BATCH | wide)[1] == pytest.approx(found, rel=1e-5)
  rows = {k: jnp.concatenate([v[:9], v[-3:] * 0 + 1]) for k, v in BATCH.items()}
  rows['mask'] = rows['mask'].at[9:].set(0)
  expected = measured(TASK, STATE, {k: v[:9] for k, v in BATCH.items()})[1]
  assert measured(TASK, STATE, rows)[1] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(('model', 'scale'), list(zip(MODELS, (0.2, 0.4, 1.0))), ids=['transformer', 't5', 'gru'])
def test_exact_match_is_that_of_greedy_decoding(model, scale):
  task = dataclasses.replace(TASK, model=model, begin=0)
  state, first, given = drawn(task, scale), jnp.zeros((16, 1), jnp.int32), {'source': BATCH['source']}
  greedy = lambda stop: np.array(
    generate(model, task.decoder_variables(state), first, KEY, 0.0, given, length=7, stop=stop)
  )
  places = lambda token: [row.tolist().index(token) for row in greedy(()) if token in row]
  end = max(range(8), key=lambda token: len(set(places(token))))  # comes at different places
  vocabulary = tuple('\n' if i == end else letter for i, letter in enumerate('abcdefgh'))
  task = dataclasses.replace(task, info=dataclasses.replace(INFO, vocabulary=vocabulary))
  written, _ = task.search(state, BATCH['source'], 1)
  size = np.array(written >= 0).sum(1)
  ended = np.flatnonzero(size < task.most)
  assert task.end == end and len(ended) >= 2 and len(set(size[ended])) > 1
  np.testing.assert_array_equal(written, np.where(greedy((end,)) == end, -1, greedy((end,))))
  targets = np.array(written)
  targets[ended, size[ended]] = end
  batch = {k: v[ended] for k, v in BATCH.items()} | {'target_tokens': jnp.asarray(targets[ended])}
  assert measured(task, state, batch)[1]['exact_match'] == 1.0
  targets[ended[0], 0] = (targets[ended[0], 0] + 1) % 8
  batch['target_tokens'] = jnp.asarray(targets[ended])
  assert measured(task, state, batch)[1]['exact_match'] == pytest.approx(1 - 1 / len(ended))


def test_more_beams_find_likelier_texts():
  scores = [np.array(TASK.search(STATE, BATCH['source'], beams, 0.0)[1]) for beams in (1, 4)]
  assert (scores[1] >= scores[0] - 1e-5).all() and (scores[1] > scores[0] + 1e-3).any()


def test_predictions_are_read_as_texts():
  outputs = dataclasses.replace(TASK, beams=2).predict(STATE, np.array(BATCH['source']), KEY)
  row = Prediction('x', {k: np.asarray(v[3]) for k, v in outputs.items()}, INFO).row()
  assert list(row) == ['input', 'text', 'score'] and set(row['text']) <= set('abcdefg') and row['text']


def test_artifacts_show_sentences_and_where_each_token_looks():
  task = dataclasses.replace(TASK, sentences=('abc', 'ge'))
  found = task.artifacts(STATE, KEY)
  assert list(found) == ['sentences', 'attention_1', 'attention_2']
  assert [row['source'] for row in found['sentences']] == ['abc', 'ge']
  assert found['attention_1'].ndim == 3 and found['attention_1'].std() > 0
  source, target = np.array([1, 2, 3]), np.array([4, 0])
  weights = task.attention(STATE, source, target)
  assert weights.shape == (2, 2, 2, 3)
  np.testing.assert_allclose(weights.sum(-1), 1, rtol=1e-5)
  recurrent = dataclasses.replace(task, model=MODELS[2])
  weights = recurrent.attention(drawn(recurrent), source, target)
  assert weights.shape == (1, 1, 2, 3) and np.ptp(weights) > 0.01
  np.testing.assert_allclose(weights.sum(-1), 1, rtol=1e-5)
  seen = dataclasses.replace(task, model=task.model.clone(scan=True))
  params, extra = seen.init(KEY, BATCH)  # whose scanned blocks do not say
  assert seen.attention(State(step=0, params=params, opt={}, extra=extra), source, target).shape == (0, 1, 2, 3)
  assert 'attention' not in extra['model']


@pytest.mark.parametrize(
  ('change', 'says'),
  [
    (dict(model=MODELS[0].clone(length=7)), 'config.model.length is 7, but .* targets of 7 tokens .* 8 are needed'),
    (dict(model=MODELS[0].clone(vocab_size=5)), 'config.model.vocab_size is 5, but the data has 8 token ids'),
    (dict(model=MODELS[0].clone(target_vocab_size=7)), 'config.model gives 7 logits, but targets have 8 token ids'),
    (dict(model=BERT(vocab_size=8)), 'config.model: BERT cannot write'),
    (
      dict(info=dataclasses.replace(INFO, more=(('target_vocab_size', 4), ('target_length', 6)))),
      'config.model.target_vocab_size: the data has a vocabulary for each side; that of the target has 4',
    ),
  ],
)
def test_what_does_not_fit_is_said_in_a_line(change, says):
  with pytest.raises(ConfigError, match=says):
    dataclasses.replace(TASK, **change).check(BATCH)


def test_sentences_and_columns_have_to_be_there():
  with pytest.raises(ConfigError, match=r"config.task.sentences: 'xyz': character 1, 'x', is not in the vocabulary"):
    dataclasses.replace(TASK, sentences=('xyz',))
  with pytest.raises(ConfigError, match=r"config.task.sentences: '' has no token"):
    dataclasses.replace(TASK, sentences=('',))
  with pytest.raises(ConfigError, match=r'config.data: Seq2Seq needs source in a batch, got target_tokens, tokens'):
    TASK.inputs({'tokens': 1, 'target_tokens': 1})
  assert Seq2Seq(model=MODELS[0], info=Info(), begin=3).inputs(BATCH)['target'][0, 0] == 3


def test_buckets_do_not_go_with_stacked_steps():
  data = "data={'name': 'small.Reversed', 'batch_size': 8, 'buckets': True}"
  with pytest.raises(ConfigError, match=r'config.steps_per_call: batches of buckets differ in shape'):
    assemble.assemble(small('seq2seq', data, 'steps_per_call=2'))
  with pytest.raises(ConfigError, match=r'config.seeds: batches of buckets differ in shape'):
    assemble.assemble(small('seq2seq', data, 'seeds=2'))


@pytest.mark.thorough
def test_a_run_in_buckets_that_was_cut_ends_bit_for_bit_alike(tmp_path):
  config = small('seq2seq', "data={'name': 'small.Reversed', 'batch_size': 4, 'buckets': True}", 'train_for=24')
  loop.train(config, tmp_path / 'whole', show_progress=False)
  with interrupted(9):
    assert loop.train(config, tmp_path / 'cut', show_progress=False).status == 'interrupted'
  loop.train(config, tmp_path / 'cut', show_progress=False)
  states = [restore.load_parts(tmp_path / name)[1] for name in ('whole', 'cut')]
  jax.tree.map(np.testing.assert_array_equal, *states)
  assert records(tmp_path / 'whole') == records(tmp_path / 'cut')


@pytest.mark.thorough
def test_it_learns_to_write_backwards(tmp_path):
  result = loop.train(
    small('seq2seq', "task={'name': 'seq2seq.Seq2Seq'}", 'train_for=600', 'eval_every=600', 'model.width=32',
          'model.hidden=64', 'model.dropout=0.0', 'optim.adam.learning_rate.init_value=3e-3', 'eval.test.split=train'),
    tmp_path / 'run', show_progress=False,
  )  # fmt: skip
  assert result.metrics['test']['exact_match'] == 1.0
