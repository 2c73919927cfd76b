"""GoogLeNet: equality with torchvision, of the auxiliary heads too."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import abstract, assert_equal, close, converted, random_image, randomize, torchvision

from dl.models.googlenet import GoogLeNet


def make(**options):
  reference = torchvision().models.GoogLeNet(num_classes=10, init_weights=False, **options)
  return randomize(reference, seed=1, kernels=True)


@pytest.mark.thorough
def test_equals_torchvision():
  """In evaluation, with the weights of auxiliary heads; the sides of maps are odd and even before poolings."""
  assert_equal(GoogLeNet(10, aux=True), make(aux_logits=True), random_image(2, 65, 48, 3))


@pytest.mark.thorough
def test_auxiliary_heads_equal_torchvision():
  """While training without dropout; maps are 14x12 at the heads, which 4 does not divide."""
  torch = pytest.importorskip('torch')

  model, image = GoogLeNet(10, aux=True, dropout=0.0, aux_dropout=0.0), random_image(4, 220, 190, 3)
  reference = make(aux_logits=True, dropout=0.0, dropout_aux=0.0)
  variables = converted(model, reference, (1, 64, 64, 3))
  with torch.no_grad():
    theirs = reference.train()(torch.tensor(image.transpose(0, 3, 1, 2)))
  mine, _ = jax.jit(functools.partial(model.apply, train=True, mutable=['batch_stats']))(variables, image)
  assert set(mine) == {'out', 'aux1', 'aux2'}
  for name, expected in (('out', theirs.logits), ('aux1', theirs.aux_logits1), ('aux2', theirs.aux_logits2)):
    close(np.asarray(mine[name]), expected.numpy(), 1e-3)


def test_only_training_returns_the_heads():
  model, x = GoogLeNet(3, aux=True), jnp.ones((2, 28, 28, 1))
  shapes = abstract(model, x.shape)
  assert jax.eval_shape(model.apply, shapes, x).shape == (2, 3)
  options = dict(train=True, mutable=['batch_stats'], rngs={'dropout': jax.random.key(0)})
  heads, _ = jax.eval_shape(functools.partial(model.apply, **options), shapes, x)
  expected = dict.fromkeys(('out', 'aux1', 'aux2'), ((2, 3), jnp.float32))
  assert {k: (v.shape, v.dtype) for k, v in heads.items()} == expected
