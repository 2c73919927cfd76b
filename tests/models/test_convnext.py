"""ConvNeXt: equality with torchvision, timm and Hugging Face transformers."""

import jax
import numpy as np
import pytest
from reference import abstract, assert_equal, random_image, randomize, timm, torchvision

from dl.models import convnext
from dl.training import start

TINY = convnext.ConvNeXt(num_classes=5, depths=(1, 2, 1, 1), widths=(8, 16, 24, 32))


@pytest.mark.thorough
def test_equals_torchvision():
  reference = randomize(torchvision().models.convnext_tiny(num_classes=10))
  assert_equal(convnext.ConvNeXtT(10), reference, random_image(2, 64, 64, 3))


def test_equals_timm():
  reference = timm().models.ConvNeXt(depths=(1, 2, 1, 1), dims=(8, 16, 24, 32), num_classes=5, in_chans=1)
  assert_equal(TINY, randomize(reference), random_image(2, 41, 50, 1), layout='timm')


@pytest.mark.thorough
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


@pytest.mark.parametrize(
  'options, shape, line',
  [
    ({}, (1, 28, 28, 1), '^patch: patches of 4 need images of 32x32, not 28x28'),
    ({'widths': (8, 16)}, (1, 32, 32, 3), '^widths: 2 widths for 4 stages'),
  ],
)
def test_mistakes_are_one_line(options, shape, line):
  with pytest.raises(ValueError, match=line):
    abstract(TINY.copy(**options), shape)
