"""Recurrent networks: published counts, what the outputs are of, and decoding that equals reading anew."""

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


def test_mistakes():
  with pytest.raises(ValueError, match='tie_embeddings: embeddings have 5 features, and the last layer gives 12'):
    RecurrentLanguageModel(17, width=12, embedding=5, tie_embeddings=True).init(KEY, jnp.zeros((1, 2), jnp.int32))
