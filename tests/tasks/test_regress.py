"""Regression: learning, exact masks, units, checks."""

import jax
import numpy as np
import optax
import pytest
import sklearn.metrics
from sklearn.datasets import load_diabetes
from supervised_fit import evaluate, fit

from dl.contract.info import Info
from dl.errors import ConfigError
from dl.models.mlp import MLP
from dl.tasks.regress import Regress

KEY = jax.random.key(0)


def diabetes():
  x, y = load_diabetes(return_X_y=True, scaled=False)
  info = Info(mean=tuple(x.mean(0)), std=tuple(x.std(0)), target_mean=float(y.mean()), target_std=float(y.std()))
  return x.astype(np.float32), y.astype(np.float32), info


def whole(x, y):
  return {'features': x, 'target': y, 'mask': np.ones(len(x), np.float32)}


@pytest.mark.parametrize('criterion', ['mse', dict(name='huber', delta=1.0)])
def test_learns_diabetes_in_the_targets_units(criterion):
  x, y, info = diabetes()
  task = Regress(model=MLP((32,)), info=info, criterion=criterion, normalize=True, normalize_target=True)
  state, last = fit(task, [whole(x, y)] * 60, optax.adam(1e-2))
  parts = [whole(x[:200], y[:200]), whole(x[200:], y[200:])]
  result = evaluate(task, state, parts)
  predicted = np.asarray(jax.jit(task.predict)(state, x, KEY)['target'])
  assert predicted.shape == y.shape
  assert result['r2'] > 0.5 and last['loss'] < 0.6
  assert result['r2'] == pytest.approx(sklearn.metrics.r2_score(y, predicted), rel=1e-4)
  assert result['mae'] == pytest.approx(sklearn.metrics.mean_absolute_error(y, predicted), rel=1e-4)
  assert result['rmse'] == pytest.approx(sklearn.metrics.root_mean_squared_error(y, predicted), rel=1e-4)
  if criterion == 'mse':
    assert result['loss'] == pytest.approx((result['rmse'] / info.target_std) ** 2, rel=1e-4)


def test_padded_rows_change_nothing():
  x, y, info = diabetes()
  task = Regress(model=MLP((8,), dropout=0.0), info=info, criterion='huber', normalize=True)
  clean = whole(x[:7], y[:7])
  spoiled = {
    'features': np.concatenate([x[:7], np.full((5, 10), np.nan, np.float32)]),
    'target': np.concatenate([y[:7], np.full(5, np.inf, np.float32)]),
    'mask': np.repeat([1.0, 0.0], [7, 5]).astype(np.float32),
  }
  params, extra = jax.jit(task.init)(KEY, clean)
  run = jax.jit(jax.value_and_grad(lambda p, b: task.loss(p, extra, b, KEY, True), has_aux=True))
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), *(run(params, b) for b in (clean, spoiled))
  )


def test_a_loss_against_two_dimensions_does_not_broadcast():
  x, y, info = diabetes()
  batch = whole(x[:4], y[:4])
  shapes = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), batch)
  Regress(model=MLP((8,)), info=info).check(shapes)
  with pytest.raises(ConfigError, match=r'config.model.num_outputs: Regress needs one output an example, .* \(3,\)'):
    Regress(model=MLP((8,), 3), info=info).check(shapes)
  with pytest.raises(ConfigError, match='Regress needs target in a batch, got features, mask'):
    Regress(model=MLP((8,)), info=info).check({k: v for k, v in shapes.items() if k != 'target'})


@pytest.mark.parametrize(
  'options, line',
  [
    (dict(criterion='hubber'), "config.task.criterion: nothing is called 'hubber'; did you mean 'huber'"),
    (dict(normalize_target=True), 'config.task.normalize_target: nothing says the mean and deviation of the target'),
    (
      dict(normalize_target=True, info=Info(columns=('features', 'label'))),
      "Regress needs target in a batch, got features, label: if the labels are numbers, set data.kind='regression'",
    ),
    (dict(normalize=True), 'config.task.normalize: the data has no mean'),
  ],
)
def test_arguments_are_checked_at_once(options, line):
  with pytest.raises(ConfigError, match=line):
    Regress(model=MLP((8,)), **options)
