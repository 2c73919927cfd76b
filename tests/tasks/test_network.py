"""What a network says of its arguments and inputs, behind the path that the config has for it."""

import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest
from small import small

from dl.errors import ConfigError
from dl.models import resnet, vit
from dl.tasks import network
from dl.training.assemble import assemble

RESNET = {'name': 'resnet.ResNet50', 'num_classes': 10, 'shortcut': 'pad'}
VIT = {'name': 'vit.ViT', 'num_classes': 10, 'patch': 4, 'width': 32, 'heads': 5, 'depth': 1}
CONV = {'name': 'gan.ConvDiscriminator', 'features': (8, 8), 'base': 2}
CASES = [
  (RESNET, ".shortcut: 'pad' is for blocks without bottleneck; use 'projection'"),
  (VIT, ': 5 heads do not divide a width of 32'),
  (VIT | {'patch': 3}, '.patch: 3 does not divide images of 8x8; these do: 1, 2, 4, 8'),
  ({'name': 'lenet.LeNet5', 'num_classes': 10, 'activation': 'rleu'}, ".activation: no activation is called 'rleu'"),
  (
    {'name': 'lenet.LeNet5', 'num_classes': 10, 'activation': {'name': 'leaky_relu', 'slope': 0.1}},
    ".activation.slope: leaky_relu takes no argument 'slope'",
  ),
]


@pytest.mark.parametrize(('model', 'line'), CASES, ids=lambda v: v if isinstance(v, str) else '')
def test_the_only_network_and_a_player_have_each_their_path(model, line):
  with pytest.raises(ConfigError, match=f'^{re.escape(f"config.model{line}")}'):
    assemble(small('perceptron', f'model={model}'))
  players = small('gan').model | {'discriminator': model}
  with pytest.raises(ConfigError, match=f'^{re.escape(f"config.model.discriminator{line}")}'):
    assemble(small('gan', f'model={players}'))


def test_a_direct_user_hears_the_words_alone():
  for model, line in (
    (resnet.ResNet50(10, shortcut='pad'), "shortcut: 'pad' is"),
    (vit.ViT(10, patch=3), 'patch: 3 does not'),
    (vit.ViT(10, patch=2, heads=5), '5 heads do not'),
  ):
    with pytest.raises(ValueError, match=f'^{line}') as error:
      jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 8, 8, 1)))
    assert type(error.value) is ValueError


class Late(nn.Module):
  """A network which speaks while it is trained alone, with a network inside whose argument is not its own."""

  inner: nn.Module | None = None
  width: str = '1'

  @nn.compact
  def __call__(self, x, train=False):
    if self.inner:
      x = self.inner(x)
    if train:
      raise ValueError('rate: of which there is none\nin the second line')
    return nn.Dense(int(self.width))(x)


def test_words_of_a_call_and_of_what_is_inside():
  x = jnp.zeros((1, 8, 8, 1))
  params, extra = network.variables({'critic': Late()}, {'critic': x}, {'critic': jax.random.key(0)})
  with pytest.raises(ConfigError) as error:
    network.apply(Late(), params['critic'], extra['critic'], x, True, player='critic')
  assert str(error.value) == 'config.model.critic: rate: of which there is none'
  with pytest.raises(ConfigError, match=r'^config\.model\.critic: patch: 3 does not divide'):
    network.variables({'critic': Late(vit.ViT(10, patch=3))}, {'critic': x}, {'critic': jax.random.key(0)})
  with pytest.raises(ValueError, match=r'^invalid literal') as error:  # the words of Python are not its own
    network.variables({'critic': Late(width='lanes')}, {'critic': x}, {'critic': jax.random.key(0)})
  assert type(error.value) is ValueError
