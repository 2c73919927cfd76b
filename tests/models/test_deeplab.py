"""DeepLabV3-R50: its equality with torchvision, dropout and the auxiliary head."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import abstract, assert_equal, random_image, randomize, torchvision

from dl.models.deeplab import DeepLabV3_R50
from dl.nn.dense_heads import ASPPHead


@pytest.mark.thorough
def test_equals_torchvision():
  make = torchvision().models.segmentation.deeplabv3_resnet50
  # A seed without a rectifier that rounding turns over: that changes PyTorch's own gradient by a hundredth in float32.
  pytest.importorskip('torch').manual_seed(4)
  reference = randomize(make(weights=None, weights_backbone=None, num_classes=21, aux_loss=False))
  assert_equal(DeepLabV3_R50(21), reference, random_image(1, 65, 49, 3))


def test_types_and_heads():
  model = DeepLabV3_R50(3, aux=True, dtype=jnp.bfloat16)
  shapes = abstract(model, (1, 32, 32, 1))
  assert {x.dtype for x in jax.tree.leaves(shapes)} == {jnp.dtype('float32')}
  x, key = jax.ShapeDtypeStruct((2, 40, 33, 1), jnp.float32), jax.eval_shape(lambda: jax.random.key(0))
  train = lambda v, x, k: model.apply(v, x, train=True, rngs={'dropout': k}, mutable=['batch_stats'])
  outputs, _ = jax.eval_shape(train, shapes, x, key)
  assert {k: (v.shape, v.dtype) for k, v in outputs.items()} == dict.fromkeys(
    ('out', 'aux'), ((2, 40, 33, 3), jnp.dtype('float32'))
  )
  assert jax.eval_shape(model.apply, shapes, x).shape == (2, 40, 33, 3)


def test_dropout_acts_in_training_alone():
  head, x = ASPPHead(3, features=8), jnp.asarray(random_image(2, 6, 5, 16))
  v = jax.jit(lambda k, x: head.init(k, x, False))(jax.random.key(0), x)
  run = jax.jit(lambda k: head.apply(v, x, True, rngs={'dropout': k}, mutable=['batch_stats'])[0])
  assert not np.allclose(run(jax.random.key(0)), run(jax.random.key(1)))
  np.testing.assert_array_equal(run(jax.random.key(0)), run(jax.random.key(0)))
  assert jax.eval_shape(lambda: head.apply(v, x, False)).shape == (2, 6, 5, 3)
