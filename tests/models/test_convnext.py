"""ConvNeXt: sizes, and equality with torchvision, timm and Hugging Face transformers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import abstract, assert_equal, count, random_image, randomize, timm, torchvision

from dl.errors import ConfigError
from dl.models import convnext
from dl.training import start

TINY = convnext.ConvNeXt(num_classes=5, depths=(1, 2, 1, 1), widths=(8, 16, 24, 32))


@pytest.mark.parametrize(
  'size, expected',
  [(convnext.ConvNeXtT, 28_589_128), (convnext.ConvNeXtS, 50_223_688), (convnext.ConvNeXtB, 88_591_464)],
)
def test_parameter_count(size, expected):
  assert count(size(num_classes=1000), (1, 224, 224, 3)) == expected


def test_equals_torchvision():
  reference = randomize(torchvision().models.convnext_tiny(num_classes=10))
  assert_equal(convnext.ConvNeXtT(10), reference, random_image(2, 64, 64, 3))


def test_equals_timm():
  reference = timm().models.ConvNeXt(depths=(1, 2, 1, 1), dims=(8, 16, 24, 32), num_classes=5, in_chans=1)
  assert_equal(TINY, randomize(reference), random_image(2, 41, 50, 1), layout='timm')


def test_equals_hugging_face(tmp_path):
  torchvision()
  transformers = pytest.importorskip('transformers')
  config = transformers.ConvNextConfig(depths=[1, 2, 1, 1], hidden_sizes=[8, 16, 24, 32], num_labels=5)
  reference = randomize(transformers.ConvNextForImageClassification(config))
  image = random_image(2, 48, 48, 3)
  mine = assert_equal(TINY, reference, image, layout='huggingface')
  reference.save_pretrained(tmp_path)
  tensors = start.read(tmp_path / 'model.safetensors')
  read = start.convert(tensors, abstract(TINY, image.shape), model=TINY, layout='huggingface')
  jax.tree.map(np.testing.assert_array_equal, mine, read)


def test_stochastic_depth_acts_in_training_alone():
  model, x = TINY.copy(stochastic_depth=0.5, layer_scale=1.0, patch=1, kernel=3), random_image(8, 8, 8, 1)
  variables = jax.jit(model.init)(jax.random.key(0), x)
  run = jax.jit(lambda key: model.apply(variables, x, train=True, rngs={'dropout': key}))
  assert not np.allclose(run(jax.random.key(0)), run(jax.random.key(1)))
  jax.eval_shape(model.apply, variables, x)  # needs no random numbers


def test_bfloat16_computes_in_bfloat16_and_keeps_float32():
  model = TINY.copy(dtype=jnp.bfloat16)
  shapes = abstract(model, (1, 32, 32, 3))
  assert {s.dtype for s in jax.tree.leaves(shapes)} == {jnp.dtype('float32')}
  kept = lambda module, _: module.name is not None
  run = lambda v, x: model.apply(v, x, capture_intermediates=kept)
  logits, seen = jax.eval_shape(run, shapes, jnp.ones((2, 32, 32, 3)))
  assert logits.dtype == jnp.float32 and logits.shape == (2, 5)
  assert {a.dtype for a in jax.tree.leaves(seen)} == {jnp.dtype('bfloat16')}


@pytest.mark.parametrize(
  'options, shape, line',
  [
    ({}, (1, 28, 28, 1), 'config.model.patch: patches of 4 need images of 32x32, not 28x28'),
    ({'widths': (8, 16)}, (1, 32, 32, 3), 'config.model.widths: 2 widths for 4 stages'),
    ({}, (1, 64), r'ConvNeXt takes images \[height, width, channels\]'),
  ],
)
def test_mistakes_are_one_line(options, shape, line):
  with pytest.raises(ConfigError, match=line):
    abstract(TINY.copy(**options), shape)
