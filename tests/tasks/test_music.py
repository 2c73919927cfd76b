"""Music: the loss by hand, published averages, drawing with states, what is learned, prompts, and checks by shape."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from small import Tunes
from supervised_fit import fit, init

from dl.contract import metrics
from dl.contract.info import Info
from dl.data.parts import part
from dl.errors import ConfigError
from dl.models.mlp import MLP
from dl.models.rnn import RNN
from dl.tasks.music import Music

KEY = jax.random.key(0)
INFO = Tunes().info
TASK = Music(model=RNN(8, 'lstm', 24, pooling='none'), info=INFO)


def batch_of(split):
  rolls = part(Tunes(), split).columns['series']
  return {'series': rolls, 'mask': np.ones(len(rolls), np.float32)}


@pytest.fixture(scope='module')
def trained():
  train = batch_of('train')
  steps = [{k: v[i] for k, v in train.items()} for i in np.random.default_rng(0).integers(0, 16, (300, 8))]
  return fit(TASK, steps, optax.adam(0.02))[0]


def test_the_loss_is_that_of_independent_keys():
  batch = batch_of('test')
  state = init(TASK, batch, optax.sgd(0.0))  # which is sure of nothing: a threshold elsewhere would be seen
  logits = TASK.apply(state.params, state.extra, TASK.inputs(batch), KEY, False)[0]
  p, nats, both, either = 1 / (1 + np.exp(-np.asarray(logits, np.float64))), [], 0, 0
  for row, series in enumerate(batch['series']):
    frames = series[~np.isnan(series[:, 0])]
    q = p[row, : len(frames)]
    nats.append(-(frames * np.log(q) + (1 - frames) * np.log(1 - q)).sum(1))
    both += ((q > 0.5) & (frames > 0)).sum()
    either += ((q > 0.5) | (frames > 0)).sum()
  found = metrics.compute(TASK.evaluate(state, batch, KEY))
  assert found['loss'] == pytest.approx(np.concatenate(nats).mean(), rel=1e-4)
  assert found['nll'] == pytest.approx(np.concatenate([n[1:] for n in nats]).mean(), rel=1e-4)
  assert found['accuracy'] == pytest.approx(both / either)
  assert found['f1'] == pytest.approx(2 * both / (both + either))
  # Rows and frames that pad count for nothing.
  pad = {'series': np.full((8, 15, 8), np.nan, np.float32), 'mask': np.r_[np.ones(6), 0, 0].astype(np.float32)}
  pad['series'][:6, : batch['series'].shape[1]] = batch['series']
  assert metrics.compute(TASK.evaluate(state, pad, KEY)) == pytest.approx(found, rel=1e-4)
  ours = TASK.predict(state, batch['series'], KEY)
  np.testing.assert_allclose(ours['log_likelihood'], [-n.sum() for n in nats], rtol=1e-4)
  np.testing.assert_allclose(ours['nll'], [n[1:].mean() for n in nats], rtol=1e-4)
  assert ours['frames'].tolist() == [len(n) for n in nats]


def test_it_learns_what_follows_and_what_begins(trained):
  """Only which of four chords comes first is by chance."""
  found = metrics.compute(TASK.evaluate(trained, batch_of('test'), KEY))
  assert found['nll'] < 0.15 and found['f1'] > 0.8
  rolls = TASK.continued(trained, KEY, 40, TASK.frames('C4 G4, D4 A4'), 7, 1.0)
  assert rolls.shape == (40, 9, 8)
  right = np.tile(np.eye(4, dtype=bool)[np.arange(9) % 4], 2)
  assert (rolls == right).mean() > 0.97
  begun = TASK.continued(trained, KEY, 200, TASK.frames(''), 1, 1.0)
  assert begun.mean() == pytest.approx(0.25, abs=0.06)


def test_drawing_with_states_is_reading_anew(trained):
  variables = {'params': trained.params['model']}
  roll = batch_of('train')['series'][:3, :6]
  logits, cache = TASK.model.prefill(variables, roll[:, :4])
  for t in (4, 5):
    logits, cache = TASK.model.step(variables, cache, roll[:, t])
  np.testing.assert_allclose(logits, TASK.model.apply(variables, roll)[:, -1], atol=1e-5)
  whole = TASK.continued(trained, KEY, 2, np.zeros((0, 8), bool), 5, 1e-4)  # the likelier of both of each key
  for t in range(1, 5):
    read = np.pad(whole[:, :t], ((0, 0), (1, 0), (0, 0))).astype(np.float32)
    np.testing.assert_array_equal(whole[:, t], TASK.model.apply(variables, read)[:, -1] > 0)


def test_a_prompt_is_read_behind_a_silent_frame_and_each_frame_is_drawn_anew():
  state = init(TASK, batch_of('train'), optax.sgd(0.0))
  wild = state.replace(params=jax.tree.map(lambda x: 8 * x, state.params))
  rolls = np.random.default_rng(1).random((30, 3, 8)) < 0.3
  found = np.stack([TASK.continued(wild, KEY, 1, roll, 2, 1e-4)[0, 3:] for roll in rolls])  # the likelier of both
  whole = np.concatenate([rolls, found], 1).astype(np.float32)
  logits = TASK.model.apply({'params': wild.params['model']}, np.pad(whole[:, :-1], ((0, 0), (1, 0), (0, 0))))
  np.testing.assert_array_equal(found, np.asarray(logits)[:, 3:] > 0)
  drawn = TASK.continued(state, KEY, 20, TASK.frames(''), 20, 1.0)  # each key is as likely as not
  assert (drawn[:, 1:] == drawn[:, :-1]).mean() < 0.6 and (drawn[1:] == drawn[:-1]).mean() < 0.6


def test_samples_are_midi_files_and_a_picture(trained):
  files = TASK.sample(trained, KEY, 2, prompt='C4 E4', length=3)
  assert [content[:4] for content in files] == [b'MThd'] * 2
  picture = TASK.artifacts(trained, KEY)['samples']
  assert picture.dtype == np.uint8 and picture.shape[-1] == 3
  np.testing.assert_array_equal(TASK.frames('C4 G4,, C5').sum(1), [2, 0, 1])
  with pytest.raises(ConfigError, match="there is no key 'H4'"):
    TASK.frames('C4, H4')
  with pytest.raises(ConfigError, match=r'sample\.length'):
    TASK.sample(trained, KEY, 1, length=0)
  with pytest.raises(ConfigError, match=r'sample\.seconds: must be from 1e-06 to 16, got 20'):
    TASK.sample(trained, KEY, 1, seconds=20.0)
  with pytest.raises(ConfigError, match='lowest_pitch'):
    Music(model=TASK.model, info=Info(feature_names=INFO.feature_names)).sample(trained, KEY, 1)
  with pytest.raises(ConfigError, match='MLP cannot be sampled from'):
    Music(model=MLP(8), info=INFO).sample(trained, KEY, 1)


@pytest.mark.parametrize(
  ('model', 'batch', 'words'),
  [
    (RNN(8, bidirectional=True, pooling='none'), {'series': (2, 5, 8)}, 'RNN reads in both directions; a frame is'),
    (RNN(8), {'series': (2, 5, 8)}, r'needs logits \[2, 5, 8\].*gives \[2, 8\]'),
    (RNN(9, pooling='none'), {'series': (2, 5, 8)}, r'gives \[2, 5, 9\]'),
    (RNN(8, pooling='none'), {'features': (2, 8)}, 'Music needs series in a batch, got features'),
  ],
)
def test_a_model_or_data_that_do_not_fit_are_named(model, batch, words):
  with pytest.raises(ConfigError, match=words):
    Music(model=model, info=INFO).check({k: jax.ShapeDtypeStruct(v, jnp.float32) for k, v in batch.items()})
