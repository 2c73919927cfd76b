"""Forecasts: errors of standardized values, over the whole set; which channels; padded rows; checks."""

import dataclasses

import jax
import numpy as np
import optax
import pytest
from small import Waves
from supervised_fit import evaluate, fit, init

from dl.contract.info import Info
from dl.data.pipeline import Pipeline
from dl.errors import ConfigError
from dl.models.dlinear import DLinear, NLinear
from dl.models.mlp import MLP
from dl.tasks.forecast import Forecast

KEY = jax.random.key(0)
TRAIN, TEST = Waves('train'), Waves('test')


def shapes(batch):
  return {name: jax.ShapeDtypeStruct(x.shape, x.dtype) for name, x in batch.items()}


def test_learns_and_measures_standardized_values_whatever_the_batches():
  task = Forecast(model=DLinear(4, window=5), info=TRAIN.info)
  train = Pipeline(TRAIN, 32)
  state, last = fit(task, [train[i] for i in range(150)], optax.adam(1e-2))
  assert last['mse'] < 0.1 and last['loss'] == pytest.approx(last['mse'])
  result = evaluate(task, state, Pipeline(TEST, 16, train=False))  # 37 windows: the last batch is not full
  whole = TEST[np.arange(len(TEST))]
  predicted = np.asarray(jax.jit(task.predict)(state, whole['series'], KEY)['target'])
  assert predicted.shape == whole['target'].shape == (37, 4, 1)
  error = (predicted - whole['target']) / TRAIN.info.std[1]
  assert result['mse'] == pytest.approx(np.square(error).mean(), rel=1e-4) and result['mse'] < 0.2
  assert result['mae'] == pytest.approx(np.abs(error).mean(), rel=1e-4)
  repeated = (whole['series'][:, -1:, 1:] - whole['target']) / TRAIN.info.std[1]
  assert result['mse'] < 0.5 * np.square(repeated).mean()
  np.testing.assert_allclose(
    task.last(whole)[:, 0, 0] * task.info.std[1] + task.info.mean[1], whole['series'][:, -1, 1]
  )


def test_without_standardization_values_are_as_they_are():
  task = Forecast(model=NLinear(4), info=TRAIN.info, normalize=False, criterion='mae')
  batch = Pipeline(TRAIN, 8)[0]
  state = init(task, batch, optax.sgd(0.0))
  predicted = task.predict(state, batch['series'], KEY)['target']
  result = evaluate(task, state, [batch])
  assert result['loss'] == pytest.approx(np.abs(predicted - batch['target']).mean(), rel=1e-5)
  assert result['mae'] == pytest.approx(result['loss'])


def test_padded_rows_change_nothing():
  task = Forecast(model=NLinear(4), info=TRAIN.info)
  clean = Pipeline(TRAIN, 8)[0]
  spoilt = {k: np.concatenate([v, np.full_like(v[:3], np.nan)]) for k, v in clean.items() if k != 'mask'}
  spoilt['mask'] = np.repeat([1.0, 0.0], [8, 3]).astype(np.float32)
  state = init(task, clean, optax.sgd(0.0))
  run = jax.jit(jax.value_and_grad(lambda p, b: task.loss(p, state.extra, b, KEY, True), has_aux=True))
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6),
    *(run(state.params, b) for b in (clean, spoilt)),
  )


def test_a_source_of_ones_own_need_not_name_its_channels_where_all_are_targets():
  info = Info(mean=(0.0, 0.0), std=(2.0, 2.0))
  task = Forecast(model=NLinear(3), info=info)
  batch = {'series': np.ones((2, 5, 2), np.float32), 'target': np.ones((2, 3, 2), np.float32), 'mask': np.ones(2)}
  task.check(shapes(batch))
  assert task.targets(batch).shape == (2, 3, 2) and float(task.targets(batch)[0, 0, 0]) == 0.5
  with pytest.raises(ConfigError, match='nothing says which of 2 channels the 1 targets are; the source states it'):
    task.check(shapes(batch | {'target': batch['target'][..., :1]}))


@pytest.mark.parametrize(
  ('model', 'change', 'says'),
  [
    (NLinear(5), {}, 'config.model.horizon: is 5, but the data has 4 steps to forecast'),
    (MLP((), 4), {}, r'config.model: Forecast needs outputs \[4, 1\] of an example, .* 2 channels; MLP gives \(4,\)'),
    (NLinear(4), {'target': np.ones(8)}, r'config.data: Forecast needs target \[horizon, targets\] .* got \(\)'),
    (NLinear(4), {'target': None}, 'config.data: Forecast needs target .* got none of it, but mask, series'),
    (
      NLinear(4), {'series': np.ones((8, 12), np.float32)},
      r'config.data: Forecast needs series \[steps, channels\] in an example, got \(12,\)',
    ),
  ],
)  # fmt: skip
def test_mistakes(model, change, says):
  batch = {k: v for k, v in (Pipeline(TRAIN, 8)[0] | change).items() if v is not None}
  with pytest.raises(ConfigError, match=says):
    Forecast(model=model, info=TRAIN.info).check(shapes(batch))


def test_mistakes_of_inputs_to_predict():
  info = dataclasses.replace(TRAIN.info, columns=('series', 'target'))
  task = Forecast(model=NLinear(4), info=info)
  state = init(task, Pipeline(TRAIN, 8)[0], optax.sgd(0.0))
  with pytest.raises(
    ConfigError, match=r'Forecast.predict: expected series \[batch, 12, 2\], got the shape \(1, 11, 2\)'
  ):
    task.predict(state, np.zeros((1, 11, 2), np.float32), KEY)
  with pytest.raises(ConfigError, match='normalize: the data has no mean'):
    Forecast(model=NLinear(4))
