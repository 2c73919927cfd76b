"""The deconvolution network: its equality with PyTorch both ways up, and the sizes of images it takes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import abstract, assert_equal, count, random_image, randomize

from dl.errors import ConfigError
from dl.models.deconv import DeconvNet
from dl.nn import maps


def torch_deconv(channels, classes, features, convolutions, unpool, batch_norm):
  """The same network in PyTorch, with the names of ours."""
  torch = pytest.importorskip('torch')

  class Layer(torch.nn.Module):
    def __init__(self, kind, inputs, outputs, *size):
      super().__init__()
      self.conv = kind(inputs, outputs, *size, padding=1, bias=not batch_norm)
      self.norm = torch.nn.BatchNorm2d(outputs) if batch_norm else torch.nn.Identity()

    def forward(self, x):
      return self.norm(self.conv(x)).relu()

  class Net(torch.nn.Module):
    def __init__(self):
      super().__init__()
      down, up, width = {}, {}, channels
      for i, n in enumerate(convolutions):
        for j in range(n):
          down[f'{i}_{j}'] = Layer(torch.nn.Conv2d, width, features[i], 3, 1)
          width = features[i]
      stages = {}
      for i in reversed(range(len(features))):
        if not unpool:
          stages[str(i)] = Layer(torch.nn.ConvTranspose2d, width, features[i], 4, 2)
          width = features[i]
        for j in range(convolutions[i]):
          outputs = features[i] if j < convolutions[i] - 1 else features[max(i - 1, 0)]
          up[f'{i}_{j}'] = Layer(torch.nn.ConvTranspose2d, width, outputs, 3, 1)
          width = outputs
      self.encoder, self.decoder = torch.nn.ModuleDict(down), torch.nn.ModuleDict(up)
      self.up = torch.nn.ModuleDict(stages)
      self.out = torch.nn.Conv2d(width, classes, 1)

    def forward(self, x):
      switches = []
      for i, n in enumerate(convolutions):
        for j in range(n):
          x = self.encoder[f'{i}_{j}'](x)
        x, where = torch.nn.functional.max_pool2d(x, 2, return_indices=True)
        switches.append(where)
      for i in reversed(range(len(features))):
        x = torch.nn.functional.max_unpool2d(x, switches[i], 2) if unpool else self.up[str(i)](x)
        for j in range(convolutions[i]):
          x = self.decoder[f'{i}_{j}'](x)
      return self.out(x)

  torch.manual_seed(0)
  return randomize(Net())


@pytest.mark.parametrize('upsampling, batch_norm', [('unpool', True), ('transposed', True), ('unpool', False)])
def test_equals_torch(upsampling, batch_norm):
  features, convolutions = (6, 8, 10), (1, 2, 2)
  reference = torch_deconv(3, 4, features, convolutions, upsampling == 'unpool', batch_norm)
  model = DeconvNet(4, features, convolutions, upsampling=upsampling, batch_norm=batch_norm)
  assert_equal(model, reference, random_image(2, 24, 40, 3))


def test_parameter_count():
  # The kernels of VGG-16, and once more with 64 channels in the place of 3; a scale and a shift for each output of
  # the one and, but for those 3, each input of the other; the 1x1 convolution.
  kernels, outputs, inputs = 14_710_464, 4_224, 4_224 - 512 + 64
  expected = 2 * kernels - 9 * 3 * 64 + 9 * 64 * 64 + 2 * (outputs + inputs) + 64 * 21 + 21
  assert count(DeconvNet(21), (1, 224, 224, 3)) == expected == 29_473_429


@pytest.mark.parametrize('upsampling', ['unpool', 'transposed'])
def test_any_size_and_precision(upsampling):
  model = DeconvNet(3, (4, 8), (1, 1), upsampling=upsampling, dtype=jnp.bfloat16)
  shapes = abstract(model, (1, 16, 16, 1))
  assert {x.dtype for x in jax.tree.leaves(shapes)} == {jnp.dtype('float32')}
  for size in ((17, 5), (16, 16)):
    x = jax.ShapeDtypeStruct((2, *size, 1), jnp.float32)
    y, changed = jax.eval_shape(lambda v, x: model.apply(v, x, train=True, mutable=['batch_stats']), shapes, x)
    assert y.shape == (2, *size, 3) and y.dtype == jnp.float32 and changed['batch_stats']
  with pytest.raises(ConfigError, match=r'config\.model\.convolutions: 1 numbers do not fit 2 stages'):
    DeconvNet(3, (4, 8), (1,)).init(jax.random.key(0), jnp.ones((1, 8, 8, 1)))


def test_unpooling_puts_the_largest_back():
  x = jnp.asarray(random_image(2, 6, 8, 3)).at[0, :2, :2].set(1.0)  # a window of equal ones, too
  pooled, switches = maps.max_pool_switches(x)
  back = np.asarray(maps.max_unpool(pooled, switches))
  assert (back != 0).sum() == pooled.size
  assert ((back == np.asarray(x)) | (back == 0)).all()
  assert np.array_equal(back[0, :2, :2, 0], [[1, 0], [0, 0]])
