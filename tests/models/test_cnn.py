"""The plain convolutional network, against PyTorch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch_networks
from reference import assert_equal, count, random_image, randomize

from dl.errors import ConfigError
from dl.models.cnn import CNN

FEATURES = ((4,), (8, 6))


@pytest.mark.parametrize('batch_norm', [True, False])
def test_equals_torch(batch_norm):
  model = CNN(FEATURES, num_classes=5, batch_norm=batch_norm)
  reference = torch_networks.cnn(3, 5, FEATURES, batch_norm)
  assert_equal(model, randomize(reference), random_image(2, 11, 9, 3))


def test_count():
  assert (
    count(CNN(((24,), (48, 48), (96,)), 10), (1, 28, 28, 1)) == 9 * (24 + 24 * 48 + 48 * 48 + 48 * 96) + 2 * 216 + 970
  )


def test_bfloat16_and_dropout():
  x = random_image(2, 8, 8, 1)
  model = CNN(FEATURES, 5, dropout=0.5, dtype=jnp.bfloat16)
  variables = model.init(jax.random.key(0), x)
  assert {v.dtype for v in jax.tree.leaves(variables)} == {jnp.dtype('float32')}
  logits = [model.apply(variables, x) for _ in range(2)]
  assert logits[0].dtype == jnp.float32 and (logits[0] == logits[1]).all()
  train = lambda seed: model.apply(
    variables, x, train=True, rngs={'dropout': jax.random.key(seed)}, mutable=['batch_stats']
  )[0]
  assert not np.allclose(train(0), train(1))


def test_too_many_stages_are_refused():
  with pytest.raises(ConfigError, match='4 stages are too many'):
    CNN(((2,),) * 4, 5).init(jax.random.key(0), random_image(1, 7, 7, 1))
