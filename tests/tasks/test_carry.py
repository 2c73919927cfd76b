"""Truncated backpropagation through time: a state that goes on from batch to batch is one long reading of the text."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from small import interrupted, small
from supervised_fit import init

from dl.contract import metrics
from dl.contract.info import Info
from dl.data.make import make
from dl.errors import ConfigError
from dl.losses import cross_entropy
from dl.models.gpt import GPT
from dl.models.rnn import RecurrentLanguageModel
from dl.parallel import meshes, weights
from dl.tasks import likelihood
from dl.tasks.lm import LanguageModel
from dl.training import loop, restore
from dl.training.prepare import prepare

KEY = jax.random.key(0)


@pytest.fixture
def path(tmp_path):
  text = np.random.default_rng(0).choice(list(b'abcdef '), 403)
  (tmp_path / 'a.txt').write_bytes(bytes(text.tolist()))
  return str(tmp_path / 'a.txt')


def pipeline(path, **more):
  spec = dict(name='text.TextFiles', path=path, length=10, streams=4, batch_size=4, validation=0.0)
  return make(spec | more)


def task_of(info, cell='lstm', **more):
  return LanguageModel(model=RecurrentLanguageModel(256, cell, 12, 2), info=info, carry=True, **more)


def test_batches_go_on_where_those_before_ended(path):
  batches = pipeline(path)
  text = np.fromfile(path, np.uint8)
  assert batches.steps_per_epoch == 10  # 402 tokens to predict, 100 in each stream
  for row in range(4):
    joined = np.concatenate([batches[step]['tokens'][row, :-1] for step in range(10)])
    np.testing.assert_array_equal(joined, text[row * 100 : row * 100 + 100])
  for step in range(9):
    np.testing.assert_array_equal(batches[step]['tokens'][:, -1], batches[step + 1]['tokens'][:, 0])
  assert [batches[step]['first'].tolist() for step in (0, 1, 9, 10)] == [[1] * 4, [0] * 4, [0] * 4, [1] * 4]
  np.testing.assert_array_equal(batches[10]['tokens'], batches[0]['tokens'])
  whole = pipeline(path, length=None)
  assert whole[0]['tokens'].shape == (4, 101)


@pytest.mark.parametrize('cell', ['elman', 'lstm', 'gru'])
def test_losses_are_those_of_one_long_reading(path, cell):
  batches = pipeline(path)
  task = task_of(batches.info, cell)
  still = {'model': optax.sgd(0.0)}
  state, step = init(task, batches[0], still['model']), jax.jit(lambda s, b: task.step(s, b, KEY, still))
  found = []
  for number in range(12):  # and over the end of the epoch
    state, measured = step(state, batches[number])
    found.append(metrics.compute(jax.device_get(measured))['loss'])
  tokens = pipeline(path, length=None)[0]['tokens']
  logits, last = task.model.apply({'params': state.params['model']}, tokens[:, :-1], state=True)
  nats = np.asarray(cross_entropy(logits, tokens[:, 1:])).reshape(4, 10, 10).mean((0, 2))
  np.testing.assert_allclose(found, [*nats, *nats[:2]], rtol=1e-5)
  for _ in range(8):
    state, _ = step(state, batches[int(state.step)])
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), state.extra['carry'], last)


def test_gradients_are_those_within_the_window_alone(path):
  batches = pipeline(path)
  task = task_of(batches.info)
  state = init(task, batches[0], optax.sgd(0.0))
  _, (extra, _) = task.loss(state.params, state.extra, batches[0], KEY, True)
  ours = jax.grad(lambda p: task.loss(p, extra, batches[1], KEY, True)[0])(state.params)['model']

  def theirs(params):
    read = lambda p, tokens, **more: task.model.apply({'params': p}, tokens[:, :-1], state=True, **more)
    _, carry = read(jax.lax.stop_gradient(params), batches[0]['tokens'])
    logits, _ = read(params, batches[1]['tokens'], carry=carry)
    return cross_entropy(logits, batches[1]['tokens'][:, 1:]).mean()

  expected = jax.grad(theirs)(state.params['model'])
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), ours, expected)


def test_an_evaluation_reads_whole_streams_in_pieces(path, monkeypatch):
  batches = pipeline(path)
  task = task_of(batches.info)
  state = init(task, batches[0], optax.sgd(0.0))
  whole = pipeline(path, length=None)[0]
  found = []
  for piece in (128, 7, 25):  # 100 tokens: at once, with a rest, without one
    monkeypatch.setattr(likelihood, 'PIECE', piece)
    found.append(metrics.compute(jax.device_get(task.evaluate(state, whole, KEY))))
  logits = task.model.apply({'params': state.params['model']}, whole['tokens'][:, :-1])
  assert found[0]['loss'] == pytest.approx(float(cross_entropy(logits, whole['tokens'][:, 1:]).mean()), rel=1e-5)
  assert found[1] == pytest.approx(found[0], rel=1e-5) and found[2] == pytest.approx(found[0], rel=1e-5)


def test_a_run_that_was_cut_goes_on_with_the_states(tmp_path):
  whole, cut = tmp_path / 'whole', tmp_path / 'cut'
  loop.train(small('carry'), whole, show_progress=False)
  with interrupted(5):
    assert loop.train(small('carry'), cut, show_progress=False).status == 'interrupted'
  assert loop.train(small('carry'), cut, show_progress=False).status == 'complete'
  (_, a), (_, b) = restore.load_parts(whole), restore.load_parts(cut)
  assert all(np.abs(x).max() > 0 for x in jax.tree.leaves(a.extra['carry']))
  jax.tree.map(np.testing.assert_array_equal, a, b)
  # A run which starts from its weights has streams of its own, and their states.
  init_from = f"init_from={{'name': 'run', 'path': {str(whole)!r}}}"
  other = prepare(small('carry', 'data.streams=4', 'data.batch_size=4', init_from))
  assert other.given() and not any('carry' in name for name in other.given())


def test_states_are_split_as_the_batch_is(path):
  batches = pipeline(path)
  task = task_of(batches.info)
  state = jax.eval_shape(lambda: init(task, batches[0], optax.sgd(0.0)))
  mesh = meshes.make_mesh({'data': jax.device_count()}, jax.devices())
  shardings = weights.state_shardings('replicated', mesh, state, task.model, task.by_row)
  specs = {s.spec for s in jax.tree.leaves(shardings.extra['carry'])}
  assert specs == {meshes.batch_sharding(mesh).spec}
  assert {s.spec for s in jax.tree.leaves(shardings.params)} == {jax.sharding.PartitionSpec()}


def test_what_cannot_be_carried_is_named(path):
  info = pipeline(path).info
  shapes = lambda rows: {
    'tokens': jax.ShapeDtypeStruct((rows, 11), jnp.int32), 'first': jax.ShapeDtypeStruct((rows,), jnp.uint8),
  }  # fmt: skip
  with pytest.raises(ConfigError, match='batch_size: is 3, and the text is cut into 4 streams'):
    task_of(info).check(shapes(3))
  gpt = LanguageModel(model=GPT(256, layers=1, heads=1, width=8, length=16), info=info, carry=True)
  with pytest.raises(ConfigError, match=r'task\.carry: GPT goes on from no state'):
    gpt.init(KEY, pipeline(path)[0])
  with pytest.raises(ConfigError, match=r'data\.streams: is needed'):
    task_of(Info(vocab_size=256)).init(KEY, {'tokens': jnp.zeros((1, 3), jnp.int32)})
  with pytest.raises(ConfigError, match=r'task\.carry: a window is a whole stream'):
    task_of(info).init(KEY, pipeline(path, length=None)[0])
  state = init(task_of(info), pipeline(path)[0], optax.sgd(0.0))
  with pytest.raises(ConfigError, match=r'would begin without the state .* set length=None'):
    task_of(info).evaluate(state, pipeline(path)[0], KEY)
  with pytest.raises(ConfigError, match=r'data\.shuffle: .*leave it out'):
    pipeline(path, shuffle=True)
  with pytest.raises(ConfigError, match='streams: each of 300 streams has 1 tokens'):
    pipeline(path, streams=300)
  with pytest.raises(ConfigError, match='stride: windows of a stream follow each other'):
    pipeline(path, stride=3)
  with pytest.raises(ConfigError, match='length: expected a number of tokens, got None'):
    pipeline(path, streams=None, length=None)


def test_penalties_are_added_to_the_loss_in_training_alone(path):
  batch = pipeline(path)[0]
  model = RecurrentLanguageModel(256, 'lstm', 12, 2, penalties=True)
  found = []
  for given in ({}, dict(activation_weight=0.0, temporal_weight=0.5)):
    task = LanguageModel(model=model, info=pipeline(path).info, carry=True, **given)
    params, extra = task.init(KEY, batch)
    loss, (_, measured) = task.loss(params, extra, batch, KEY, True)
    named = metrics.compute(jax.device_get(measured))
    penalty = task.activation_weight * named['activation'] + task.temporal_weight * named['temporal']
    np.testing.assert_allclose(loss, named['loss'] + penalty, rtol=1e-5)
    found.append(float(loss))
    whole = {name: value for name, value in batch.items() if name != 'first'}
    judged, (_, measured) = task.loss(params, extra, whole, KEY, False)
    named = metrics.compute(jax.device_get(measured))
    np.testing.assert_allclose(judged, named['loss'], rtol=1e-6)
    assert 'activation' not in named
  assert found[0] != found[1]
