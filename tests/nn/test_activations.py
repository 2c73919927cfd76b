"""Activations by name."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dl.models.mlp import MLP
from dl.nn import activations

X = jnp.linspace(-4, 4, 41)


def test_each_is_finite_and_has_a_finite_gradient():
  plain = [name for name in activations.names() if name != 'prelu']  # it has a parameter
  assert len(plain) > 40

  @jax.jit
  def run(x):
    return {name: jax.vjp(activations.get(name), x) for name in plain}

  for name, (value, back) in run(X).items():
    assert np.isfinite(value).all() and value.shape == X.shape, name
    assert np.isfinite(back(jnp.ones_like(X))[0]).all(), name


@pytest.mark.parametrize(
  'name, theirs',
  [
    ('relu', 'ReLU'), ('gelu_exact', 'GELU'), ('silu', 'SiLU'), ('mish', 'Mish'), ('elu', 'ELU'), ('selu', 'SELU'),
    ('celu', 'CELU'), ('softplus', 'Softplus'), ('softsign', 'Softsign'), ('leaky_relu', 'LeakyReLU'),
    ('relu6', 'ReLU6'), ('hard_swish', 'Hardswish'), ('hard_sigmoid', 'Hardsigmoid'), ('hard_tanh', 'Hardtanh'),
    ('log_sigmoid', 'LogSigmoid'), ('tanh_shrink', 'Tanhshrink'), ('hard_shrink', 'Hardshrink'),
    ('soft_shrink', 'Softshrink'), ('tanh', 'Tanh'), ('sigmoid', 'Sigmoid'),
  ],
)  # fmt: skip
def test_equals_torch(name, theirs):
  torch = pytest.importorskip('torch')
  expected = getattr(torch.nn, theirs)()(torch.tensor(np.asarray(X)))
  np.testing.assert_allclose(activations.get(name)(X), expected, rtol=1e-5, atol=1e-5)


def test_formulas():
  np.testing.assert_allclose(activations.get('relu_squared')(X), np.maximum(X, 0) ** 2, atol=1e-6)
  np.testing.assert_allclose(activations.get('snake')(X), X + np.sin(X) ** 2, atol=1e-5)
  np.testing.assert_allclose(activations.get('scaled_tanh')(jnp.array([-1.0, 1.0])), [-1, 1], atol=1e-4)
  np.testing.assert_allclose(activations.get(dict(name='sine', frequency=2.0))(X), np.sin(2 * X), atol=1e-5)
  np.testing.assert_allclose(activations.get('linear')(X), X)


def test_dotted_paths_functions_and_modules():
  np.testing.assert_allclose(activations.get('jax.numpy.arcsinh')(X), np.arcsinh(X), rtol=1e-5)
  assert activations.get(jnp.sin) is jnp.sin
  for spec in ('prelu', 'flax.linen.PReLU', dict(name='flax.linen.PReLU', negative_slope_init=0.2)):
    model = MLP(hidden=(3, 3), activation=spec)
    params = jax.eval_shape(model.init, jax.random.key(0), jnp.ones((1, 2)))['params']
    assert sorted(k for k in params if 'PReLU' in k) == ['PReLU_0', 'PReLU_1']
  slope = 0.2
  leaky = activations.get(dict(name='leaky_relu', negative_slope=slope))
  np.testing.assert_allclose(leaky(X), np.where(X > 0, X, slope * X), atol=1e-6)


@pytest.mark.parametrize(
  'spec, line',
  [
    ('rleu', "^activation: no activation is called 'rleu'; did you mean .*'relu'"),
    ('jax.nn.rleu', "^activation: 'jax.nn' has no 'rleu'; "),
    (dict(name='leaky_relu', slope=0.1), "^activation.slope: leaky_relu takes no argument 'slope'"),
    (3, '^activation: expected a name'),
  ],
)
def test_errors_are_one_helpful_line(spec, line):
  with pytest.raises(ValueError, match=line) as e:
    activations.get(spec)
  assert '\n' not in str(e.value)
