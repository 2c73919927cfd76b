"""Perceptron, shallow network, MLP and LeNet-5: equality with PyTorch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch_networks

from dl.models.lenet import LeNet5, to_size
from dl.models.mlp import MLP

RNG = np.random.default_rng(0)


def assert_close(ours, theirs):
  ours, theirs = np.asarray(ours), theirs.detach().numpy()
  np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-4 * max(1e-2, np.abs(theirs).max()))


def random_like(params):
  """Weights which hide nothing: biases and scales too are random."""
  return jax.tree.map(lambda p: jnp.asarray(RNG.normal(size=p.shape), jnp.float32) * 0.2 + 0.05, params)


@pytest.mark.parametrize('batch_norm', [False, True])
@pytest.mark.parametrize('train', [False, True])
def test_mlp_equals_torch(train, batch_norm):
  torch = pytest.importorskip('torch')
  rows, widths = 16, (12, 9)
  model = MLP(widths, 4, batch_norm=batch_norm)
  x = RNG.normal(size=(rows, 7)).astype(np.float32)
  variables = jax.jit(model.init)(jax.random.key(0), x)
  params = random_like(variables['params'])
  stats = jax.tree.map(lambda s: jnp.abs(random_like(s)) + 0.5, variables.get('batch_stats', {}))

  net = torch_networks.mlp((7, *widths, 4), batch_norm).train(train)
  linears = [m for m in net if isinstance(m, torch.nn.Linear)]
  norms = [m for m in net if isinstance(m, torch.nn.BatchNorm1d)]
  names = ['dense_0', 'dense_1', 'out']
  to_torch = lambda a: torch.tensor(np.array(a))
  with torch.no_grad():
    for m, name in zip(linears, names, strict=True):
      m.weight.copy_(to_torch(params[name]['kernel']).T)
      if m.bias is not None:
        m.bias.copy_(to_torch(params[name]['bias']))
    for i, m in enumerate(norms):
      m.weight.copy_(to_torch(params[f'norm_{i}']['scale']))
      m.bias.copy_(to_torch(params[f'norm_{i}']['bias']))
      m.running_mean.copy_(to_torch(stats[f'norm_{i}']['mean']))
      m.running_var.copy_(to_torch(stats[f'norm_{i}']['var']))

  def loss(params, x):
    y, changed = model.apply({'params': params, 'batch_stats': stats}, x, train=train, mutable=['batch_stats'])
    return (y**2).sum(), (y, changed.get('batch_stats', {}))

  (grads, grad_x), (y, new_stats) = jax.jit(jax.grad(loss, (0, 1), has_aux=True))(params, x)
  xt = torch.tensor(x, requires_grad=True)
  yt = net(xt)
  (yt**2).sum().backward()
  assert_close(y, yt)
  assert_close(grad_x, xt.grad)
  for m, name in zip(linears, names, strict=True):
    assert_close(grads[name]['kernel'], m.weight.grad.T)
    if m.bias is not None:
      assert_close(grads[name]['bias'], m.bias.grad)
  for i, m in enumerate(norms):
    assert_close(grads[f'norm_{i}']['scale'], m.weight.grad)
    assert_close(grads[f'norm_{i}']['bias'], m.bias.grad)
    ours, before = new_stats[f'norm_{i}'] if train else stats[f'norm_{i}'], stats[f'norm_{i}']
    assert_close(ours['mean'], m.running_mean)
    # PyTorch's running variance is unbiased: the batch's part of it is n / (n - 1) times that of Flax.
    var = 0.9 * before['var'] + (ours['var'] - 0.9 * before['var']) * rows / (rows - 1) if train else ours['var']
    assert_close(var, m.running_var)


def test_lenet_of_1998():
  rng = np.random.default_rng(0)
  from dl.models.lenet import _SEEN, LeNet5Original, _SparseConv

  model, x = LeNet5Original(10), jnp.asarray(rng.normal(size=(3, 28, 28, 1)), jnp.float32)
  variables = jax.jit(model.init)(jax.random.key(0), x)
  sizes = {k: sum(v.size for v in jax.tree.leaves(p)) for k, p in variables['params'].items()}
  assert (
    sizes == {'c1': 156, 's2': 12, 'c3': 1516, 's4': 32, 'c5': 48_120, 'f6': 10_164} and sum(sizes.values()) == 60_000
  )
  c3, maps = _SparseConv(jnp.float32), jnp.asarray(rng.normal(size=(1, 5, 5, 6)), jnp.float32)
  params = c3.init(jax.random.key(0), maps)
  effect = jax.jacobian(lambda maps: c3.apply(params, maps)[0, 0, 0])(maps)  # [16, 1, 5, 5, 6]
  assert [tuple(np.flatnonzero(jnp.abs(e).max((0, 1, 2)))) for e in effect] == list(_SEEN)
  logits = jax.jit(model.apply)(variables, x)
  assert logits.shape == (3, 10) and (logits <= 0).all()


@pytest.mark.parametrize('pixels, activation, pooling', [(28, 'tanh', 'average'), (32, 'relu', 'max')])
def test_lenet_equals_torch(pixels, activation, pooling):
  torch = pytest.importorskip('torch')
  model = LeNet5(10, activation=activation, pooling=pooling)
  x = RNG.normal(size=(4, pixels, pixels, 1)).astype(np.float32)
  params = random_like(jax.jit(model.init)(jax.random.key(0), x)['params'])
  params = jax.tree.map(lambda p: p / 4, params)  # units which are saturated have rounding for a gradient

  net = torch_networks.lenet(pixels, activation, pooling)
  layers = {name: getattr(net, name) for name in params}
  arrange = lambda k: k.transpose(3, 2, 0, 1) if k.ndim == 4 else k.T
  with torch.no_grad():
    for name, m in layers.items():
      m.weight.copy_(torch.tensor(np.array(arrange(params[name]['kernel']))))
      m.bias.copy_(torch.tensor(np.array(params[name]['bias'])))
  grads, y = jax.jit(jax.grad(lambda p: (lambda y: ((y**2).sum(), y))(model.apply({'params': p}, x)), has_aux=True))(
    params
  )
  yt = net(torch.tensor(x.transpose(0, 3, 1, 2)))
  (yt**2).sum().backward()
  assert_close(y, yt)
  for name, m in layers.items():
    assert_close(arrange(grads[name]['kernel']), m.weight.grad)
    assert_close(grads[name]['bias'], m.bias.grad)


def test_lenet_takes_other_sizes():
  x = jnp.ones((2, 8, 8, 3))
  for fit in ('pad', 'resize'):
    assert jax.eval_shape(LeNet5(10, fit=fit).init_with_output, jax.random.key(0), x)[0].shape == (2, 10)
  ramp = jnp.tile(jnp.arange(8.0)[:, None, None], (1, 1, 8, 1))
  np.testing.assert_allclose(to_size(ramp, 'pad')[0, 12:20, 12:20], ramp[0])
  assert to_size(ramp, 'pad').sum() == ramp.sum()
  np.testing.assert_allclose(to_size(ramp, 'resize')[0, 4:28, 5, 0], np.arange(24) / 4 + 0.625, rtol=1e-6)
  with pytest.raises(ValueError, match=r"^fit: images of 40x40 do not fit into 32x32; use fit='resize'"):
    LeNet5(10).init(jax.random.key(0), jnp.ones((1, 40, 40, 1)))
  with pytest.raises(ValueError, match='LeNet5 takes images'):
    LeNet5(10).init(jax.random.key(0), jnp.ones((1, 64)))


def test_deep_relu_network_keeps_its_scale():
  model, x = MLP((128,) * 30, 1), jax.random.normal(jax.random.key(0), (64, 128))
  variables = jax.jit(model.init)(jax.random.key(1), x)
  _, seen = jax.jit(lambda v: model.apply(v, x, capture_intermediates=True, mutable=['intermediates']))(variables)
  assert 0.2 < jnp.std(seen['intermediates']['dense_29']['__call__'][0]) < 5.0
