"""FCN-R50: its equality with torchvision, the auxiliary head, the sizes of images it takes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import abstract, assert_equal, random_image, randomize, torchvision

from dl.models.fcn import FCN_R50
from dl.nn import maps


@pytest.mark.thorough
def test_equals_torchvision():
  make = torchvision().models.segmentation.fcn_resnet50
  # A seed without a rectifier that rounding turns over: that changes PyTorch's own gradient by a hundredth in float32.
  pytest.importorskip('torch').manual_seed(4)
  reference = randomize(make(weights=None, weights_backbone=None, num_classes=21, aux_loss=True))
  assert_equal(FCN_R50(21, aux=True), reference, random_image(1, 65, 49, 3))


def test_training_gives_both_heads_and_evaluation_one():
  model = FCN_R50(3, aux=True, dtype=jnp.bfloat16)
  shapes = abstract(model, (1, 32, 32, 1))
  assert {x.dtype for x in jax.tree.leaves(shapes)} == {jnp.dtype('float32')}
  x, key = jax.ShapeDtypeStruct((2, 40, 33, 1), jnp.float32), jax.eval_shape(lambda: jax.random.key(0))
  train = lambda v, x, k: model.apply(v, x, train=True, rngs={'dropout': k}, mutable=['batch_stats'])
  outputs, changed = jax.eval_shape(train, shapes, x, key)
  assert {k: (v.shape, v.dtype) for k, v in outputs.items()} == dict.fromkeys(
    ('out', 'aux'), ((2, 40, 33, 3), jnp.dtype('float32'))
  )
  assert jax.tree.structure(changed['batch_stats']) == jax.tree.structure(shapes['batch_stats'])
  assert jax.eval_shape(model.apply, shapes, x).shape == (2, 40, 33, 3)
  plain = FCN_R50(3)
  outputs, _ = jax.eval_shape(
    lambda v, x, k: plain.apply(v, x, train=True, rngs={'dropout': k}, mutable=['batch_stats']),
    abstract(plain, (1, 32, 32, 1)), x, key,
  )  # fmt: skip
  assert outputs.shape == (2, 40, 33, 3)


@pytest.mark.parametrize('size', [(65, 49), (9, 7), (4, 20), (16, 14)])
def test_resizing_is_torchs(size):
  torch = pytest.importorskip('torch')
  x = random_image(2, 9, 7, 3)
  expected = torch.nn.functional.interpolate(
    torch.from_numpy(x.transpose(0, 3, 1, 2)), size=size, mode='bilinear', align_corners=False
  )
  resized = jax.jit(lambda x: maps.resize(x, size))(x)
  np.testing.assert_allclose(resized, expected.numpy().transpose(0, 2, 3, 1), atol=1e-5)
