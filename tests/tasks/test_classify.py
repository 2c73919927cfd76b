"""Classification: learning, exact masks, checks by shape."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import sklearn.metrics
from sklearn.datasets import load_breast_cancer, load_digits
from supervised_fit import evaluate, fit, init

from dl.contract import metrics
from dl.contract.info import Info, to_float
from dl.contract.state import State
from dl.errors import ConfigError
from dl.models.lenet import LeNet5
from dl.models.mlp import MLP
from dl.models.perceptron import Perceptron
from dl.tasks.classify import Classify

DIGITS = Info(num_classes=10, mean=(0.305,), std=(0.376,), class_counts=(150,) * 10)
KEY = jax.random.key(0)


def digits():
  """Bytes [1797, 8, 8, 1] and labels; the first 360 are held out."""
  x, y = load_digits(return_X_y=True)
  order = np.random.default_rng(0).permutation(len(x))
  return (x[order] / 16 * 255).astype(np.uint8).reshape(-1, 8, 8, 1), y[order].astype(np.int32)


def batches(x, y, steps, size=64, seed=1):
  rng = np.random.default_rng(seed)
  for _ in range(steps):
    i = rng.integers(0, len(x), size)
    yield {'image': x[i], 'label': y[i], 'mask': np.ones(size, np.float32)}


def padded(x, y, size):
  """Whole batches; the last one is filled up with rows which would spoil any sum."""
  fill = lambda a, value: np.concatenate([a, np.full((size - len(a), *a.shape[1:]), value, a.dtype)])
  for i in range(0, len(x), size):
    rows = slice(i, i + size)
    mask = fill(np.ones(len(x[rows]), np.float32), 0)
    yield {'image': fill(x[rows], np.nan), 'label': fill(y[rows], 99999), 'mask': mask}


@pytest.mark.parametrize(
  'model, options, least',
  [
    (MLP((64,), 10, batch_norm=True), dict(normalize=True, label_smoothing=0.1), 0.95),
    pytest.param(
      LeNet5(10, activation='relu', pooling='max', fit='resize'),
      dict(class_weights='balanced'),
      0.93,
      marks=pytest.mark.thorough,
    ),
    (MLP((64,), 10), dict(criterion=dict(name='focal', gamma=1.0)), 0.92),
  ],
)
def test_learns_digits(model, options, least):
  x, y = digits()
  task = Classify(model=model, info=DIGITS, **options)
  state, last = fit(task, list(batches(x[360:], y[360:], 60)), optax.adam(5e-3))
  assert last['loss'] < 1.0
  result = evaluate(task, state, list(padded(x[:360].astype(np.float32) / 255, y[:360], 100)))
  assert result['accuracy'] > least
  predicted = jax.jit(task.predict)(state, x[:360], KEY)
  assert result['accuracy'] == pytest.approx(sklearn.metrics.accuracy_score(y[:360], predicted['label']))
  assert result['class_accuracy'] == pytest.approx(
    sklearn.metrics.recall_score(y[:360], predicted['label'], average=None).tolist()
  )
  np.testing.assert_allclose(predicted['probability'].sum(1), 1, rtol=1e-5)


def test_one_logit_learns_breast_cancer():
  x, y = load_breast_cancer(return_X_y=True)
  info = Info(num_classes=2, mean=tuple(x.mean(0)), std=tuple(x.std(0)))
  task = Classify(model=MLP((16,), 1), info=info, criterion='binary', normalize=True, class_weights=(2.0, 1.0))
  batch = {'features': x.astype(np.float32), 'label': y.astype(np.int32), 'mask': np.ones(len(x), np.float32)}
  task.check(jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), batch))
  state, _ = fit(task, [batch] * 60, optax.adam(1e-2))
  result = evaluate(task, state, [batch])
  assert result['accuracy'] > 0.97 and len(result['class_accuracy']) == 2
  predicted = jax.jit(task.predict)(state, x.astype(np.float32), KEY)
  assert predicted['probability'].shape == (len(x), 2)
  assert np.mean(predicted['label'] == y) == pytest.approx(result['accuracy'])
  np.testing.assert_array_equal(predicted['probability'][:, 1] > 0.5, predicted['label'] == 1)


def test_extra_is_there_only_with_batch_statistics():
  batch = next(batches(*digits(), 1))
  assert jax.eval_shape(Classify(model=Perceptron(10), info=DIGITS).init, KEY, batch)[1] == {'model': {}}
  task = Classify(model=MLP((8,), 10, batch_norm=True), info=DIGITS)
  state = init(task, batch, optax.sgd(0.1))
  assert list(state.extra['model']) == ['batch_stats']
  trained, _ = jax.jit(lambda s: task.step(s, batch, KEY, {'model': optax.sgd(0.1)}))(state)
  assert not np.allclose(trained.extra['model']['batch_stats']['norm_0']['mean'], 0)
  _, (after, _) = jax.jit(lambda s: task.loss(s.params, s.extra, batch, KEY, False))(trained)
  jax.tree.map(np.testing.assert_array_equal, after, trained.extra)


@pytest.mark.parametrize('options', [{}, dict(normalize=True, label_smoothing=0.1, class_weights='balanced')])
def test_padded_rows_change_nothing(options):
  x, y = digits()
  x = x.astype(np.float32) / 255
  task = Classify(model=MLP((16,), 10, dropout=0.0), info=DIGITS, top_k=(3,), **options)
  (spoiled,) = padded(x[:10], y[:10], 16)
  clean = {'image': x[:10], 'label': y[:10], 'mask': np.ones(10, np.float32)}
  params, extra = jax.jit(task.init)(KEY, clean)
  run = jax.jit(jax.value_and_grad(lambda p, b: task.loss(p, extra, b, KEY, True), has_aux=True))
  (a, (_, metrics_a)), grads_a = run(params, clean)
  (b, (_, metrics_b)), grads_b = run(params, spoiled)
  same = lambda u, v: np.testing.assert_allclose(u, v, rtol=1e-5, atol=1e-6)
  same(a, b)
  jax.tree.map(same, (grads_a, metrics_a), (grads_b, metrics_b))
  assert set(metrics_a) == {'loss', 'accuracy', 'top_3_accuracy'}
  assert metrics.compute(metrics_a)['loss'] == pytest.approx(float(a))


def test_top_k_equals_sklearn():
  x, y = digits()
  task = Classify(model=Perceptron(10), info=DIGITS, top_k=(1, 3))
  batch = {'image': x[:200], 'label': y[:200], 'mask': np.ones(200, np.float32)}
  state = init(task, batch, optax.sgd(0.1))
  found = evaluate(task, state, [batch])
  p = np.asarray(jax.jit(task.predict)(state, x[:200], KEY)['probability'])
  assert found['top_3_accuracy'] == pytest.approx(sklearn.metrics.top_k_accuracy_score(y[:200], p, k=3))
  assert found['top_1_accuracy'] == found['accuracy']


def test_balanced_weights_are_those_of_sklearn():
  from sklearn.utils.class_weight import compute_class_weight

  y = np.repeat([0, 1, 2], [5, 20, 75])
  info = Info(num_classes=3, class_counts=(5, 20, 75))
  task = Classify(model=Perceptron(3), info=info, class_weights='balanced')
  np.testing.assert_allclose(task.weights(), compute_class_weight('balanced', classes=np.arange(3), y=y))


def one_row(outputs, targets):
  return jnp.abs(outputs).sum(1) + targets


def test_a_criterion_of_the_users_own():
  task = Classify(model=Perceptron(10), info=DIGITS, criterion=f'{__name__}.one_row')
  batch = to_float(next(batches(*digits(), 1)), task.info)
  params, extra = jax.jit(task.init)(KEY, batch)
  logits = task.model.apply({'params': params['model']}, batch['image'])
  scalar, _ = task.loss(params, extra, batch, KEY, True)
  assert scalar == pytest.approx(float(np.abs(logits).sum(1).mean() + batch['label'].mean()), rel=1e-5)


SHAPES = {
  'image': jax.ShapeDtypeStruct((4, 8, 8, 1), np.float32),
  'label': jax.ShapeDtypeStruct((4,), np.int32),
  'mask': jax.ShapeDtypeStruct((4,), np.float32),
}


@pytest.mark.parametrize(
  'model, info, options, line',
  [
    (Perceptron(7), DIGITS, {}, r'^config.model.num_classes is 7, but the data has 10 classes$'),
    (MLP((8,), 3), DIGITS, {}, r'^config.model.num_outputs is 3, but the data has 10 classes$'),
    (MLP((8,), 1), Info(num_classes=2), {}, r'^config.model.num_outputs is 1, but the data has 2 classes$'),
    (
      MLP((8,), 2),
      Info(num_classes=2),
      dict(criterion='binary'),
      r"num_outputs is 2, but the criterion 'binary' takes",
    ),
    (MLP((8,), 1), DIGITS, dict(criterion='binary'), r"'binary' is for two classes, but the data has 10"),
    (Perceptron(10), DIGITS, dict(top_k=(11,)), r'config.task.top_k: 11 is not between 1 and'),
    (
      Perceptron(10),
      Info(num_classes=10, mean=(0.0,) * 3, std=(1.0,) * 3),
      dict(normalize=True),
      r'3 means do not fit',
    ),
    ({'a': Perceptron(10)}, DIGITS, {}, r"config.model: Classify takes one model, a dict with a 'name', got a"),
    (MLP((8,), 10, activation='rleu'), DIGITS, {}, r"no activation is called 'rleu'"),
  ],
)
def test_check_is_one_line(model, info, options, line):
  with pytest.raises(ConfigError, match=line) as e:
    Classify(model=model, info=info, **options).check(SHAPES)
  assert '\n' not in str(e.value)


def test_check_of_inputs():
  flat = SHAPES | {'image': jax.ShapeDtypeStruct((4, 64), np.float32)}
  with pytest.raises(ConfigError, match=r'LeNet5 takes images'):
    Classify(model=LeNet5(10), info=DIGITS).check(flat)
  with pytest.raises(ConfigError, match='Classify needs label in a batch, got image, mask'):
    Classify(model=LeNet5(10), info=DIGITS).check({k: v for k, v in SHAPES.items() if k != 'label'})
  with pytest.raises(ConfigError, match='Classify needs image or features in a batch, got label, mask'):
    Classify(model=LeNet5(10), info=DIGITS).check({k: v for k, v in SHAPES.items() if k != 'image'})
  Classify(model=LeNet5(10), info=DIGITS).check(SHAPES)


@pytest.mark.parametrize(
  'options, line',
  [
    (dict(criterion='cross_entrpy'), "config.task.criterion: nothing is called 'cross_entrpy'; did you mean"),
    (dict(criterion='focal', label_smoothing=0.1), 'config.task.criterion.label_smoothing: focal takes no argument'),
    (dict(label_smoothing=1.5), 'config.task.label_smoothing: must be at least 0 and below 1, got 1.5'),
    (dict(class_weights='balance'), "config.task.class_weights: expected 'balanced'"),
    (dict(class_weights=(1.0, 2.0)), 'config.task.class_weights: 2 weights, but the data has 3 classes'),
    (dict(class_weights='balanced'), 'config.task.class_weights: the data has no class counts'),
    (dict(normalize=True), 'config.task.normalize: the data has no mean and deviation'),
  ],
)
def test_arguments_are_checked_at_once(options, line):
  with pytest.raises(ConfigError, match=line):
    Classify(model=Perceptron(3), info=Info(num_classes=3), **options)


def test_a_mixture_has_the_loss_of_both_labels():
  task = Classify(model=MLP((), 3), info=Info(num_classes=3), label_smoothing=0.1)
  batch = {
    'features': jnp.asarray(np.random.default_rng(0).standard_normal((4, 5)), jnp.float32),
    'label': jnp.asarray([0, 1, 2, 0]),
    'mask': jnp.ones(4),
  }
  mixed = batch | {'mixed_label': jnp.asarray([1, 1, 0, 2]), 'label_share': jnp.asarray([0.7, 0.2, 1.0, 0.0])}
  state = init(task, batch, optax.sgd(0.1))
  loss = lambda b: float(task.loss(state.params, state.extra, b, KEY, True)[0])
  logits = task.model.apply({'params': state.params['model']}, batch['features'])
  target = 0.0
  for key, share in (('label', mixed['label_share']), ('mixed_label', 1 - mixed['label_share'])):
    target += share[:, None] * jax.nn.one_hot(mixed[key], 3)
  soft = optax.softmax_cross_entropy(logits, target * 0.9 + 0.1 / 3).mean()  # smoothing is linear in the target
  assert loss(mixed) == pytest.approx(float(soft), rel=1e-5)
  assert loss(mixed) != pytest.approx(loss(batch))


class TwoHeads(nn.Module):
  """A classifier with an auxiliary head, which counts in training alone."""

  num_classes: int = 3

  @nn.compact
  def __call__(self, x, train=False):
    out, aux = nn.Dense(3, name='out')(x), nn.Dense(3, name='aux')(x)
    return {'out': out, 'aux': aux} if train else out


def test_auxiliary_heads_add_to_the_loss_of_training():
  task = Classify(model=TwoHeads(), info=Info(num_classes=3), aux_weight=0.25)
  x = jnp.asarray(np.random.default_rng(0).standard_normal((4, 5)), jnp.float32)
  batch = {'features': x, 'label': jnp.asarray([0, 1, 2, 0]), 'mask': jnp.ones(4)}
  state = init(task, batch, optax.sgd(0.1))
  heads = task.model.apply({'params': state.params['model']}, x, train=True)
  loss = {k: optax.softmax_cross_entropy_with_integer_labels(v, batch['label']).mean() for k, v in heads.items()}
  value, (_, found) = task.loss(state.params, state.extra, batch, KEY, True)
  np.testing.assert_allclose(value, loss['out'] + 0.25 * loss['aux'], rtol=1e-5)
  np.testing.assert_allclose(found['accuracy'].total, (heads['out'].argmax(-1) == batch['label']).sum())
  np.testing.assert_allclose(task.loss(state.params, state.extra, batch, KEY, False)[0], loss['out'], rtol=1e-5)


def test_an_image_and_its_mirror_image_get_the_same_logits():
  model = LeNet5(10)
  task, plain = (Classify(model=model, info=Info(num_classes=10), test_time_flip=flip) for flip in (True, False))
  x = np.random.default_rng(0).random((3, 28, 28, 1), np.float32)
  state = init(task, {'image': x, 'label': np.zeros(3, np.int32), 'mask': np.ones(3, np.float32)}, optax.sgd(0.1))
  flipped = np.flip(x, 2)
  found = task.predict(state, x, KEY)['probability']
  np.testing.assert_allclose(found, task.predict(state, flipped, KEY)['probability'], atol=1e-6)
  logits = [model.apply({'params': state.params['model']}, i, train=False) for i in (x, flipped)]
  np.testing.assert_allclose(found, jax.nn.softmax((logits[0] + logits[1]) / 2), atol=1e-6)
  assert not np.allclose(found, plain.predict(state, x, KEY)['probability'], atol=1e-4)


def test_frozen_statistics_are_used_and_kept():
  x, y = digits()
  batch = next(batches(x, y, 1))
  kept = {}
  for frozen in (True, False):
    task = Classify(model=MLP((8,), 10, batch_norm=True), info=DIGITS, frozen_statistics=frozen)
    state = init(task, batch, optax.sgd(0.1))
    new, _ = task.step(state, batch, KEY, {'model': optax.sgd(0.1)})
    same = jax.tree.map(lambda a, b: bool((a == b).all()), state.extra, new.extra)
    kept[frozen] = all(jax.tree.leaves(same))
    assert not np.allclose(new.params['model']['dense_0']['kernel'], state.params['model']['dense_0']['kernel'])
  assert kept == {True: True, False: False}


@pytest.mark.parametrize('options', [
  dict(label_smoothing=0.3), dict(class_weights=(1.0, 5.0, 2.0)), {}, dict(criterion='focal'),
  dict(criterion=dict(name='cross_entropy', label_smoothing=0.3)),
])  # fmt: skip
def test_evaluations_have_the_plain_cross_entropy_where_the_loss_is_another(options):
  """Of examples that the network is sure of, and right, a smoothed loss is far from 0."""
  task = Classify(model=MLP((), 3), info=Info(num_classes=3), **options)
  x, label = np.eye(3, dtype=np.float32)[[0, 1, 2, 2]], np.array([0, 1, 2, 99999])
  batch = {'features': jnp.asarray(x), 'label': jnp.asarray(label), 'mask': jnp.array([1.0, 1.0, 1.0, 0.0])}
  params = {'model': {'out': {'kernel': 9.0 * jnp.eye(3), 'bias': jnp.zeros(3)}}}
  found = metrics.compute(task.evaluate(State(jnp.int32(0), params, {}, {'model': {}}), batch, KEY))
  if not options:
    assert 'cross_entropy' not in found
    return
  assert found['cross_entropy'] == pytest.approx(np.log1p(2 * np.exp(-9.0)), rel=1e-3)
  if options.get('criterion') != 'focal':  # which is less
    assert found['loss'] > (0.5 if 'smoothing' in str(options) else 2 * found['cross_entropy'])
  trained = metrics.compute(task.loss(params, {'model': {}}, batch, KEY, True)[1][1])
  assert 'cross_entropy' not in trained


def test_precision_recall_and_f1_of_the_class_that_is_looked_for():
  rng = np.random.default_rng(0)
  label, chosen = rng.integers(0, 3, 200), rng.integers(0, 3, 200)

  class Told(nn.Module):
    @nn.compact
    def __call__(self, x, train=False):
      return 5 * x

  info = Info(num_classes=3, class_names=('ham', 'spam', 'eggs'))
  task = Classify(model=Told(), info=info, positive='spam')
  rows = {'features': np.eye(3, dtype=np.float32)[chosen], 'label': label.astype(np.int32)}
  batch = {k: np.concatenate([v, v[:3]]) for k, v in rows.items()} | {'mask': np.float32([1] * 200 + [0] * 3)}
  state = State(step=0, params={'model': {}}, opt={}, extra={'model': {}})
  found = metrics.compute(task.evaluate(state, batch, KEY))
  theirs = sklearn.metrics.precision_recall_fscore_support(label == 1, chosen == 1, average='binary')
  np.testing.assert_allclose([found[name] for name in ('precision', 'recall', 'f1')], theirs[:3], rtol=1e-6)
  shapes = {k: jax.ShapeDtypeStruct(v.shape, v.dtype) for k, v in batch.items()}
  task.check(shapes)
  with pytest.raises(ConfigError, match=r"config.task.positive: there is no class 'spum'; did you mean 'spam'"):
    Classify(model=Told(), info=info, positive='spum').check(shapes)
  with pytest.raises(ConfigError, match=r'config.task.positive: there is no class 3, they go up to 2'):
    Classify(model=Told(), info=info, positive=3).check(shapes)
