"""Gradients against distance in time: equal to PyTorch's, vanishing and exploding, and what clipping does."""

import jax
import numpy as np
import optax
import pytest
from supervised_fit import fit, init

from dl.contract import metrics
from dl.contract.info import Info
from dl.errors import ConfigError
from dl.evaluators.gradients import ThroughTime, norms
from dl.models.gpt import GPT
from dl.models.rnn import RecurrentLanguageModel
from dl.tasks.lm import LanguageModel

KEY = jax.random.key(0)
TOKENS = np.random.default_rng(0).integers(0, 11, (3, 7)).astype(np.int32)


@pytest.mark.parametrize(('cell', 'kind'), [('elman', 'RNNCell'), ('lstm', 'LSTMCell'), ('gru', 'GRUCell')])
def test_norms_equal_those_of_pytorch(cell, kind):
  torch = pytest.importorskip('torch')
  model = RecurrentLanguageModel(11, cell, 5, 2)
  params = jax.tree.map(lambda p: 2 * p, model.init(KEY, TOKENS)['params'])
  tensor, layers = lambda x: torch.tensor(np.array(x)), []
  embedding = tensor(params['token']['embedding'])
  for i in range(2):
    part, layer = params['rnn'][f'layer_{i}'], getattr(torch.nn, kind)(5, 5)
    held = np.zeros_like(part['input']['bias'])
    if cell == 'gru':
      held[10:] = part['hidden']['bias']
    given = {'weight_ih': part['input']['kernel'].T, 'weight_hh': part['hidden']['kernel'].T}
    layer.load_state_dict(
      {k: tensor(v) for k, v in (given | {'bias_ih': part['input']['bias'], 'bias_hh': held}).items()}
    )
    layers.append(layer)
  wanted = []
  for row in TOKENS:
    zeros = [torch.zeros(1, 5, requires_grad=True) for _ in range(4 if cell == 'lstm' else 2)]
    states = [zeros]  # outputs of both layers, and their memories
    for token in row[:-1]:
      x, outputs, memories = embedding[int(token)].unsqueeze(0), [], []
      for i, layer in enumerate(layers):
        if cell == 'lstm':
          x, memory = layer(x, (states[-1][i], states[-1][2 + i]))
          memories.append(memory)
        else:
          x = layer(x, states[-1][i])
        outputs.append(x)
      states.append([x * 1 for x in outputs + memories])  # as they are read later, not by the layer above
    logits = x @ tensor(params['out']['kernel']) + tensor(params['out']['bias'])
    loss = torch.nn.functional.cross_entropy(logits, torch.tensor([int(row[-1])]))
    sizes = [
      torch.cat([g.ravel() for g in torch.autograd.grad(loss, state, retain_graph=True)]).norm()
      for state in states[-2::-1]
    ]
    wanted.append([float(size) for size in sizes])
  np.testing.assert_allclose(norms(model, {'params': params}, TOKENS), wanted, rtol=1e-4)


def made(cell='elman', scale=1.0, **options):
  """(task, state, batch): a network whose products with its state are so many times larger."""
  task = LanguageModel(model=RecurrentLanguageModel(11, cell, 24, 1, **options), info=Info(vocab_size=11))
  tokens = np.random.default_rng(0).integers(0, 11, (8, 41)).astype(np.int32)
  batch = {'tokens': tokens, 'mask': np.ones(8, np.float32)}
  state = init(task, batch, optax.sgd(0.0))
  hidden = state.params['model']['rnn']['layer_0']['hidden']
  hidden['kernel'] = hidden['kernel'] * scale
  return task, state, batch


def factor(task, state, batch, length=40):
  measured = jax.jit(lambda s, b: ThroughTime(length=length).measure(task, s, b, KEY))(state, batch)
  return metrics.compute(jax.device_get(measured))['gradient_factor']


def test_gradients_vanish_and_explode():
  small, large = factor(*made()), factor(*made(scale=5.0, activation='relu'))
  assert 0.3 < small < 0.8 and large > 1.2
  task, state, batch = made()
  rows = jax.device_get(ThroughTime(length=40).examine(task, state, batch, KEY))
  assert 1e-30 < rows['gradient'][:, -1].max() < 1e-6 * rows['gradient'][:, 0].min()  # and not 0
  by_hand = np.exp(np.log(rows['gradient'][:, -1] / rows['gradient'][:, 0]).mean() / 39)
  assert small == pytest.approx(by_hand, rel=1e-4)
  found = ThroughTime(length=40).findings(task, rows, None)
  assert [row['distance'] for row in found['distances']] == [1, 2, 4, 8, 16, 32, 40]
  assert found['distances'][3]['50 %'] == pytest.approx(np.median(rows['gradient'][:, 7]), rel=1e-3)
  assert found['gradients'].ndim == 3 and found['gradients'].std() > 0
  # A short row counts for nothing.
  short = batch | {'tokens': np.where(np.arange(8)[:, None] < 4, batch['tokens'], -1)}
  assert factor(task, state, short) == pytest.approx(factor(task, state, batch | {'mask': np.arange(8) < 4.0}))


def test_a_long_memory_is_that_of_an_lstm_with_open_gates():
  """Elman's network forgets what an LSTM keeps, whose forget gates are open."""
  task, state, batch = made('lstm')
  layer = state.params['model']['rnn']['layer_0']
  layer['input']['bias'] = layer['input']['bias'].at[24:48].set(6.0)
  assert factor(*made()) < 0.8 < 0.95 < factor(task, state, batch) < 1.05


def test_clipping_helps_where_gradients_explode():
  text = np.frombuffer(b'the cat sat on the mat, and the dog sat on the log. ' * 60, np.uint8).astype(np.int32)
  starts = np.random.default_rng(0).integers(0, len(text) - 65, (60, 16))
  batches = [{'tokens': text[s[:, None] + np.arange(65)], 'mask': np.ones(16, np.float32)} for s in starts]
  model = RecurrentLanguageModel(128, 'elman', 64, 1, activation='relu')
  task = LanguageModel(model=model, info=Info(vocab_size=128))
  losses = []
  for chain in (optax.sgd(1.0), optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(1.0))):
    _, last = fit(task, batches, chain)
    losses.append(float(last['loss']))
  assert losses[1] < 2.0 and not losses[0] < 1.5 * losses[1], losses  # without it, large or NaN


def test_mistakes():
  task, state, batch = made()
  with pytest.raises(ConfigError, match='length: 41 distances need a token more, and a row has 41'):
    ThroughTime(length=41).measure(task, state, batch, KEY)
  with pytest.raises(ConfigError, match='length: at least two distances'):
    ThroughTime(length=1).measure(task, state, batch, KEY)
  other = LanguageModel(model=GPT(11, length=41, layers=1, heads=1, width=8), info=Info(vocab_size=11))
  with pytest.raises(ConfigError, match='which LanguageModel of GPT is not'):
    ThroughTime().measure(other, state, batch, KEY)
