"""Pooling of any size, against PyTorch."""

import itertools

import jax
import numpy as np
import pytest

from dl.nn import pooling

RNG = np.random.default_rng(0)


def maps(h, w):
  return RNG.standard_normal((2, h, w, 3)).astype(np.float32)


def compare(mine, theirs, x):
  """The same values, and the same gradients of a weighted sum."""
  torch = pytest.importorskip('torch')

  into = torch.tensor(x.transpose(0, 3, 1, 2), requires_grad=True)
  expected = theirs(into)
  weight = RNG.standard_normal(expected.shape).astype(np.float32)
  (expected * torch.tensor(weight)).sum().backward()

  @jax.jit
  def both(x, weight):
    y, back = jax.vjp(mine, x)
    return y, back(weight)[0]

  y, gradient = both(x, weight.transpose(0, 2, 3, 1))
  np.testing.assert_allclose(y.transpose(0, 3, 1, 2), expected.detach().numpy(), atol=1e-6)
  np.testing.assert_allclose(gradient.transpose(0, 3, 1, 2), into.grad, atol=1e-6)


@pytest.mark.parametrize('shape', [(6, 6), (12, 18), (13, 7), (9, 8), (3, 1), (25, 6)])
def test_adaptive_means(shape):
  torch = pytest.importorskip('torch')
  compare(lambda x: pooling.adaptive_avg_pool(x, (6, 4)), torch.nn.AdaptiveAvgPool2d((6, 4)), maps(*shape))


@pytest.mark.parametrize('ceil', [False, True])
@pytest.mark.parametrize('window, stride, padding', [(3, 2, 0), (2, 2, 0), (3, 1, 0), (3, 2, 1), (3, 1, 1)])
@pytest.mark.parametrize('shape', [(8, 9), (11, 3), (4, 5)])
def test_max(shape, window, stride, padding, ceil):
  torch = pytest.importorskip('torch')
  pool = torch.nn.MaxPool2d(window, stride, padding, ceil_mode=ceil)
  compare(lambda x: pooling.max_pool(x, window, stride, padding, ceil), pool, maps(*shape))


@pytest.mark.thorough
def test_max_of_every_small_size():
  """Values alone, of all windows, strides and paddings that PyTorch takes."""
  torch = pytest.importorskip('torch')
  x = maps(9, 5)
  for window, stride, ceil in itertools.product(range(1, 5), range(1, 6), (False, True)):
    for padding, rows, columns in itertools.product(range(window // 2 + 1), range(window, 10), (window, 5)):
      part = x[:, :rows, :columns]
      theirs = torch.nn.MaxPool2d(window, stride, padding, ceil_mode=ceil)(torch.tensor(part.transpose(0, 3, 1, 2)))
      mine = pooling.max_pool(part, window, stride, padding, ceil)
      np.testing.assert_array_equal(mine.transpose(0, 3, 1, 2), theirs, f'{window, stride, padding, ceil, part.shape}')


@pytest.mark.parametrize('window, stride', [(3, 2), (2, 2)])
def test_of_equal_values_the_first_gets_the_gradient(window, stride):
  torch = pytest.importorskip('torch')
  x = np.maximum(maps(9, 9).round(), 0)
  compare(lambda x: pooling.max_pool(x, window, stride), torch.nn.MaxPool2d(window, stride), x)


def test_a_maximum_is_not_a_number_where_a_value_is_not():
  for place in range(4):
    x = np.zeros((1, 4, 4, 1), np.float32)
    x[0, place // 2, place % 2] = np.nan
    np.testing.assert_array_equal(np.isnan(pooling.max_pool(x, 2, 2))[0, ..., 0], [[True, False], [False, False]])


def test_a_side_below_the_window_is_one_window():
  x = maps(1, 5)
  np.testing.assert_array_equal(pooling.max_pool(x, 3, 2), np.stack([x[:, :, :3].max(2), x[:, :, 2:].max(2)], 2))


def test_flatten_puts_channels_first():
  torch = pytest.importorskip('torch')
  x = maps(2, 3)
  expected = torch.tensor(x.transpose(0, 3, 1, 2)).flatten(1).numpy()
  np.testing.assert_array_equal(pooling.flatten(x), expected)
