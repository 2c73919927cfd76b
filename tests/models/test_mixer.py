"""MLP-Mixer: sizes, and equality with timm."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import abstract, assert_equal, count, random_image, randomize, timm

from dl.errors import ConfigError
from dl.models import mixer

TINY = mixer.MLPMixer(num_classes=5, patch=8, width=16, depth=2)


@pytest.mark.parametrize(
  'size, expected', [(mixer.MixerS16, 18_528_264), (mixer.MixerS32, 19_104_624), (mixer.MixerB16, 59_880_472)]
)
def test_parameter_count(size, expected):
  assert count(size(num_classes=1000), (1, 224, 224, 3)) == expected


def test_equals_timm():
  reference = timm().create_model('mixer_s32_224', img_size=64, num_classes=10)
  assert_equal(mixer.MixerS32(10), randomize(reference), random_image(2, 64, 64, 3))


def test_variants_equal_timm():
  reference = timm().models.MlpMixer(
    num_classes=5, img_size=(16, 24), in_chans=1, patch_size=8, num_blocks=2, embed_dim=16, mlp_ratio=(1.0, 3.0)
  )
  assert_equal(TINY.copy(token_ratio=1.0, channel_ratio=3.0), randomize(reference), random_image(2, 16, 24, 1))


def test_dropout_and_stochastic_depth_act_in_training_alone():
  x, plain = random_image(8, 16, 16, 1), TINY.copy(zero_head=False)
  variables = jax.jit(plain.init)(jax.random.key(0), x)
  for options in ({'dropout': 0.5}, {'stochastic_depth': 0.5}):
    model = plain.copy(**options)
    run = jax.jit(lambda key, model=model: model.apply(variables, x, train=True, rngs={'dropout': key}))
    assert not np.allclose(run(jax.random.key(0)), run(jax.random.key(1)))
    jax.eval_shape(model.apply, variables, x)  # needs no random numbers
  assert not np.any(jax.jit(TINY.init_with_output)(jax.random.key(0), x)[0])  # a head of zeros


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
  'shape, line',
  [
    ((1, 28, 28, 1), 'config.model.patch: 8 does not divide images of 28x28; these do: 1, 2, 4, 7, 14, 28'),
    ((1, 64), r'MLPMixer takes images \[height, width, channels\]'),
  ],
)
def test_mistakes_are_one_line(shape, line):
  with pytest.raises(ConfigError, match=line):
    abstract(TINY, shape)
