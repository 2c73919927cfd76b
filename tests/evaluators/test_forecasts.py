"""The findings of a forecast: errors against NumPy, beside those of the last value; pictures; mistakes."""

import jax
import numpy as np
import optax
import pytest
from small import Waves
from supervised_fit import init

from dl.contract import metrics
from dl.data.pipeline import Pipeline
from dl.errors import ConfigError
from dl.evaluators.forecasts import Forecasts
from dl.models.dlinear import NLinear
from dl.models.mlp import MLP
from dl.tasks.classify import Classify
from dl.tasks.forecast import Forecast

KEY = jax.random.key(0)
TEST = Waves('test')
TASK = Forecast(model=NLinear(4), info=TEST.info)


@pytest.fixture(scope='module')
def measured():
  """(what is examined of the whole set, its batch, the state)."""
  batch = next(iter(Pipeline(TEST, len(TEST), train=False)))
  state = init(TASK, batch, optax.sgd(0.0))
  rows = jax.device_get(Forecasts().examine(TASK, state, batch, KEY))
  return rows | {'index': np.arange(len(TEST)) + 100}, batch, state


def test_errors_are_those_of_numpy_beside_those_of_the_last_value(measured):
  rows, batch, state = measured
  found = Forecasts(shown=3).findings(TASK, rows, lambda index: {k: v[index] for k, v in batch.items()})
  assert list(found) == ['targets', 'largest_errors', 'horizon', 'forecasts']
  std = TEST.info.std[1]
  predicted = np.asarray(TASK.predict(state, batch['series'], KEY)['target'])
  np.testing.assert_allclose(rows['forecast'], predicted[..., 0], rtol=1e-6)
  (row,) = found['targets']
  for prefix, values in (('', predicted), (' of the last value', batch['series'][:, -1:, 1:])):
    error = (values - batch['target']) / std
    assert row[f'mse{prefix}'] == pytest.approx(np.square(error).mean(), rel=1e-4)
    assert row[f'mae{prefix}'] == pytest.approx(np.abs(error).mean(), rel=1e-4)
  np.testing.assert_allclose(rows['model_steps'], np.square((predicted - batch['target']) / std)[..., 0], rtol=1e-3)
  worst = np.argsort(-rows['error'], kind='stable')[:3]
  assert [r['index'] for r in found['largest_errors']] == (worst + 100).tolist()
  assert all(found[name].ndim == 3 and found[name].std() > 0 for name in ('horizon', 'forecasts'))
  numbers = metrics.compute(jax.device_get(Forecasts().measure(TASK, state, batch, KEY)))
  assert numbers['mse'] == pytest.approx(row['mse'], rel=1e-4)


def test_windows_are_evenly_spread_and_named(measured, monkeypatch):
  rows, batch, _ = measured
  drawn = {}
  monkeypatch.setattr('dl.show.forecast.windows', lambda *given: drawn.update(given=given))
  rows |= {'file': np.array([f'/a/b.csv, row {i}' for i in rows['index']])}
  Forecasts(windows=3, channel='slow').findings(TASK, rows, lambda index: {k: v[index] for k, v in batch.items()})
  pasts, truths, forecasts, titles, name = drawn['given']
  assert titles == ['b.csv, row 100', 'b.csv, row 118', 'b.csv, row 136'] and name == 'slow'
  np.testing.assert_array_equal(truths, batch['target'][[0, 18, 36], :, 0])
  np.testing.assert_array_equal(pasts, batch['series'][[0, 18, 36], -8:, 1])
  np.testing.assert_array_equal(forecasts, rows['forecast'][[0, 18, 36]])


def test_mistakes(measured):
  _, batch, state = measured
  with pytest.raises(ConfigError, match="channel: there is no target 'slwo'; did you mean 'slow'"):
    Forecasts(channel='slwo').examine(TASK, state, batch, KEY)
  with pytest.raises(ConfigError, match='Forecasts are of series, which Classify on features, mask is not'):
    Forecasts().measure(Classify(model=MLP((), 2)), state, {'features': 0, 'mask': 0}, KEY)
