"""The plain convolutional network, against PyTorch."""

import jax
import pytest
import torch_networks
from reference import assert_equal, random_image, randomize

from dl.models.cnn import CNN

FEATURES = ((4,), (8, 6))


@pytest.mark.parametrize('batch_norm', [True, False])
def test_equals_torch(batch_norm):
  model = CNN(FEATURES, num_classes=5, batch_norm=batch_norm)
  reference = torch_networks.cnn(3, 5, FEATURES, batch_norm)
  assert_equal(model, randomize(reference), random_image(2, 11, 9, 3))


def test_too_many_stages_are_refused():
  with pytest.raises(ValueError, match='4 stages are too many'):
    CNN(((2,),) * 4, 5).init(jax.random.key(0), random_image(1, 7, 7, 1))
