"""U-Net: its equality with PyTorch, the sizes of images it takes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch_networks
from reference import abstract, assert_equal, random_image, randomize

from dl.models.unet import UNet


@pytest.mark.parametrize(
  'padding, batch_norm, size', [('same', False, (32, 24)), ('same', True, (29, 35)), ('valid', False, (68, 60))]
)
def test_equals_torch(padding, batch_norm, size):
  features = (6, 8, 10)
  pytest.importorskip('torch').manual_seed(0)
  reference = randomize(torch_networks.unet(3, 4, features, padding, batch_norm))
  model = UNet(4, features, padding=padding, batch_norm=batch_norm)
  assert_equal(model, reference, random_image(2, *size, 3))


@pytest.mark.parametrize('size', [(32, 32), (33, 47), (1, 5), (388, 100)])
def test_same_padding_keeps_any_size(size):
  model = UNet(3, (4, 4, 4, 4))
  x = jax.ShapeDtypeStruct((1, *size, 2), jnp.float32)
  assert jax.eval_shape(lambda x: model.init_with_output(jax.random.key(0), x)[0], x).shape == (1, *size, 3)


def test_valid_padding_is_the_papers():
  model = UNet(2, (4, 4, 4, 4, 4), padding='valid')
  out = lambda h, w: (
    jax.eval_shape(
      lambda x: model.init_with_output(jax.random.key(0), x)[0], jax.ShapeDtypeStruct((1, h, w, 1), jnp.float32)
    ).shape
  )
  assert out(572, 572) == (1, 388, 388, 2)
  assert out(188, 204) == (1, 4, 20, 2)
  with pytest.raises(ValueError, match='a side of 556 or 572, say, not of 571'):
    out(572, 571)
  with pytest.raises(ValueError, match='a side of 188, say, not of 172'):
    out(172, 572)
  with pytest.raises(ValueError, match='a side of 188, say, not of 32'):
    out(32, 32)
  with pytest.raises(ValueError, match=r'UNet takes images .*, the data has shape \(7,\)'):
    model.init(jax.random.key(0), jnp.ones((1, 7)))


def test_valid_logits_are_the_middle_of_a_padded_image():
  """What the paper's overlapping tiles rest on: far from zeros, both paddings agree."""
  same, valid = UNet(2, (4, 6)), UNet(2, (4, 6), padding='valid')
  x = jnp.asarray(random_image(1, 48, 48, 1))
  v = jax.jit(same.init)(jax.random.key(0), x)
  inner = jax.jit(valid.apply)(v, x)
  assert inner.shape == (1, 32, 32, 2)
  np.testing.assert_allclose(inner, jax.jit(same.apply)(v, x)[:, 8:-8, 8:-8], atol=1e-5)


def test_precision_dropout_and_batch_statistics():
  model = UNet(2, (4, 8), batch_norm=True, dropout=0.5, dtype=jnp.bfloat16)
  shapes = abstract(model, (1, 16, 16, 1))
  assert {x.dtype for x in jax.tree.leaves(shapes)} == {jnp.dtype('float32')}
  x = jnp.asarray(random_image(2, 16, 16, 1))
  v = jax.jit(model.init)(jax.random.key(0), x)
  train = jax.jit(lambda k: model.apply(v, x, train=True, rngs={'dropout': k}, mutable=['batch_stats']))
  (a, changed), (b, _) = train(jax.random.key(0)), train(jax.random.key(1))
  assert a.dtype == jnp.float32 and not jnp.allclose(a, b)
  assert not jnp.allclose(changed['batch_stats']['encoder_0']['norm_0']['mean'], 0)
  jax.eval_shape(model.apply, v, x)  # needs no key
