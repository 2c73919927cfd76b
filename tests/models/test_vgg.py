"""VGG: equality with torchvision."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import abstract, assert_equal, random_image, randomize, torchvision

from dl.models import vgg
from dl.models.vgg import VGG
from dl.training import start

TINY = VGG(num_classes=5, convolutions=(1, 2), features=(8, 16), hidden=24)


@pytest.mark.parametrize('batch_norm', [False, True])
@pytest.mark.parametrize('name', ['11', '13', '16', '19'])
def test_every_tensor_has_its_name(name, batch_norm):
  torch = pytest.importorskip('torch')

  with torch.device('meta'):
    reference = getattr(torchvision().models, f'vgg{name}' + '_bn' * batch_norm)()
  # Empty arrays of no memory: converting needs names and shapes alone.
  tensors = {k: np.broadcast_to(np.float32(0), v.shape) for k, v in reference.state_dict().items()}
  model = getattr(vgg, f'VGG{name}')(1000, batch_norm=batch_norm)
  like = abstract(model, (1, 32, 32, 3))
  found = start.convert(tensors, like, model=model, exclude=['classifier.[03]'])
  assert (
    found['params']['classifier_0']['kernel'] is None and like['params']['classifier_0']['kernel'].shape[0] == 25088
  )


@pytest.mark.parametrize(
  'batch_norm, size', [(False, 40), (True, 64), pytest.param(False, 70, marks=pytest.mark.thorough)]
)  # the maps before the classifier: 10x10, 16x16, 17x17
def test_equals_torchvision(batch_norm, size):
  """Layers of torchvision in fewer and narrower stages: those of VGG-11 to 19 have 128 to 143 million parameters."""
  torch = pytest.importorskip('torch')

  networks = torchvision().models.vgg
  reference = networks.VGG(networks.make_layers([8, 'M', 16, 16, 'M'], batch_norm), num_classes=5, init_weights=False)
  reference.classifier[0] = torch.nn.Linear(16 * 49, 24)
  reference.classifier[3] = torch.nn.Linear(24, 24)
  reference.classifier[6] = torch.nn.Linear(24, 5)
  assert_equal(TINY.copy(batch_norm=batch_norm), randomize(reference, kernels=True), random_image(2, size, size - 6, 3))


@pytest.mark.thorough
def test_11_equals_torchvision():
  torch = pytest.importorskip('torch')

  reference = torchvision().models.vgg11_bn(num_classes=10, init_weights=False)
  # The full width of the classifier takes half a gigabyte; the convolutions are those of the network itself.
  reference.classifier[0] = torch.nn.Linear(512 * 49, 32)
  reference.classifier[3] = torch.nn.Linear(32, 32)
  reference.classifier[6] = torch.nn.Linear(32, 10)
  mine = vgg.VGG11(10, batch_norm=True, hidden=32)
  assert_equal(mine, randomize(reference, kernels=True), random_image(2, 64, 64, 3))


@pytest.mark.parametrize('shape', [(28, 28, 1), (1, 3, 3), (33, 20, 4)])
@pytest.mark.parametrize('head', ['dense', 'linear'])
def test_other_images(shape, head):
  model = vgg.VGG13(7, hidden=8, head=head)
  out = jax.eval_shape(model.apply, abstract(model, (1, *shape)), jnp.ones((3, *shape)))
  assert out.shape == (3, 7)


@pytest.mark.parametrize(
  'options, shape, line',
  [
    ({'head': 'none'}, (1, 32, 32, 3), "^head: 'dense' or 'linear', not 'none'"),
    ({'features': (8,)}, (1, 32, 32, 3), '^features: 1 values for 2 stages'),
  ],
)
def test_mistakes_are_one_line(options, shape, line):
  with pytest.raises(ValueError, match=line):
    abstract(TINY.copy(**options), shape)
