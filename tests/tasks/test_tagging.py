"""Tagging: learning with and without a CRF, spans exact whatever the batches, checks by shape, predictions."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from supervised_fit import fit, init

from dl.contract import metrics
from dl.contract.info import Info
from dl.errors import ConfigError
from dl.losses import sequence
from dl.models.tagger import BiLSTMTagger
from dl.tasks.tagging import Tagging
from dl.training.prediction import Prediction

KEY = jax.random.key(0)
INFO = Info(
  num_classes=3, class_names=('O', 'B-x', 'I-x'), vocab_size=12, columns=('words', 'tags'),
  more=(('characters', tuple('abcd')),),
)  # fmt: skip
TINY = BiLSTMTagger(
  3, 12, embedding=8, character_size=4, character_embedding=4, character_features=4, width=8, dropout=0.0
)


def sentences(count, seed=0):
  """A 7 begins a span, and so do the words behind it that are spelled with a `d`, up to one that is not."""
  rng = np.random.default_rng(seed)
  word = rng.integers(0, 12, (count, 9))
  letters = rng.integers(0, 4, (count, 9, 3))
  tags = np.zeros((count, 9), int)
  for t in range(9):
    goes_on = (letters[:, t] == 3).any(1) & (tags[:, t - 1] > 0 if t else False)
    tags[:, t] = np.where(word[:, t] == 7, 1, np.where(goes_on, 2, 0))
  real = np.arange(9) < rng.integers(1, 10, count)[:, None]
  words = np.concatenate([word[..., None], letters], -1)
  return {
    'words': np.where(real[..., None], words, -1).astype(np.int32),
    'tags': np.where(real, tags, -1).astype(np.int32),
    'mask': np.ones(count, np.float32),
  }


@pytest.mark.parametrize('crf', [True, False])
def test_it_learns(crf):
  task = Tagging(model=TINY.clone(crf=crf), info=INFO)
  train, test = sentences(400), sentences(200, 1)
  steps = [{k: v[i] for k, v in train.items()} for i in np.random.default_rng(2).integers(0, 400, (250, 32))]
  state, _ = fit(task, steps, optax.adam(0.02))
  whole = metrics.compute(task.evaluate(state, test, KEY))
  assert whole['f1'] > 0.9 and whole['accuracy'] > 0.95
  # The sums do not depend on batches, nor on rows and words that only pad.
  parts = []
  for rows in (slice(0, 150), slice(150, 200)):
    batch = {k: v[rows] for k, v in test.items()}
    fill = {
      k: np.full((7, *v.shape[1:]), value, v.dtype) for (k, v), value in zip(test.items(), (0, 2, 0), strict=True)
    }
    parts.append(task.evaluate(state, {k: np.concatenate([v, fill[k]]) for k, v in batch.items()}, KEY))
  for name, value in metrics.compute(metrics.add(*parts)).items():
    np.testing.assert_allclose(value, whole[name], rtol=1e-5)
  wide = np.pad(test['words'], ((0, 0), (0, 3), (0, 0)), constant_values=-1)
  tags = np.asarray(task.predict(state, wide, KEY)['tags'])
  np.testing.assert_array_equal(tags[:, :9], task.predict(state, test['words'], KEY)['tags'])
  assert (tags[:, 9:] == -1).all() and ((tags[:, :9] == -1) == (test['tags'] == -1)).all()


@pytest.mark.parametrize('crf', [True, False])
def test_the_loss_is_of_words_and_rows_that_pad_have_no_spans(crf):
  task, batch = Tagging(model=TINY.clone(crf=crf), info=INFO), sentences(6)
  state = init(task, batch, optax.sgd(0.0))
  state.params['model']['out']['bias'] = jnp.asarray([0.0, 4.0, 0.0])  # a span at each word, those of padded rows too
  outputs, _ = task.apply(state.params, state.extra, task.inputs(batch), KEY, False)
  nats = 0.0
  for row, tags in enumerate(batch['tags'][:4]):
    n = int((tags >= 0).sum())
    if crf:
      alone = task.chain(outputs)._replace(emissions=outputs['out'][row : row + 1, :n])
      nats -= float(sequence.log_likelihood(alone, jnp.asarray(tags[None, :n]), jnp.ones((1, n), bool))[0])
    else:
      nats -= float(jax.nn.log_softmax(outputs[row, :n])[np.arange(n), tags[:n]].sum())
  batch['mask'][4:] = 0
  found, words = task.evaluate(state, batch, KEY), int((batch['tags'][:4] >= 0).sum())
  assert metrics.compute(found)['loss'] == pytest.approx(nats / words, rel=1e-4)
  assert float(task.loss(state.params, state.extra, batch, KEY, True)[0]) == pytest.approx(nats / words, rel=1e-4)
  assert float(found['f1'].found) == words and float(found['f1'].there) == (batch['tags'][:4] == 1).sum()


def test_scores_do_not_depend_on_what_pads_words_or_sentences():
  words = sentences(5)['words']
  variables = TINY.init(KEY, words)
  scores = lambda x: np.asarray(TINY.apply(variables, x)['out'])
  real = words[..., 0] >= 0
  for pads in ((0, 3), (0, 0)), ((0, 0), (0, 2)):
    wide = np.pad(words, ((0, 0), *pads), constant_values=-1)
    np.testing.assert_allclose(scores(wide)[:, :9][real], scores(words)[real], atol=1e-5)


def test_a_crf_gives_no_probability_to_what_bio_forbids():
  batch = sentences(3)
  state_of = lambda task: task.init(KEY, batch)
  for bio in (True, False):
    task = Tagging(model=TINY, info=INFO, bio=bio)
    params, extra = state_of(task)
    params['model']['out']['bias'] = jnp.asarray([0.0, -9.0, 9.0])  # I-x everywhere
    outputs, _ = task.apply(params, extra, task.inputs(batch), KEY, False)
    tags = np.asarray(task.decode(outputs, batch['tags'] >= 0))
    assert (tags[:, 0] == 2).all() != bio
    assert np.isfinite(task.loss(params, extra, batch, KEY, True)[0])


def test_checks():
  shapes = {k: jax.ShapeDtypeStruct(v.shape, v.dtype) for k, v in sentences(2).items()}
  Tagging(model=TINY, info=INFO).check(shapes)
  for changes, says in (
    (dict(vocab_size=5), 'config.model.vocab_size is 5, but the data has 12 ids'),
    (dict(character_size=3), 'config.model.character_size is 3, but the data has 4 ids'),
    (dict(num_outputs=4), 'config.model.num_outputs is the number of tags, 3'),
  ):
    with pytest.raises(ConfigError, match=says):
      Tagging(model=TINY.clone(**changes), info=INFO).check(shapes)
  with pytest.raises(ConfigError, match='Tagging needs tags'):
    Tagging(model=TINY, info=INFO).check({k: v for k, v in shapes.items() if k != 'tags'})
  alone = shapes | {'words': jax.ShapeDtypeStruct((2, 9, 1), np.int32)}
  Tagging(model=TINY.clone(character_size=0), info=INFO).check(alone)
  with pytest.raises(ConfigError, match=r'config.model.character_size: the words come without characters'):
    Tagging(model=TINY, info=INFO).check(alone)


def test_a_prediction_names_its_spans():
  row = Prediction('ab cd e', {'tags': np.asarray([1, 2, 0, -1])}, INFO).row()
  assert row == {
    'input': 'ab cd e',
    'spans': [{'kind': 'x', 'first': 0, 'last': 1, 'words': 'ab cd'}],
    'tags': ['B-x', 'I-x', 'O'],
  }
