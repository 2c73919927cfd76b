"""Norms of features that lie far from zero, against PyTorch."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dl.nn.norm import batch_norm, group_norm, layer_norm

FARS = pytest.mark.parametrize('far', [0, 100, 1_000])  # the mean, in deviations


def features(far, shape, seed=0):
  return (np.random.default_rng(seed).standard_normal(shape) + far).astype(np.float32)


def reference(norm, x):
  """The result of a PyTorch norm in float64 for channels-last input, and the norm."""
  torch = pytest.importorskip('torch')
  norm = norm(torch.nn).double()
  return np.moveaxis(norm(torch.tensor(np.moveaxis(x, -1, 1)).double()).detach().numpy(), 1, -1), norm


@FARS
@pytest.mark.parametrize('shape', [(64, 8), (4, 7, 6, 8)])
def test_batch_norm(far, shape):
  x = features(far, shape)
  expected, theirs = reference(lambda nn: nn.BatchNorm1d(8) if len(shape) == 2 else nn.BatchNorm2d(8), x)
  mine = batch_norm(True, jnp.float32, name='norm')
  y, variables = mine.init_with_output(jax.random.key(0), x)
  np.testing.assert_allclose(y, expected, atol=1e-4 + 1e-6 * far)  # the mean itself has but seven digits
  y, changed = mine.apply(variables, x, mutable=['batch_stats'])
  count = x.size / 8  # PyTorch's running variance is unbiased
  stats = changed['batch_stats']
  np.testing.assert_allclose(stats['mean'], theirs.running_mean, rtol=1e-5, atol=1e-6)
  unbiased = 0.9 + (stats['var'] - 0.9) * count / (count - 1)
  np.testing.assert_allclose(unbiased, theirs.running_var, rtol=1e-4)


@FARS
def test_layer_norm(far):
  x = features(far, (5, 48))
  torch = pytest.importorskip('torch')
  expected = torch.nn.LayerNorm(48).double()(torch.tensor(x).double()).detach().numpy()
  y, _ = layer_norm(1e-5).init_with_output(jax.random.key(0), x)
  np.testing.assert_allclose(y, expected, atol=1e-4 + 1e-6 * far)  # the mean itself has but seven digits


@FARS
def test_group_norm(far):
  x = features(far, (3, 5, 4, 16))
  expected, _ = reference(lambda nn: nn.GroupNorm(2, 16), x)
  y, _ = group_norm(num_groups=None, group_size=8, epsilon=1e-5).init_with_output(jax.random.key(0), x)
  np.testing.assert_allclose(y, expected, atol=1e-4 + 1e-6 * far)  # the mean itself has but seven digits


def test_the_gradient_of_far_features():
  torch = pytest.importorskip('torch')
  x, weight = features(1_000, (64, 8)), features(0, (64, 8), seed=1)
  into = torch.tensor(x).double().requires_grad_()
  (torch.nn.BatchNorm1d(8).double()(into) * torch.tensor(weight)).sum().backward()
  mine = batch_norm(True, jnp.float32, name='norm')
  variables = mine.init(jax.random.key(0), x)
  value = lambda x: (mine.apply(variables, x, mutable=['batch_stats'])[0] * weight).sum()
  gradient = jax.grad(value)(x)
  np.testing.assert_allclose(gradient, into.grad, atol=1e-3 * np.abs(into.grad.numpy()).max())


@pytest.mark.parametrize('layer', [nn.BatchNorm(use_running_average=False), nn.LayerNorm(), nn.GroupNorm(2)])
def test_what_flax_does_by_default_is_off(layer):
  """The reason for `dl.nn.norm`; once this fails, it has none."""
  y, _ = layer.init_with_output(jax.random.key(0), features(1_000, (64, 32)))
  right = (features(1_000, (64, 32)) - 1_000).astype(np.float64)
  assert np.abs(np.asarray(y) - right).max() > 0.1
