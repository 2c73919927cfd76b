"""Classifiers of texts: equal to PyTorch on the same weights, and padding counts for nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from dl.models.rnn import RNN
from dl.models.text import FastText, TextCNN

KEY = jax.random.key(0)
TOKENS = np.random.default_rng(0).integers(0, 20, (3, 9)).astype(np.int32)
MODELS = [
  TextCNN(4, 20, embedding=6, sizes=(1, 3, 5), features=5, dropout=0.0),
  FastText(4, 20, embedding=6, buckets=7),
  RNN(4, 'lstm', 6, bidirectional=True, pooling='max', vocab_size=20, embedding=5),
]


@pytest.mark.parametrize('model', MODELS, ids=lambda m: type(m).__name__)
def test_padding_counts_for_nothing(model):
  variables = model.init(KEY, TOKENS)
  padded = np.pad(TOKENS, ((0, 0), (0, 4)), constant_values=-1)
  expected = model.apply(variables, TOKENS)
  assert expected.shape == (3, 4)
  np.testing.assert_allclose(model.apply(variables, padded), expected, atol=1e-6)
  assert np.isfinite(model.apply(variables, np.full((1, 9), -1, np.int32))).all()


def test_convolutions_equal_those_of_torch():
  model = MODELS[0]
  params = jax.tree.map(np.asarray, model.init(KEY, TOKENS)['params'])
  x = torch.tensor(params['token']['embedding'][TOKENS]).mT
  found = []
  for size in model.sizes:
    kernel, bias = (torch.tensor(params[f'conv_{size}'][name]) for name in ('kernel', 'bias'))
    y = torch.conv1d(x, kernel.permute(2, 1, 0), bias, padding='same')
    found.append(y.relu().amax(2).numpy())
  expected = np.concatenate(found, 1) @ params['out']['kernel'] + params['out']['bias']
  np.testing.assert_allclose(model.apply({'params': params}, TOKENS), expected, atol=1e-5)


def test_fasttext_is_linear_in_the_mean_of_embeddings():
  model = FastText(4, 20, embedding=6)
  params = model.init(KEY, TOKENS)['params']
  expected = params['token']['embedding'][TOKENS].mean(1) @ params['out']['kernel'] + params['out']['bias']
  np.testing.assert_allclose(model.apply({'params': params}, TOKENS), expected, atol=1e-6)
  # The order of words says something with pairs of them alone.
  turned = TOKENS[:, ::-1]
  np.testing.assert_allclose(model.apply({'params': params}, turned), expected, atol=1e-6)
  variables = MODELS[1].init(KEY, TOKENS)
  assert not np.allclose(MODELS[1].apply(variables, turned), MODELS[1].apply(variables, TOKENS))


def test_what_is_no_text():
  with pytest.raises(ValueError, match='set vocab_size'):
    RNN(4).init(KEY, TOKENS)
  with pytest.raises(ValueError, match='vocab_size: of token ids'):
    TextCNN(4, 20).init(KEY, jnp.zeros((2, 5)))
