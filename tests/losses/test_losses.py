"""Losses against PyTorch, scikit-learn, optax and plain formulas."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import sklearn.metrics

from dl import losses
from dl.errors import ConfigError

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(32, 5)).astype(np.float32) * 3
LABELS = RNG.integers(0, 5, 32)
ONE = RNG.normal(size=32).astype(np.float32) * 3
TWO_LABELS = RNG.integers(0, 2, 32)
WEIGHTS = (0.5, 1.0, 2.0, 1.5, 0.1)


@pytest.mark.parametrize('weights', [None, WEIGHTS])
@pytest.mark.parametrize('smoothing', [0.0, 0.1])
def test_cross_entropy_equals_torch(smoothing, weights):
  torch = pytest.importorskip('torch')
  logits = torch.tensor(LOGITS, requires_grad=True)
  theirs = torch.nn.functional.cross_entropy(
    logits,
    torch.tensor(LABELS),
    None if weights is None else torch.tensor(weights),
    reduction='none',
    label_smoothing=smoothing,
  )
  theirs.sum().backward()
  ours = lambda x: losses.cross_entropy(x, LABELS, smoothing, weights)
  np.testing.assert_allclose(ours(LOGITS), theirs.detach(), rtol=1e-4, atol=1e-5)
  np.testing.assert_allclose(jax.grad(lambda x: ours(x).sum())(LOGITS), logits.grad, rtol=1e-4, atol=1e-6)


def test_cross_entropy_equals_sklearn():
  p = np.asarray(jax.nn.softmax(LOGITS), np.float64)
  theirs = sklearn.metrics.log_loss(LABELS, p / p.sum(1, keepdims=True), labels=range(5))
  np.testing.assert_allclose(losses.cross_entropy(LOGITS, LABELS).mean(), theirs, rtol=1e-5)


def test_binary_equals_torch_and_two_class_cross_entropy():
  torch = pytest.importorskip('torch')
  theirs = torch.nn.functional.binary_cross_entropy_with_logits(
    torch.tensor(ONE), torch.tensor(TWO_LABELS, dtype=torch.float32), reduction='none', pos_weight=torch.tensor(3.0)
  )
  np.testing.assert_allclose(losses.binary(ONE, TWO_LABELS, class_weights=(1.0, 3.0)), theirs, rtol=1e-4, atol=1e-6)
  two = np.stack([np.zeros_like(ONE), ONE], 1)
  for options in ({}, {'label_smoothing': 0.2}, {'class_weights': (2.0, 0.5)}):
    np.testing.assert_allclose(
      losses.binary(ONE[:, None], TWO_LABELS, **options),
      losses.cross_entropy(two, TWO_LABELS, **options),
      rtol=1e-4,
      atol=1e-6,
    )


def test_focal():
  p = np.asarray(jax.nn.softmax(LOGITS))[np.arange(32), LABELS]
  np.testing.assert_allclose(
    losses.focal(LOGITS, LABELS, 1.5, WEIGHTS), -np.array(WEIGHTS)[LABELS] * (1 - p) ** 1.5 * np.log(p), rtol=1e-3
  )
  np.testing.assert_allclose(losses.focal(LOGITS, LABELS, 0.0), losses.cross_entropy(LOGITS, LABELS), rtol=1e-5)
  theirs = optax.losses.sigmoid_focal_loss(ONE, TWO_LABELS.astype(np.float32), alpha=0.25, gamma=2.0)
  np.testing.assert_allclose(losses.binary_focal(ONE, TWO_LABELS, 2.0, (0.75, 0.25)), theirs, rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize('gamma', [0.0, 0.5, 2.0])
def test_focal_gradient_is_finite_where_the_model_is_sure(gamma):
  logits = jnp.array([[200.0, 0.0], [0.0, 200.0]])
  assert jnp.isfinite(jax.grad(lambda x: losses.focal(x, jnp.zeros(2, int), gamma).sum())(logits)).all()
  sure = jnp.array([200.0, -200.0])
  assert jnp.isfinite(jax.grad(lambda x: losses.binary_focal(x, jnp.ones(2), gamma).sum())(sure)).all()


def test_regression_losses_equal_torch():
  torch = pytest.importorskip('torch')
  a, b = RNG.normal(size=(2, 16, 3)).astype(np.float32)
  for ours, theirs in (
    (losses.mse, torch.nn.functional.mse_loss),
    (losses.mae, torch.nn.functional.l1_loss),
    (lambda x, y: losses.huber(x, y, 0.7), lambda x, y, **k: torch.nn.functional.huber_loss(x, y, delta=0.7, **k)),
  ):
    expected = theirs(torch.tensor(a), torch.tensor(b), reduction='none').mean(1)
    np.testing.assert_allclose(ours(a, b), expected, rtol=1e-5)


def users_own(outputs, targets, power=4):
  return jnp.abs(outputs - targets) ** power


def test_make():
  a, b = jnp.array([1.0, 2.0]), jnp.array([0.0, 4.0])
  np.testing.assert_allclose(losses.make('mse', 'x')(a, b), [1, 4])
  np.testing.assert_allclose(losses.make(dict(name='huber', delta=2.0), 'x')(a, b), [0.5, 2])
  np.testing.assert_allclose(losses.make(f'{__name__}.users_own', 'x')(a, b), [1, 16])
  np.testing.assert_allclose(losses.make(dict(name=f'{__name__}.users_own', power=1), 'x')(a, b), [1, 2])
  np.testing.assert_allclose(losses.make('log_cosh', 'x')(a, b), optax.losses.log_cosh(a, b))
  np.testing.assert_allclose(losses.make('optax.losses.squared_error', 'x')(a, b), [1, 4])
  np.testing.assert_allclose(losses.make(users_own, 'x')(a[:, None], b[:, None]), [1, 16])


@pytest.mark.parametrize(
  'spec, options, line',
  [
    ('cros_entropy', {}, "x: nothing is called 'cros_entropy'; did you mean .*'cross_entropy'"),
    (dict(name='huber', dleta=1.0), {}, "x.dleta: huber takes no argument 'dleta'; did you mean 'delta'"),
    ('focal', dict(label_smoothing=0.1), "x.label_smoothing: focal takes no argument 'label_smoothing'"),
    (dict(name='focal', gamma='2'), {}, 'x.gamma: expected float'),
  ],
)
def test_make_names_what_is_wrong(spec, options, line):
  with pytest.raises(ConfigError, match=line):
    losses.make(spec, 'x', **options)


def test_make_refuses_a_loss_which_averages_already():
  with pytest.raises(ConfigError, match=r'x: <lambda> must return one value an example, \[2\], got \(\)'):
    losses.make(lambda o, t: ((o - t) ** 2).mean(), 'x')(jnp.ones(2), jnp.ones(2))


@pytest.mark.parametrize('label', [-1, 5])
def test_a_label_that_is_no_class_has_no_loss(label):
  labels = np.array([2, label, 4], np.int32)
  for loss in (losses.cross_entropy, losses.focal):
    assert np.isnan(loss(LOGITS[:3], labels)).tolist() == [False, True, False]
  assert np.isnan(losses.binary(ONE[:3], np.array([0, label, 1]))).tolist() == [False, True, False]
  maps = np.array([[[0, label]], [[1, 2]]], np.int32)
  pixels = LOGITS[:4].reshape(2, 1, 2, 5)
  assert np.isnan(losses.dice(pixels, maps)).tolist() == [True, False]
  weight = np.array([[[1.0, 0.0]], [[1.0, 1.0]]])  # a pixel which does not count may hold anything
  assert np.isfinite(losses.dice(pixels, maps, weight)).all()
