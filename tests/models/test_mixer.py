"""MLP-Mixer: equality with timm."""

import jax
import jax.numpy as jnp
import pytest
from reference import abstract, assert_equal, random_image, randomize, timm

from dl.models import mixer

TINY = mixer.MLPMixer(num_classes=5, patch=8, width=16, depth=2)


@pytest.mark.thorough
def test_equals_timm():
  reference = timm().create_model('mixer_s32_224', img_size=64, num_classes=10)
  assert_equal(mixer.MixerS32(10), randomize(reference), random_image(2, 64, 64, 3))


def test_variants_equal_timm():
  reference = timm().models.MlpMixer(
    num_classes=5, img_size=(16, 24), in_chans=1, patch_size=8, num_blocks=2, embed_dim=16, mlp_ratio=(1.0, 3.0)
  )
  assert_equal(TINY.copy(token_ratio=1.0, channel_ratio=3.0), randomize(reference), random_image(2, 16, 24, 1))


def test_the_head_starts_at_zero():
  params = jax.jit(TINY.init)(jax.random.key(0), jnp.ones((1, 16, 16, 1)))['params']
  assert not params['head']['kernel'].any() and params['stem']['proj']['kernel'].any()


@pytest.mark.parametrize(
  'shape, line',
  [
    ((1, 28, 28, 1), '^patch: 8 does not divide images of 28x28; these do: 1, 2, 4, 7, 14, 28'),
  ],
)
def test_mistakes_are_one_line(shape, line):
  with pytest.raises(ValueError, match=line):
    abstract(TINY, shape)
