"""Recurrent layers: outputs, last states and gradients equal to PyTorch's, masks, and what PyTorch lacks."""

import flax.linen as nn
import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
import pytest

from dl.models.rnn import RNN
from dl.nn.recurrent import Recurrent, Stack
from dl.training import start

TORCH = {'elman': 'RNN', 'lstm': 'LSTM', 'gru': 'GRU'}
RNG = np.random.default_rng(0)
X = RNG.normal(size=(3, 7, 5)).astype(np.float32)
LENGTHS = np.array([7, 4, 1])
MASK = np.arange(7) < LENGTHS[:, None]


def theirs(cell, **options):
  """(PyTorch, its layers with random weights)."""
  torch = pytest.importorskip('torch')
  torch.manual_seed(0)
  names = {'layers': 'num_layers', 'projection': 'proj_size', 'activation': 'nonlinearity'}
  options = {names.get(k, k): v for k, v in options.items()}
  return torch, getattr(torch.nn, TORCH[cell])(5, options.pop('width', 6), batch_first=True, **options)


def convert(tensors, model, params):
  """Tensors of PyTorch as parameters of the `rnn` of a model."""
  tensors |= {'out.weight': np.zeros(params['out']['kernel'].shape[::-1], np.float32), 'out.bias': np.zeros(2)}
  return start.convert(tensors, {'params': params}, model=model, layout='torch')['params']['rnn']


CASES = [
  ('elman', {}),
  ('elman', dict(activation='relu', layers=2)),
  ('lstm', {}),
  ('lstm', dict(layers=2, bidirectional=True)),
  ('lstm', dict(projection=4, layers=2, bidirectional=True)),
  ('gru', dict(layers=2)),
  ('gru', dict(bidirectional=True)),
]


@pytest.mark.filterwarnings('ignore:LSTM with projections is not supported with oneDNN')
@pytest.mark.parametrize('masked', [False, True])
@pytest.mark.parametrize(('cell', 'options'), CASES)
def test_outputs_states_and_gradients_equal_pytorchs(cell, options, masked):
  torch, reference = theirs(cell, **options)
  model = RNN(2, cell, 6, **options)
  shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 7, 5)))['params']
  params = convert({k: v.detach().numpy() for k, v in reference.named_parameters()}, model, shapes)
  stack = Stack(cell, 6, **options)
  mask = jnp.asarray(MASK) if masked else None

  x = torch.tensor(X, requires_grad=True)
  if masked:
    packed = torch.nn.utils.rnn.pack_padded_sequence(x, torch.tensor(LENGTHS), batch_first=True)
    outputs, last = reference(packed)
    outputs = torch.nn.utils.rnn.pad_packed_sequence(outputs, batch_first=True)[0]
  else:
    outputs, last = reference(x)
  last = last if isinstance(last, tuple) else (last,)
  weights = torch.tensor(RNG.normal(size=outputs.shape).astype(np.float32))
  ((outputs * weights).sum() + sum((part**2).sum() for part in last)).backward()

  def loss(params, x):
    y, states = stack.apply({'params': params}, x, mask=mask)
    together = [jnp.stack(part) for part in zip(*states, strict=True)]
    return (y * weights.numpy()).sum() + sum((part**2).sum() for part in together), (y, together)

  (_, (y, states)), (of_params, of_x) = jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))(params, X)
  np.testing.assert_allclose(y, outputs.detach(), rtol=1e-4, atol=1e-5)
  for mine, part in zip(states, last, strict=True):
    np.testing.assert_allclose(mine, part.detach(), rtol=1e-4, atol=1e-5)
  np.testing.assert_allclose(of_x, x.grad, rtol=1e-3, atol=1e-4)
  grads = {k: v.grad.numpy().copy() for k, v in reference.named_parameters()}
  for name in grads:  # each of two biases has the gradient of their sum
    if name.startswith('bias_hh'):
      grads[name][: 12 if cell == 'gru' else None] = 0.0
  wanted = convert(grads, model, shapes)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4), of_params, wanted)


def by_hand(params, x, cell, reset='after'):
  """The outputs of a layer with norms, or of a GRU as in the paper, position by position in NumPy."""
  sigmoid = lambda v: 1 / (1 + np.exp(-v))
  norm = lambda v, p: (
    (v - v.mean(-1, keepdims=True)) / np.sqrt(v.var(-1, keepdims=True) + 1e-5) * p['scale'] + p['bias']
  )
  p = jax.tree.map(lambda v: np.asarray(v, np.float64), params)
  normed = 'norm_hidden' in p
  of = lambda which, v: norm(v @ p[which]['kernel'], p[f'norm_{which}']) if normed else v @ p[which]['kernel']
  width = p['hidden']['kernel'].shape[0]
  h, c, outputs = np.zeros((len(x), width)), np.zeros((len(x), width)), []
  for t in range(x.shape[1]):
    given = of('input', x[:, t]) + (0 if normed else p['input']['bias'])
    if cell == 'lstm':
      i, f, g, o = np.split(given + of('hidden', h), 4, -1)
      c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
      h = sigmoid(o) * np.tanh(norm(c, p['norm_memory']))
    elif cell == 'elman':
      h = np.tanh(given + of('hidden', h))
    elif reset == 'before':
      kernel = p['hidden']['kernel']
      gates = sigmoid(given[:, : 2 * width] + h @ kernel[:, : 2 * width])
      r, z = np.split(gates, 2, -1)
      h = z * h + (1 - z) * np.tanh(given[:, 2 * width :] + (r * h) @ kernel[:, 2 * width :])
    else:
      (r, z, n), (hr, hz, hn) = np.split(given, 3, -1), np.split(of('hidden', h), 3, -1)
      z = sigmoid(z + hz)
      h = z * h + (1 - z) * np.tanh(n + sigmoid(r + hr) * hn)
    outputs.append(h)
  return np.stack(outputs, 1)


