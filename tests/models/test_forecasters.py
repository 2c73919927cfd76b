"""Forecasters, against PyTorch, Hugging Face and the formulas written out; what they do not see, and mistakes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
import torch_networks

from dl.models.dlinear import DLinear, NLinear
from dl.models.patchtst import PatchTST
from dl.models.rnn import RecurrentForecaster
from dl.nn.time import AlongTime, RevIN, moving_average

KEY = jax.random.key(0)
SERIES = np.random.default_rng(0).normal(2.0, 3.0, (2, 30, 3)).astype(np.float32)
SMALL = dict(patch=6, stride=4, width=12, layers=2, heads=3, hidden=10)


@pytest.mark.parametrize('window', [1, 5, 8])
@pytest.mark.parametrize('channels', [None, 3])
def test_dlinear_equals_pytorch(window, channels):
  theirs = reference.randomize(torch_networks.dlinear(30, 7, window, channels))
  layout = None if channels is None else 'ltsf'
  reference.assert_equal(DLinear(7, window, individual=channels is not None), theirs, SERIES, layout=layout)


def test_nlinear_equals_pytorch_and_follows_the_level_of_a_series():
  model = NLinear(7)
  variables = reference.assert_equal(model, reference.randomize(torch_networks.nlinear(30, 7)), SERIES)
  shift = np.array([5.0, -2.0, 100.0], np.float32)
  moved = model.apply(variables, SERIES + shift)
  np.testing.assert_allclose(moved, model.apply(variables, SERIES) + shift, rtol=1e-4, atol=1e-3)


def test_patchtst_equals_pytorch():
  theirs = reference.randomize(torch_networks.patchtst(30, 7, **SMALL))
  model = PatchTST(7, **SMALL)
  variables = reference.assert_equal(model, theirs, SERIES)
  # Channels are forecast one by one, and scale and level pass through.
  alone = model.apply(variables, SERIES[..., 1:2])
  np.testing.assert_allclose(alone, model.apply(variables, SERIES)[..., 1:2], rtol=1e-4, atol=1e-4)
  np.testing.assert_allclose(model.apply(variables, 4 * SERIES + 7), 4 * model.apply(variables, SERIES) + 7, rtol=1e-4)


def test_patchtst_equals_hugging_face():
  """Whose patches end at the last step, without padding."""
  torch = pytest.importorskip('torch')
  config = reference.transformers().PatchTSTConfig(
    num_input_channels=3, context_length=30, prediction_length=7, patch_length=6, patch_stride=4, d_model=12,
    num_hidden_layers=2, num_attention_heads=3, ffn_dim=10, pre_norm=False, scaling='std', loss='mse', ff_dropout=0.0,
    attention_dropout=0.0, head_dropout=0.0, do_mask_input=False, positional_encoding_type='random',
    pooling_type=None,
  )  # fmt: skip
  theirs = reference.randomize(reference.transformers().PatchTSTForPrediction(config))
  model = PatchTST(7, **SMALL, pad=False)
  series = np.concatenate([np.full((2, 1, 3), 50.0, np.float32), SERIES[:, 1:]], axis=1)
  variables = reference.converted(model, theirs, series.shape, layout='huggingface')
  with torch.no_grad():
    expected = theirs(past_values=torch.from_numpy(series)).prediction_outputs.numpy()
  reference.close(np.asarray(model.apply(variables, series)), expected, 1e-4)


def test_a_recurrent_forecast_is_a_linear_map_of_the_last_state():
  torch = pytest.importorskip('torch')
  torch.manual_seed(0)
  theirs = torch.nn.LSTM(3, 8, 2, batch_first=True)
  model = RecurrentForecaster(7, width=8, layers=2)
  out = torch.nn.Linear(8, 21)
  tensors = {f'rnn.{k}': v.detach().numpy() for k, v in theirs.state_dict().items()}
  tensors |= {f'out.{k}': v.detach().numpy() for k, v in out.state_dict().items()}
  variables = reference.start.convert(tensors, reference.abstract(model, SERIES.shape), model=model, layout='torch')
  x = torch.from_numpy(SERIES)
  mean, std = x.mean(1, keepdim=True), torch.sqrt(x.var(1, unbiased=False, keepdim=True) + 1e-5)
  expected = out(theirs((x - mean) / std)[0][:, -1]).reshape(2, 7, 3) * std + mean
  reference.close(np.asarray(model.apply(variables, SERIES)), expected.detach().numpy(), 1e-4)


def test_moving_average_repeats_the_ends():
  x = jnp.arange(5.0)[None, :, None]
  np.testing.assert_allclose(moving_average(x, 3)[0, :, 0], [1 / 3, 1, 2, 3, 11 / 3], rtol=1e-6)
  np.testing.assert_allclose(moving_average(x, 2)[0, :, 0], [0.5, 1.5, 2.5, 3.5, 4], rtol=1e-6)


@pytest.mark.parametrize('affine', [False, True])
def test_revin_is_undone(affine):
  module = RevIN(affine)
  params = {'params': {'scale': jnp.array([1.0, -2.0, 0.5]), 'bias': jnp.array([0.0, 1.0, 2.0])}} if affine else {}
  y, undo = module.apply(params, SERIES)
  np.testing.assert_allclose(undo(y), SERIES, rtol=1e-4, atol=1e-4)
  if not affine:
    np.testing.assert_allclose(y.mean(1), 0, atol=1e-5)
    np.testing.assert_allclose(y.std(1), 1, atol=1e-4)
  constant = jnp.full((1, 9, 3), 4.0)
  y, undo = module.apply(params, constant)
  np.testing.assert_allclose(undo(y), constant, atol=1e-5)


def test_maps_along_time_start_as_pytorchs():
  params = AlongTime(50, individual=True).init(KEY, SERIES)['params']
  assert params['kernel'].shape == (30, 50, 3) and params['bias'].shape == (3, 50)
  for p in params.values():
    assert np.abs(p).max() < 30**-0.5 and np.std(p) == pytest.approx((30 * 3) ** -0.5, rel=0.1)


def test_mistakes():
  for model, says in (
    (DLinear(7), r'DLinear takes series \[steps, channels\], the data has shape \(30,\)'),
    (NLinear(7), 'NLinear takes series'),
    (PatchTST(7), 'PatchTST takes series'),
    (RecurrentForecaster(7), 'RecurrentForecaster takes series'),
  ):
    with pytest.raises(ValueError, match=says):
      model.init(KEY, SERIES[..., 0])
  for options, says in (
    (dict(patch=31), 'patch: of 31 steps, but the series have 30'),
    (dict(heads=5), '5 heads do not'),
  ):
    with pytest.raises(ValueError, match=says):
      PatchTST(7, **SMALL | options).init(KEY, SERIES)
