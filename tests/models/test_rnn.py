"""Recurrent networks: published counts, what the outputs are of, and decoding that equals reading anew."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dl.decoding.decoder import Decoder
from dl.decoding.sampling import generate
from dl.models.rnn import RNN, RecurrentLanguageModel
from dl.nn.recurrent import Stack

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
X = RNG.normal(size=(3, 7, 5)).astype(np.float32)


def size(model, inputs):
  return sum(x.size for x in jax.tree.leaves(jax.eval_shape(model.init, KEY, inputs)['params']))


@pytest.mark.parametrize(('width', 'count'), [(200, 4_651_600), (650, 19_775_200), (1500, 66_022_000)])
def test_parameter_counts_of_zaremba(width, count):
  assert size(RecurrentLanguageModel(10_000, width=width), jnp.zeros((1, 2), jnp.int32)) == count


@pytest.mark.parametrize('bidirectional', [False, True])
def test_what_the_outputs_are_of(bidirectional):
  make = lambda pooling: RNN(4, 'gru', 6, 2, bidirectional, pooling)
  params = make('none').init(KEY, X)['params']
  run = lambda pooling, **more: np.asarray(make(pooling).apply({'params': params}, X, **more))
  each = run('none')
  assert each.shape == (3, 7, 4)
  np.testing.assert_allclose(run('mean'), each.mean(1), atol=1e-5)  # the output layer is affine
  if not bidirectional:
    np.testing.assert_allclose(run('last'), each[:, -1], atol=1e-5)
  else:  # forward at the end, backward at the beginning
    y, _ = Stack('gru', 6, 2, True).apply({'params': params['rnn']}, X)
    ends = jnp.concatenate([y[:, -1, :6], y[:, 0, 6:]], -1)
    np.testing.assert_allclose(run('last'), ends @ params['out']['kernel'] + params['out']['bias'], atol=1e-5)
  # Positions that are not real count for nothing, whatever is there.
  mask = np.arange(7) < 4
  spoilt = np.where(mask[:, None], X, np.nan)
  for pooling in ('last', 'mean', 'max'):
    masked = make(pooling).apply({'params': params}, spoilt, mask=jnp.tile(mask, (3, 1)))
    np.testing.assert_allclose(masked, make(pooling).apply({'params': params}, X[:, :4]), atol=1e-5)


def test_rows_of_an_image_are_its_positions():
  image = RNG.normal(size=(2, 7, 5, 3)).astype(np.float32)
  params = RNN(4).init(KEY, image)['params']
  assert params['rnn']['layer_0']['input']['kernel'].shape == (15, 128)
  with pytest.raises(ValueError, match='needs sequences'):
    RNN(4).init(KEY, jnp.zeros((2, 5)))


@pytest.mark.parametrize(
  'options',
  [dict(cell='elman'), dict(cell='lstm', projection=8, tie_embeddings=True, embedding=8), dict(cell='gru', layers=1)],
)
def test_decoding_equals_reading_anew(options):
  model = RecurrentLanguageModel(17, width=12, **options)
  assert isinstance(model, Decoder)
  tokens = RNG.integers(0, 17, (2, 9))
  params = jax.tree.map(lambda p: p * 3, model.init(KEY, tokens)['params'])
  variables = {'params': params}
  whole = model.apply(variables, tokens)
  logits, cache = model.prefill(variables, tokens[:, :4])
  np.testing.assert_allclose(logits, whole[:, 3], atol=1e-5)
  for at in range(4, 9):
    logits, cache = model.step(variables, cache, tokens[:, at])
    np.testing.assert_allclose(logits, whole[:, at], atol=1e-5)
  # A later token changes no earlier position.
  other = np.array(tokens)
  other[:, 5:] = (other[:, 5:] + 1) % 17
  np.testing.assert_array_equal(model.apply(variables, other)[:, :5], whole[:, :5])
  # There is no context to be full.
  new = np.asarray(generate(model, variables, tokens[:, :4], KEY, 0.0, length=30))
  text = np.concatenate([tokens[:, :4], new], 1)
  likeliest = np.argmax(model.apply(variables, text), -1)
  np.testing.assert_array_equal(new, likeliest[:, 3:-1])


AWD = dict(
  layers=3, embedding=5, width=7, last_width=5, tie_embeddings=True, dropout=0.4, input_dropout=0.5, hidden_dropout=0.3,
  locked=True, word_dropout=0.2, weight_dropout=0.5, penalties=True,
)  # fmt: skip


def test_parameter_count_of_awd_lstm():
  model = RecurrentLanguageModel(10_000, **AWD | dict(embedding=400, width=1150, last_width=400))
  biases = 2 * 4600 + 1600 + 10_000  # a second one of each gate, and those of the output, which are not here
  assert size(model, jnp.zeros((1, 2), jnp.int32)) == 24_221_600 - biases


def test_what_awd_lstm_drops_out_and_penalizes():
  """Logits and penalties are those of PyTorch's layers with the masks that were drawn."""
  torch = pytest.importorskip('torch')
  model, tokens = RecurrentLanguageModel(17, **AWD), RNG.integers(0, 17, (3, 9))
  params = jax.tree.map(lambda p: p * 3, model.init(KEY, tokens)['params'])
  dropouts = lambda module, _: isinstance(module, nn.Dropout)
  outputs, seen = model.apply(
    {'params': params}, tokens, train=True, rngs={'dropout': KEY}, capture_intermediates=dropouts
  )
  kept = lambda *path: np.array(functools.reduce(lambda tree, k: tree[k], path, seen['intermediates'])['__call__'][0])
  # Of a row, a feature is dropped out at all positions or at none, where its word is not.
  mask = lambda rate, *path: torch.tensor((kept(*path) != 0).any(1, keepdims=True) / (1 - rate)).float()
  words = kept('Dropout_0')
  assert set(words.tolist()) == {0.0, 1.25} and words.shape == (17,)
  embedding = torch.tensor(np.array(params['token']['embedding']))
  x = embedding[tokens] * torch.tensor(words)[tokens].unsqueeze(-1)
  between = [mask(0.5, 'Dropout_1'), mask(0.3, 'rnn', 'Dropout_0'), mask(0.3, 'rnn', 'Dropout_1')]
  for i, width in enumerate((7, 7, 5)):
    layer, name = torch.nn.LSTM(x.shape[-1], width, batch_first=True), f'layer_{i}'
    part = params['rnn'][name]
    state = {
      'weight_ih_l0': part['input']['kernel'].T, 'weight_hh_l0': kept('rnn', name, 'Dropout_0').T,
      'bias_ih_l0': part['input']['bias'], 'bias_hh_l0': np.zeros(4 * width),
    }  # fmt: skip
    layer.load_state_dict({k: torch.tensor(np.array(v)) for k, v in state.items()})
    x = layer(x * between[i])[0]
  last = mask(0.4, 'Dropout_2')
  assert all(0 < (m == 0).float().mean() < 1 and len(m.unique(dim=0)) > 1 for m in [*between, last])
  dropped = x * last
  np.testing.assert_allclose(outputs['out'], (dropped @ embedding.T).detach(), rtol=1e-4, atol=1e-5)
  np.testing.assert_allclose(outputs['activation'], dropped.square().mean().item(), rtol=1e-4)
  np.testing.assert_allclose(outputs['temporal'], (x[:, 1:] - x[:, :-1]).square().mean().item(), rtol=1e-4)
  judged = model.apply({'params': params}, tokens)
  plain = model.copy(dropout=0.0, **{k: 0.0 for k in ('input_dropout', 'hidden_dropout', 'word_dropout')})
  np.testing.assert_array_equal(judged, plain.copy(weight_dropout=0.0).apply({'params': params}, tokens))


def test_mistakes():
  with pytest.raises(ValueError, match='tie_embeddings: embeddings have 5 features, and the last layer gives 12'):
    RecurrentLanguageModel(17, width=12, embedding=5, tie_embeddings=True).init(KEY, jnp.zeros((1, 2), jnp.int32))
