"""AlexNet: equality with torchvision and PyTorch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch_networks
from reference import abstract, assert_equal, close, random_image, randomize, torchvision

from dl.models.alexnet import AlexNet, local_response_norm
from dl.training import start

TINY = AlexNet(num_classes=5, hidden=16)


@pytest.mark.thorough
def test_every_tensor_has_its_name_and_shape():
  torch = pytest.importorskip('torch')

  with torch.device('meta'):
    reference = torchvision().models.alexnet()
  tensors = {k: np.empty(v.shape, np.float32) for k, v in reference.state_dict().items()}
  start.convert(tensors, abstract(AlexNet(1000), (1, 64, 64, 3)), model=AlexNet(1000))


@pytest.mark.parametrize('height, width', [(63, 63), pytest.param(224, 100, marks=pytest.mark.thorough)])
def test_equals_torchvision(height, width):
  reference = randomize(torch_networks.alexnet_narrow(5, 16), kernels=True)
  assert_equal(TINY, reference, random_image(2, height, width, 3))


def test_the_grouped_one_equals_torch():
  reference = randomize(torch_networks.alexnet_2012(1, 5, 16), kernels=True)
  # Values a thousand times as large as usual, so that the normalization counts.
  assert_equal(TINY.copy(groups=2), reference, 1e3 * random_image(2, 70, 90, 1))


@pytest.mark.parametrize('channels, size', [(3, 5), (7, 5), (8, 3)])
def test_local_response_norm_equals_torch(channels, size):
  torch = pytest.importorskip('torch')
  x = 10 * random_image(2, 3, 3, channels)
  expected = torch.nn.LocalResponseNorm(size, alpha=0.3 * size, beta=0.6, k=1.5)(torch.tensor(x.transpose(0, 3, 1, 2)))
  mine = local_response_norm(jnp.asarray(x), size, alpha=0.3, beta=0.6, k=1.5)
  close(np.asarray(mine).transpose(0, 3, 1, 2), expected.numpy(), 1e-6)


@pytest.mark.parametrize('shape', [(28, 28, 1), (1, 9, 3), (65, 300, 4)])
@pytest.mark.parametrize('groups', [1, 2])
def test_other_images(shape, groups):
  model = TINY.copy(groups=groups)
  out = jax.eval_shape(model.apply, abstract(model, (1, *shape)), jnp.ones((3, *shape)))
  assert out.shape == (3, 5)


@pytest.mark.parametrize(
  'options, shape, line',
  [
    ({'groups': 3}, (1, 64, 64, 3), '^groups: 1 or 2 towers, not 3'),
  ],
)
def test_mistakes_are_one_line(options, shape, line):
  with pytest.raises(ValueError, match=line):
    abstract(TINY.copy(**options), shape)