@pytest.mark.parametrize(
  ('cell', 'options'),
  [
    ('elman', dict(layer_norm=True)), ('lstm', dict(layer_norm=True)), ('gru', dict(layer_norm=True)),
    ('gru', dict(reset='before')),
  ],
)  # fmt: skip
def test_norms_and_the_reset_of_the_paper(cell, options):
  layer = Recurrent(cell, 6, **options)
  params = layer.init(jax.random.key(0), X)['params']
  noise = lambda path, v: v + np.random.default_rng(len(str(path))).normal(size=v.shape).astype(np.float32) * 0.3
  params = jax.tree_util.tree_map_with_path(noise, params)
  y, _ = layer.apply({'params': params}, X)
  np.testing.assert_allclose(y, by_hand(params, X.astype(np.float64), cell, options.get('reset', 'after')), atol=2e-5)


@pytest.mark.parametrize('cell', TORCH)
def test_what_pads_counts_for_nothing_be_it_nan(cell):
  layer = Stack(cell, 6, bidirectional=True)
  params = layer.init(jax.random.key(0), X)['params']
  spoilt = np.where(MASK[..., None], X, np.nan)
  run = lambda p, x: layer.apply({'params': p}, x, mask=jnp.asarray(MASK))
  y, states = run(params, spoilt)
  alone, states_alone = layer.apply({'params': params}, X[1:2, :4])
  np.testing.assert_allclose(y[1:2, :4], alone, atol=1e-6)
  assert (np.asarray(y)[~MASK] == 0).all()
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a[1:2], b, atol=1e-6), states, states_alone)
  grads = jax.grad(lambda p: (run(p, spoilt)[0] ** 2).sum())(params)
  assert all(np.isfinite(g).all() for g in jax.tree.leaves(grads))


@pytest.mark.parametrize('cell', TORCH)
def test_a_sequence_in_two_parts_is_the_whole(cell):
  layer = Stack(cell, 6, layers=2)
  params = layer.init(jax.random.key(0), X)['params']
  whole, last = layer.apply({'params': params}, X)
  first, carry = layer.apply({'params': params}, X[:, :3])
  second, end = layer.apply({'params': params}, X[:, 3:], carry)
  np.testing.assert_allclose(np.concatenate([first, second], 1), whole, atol=1e-6)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), end, last)


def dot_types(jaxpr):
  """The types of what is multiplied in a program, and in those within it."""
  found = set()
  for eqn in jaxpr.eqns:
    if eqn.primitive.name == 'dot_general':
      found |= {str(v.aval.dtype) for v in eqn.invars}
    for inner in jax.extend.core.jaxprs_in_params(eqn.params):
      found |= dot_types(inner)
  return found


@pytest.mark.parametrize('cell', TORCH)
def test_products_are_of_the_compute_type_backwards_too(cell):
  layer = Stack(cell, 6, layers=2, dtype=jnp.bfloat16)
  params = layer.init(jax.random.key(0), X)['params']
  loss = lambda p, x: (layer.apply({'params': p}, x)[0] ** 2).sum()
  assert dot_types(jax.make_jaxpr(jax.grad(loss, (0, 1)))(params, X).jaxpr) == {'bfloat16'}


@pytest.mark.parametrize('cell', TORCH)
def test_weights_of_the_state_are_dropped_out_once_a_call(cell):
  torch, reference = theirs(cell)
  layer = Recurrent(cell, 6, weight_dropout=0.5)
  model = RNN(2, cell, 6)
  shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 7, 5)))['params']
  params = convert({k: v.detach().numpy() for k, v in reference.named_parameters()}, model, shapes)['layer_0']

  def run(params):
    rngs, kept = {'dropout': jax.random.key(1)}, lambda module, _: isinstance(module, nn.Dropout)
    (y, _), seen = layer.apply({'params': params}, X, train=True, rngs=rngs, capture_intermediates=kept)
    (kernel,) = seen['intermediates']['Dropout_0']['__call__']
    return (y**2).sum(), (y, kernel)

  grads, (y, kernel) = jax.grad(run, has_aux=True)(params)
  mask = np.asarray(kernel) / np.asarray(params['hidden']['kernel'])
  assert sorted({round(float(x), 3) for x in mask.ravel()}) == [0.0, 2.0]
  with torch.no_grad():
    reference.weight_hh_l0.copy_(torch.tensor(np.array(kernel)).T)
  outputs, _ = reference(torch.tensor(X))
  (outputs**2).sum().backward()
  np.testing.assert_allclose(y, outputs.detach(), rtol=1e-4, atol=1e-5)
  wanted = reference.weight_hh_l0.grad.numpy().T * mask
  np.testing.assert_allclose(grads['hidden']['kernel'], wanted, rtol=1e-3, atol=1e-4)
  judged, plain = (m.apply({'params': params}, X)[0] for m in (layer, Recurrent(cell, 6)))
  np.testing.assert_array_equal(judged, plain)


def test_mistakes():
  for options, says in (
    (dict(cell='gru', projection=3), "projection: of an LSTM alone, not of 'gru'"),
    (dict(cell='gru', layer_norm=True, reset='before'), "layer_norm: of a GRU with reset='after' alone"),
  ):
    with pytest.raises(ValueError, match=says):
      Recurrent(width=6, **options).init(jax.random.key(0), X)
