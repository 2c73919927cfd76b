"""Convolutional networks of time series, against PyTorch; what pads is read by none; mistakes."""

import jax
import numpy as np
import pytest
import reference
import torch_networks

from dl.models import conv1d
from dl.models.rnn import RNN

KEY = jax.random.key(0)
SERIES = np.random.default_rng(0).normal(size=(3, 20, 2)).astype(np.float32)
LENGTHS = np.array([20, 13, 7])
RAGGED = np.where((np.arange(20) < LENGTHS[:, None])[..., None], SERIES, np.nan)
SMALL = dict(features=(4, 6, 6), sizes=(4, 3, 3))


@pytest.mark.parametrize(('name', 'theirs'), [('FCN', 'fcn_1d'), ('ResNet', 'resnet_1d')])
@pytest.mark.filterwarnings('ignore:Using padding=.same. with even kernel lengths')
def test_networks_equal_pytorch(name, theirs):
  theirs = reference.randomize(getattr(torch_networks, theirs)(2, 3, **SMALL), kernels=True)
  reference.assert_equal(getattr(conv1d, name)(3, **SMALL), theirs, SERIES)


@pytest.mark.parametrize('model', [conv1d.FCN(3, **SMALL), conv1d.ResNet(3, **SMALL), RNN(3, 'lstm', 6)])
def test_what_pads_a_series_is_read_by_nothing(model):
  variables = jax.jit(model.init)(KEY, SERIES)
  padded = model.clone(padded=True)
  jax.tree.map(np.testing.assert_array_equal, variables, jax.jit(padded.init)(KEY, RAGGED))
  outputs, run = jax.jit(padded.apply)(variables, RAGGED), jax.jit(model.apply)
  np.testing.assert_allclose(outputs[:1], run(variables, SERIES)[:1], rtol=1e-4, atol=1e-5)
  np.testing.assert_allclose(outputs[1:2], run(variables, SERIES[:, :13])[1:2], rtol=1e-4, atol=1e-5)
  assert np.isnan(run(variables, RAGGED)).any()
  if not isinstance(model, RNN):  # nor by the statistics of batch norm
    run = jax.jit(lambda x: padded.apply(variables, x, train=True, mutable=['batch_stats']))
    far = np.concatenate([RAGGED, np.full((3, 30, 2), np.nan, np.float32)], 1)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), run(RAGGED), run(far))


def test_mistakes():
  with pytest.raises(ValueError, match=r'FCN takes series \[steps, channels\], the data has shape \(20, 2, 1\)'):
    conv1d.FCN(3).init(KEY, SERIES[..., None])
  with pytest.raises(ValueError, match='sizes: 2 of kernels, but there are 3 convolutions'):
    conv1d.FCN(3, sizes=(3, 3)).init(KEY, SERIES)
