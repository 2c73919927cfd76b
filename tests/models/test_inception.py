"""Inception-v3: equality with torchvision, of the auxiliary head too."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import abstract, assert_equal, close, random_image, randomize, torchvision

from dl.models.inception import AuxHead, InceptionV3
from dl.training import start


@pytest.mark.thorough
def test_equals_torchvision():
  """In evaluation, with the weights of the auxiliary head."""
  reference = torchvision().models.Inception3(num_classes=10, aux_logits=True, init_weights=False)
  assert_equal(InceptionV3(10, aux=True), randomize(reference, kernels=True), random_image(2, 90, 75, 3))


def test_auxiliary_head_equals_torchvision():
  torch = pytest.importorskip('torch')

  reference = randomize(torchvision().models.inception.InceptionAux(64, 10), kernels=True)
  head, maps = AuxHead(10), random_image(4, 17, 19, 64)
  like = jax.eval_shape(lambda x: head.init(jax.random.key(0), x, False), maps)
  tensors = {k: v.numpy() for k, v in reference.state_dict().items()}
  variables = start.convert(tensors, like, model=head)
  theirs = reference(torch.tensor(maps.transpose(0, 3, 1, 2))).detach().numpy()
  close(np.asarray(head.apply(variables, maps, False)), theirs, 1e-4)


def test_the_head_reads_what_torchvisions_reads():
  order = []

  def look(next_function, args, kwargs, context):
    if context.module.path and len(context.module.path) == 1 and context.method_name == '__call__':
      order.append(context.module.name)
    return next_function(*args, **kwargs)

  with nn.intercept_methods(look):
    abstract(InceptionV3(10, aux=True), (1, 80, 80, 3))
  assert order[order.index('AuxLogits') - 1 :][:3] == ['Mixed_6e', 'AuxLogits', 'Mixed_7a']


@pytest.mark.parametrize('shape', [(2, 75, 130, 1), pytest.param((2, 299, 299, 3), marks=pytest.mark.thorough)])
def test_only_training_returns_the_head(shape):
  model, x = InceptionV3(3, aux=True), jnp.ones(shape)
  shapes = abstract(model, shape)
  assert jax.eval_shape(model.apply, shapes, x).shape == (2, 3)
  options = dict(train=True, mutable=['batch_stats'], rngs={'dropout': jax.random.key(0)})
  heads, _ = jax.eval_shape(functools.partial(model.apply, **options), shapes, x)
  assert {k: (v.shape, v.dtype) for k, v in heads.items()} == dict.fromkeys(('out', 'aux'), ((2, 3), jnp.float32))


@pytest.mark.parametrize(
  'shape, line',
  [
    ((1, 64, 90, 3), '^InceptionV3 takes images of at least 75x75, not 64x90'),
  ],
)
def test_images_which_do_not_fit_are_refused(shape, line):
  with pytest.raises(ValueError, match=line):
    abstract(InceptionV3(5), shape)
