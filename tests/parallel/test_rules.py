"""The rules of each network's class: they name weights which are there, and split what they name."""

import functools
import re
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AbstractMesh, AxisType

from dl.contract.state import State
from dl.contract.weights import inputs, outputs
from dl.errors import ConfigError
from dl.models import (
  actor_critic,
  alexnet,
  cnn,
  convnext,
  deconv,
  deeplab,
  efficientnet,
  fcn,
  gan,
  googlenet,
  gpt,
  inception,
  lenet,
  mixer,
  mlp,
  resnet,
  seq2seq,
  shallow,
  t5,
  unet,
  vgg,
  vit,
)
from dl.nn.cached import CachedPair
from dl.parallel import activations, strategy, weights

GPT = dict(vocab_size=64, length=16, layers=1, heads=2, width=32)
NETWORKS = [  # (network, shape of what it takes)
  (gpt.GPT(**GPT, tie_embeddings=False), (1, 16)),
  (gpt.GPT(**GPT, experts=4), (1, 16)),
  (seq2seq.Transformer(vocab_size=64, length=16, layers=1, heads=2, width=32, hidden=32), (1, 16)),
  (t5.T5(64, length=16, layers=1, heads=2, width=32, hidden=32, gated=True, tie_embeddings=False), (1, 16)),
  (vit.ViT(10, patch=4, width=16, depth=1, heads=2), (1, 16, 16, 3)),
  (mixer.MLPMixer(10, patch=4, width=16, depth=1), (1, 16, 16, 3)),
  (convnext.ConvNeXt(10, depths=(1, 1), widths=(16, 32)), (1, 32, 32, 3)),
  (resnet.ResNet(10, blocks=(1, 1), width=8, stem='cifar'), (1, 16, 16, 3)),
  (fcn.FCN_R50(num_classes=4), (1, 64, 64, 3)),
  (deeplab.DeepLabV3_R50(num_classes=4), (1, 64, 64, 3)),
  (efficientnet.EfficientNetB0(num_classes=10), (1, 64, 64, 3)),
  (googlenet.GoogLeNet(10), (1, 96, 96, 3)),
  (inception.InceptionV3(10), (1, 96, 96, 3)),
  (unet.UNet(num_classes=2, features=(8, 16)), (1, 32, 32, 1)),
  (deconv.DeconvNet(num_classes=2, features=(8, 16), convolutions=(2, 2)), (1, 32, 32, 1)),
  (vgg.VGG(10, hidden=64), (1, 32, 32, 3)),
  (alexnet.AlexNet(10, hidden=64), (1, 96, 96, 3)),
  (cnn.CNN(features=((8, 8), (8, 8)), num_classes=10), (1, 16, 16, 1)),
  (lenet.LeNet5(num_classes=10), (1, 28, 28, 1)),
  (lenet.LeNet5Original(10), (1, 32, 32, 1)),
  (shallow.Shallow(16, 10), (1, 8)),
  (mlp.MLP((16, 16), 10, batch_norm=True), (1, 8)),
  (actor_critic.ActorCritic(2, features=(8, 8)), (1, 4)),
  (gan.ConvGenerator(latent_size=8, features=(8, 8), channels=1), (1, 8)),
  (gan.ConvDiscriminator(features=(8, 8)), (1, 16, 16, 1)),
]
MESH = AbstractMesh((1, 2, 2), ('data', 'model', 'expert'), (AxisType.Auto,) * 3)


@functools.cache
def params_of(network, shape):
  keys = {'params': jax.random.key(0), 'dropout': jax.random.key(0)}
  x = jnp.zeros(shape, jnp.int32 if isinstance(network, gpt.GPT | CachedPair) else jnp.float32)
  x = {'source': x, 'target': x} if isinstance(network, CachedPair) else x
  return jax.eval_shape(lambda: network.init(keys, x, train=False))['params']


def state_of(network, shape):
  params = {'model': params_of(network, shape)}
  return State(step=jax.ShapeDtypeStruct((), jnp.int32), params=params, opt={}, extra={})


def split_by(rule, network, shape):
  """Path -> spec of the weights that are split over the axis 'model'."""
  shardings = weights.state_shardings(rule, MESH, state_of(network, shape), network).params
  return {
    jax.tree_util.keystr(p, simple=True, separator='/'): s.spec
    for p, s in jax.tree_util.tree_leaves_with_path(shardings)
    if 'model' in s.spec
  }


@pytest.mark.parametrize('network, shape', NETWORKS, ids=lambda x: type(x).__name__ if hasattr(x, 'init') else '')
def test_a_family_is_split_by_pairs_of_layers(network, shape):
  rule = 'tensor+expert' if getattr(network, 'experts', 0) else 'tensor'
  split = split_by(rule, network, shape)
  by_outputs = [p for p, spec in split.items() if p.endswith('kernel') and spec[-1] == 'model']
  by_inputs = [p for p, spec in split.items() if p.endswith('kernel') and spec[-2] == 'model']
  assert (by_outputs and by_inputs) or 'experts' in ''.join(split)
  unsplit = [p for p, spec in split.items() if p.endswith('bias') and p.replace('bias', 'kernel') in by_inputs]
  assert not unsplit  # a bias that is added after a sum over devices is whole


