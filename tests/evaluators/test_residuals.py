"""The findings of a regression, against scikit-learn, beside those of the mean; and predictions that are no numbers."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.metrics

from dl.contract import metrics
from dl.contract.info import Info
from dl.contract.state import State
from dl.errors import ConfigError
from dl.evaluators.residuals import Residuals
from dl.models.mlp import MLP
from dl.show import regression
from dl.show.pictures import rasterize
from dl.tasks.classify import Classify
from dl.tasks.regress import Regress

KEY = jax.random.key(0)
INFO = Info(target_mean=20.0, target_std=4.0, target_name='price')
TASK = Regress(model=MLP((), 1), info=INFO, normalize_target=True)


def examined(count, **more):
  rng = np.random.default_rng(0)
  target = rng.normal(21, 4, count).astype(np.float32)
  predicted = (target + rng.normal(0, 2, count)).astype(np.float32)
  return {'target': target, 'predicted': predicted, 'index': np.arange(count) + 100} | more


@pytest.mark.parametrize('count', [40, 3000])
def test_scores_are_those_of_sklearn_beside_those_of_the_mean(count):
  """Many examples are drawn as densities."""
  rows = examined(count)
  found = Residuals().findings(TASK, rows, None)
  assert list(found) == ['scores', 'largest_errors', 'predicted', 'residuals']
  model, mean = found['scores']
  assert mean['predicts'] == 'always the mean of the training part, 20'
  for scores, predicted in ((model, rows['predicted']), (mean, np.full(count, 20.0))):
    assert scores['mae'] == pytest.approx(sklearn.metrics.mean_absolute_error(rows['target'], predicted), rel=1e-4)
    assert scores['rmse'] == pytest.approx(sklearn.metrics.root_mean_squared_error(rows['target'], predicted), rel=1e-4)
    assert scores['r2'] == pytest.approx(sklearn.metrics.r2_score(rows['target'], predicted), abs=1e-4)
  error = rows['predicted'] - rows['target']
  worst = np.argsort(-np.abs(error))[:25]
  assert list(found['largest_errors'][0]) == ['true', 'predicted', 'error', 'index']
  assert [row['index'] for row in found['largest_errors']] == (worst + 100).tolist()
  assert found['largest_errors'][0]['error'] == pytest.approx(error[worst[0]], rel=1e-6)
  assert all(found[name].ndim == 3 and found[name].std() > 0 for name in ('predicted', 'residuals'))


def test_the_labels_of_large_numbers_do_not_run_into_each_other(monkeypatch):
  figures = []
  monkeypatch.setattr(regression, 'rasterize', lambda fig: figures.append(fig) or rasterize(fig))
  target = np.linspace(75_000, 260_000, 200)
  regression.residuals(target, target + 9000 * np.sin(np.arange(200)), 'price')
  regression.against(target, target + 9000, 'price')
  for axes in (axes for fig in figures for axes in fig.axes):
    boxes = [label.get_window_extent() for label in axes.get_xticklabels() if label.get_text()]
    assert len(boxes) > 1 and all(a.x1 + 3 < b.x0 for a, b in itertools.pairwise(boxes))


def test_without_a_mean_of_the_training_part_it_is_that_of_the_set():
  found = Residuals().findings(Regress(model=MLP((), 1)), examined(10), None)
  assert 'of this set' in found['scores'][1]['predicts'] and found['scores'][1]['r2'] == 0


def test_predictions_that_are_no_numbers_are_the_largest_errors_and_a_constant_target_has_no_r2():
  rows = examined(10, file=np.array([f'a.csv, row {i}' for i in range(10)]))
  rows['predicted'][7] = np.nan
  row, *_ = Residuals(shown=3).findings(TASK, rows, None)['largest_errors']
  assert (row['index'], row['file']) == (107, 'a.csv, row 7') and row['error'] != row['error']
  rows['predicted'][:] = np.nan
  assert list(Residuals().findings(TASK, rows, None)) == ['scores', 'largest_errors']
  assert Residuals().findings(TASK, rows | {'target': np.full(10, 2.0)}, None)['scores'][0]['r2'] == ''


def test_what_is_examined_is_in_the_units_of_the_target():
  batch = {'features': jnp.ones((4, 2)), 'target': jnp.arange(4.0), 'mask': jnp.ones(4)}
  params, extra = TASK.init(KEY, batch)
  state = State(step=jnp.int32(0), params=params, opt={}, extra=extra)
  seen = Residuals().examine(TASK, state, batch, KEY)
  np.testing.assert_allclose(seen['predicted'], TASK.predict(state, np.ones((4, 2), np.float32), KEY)['target'])
  numbers = metrics.compute(jax.device_get(Residuals().measure(TASK, state, batch, KEY)))
  assert numbers['mae'] == pytest.approx(float(jnp.abs(seen['predicted'] - batch['target']).mean()), rel=1e-5)
  with pytest.raises(ConfigError, match='Residuals are of regressions, which Classify on features, mask is not'):
    Residuals().examine(Classify(model=MLP((), 2)), state, {'features': 0, 'mask': 0}, KEY)
