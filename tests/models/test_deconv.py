"""The deconvolution network: its equality with PyTorch both ways up, and the sizes of images it takes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch_networks
from reference import abstract, assert_equal, random_image, randomize

from dl.models.deconv import DeconvNet
from dl.nn import maps


@pytest.mark.parametrize('upsampling, batch_norm', [('unpool', True), ('transposed', True), ('unpool', False)])
def test_equals_torch(upsampling, batch_norm):
  features, convolutions = (6, 8, 10), (1, 2, 2)
  pytest.importorskip('torch').manual_seed(0)
  reference = torch_networks.deconv(3, 4, features, convolutions, upsampling, batch_norm)
  model = DeconvNet(4, features, convolutions, upsampling=upsampling, batch_norm=batch_norm)
  assert_equal(model, randomize(reference), random_image(2, 24, 40, 3))


@pytest.mark.parametrize('upsampling', ['unpool', 'transposed'])
def test_any_size_and_precision(upsampling):
  model = DeconvNet(3, (4, 8), (1, 1), upsampling=upsampling, dtype=jnp.bfloat16)
  shapes = abstract(model, (1, 16, 16, 1))
  assert {x.dtype for x in jax.tree.leaves(shapes)} == {jnp.dtype('float32')}
  for size in ((17, 5), (16, 16)):
    x = jax.ShapeDtypeStruct((2, *size, 1), jnp.float32)
    y, changed = jax.eval_shape(lambda v, x: model.apply(v, x, train=True, mutable=['batch_stats']), shapes, x)
    assert y.shape == (2, *size, 3) and y.dtype == jnp.float32 and changed['batch_stats']
  with pytest.raises(ValueError, match=r'^convolutions: 1 numbers do not fit 2 stages'):
    DeconvNet(3, (4, 8), (1,)).init(jax.random.key(0), jnp.ones((1, 8, 8, 1)))


def test_unpooling_puts_the_largest_back():
  x = jnp.asarray(random_image(2, 6, 8, 3)).at[0, :2, :2].set(1.0)  # a window of equal ones, too
  pooled, switches = maps.max_pool_switches(x)
  back = np.asarray(maps.max_unpool(pooled, switches))
  assert (back != 0).sum() == pooled.size
  assert ((back == np.asarray(x)) | (back == 0)).all()
  assert np.array_equal(back[0, :2, :2, 0], [[1, 0], [0, 0]])