def test_weights_that_devices_cannot_share_are_named():
  network = gpt.GPT(**GPT | {'vocab_size': 1025})
  state = state_of(network, (1, 16))
  said = weights.left_whole('tensor', MESH, state, network)
  assert 'cannot share model/token/embedding (1,025 x 32) evenly' in said
  assert weights.left_whole('replicated', AbstractMesh((4,), ('data',)), state, network) is None
  assert weights.left_whole([['embedding', [None, 'model']], 'tensor'], MESH, state, network) is None


def test_no_rule_is_for_weights_that_are_not_there():
  paths: dict[type, list[str]] = {}
  for network, shape in NETWORKS:
    leaves = jax.tree_util.tree_leaves_with_path(params_of(network, shape))
    paths.setdefault(type(network), []).extend(jax.tree_util.keystr(p, simple=True, separator='/') for p, _ in leaves)
  for family in paths:
    for regex, _ in family.sharding_rules:
      if not regex.endswith('(bias|scale)$'):  # of a layer that may have neither
        assert any(re.search(regex, path) for path in paths[family]), (family, regex)


class TheirResNet(resnet.ResNet):
  """A user's own kind of a network of here."""


class TheirNet(nn.Module):
  """A user's own network, with rules of its own, which another class may inherit or replace."""

  width: int = 8
  sharding_rules: ClassVar = (*outputs('wide'), *inputs('narrow'))

  @nn.compact
  def __call__(self, x, train=False):
    return nn.Dense(4, name='narrow')(nn.relu(nn.Dense(self.width, name='wide')(x)))


class TheirOther(TheirNet):
  depth: int = 1
  sharding_rules: ClassVar = inputs('wide')


def test_rules_are_inherited_and_stated_by_users():
  options = dict(blocks=(1, 1), width=8, stem='cifar')
  expected = split_by('tensor', resnet.ResNet(10, **options), (1, 16, 16, 3))
  assert split_by('tensor', TheirResNet(10, **options), (1, 16, 16, 3)) == expected
  assert TheirResNet.layouts is resnet.ResNet.layouts
  assert set(split_by('tensor', TheirNet(), (1, 4))) == {'model/wide/kernel', 'model/wide/bias', 'model/narrow/kernel'}
  assert set(split_by('tensor', TheirOther(16, depth=2), (1, 4))) == {'model/wide/kernel'}


@pytest.mark.parametrize(
  'rules, message',
  [
    (((')', ('model',)),), "Broken.sharding_rules: ')' is not a regular expression"),
    ((('wide', ('modle',)),), "no axis is called 'modle'; did you mean 'model'?"),
    ((('wide/bias', (None, 'model')),), "2 axes for 'wide/bias', which has 1 dimensions"),
    ((), "'tensor' splits no weights of Broken over 2 devices; give [regex, axes] pairs, state `sharding_rules`"),
  ],
)
def test_mistakes_in_rules_of_ones_own(rules, message):
  broken = type('Broken', (TheirNet,), {'sharding_rules': rules, '__module__': __name__})
  with pytest.raises(ConfigError, match=re.escape(message)):
    split_by('tensor', broken(), (1, 4))


@pytest.mark.parametrize(
  'rule, axes, message',
  [
    ('fsdp', {'data': 2, 'model': 2}, "config.mesh.model: nothing is split over this axis by config.sharding, 'fsdp'"),
    ('replicated', {'data': 2, 'modle': 2}, "did you mean 'model'"),
    ('sequence', {'data': 1, 'model': 2, 'sequence': 2}, 'config.mesh.model: nothing is split'),
    ([['kernel', [None, 'model']], 'fsdp'], {'data': 1, 'model': 2, 'rows': 2}, 'config.mesh.rows: nothing is split'),
  ],
)
def test_an_axis_over_which_nothing_is_split_is_refused(rule, axes, message):
  mesh = AbstractMesh(tuple(axes.values()), tuple(axes), (AxisType.Auto,) * len(axes))
  with pytest.raises(ConfigError, match=re.escape(message)):
    strategy.strategy(rule, mesh)


def test_axes_of_size_one_and_those_of_pairs_are_none_of_those():
  mesh = AbstractMesh((2, 1, 2), ('data', 'model', 'rows'), (AxisType.Auto,) * 3)
  assert 'fsdp' in strategy.strategy([['kernel', [['data', 'rows'], None]], 'fsdp'], mesh)


@pytest.mark.parametrize(
  'network, shape, splits', [(NETWORKS[0][0], (2, 16), True), (mlp.MLP((16,), 10), (2, 8), False)]
)
def test_tokens_are_really_split(network, shape, splits):
  mesh = AbstractMesh((1, 2), ('data', 'sequence'), (AxisType.Auto,) * 2)
  x = jax.ShapeDtypeStruct(shape, jnp.int32 if splits else jnp.float32)
  apply = activations.split(lambda params, x: network.apply({'params': params}, x), mesh, 1, 'sequence')
  arguments = params_of(network, (1, *shape[1:])), x
  if splits:
    assert '"sequence"' in jax.jit(apply).lower(*arguments).as_text()
  else:
    with pytest.raises(ConfigError, match="'sequence' splits nothing here"):
      jax.eval_shape(apply, *arguments)
