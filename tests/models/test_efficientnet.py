"""EfficientNet: equality with torchvision and timm."""

import functools

import flax.linen as nn
import jax
import numpy as np
import pytest
from reference import abstract, assert_equal, close, converted, count, random_image, randomize, timm, torchvision

from dl.config import build
from dl.errors import ConfigError
from dl.models import efficientnet
from dl.models.efficientnet import EfficientNet

TINY = EfficientNet(
  num_classes=5, stages=(('fused', 1, 3, 1, 8, 1), ('fused', 4, 3, 2, 8, 2), ('mb', 4, 5, 2, 16, 2)), stem=8, head=32
)  # fmt: skip


@pytest.mark.parametrize(
  'name, options',
  [('B0', {'width': 0.5, 'depth': 0.5}), pytest.param('V2_S', {'width': 0.3}, marks=pytest.mark.thorough)],
)
def test_factors_below_one_build(name, options):
  build_it = lambda **factors: build.build(
    {'name': f'efficientnet.EfficientNet{name}', 'num_classes': 10} | factors, 'dl.models', 'config.model'
  )
  whole, part = (count(model, (1, 64, 64, 3)) for model in (build_it(), build_it(**options)))
  assert 0 < part < whole / 2
  with pytest.raises(ConfigError, match=r'^config.model.width: must be above 0'):
    build_it(width=0.0)


def test_b0_with_fewer_blocks_equals_torchvision():
  """All its stages, of a block each, but for the second one."""
  networks = torchvision().models.efficientnet
  stages, head = networks._efficientnet_conf('efficientnet_b0', width_mult=1.0, depth_mult=1.0)
  for i, stage in enumerate(stages):
    stage.num_layers = 1 + (i == 1)
  mine = efficientnet.EfficientNetB0(10)
  mine = mine.copy(stages=tuple((*stage[:5], 1 + (i == 1)) for i, stage in enumerate(mine.stages)))
  reference = networks.EfficientNet(stages, 0.2, num_classes=10, last_channel=head)
  assert_equal(mine, randomize(reference), random_image(2, 64, 64, 3))


@pytest.mark.thorough
def test_b0_equals_torchvision():
  reference = randomize(torchvision().models.efficientnet_b0(num_classes=10))
  assert_equal(efficientnet.EfficientNetB0(10), reference, random_image(2, 64, 64, 3))


@pytest.mark.thorough
def test_v2_equals_torchvision():
  """All stages of V2-S, with two blocks each: the others repeat the second one."""
  networks = torchvision().models.efficientnet
  stages, head = networks._efficientnet_conf('efficientnet_v2_s')
  for stage in stages:
    stage.num_layers = 2
  norm = functools.partial(networks.nn.BatchNorm2d, eps=1e-3)
  reference = networks.EfficientNet(stages, 0.2, num_classes=10, norm_layer=norm, last_channel=head)
  mine = efficientnet.EfficientNetV2_S(10)
  mine = mine.copy(stages=tuple((*stage[:5], 2) for stage in mine.stages))
  assert_equal(mine, randomize(reference), random_image(2, 64, 64, 3))


@pytest.mark.parametrize('number', range(8))
def test_settings_are_those_of_torchvision(number):
  torch = pytest.importorskip('torch')

  with torch.device('meta'):
    reference = getattr(torchvision().models, f'efficientnet_b{number}')()
  mine = getattr(efficientnet, f'EfficientNetB{number}')(1000)
  norm = reference.features[0][1]
  assert (mine.epsilon, mine.momentum) == (norm.eps, 1 - norm.momentum)
  assert mine.dropout == reference.classifier[0].p


@pytest.mark.thorough
def test_equals_timm():
  torch = pytest.importorskip('torch')

  reference = randomize(timm().create_model('efficientnet_b0', num_classes=10, in_chans=1))
  model, image = efficientnet.EfficientNetB0(10), random_image(2, 33, 40, 1)
  variables = converted(model, reference, image.shape, layout='timm')
  expected = reference(torch.tensor(image.transpose(0, 3, 1, 2))).detach().numpy()
  close(np.asarray(jax.jit(model.apply)(variables, image)), expected, 1e-4)


def test_training_updates_statistics_and_drops_in_training_alone():
  model, x = TINY, random_image(8, 32, 32, 1)
  variables = jax.jit(model.init)(jax.random.key(0), x)
  train = jax.jit(lambda key: model.apply(variables, x, train=True, rngs={'dropout': key}, mutable=['batch_stats']))
  (one, changed), (two, _) = train(jax.random.key(0)), train(jax.random.key(1))
  assert not np.allclose(one, two)
  before, after = (v['batch_stats']['features_1_0']['block_0']['1']['mean'] for v in (variables, changed))
  assert not np.allclose(before, after)
  jax.eval_shape(model.apply, variables, x)  # needs no random numbers


def test_rates_of_the_blocks_are_those_of_torchvision():
  rates = {}

  def look(next_function, args, kwargs, context):
    if isinstance(context.module, efficientnet.MBConv | efficientnet.FusedMBConv):
      rates[context.module.name] = context.module.stochastic_depth
    return next_function(*args, **kwargs)

  with nn.intercept_methods(look):
    abstract(efficientnet.EfficientNetV2_S(10), (1, 64, 64, 3))
  theirs = {
    name.replace('.', '_'): module.stochastic_depth.p
    for name, module in torchvision().models.efficientnet_v2_s().named_modules()
    if hasattr(module, 'stochastic_depth')
  }
  assert rates == pytest.approx(theirs)


@pytest.mark.parametrize(
  'options, shape, line',
  [
    ({'stages': (('mbconv', 1, 3, 1, 8, 1),)}, (1, 32, 32, 3), "^stages: .*not 'mbconv'"),
  ],
)
def test_mistakes_are_one_line(options, shape, line):
  with pytest.raises(ValueError, match=line):
    abstract(TINY.copy(**options), shape)
