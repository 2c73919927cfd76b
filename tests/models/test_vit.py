"""ViT: equality with timm, Hugging Face transformers and torchvision."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import abstract, assert_equal, close, converted, random_image, randomize, timm, torchvision
from reference import transformers as hugging_face

from dl.errors import ConfigError
from dl.models import vit
from dl.training import start

TINY = vit.ViT(num_classes=5, patch=8, width=32, depth=2, heads=4)


def theirs(**options):
  """A network of timm with the shape of `TINY`."""
  options = {'img_size': 32, 'patch_size': 8, 'embed_dim': 32, 'depth': 2, 'num_heads': 4, 'num_classes': 5} | options
  return randomize(timm().models.VisionTransformer(**options))


@pytest.mark.thorough
def test_equals_timm():
  reference = randomize(timm().create_model('vit_tiny_patch16_224', img_size=64, depth=4, num_classes=10))
  assert_equal(vit.ViT_Ti16(10, depth=4), reference, random_image(2, 64, 64, 3))


@pytest.mark.parametrize(
  'mine, other',
  [
    ({'pool': 'average'}, {'global_pool': 'avg', 'class_token': False}),
    ({'pool': 'average', 'class_token': True, 'mlp_ratio': 3.0}, {'global_pool': 'avg', 'mlp_ratio': 3.0}),
    ({}, {'img_size': (32, 48), 'in_chans': 1}),
  ],
)
def test_variants_equal_timm(mine, other):
  reference = theirs(**other)
  size, channels = other.get('img_size', (32, 32)), other.get('in_chans', 3)
  assert_equal(TINY.copy(**mine), reference, random_image(2, *size, channels))


@pytest.mark.thorough
def test_equals_hugging_face(tmp_path):
  torchvision()
  transformers = hugging_face()
  config = transformers.ViTConfig(
    hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=128, image_size=32, patch_size=8,
    num_labels=5,
  )  # fmt: skip
  reference = randomize(transformers.ViTForImageClassification(config))
  image = random_image(2, 32, 32, 3)
  mine = assert_equal(TINY, reference, image, layout='huggingface')
  # The names in a file are others than those of the module.
  reference.save_pretrained(tmp_path)
  tensors = start.read(tmp_path / 'model.safetensors')
  assert 'vit.encoder.layer.1.attention.attention.query.weight' in tensors
  tensors['pooler.dense.bias'] = np.zeros(32)
  read = start.convert(tensors, abstract(TINY, image.shape), model=TINY, layout='huggingface')
  jax.tree.map(np.testing.assert_array_equal, mine, read)


def test_equals_torchvision():
  networks = torchvision().models
  reference = networks.VisionTransformer(
    image_size=32, patch_size=8, num_layers=2, num_heads=4, hidden_dim=32, mlp_dim=128, num_classes=5
  )
  assert_equal(TINY, randomize(reference), random_image(2, 32, 32, 3), layout='torchvision')


def test_position_embeddings_fit_other_images():
  torch = pytest.importorskip('torch')

  reference = theirs(dynamic_img_size=True)
  image = random_image(2, 48, 64, 3)
  # While it runs: embeddings of 4x4 places for images of 6x8 patches.
  model = TINY.copy(grid=(4, 4))
  variables = converted(model, reference, image.shape)
  expected = reference(torch.tensor(image.transpose(0, 3, 1, 2))).detach().numpy()
  close(np.asarray(jax.jit(model.apply)(variables, image)), expected, 1e-4)
  # While they are loaded.
  square = image[:, :, :48]
  expected = reference(torch.tensor(square.transpose(0, 3, 1, 2))).detach().numpy()
  loaded = converted(TINY, reference, square.shape)
  assert loaded['params']['pos_embed'].shape == (1, 37, 32)
  close(np.asarray(jax.jit(TINY.apply)(loaded, square)), expected, 1e-4)
  with pytest.raises(ConfigError, match=r'pos_embed: position embeddings of 17 tokens do not fit 49'):
    converted(TINY, reference, image.shape)


@pytest.mark.parametrize('size, channels, patch', [(8, 1, 2), (28, 1, 4), (32, 3, 4)])
def test_small_images(size, channels, patch):
  model = TINY.copy(patch=patch)
  x = jnp.ones((2, size, size, channels))
  logits, _ = jax.eval_shape(lambda k: model.init_with_output(k, x), jax.random.key(0))
  assert logits.shape == (2, 5)


def test_it_starts_with_unit_scale_and_a_head_of_zeros_if_asked():
  x = random_image(4, 32, 32, 3)
  model = TINY.copy(width=256, zero_head=True)
  logits, variables = jax.jit(model.init_with_output)(jax.random.key(0), x)
  assert not np.any(logits) and np.abs(variables['params']['pos_embed']).std() > 0.005
  capture = lambda m, _: m.name == 'patch_embed'
  _, seen = jax.jit(lambda v: model.apply(v, x, capture_intermediates=capture))(variables)
  assert 0.7 < np.std(seen['intermediates']['patch_embed']['__call__'][0]) < 1.3


@pytest.mark.parametrize(
  'options, shape, line',
  [
    ({'patch': 16}, (1, 28, 28, 1), '^patch: 16 does not divide images of 28x28; these do: 1, 2, 4, 7'),
    ({'heads': 5}, (1, 32, 32, 3), '5 heads do not divide a width of 32'),
    ({'class_token': False}, (1, 32, 32, 3), "pool='average' does without"),
  ],
)
def test_mistakes_are_one_line(options, shape, line):
  with pytest.raises(ValueError, match=line):
    abstract(TINY.copy(**options), shape)


def test_images_of_another_size_need_a_grid():
  variables = jax.tree.map(lambda s: np.zeros(s.shape, s.dtype), abstract(TINY, (1, 32, 32, 3)))
  with pytest.raises(ValueError, match=r'^position embeddings of 17 tokens do not fit the 37'):
    jax.eval_shape(TINY.apply, variables, jnp.ones((1, 48, 48, 3)))
