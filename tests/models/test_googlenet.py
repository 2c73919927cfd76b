"""GoogLeNet: sizes, and equality with torchvision, of the auxiliary heads too."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import abstract, assert_equal, close, converted, count, random_image, randomize, torchvision

from dl.errors import ConfigError
from dl.models.googlenet import GoogLeNet


def make(**options):
  reference = torchvision().models.GoogLeNet(num_classes=10, init_weights=False, **options)
  return randomize(reference, seed=1, kernels=True)


@pytest.mark.parametrize('aux, expected', [(False, 6_624_904), (True, 13_004_888)])
@pytest.mark.parametrize('train', [False, True])
def test_parameter_count(aux, expected, train):
  assert count(GoogLeNet(1000, aux=aux), (1, 224, 224, 3), train=train) == expected


def test_equals_torchvision():
  """In evaluation, with the weights of auxiliary heads; the sides of maps are odd and even before poolings."""
  assert_equal(GoogLeNet(10, aux=True), make(aux_logits=True), random_image(2, 65, 48, 3))


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


def test_bfloat16_computes_in_bfloat16_and_keeps_float32():
  model = GoogLeNet(5, dtype=jnp.bfloat16)
  shapes = abstract(model, (1, 64, 64, 3))
  assert {s.dtype for s in jax.tree.leaves(shapes)} == {jnp.dtype('float32')}
  run = functools.partial(model.apply, capture_intermediates=lambda m, _: m.name != model.name)
  logits, seen = jax.eval_shape(run, shapes, jnp.ones((2, 64, 64, 3)))
  assert logits.dtype == jnp.float32 and logits.shape == (2, 5)
  assert {a.dtype for a in jax.tree.leaves(seen)} == {jnp.dtype('bfloat16')}


def test_dropout_acts_in_training_alone():
  model, x = GoogLeNet(5, dropout=0.9), random_image(2, 32, 32, 1)
  shapes = abstract(model, x.shape)
  variables = jax.tree.map(lambda s: jnp.full(s.shape, 0.1), shapes)
  train = jax.jit(lambda key: model.apply(variables, x, train=True, rngs={'dropout': key}, mutable=['batch_stats'])[0])
  assert not np.array_equal(train(jax.random.key(0)), train(jax.random.key(1)))
  jax.eval_shape(model.apply, shapes, x)  # needs no random numbers


def test_inputs_which_are_no_images_are_refused():
  with pytest.raises(ConfigError, match=r'GoogLeNet takes images \[height, width, channels\]'):
    abstract(GoogLeNet(5), (1, 64))
