"""DCGAN's two networks against PyTorch's, on the same weights."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dl.models.gan import ConvDiscriminator, ConvGenerator


def count(module, *shape):
  variables = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros(shape))
  return sum(x.size for x in jax.tree.leaves(variables['params']))


def test_parameter_counts_are_dcgan_s():
  assert count(ConvGenerator(), 1, 100) == 3_576_704
  assert count(ConvDiscriminator(), 1, 64, 64, 3) == 2_765_568


def torch_generator(nn, latent_size=100, features=(512, 256, 128, 64), channels=3, base=4):
  layers, sizes = [], [latent_size, *features, channels]
  for i, (before, after) in enumerate(itertools.pairwise(sizes)):
    kernel = (base, 1, 0) if i == 0 else (4, 2, 1)
    layers.append(nn.ConvTranspose2d(before, after, *kernel, bias=False))
    layers += [nn.Tanh()] if i == len(features) else [nn.BatchNorm2d(after), nn.ReLU()]
  return nn.Sequential(*layers)


def torch_discriminator(nn, features=(64, 128, 256, 512), channels=3, base=4):
  layers, sizes = [], [channels, *features]
  for i, (before, after) in enumerate(itertools.pairwise(sizes)):
    layers.append(nn.Conv2d(before, after, 4, 2, 1, bias=False))
    layers += ([nn.BatchNorm2d(after)] if i else []) + [nn.LeakyReLU(0.2)]
  return nn.Sequential(*layers, nn.Conv2d(features[-1], 1, base, 1, 0, bias=False))


def randomize(torch, network):
  """Weights and running statistics which leave nothing at 0 or 1."""
  generator = torch.Generator().manual_seed(0)
  for name, value in network.state_dict().items():
    if value.ndim == 4:
      value.copy_(torch.randn(value.shape, generator=generator) * (2 / value[0].numel()) ** 0.5)
    elif value.ndim == 1:
      noise = torch.rand(value.shape, generator=generator)
      value.copy_(noise - 0.5 if name.endswith(('bias', 'mean')) else noise + 0.5)


def variables_of(network):
  """The variables of our module with the weights of a PyTorch network."""
  params, stats, convs = {}, {}, -1
  for layer in network:
    kind = type(layer).__name__
    weight = layer.weight.detach().numpy() if hasattr(layer, 'weight') else None
    if kind == 'ConvTranspose2d':  # [in, out, h, w], whose kernel PyTorch turns around
      convs += 1
      params[f'conv_{convs}'] = {'kernel': weight[:, :, ::-1, ::-1].transpose(2, 3, 0, 1)}
    elif kind == 'Conv2d':  # [out, in, h, w]
      convs += 1
      params[f'conv_{convs}'] = {'kernel': weight.transpose(2, 3, 1, 0)}
    elif kind == 'BatchNorm2d':
      params[f'norm_{convs}'] = {'scale': weight, 'bias': layer.bias.detach().numpy()}
      stats[f'norm_{convs}'] = {'mean': layer.running_mean.numpy().copy(), 'var': layer.running_var.numpy().copy()}
  return jax.tree.map(jnp.asarray, {'params': params, 'batch_stats': stats})


def check_same_structure(module, variables, inputs):
  expected = jax.eval_shape(module.init, jax.random.key(0), inputs)
  assert jax.tree.map(jnp.shape, variables) == jax.tree.map(jnp.shape, dict(expected))


@pytest.mark.parametrize('train', [False, True])
def test_generator_as_pytorch(train):
  torch = pytest.importorskip('torch')
  theirs = torch_generator(torch.nn).train(train)
  randomize(torch, theirs)
  latents = np.random.default_rng(0).normal(size=(3, 100)).astype(np.float32)
  variables = variables_of(theirs)
  check_same_structure(ConvGenerator(), variables, latents)
  with torch.no_grad():
    expected = theirs(torch.from_numpy(latents)[:, :, None, None]).numpy().transpose(0, 2, 3, 1)
  run = jax.jit(lambda v, z: ConvGenerator().apply(v, z, train=train, mutable=['batch_stats']))
  images, _ = run(variables, latents)
  assert images.shape == (3, 64, 64, 3) and images.std() > 0.1
  np.testing.assert_allclose(images, expected, atol=2e-4)


@pytest.mark.parametrize('train', [False, True])
def test_discriminator_as_pytorch(train):
  torch = pytest.importorskip('torch')
  theirs = torch_discriminator(torch.nn).train(train)
  randomize(torch, theirs)
  images = np.random.default_rng(0).uniform(-1, 1, (3, 64, 64, 3)).astype(np.float32)
  variables = variables_of(theirs)
  check_same_structure(ConvDiscriminator(), variables, images)
  with torch.no_grad():
    expected = theirs(torch.from_numpy(images.transpose(0, 3, 1, 2))).numpy().reshape(3)
  run = jax.jit(lambda v, x: ConvDiscriminator().apply(v, x, train=train, mutable=['batch_stats']))
  logits, _ = run(variables, images)
  assert np.abs(expected).max() > 0.1
  np.testing.assert_allclose(logits, expected, rtol=1e-3, atol=1e-3)


def shapes(module, inputs):
  return jax.eval_shape(lambda: module.init_with_output(jax.random.key(0), inputs, train=False))


@pytest.mark.parametrize('norm', ['batch', 'group', 'none'])
def test_sizes_of_small_ones(norm):
  generator = ConvGenerator(latent_size=6, features=(16, 8), base=2, channels=1, norm=norm, init_std=None)
  discriminator = ConvDiscriminator(features=(8, 16), base=2, norm=norm, init_std=None)
  images, variables = shapes(generator, jnp.ones((3, 6)))
  assert images.shape == (3, 8, 8, 1) and ('batch_stats' in variables) == (norm == 'batch')
  logits, variables = shapes(discriminator, jnp.ones((3, 8, 8, 1)))
  assert logits.shape == (3,) and ('batch_stats' in variables) == (norm == 'batch')


def test_low_precision_computes_low_and_returns_float32():
  generator = ConvGenerator(latent_size=6, features=(16, 8), base=2, channels=1, dtype=jnp.bfloat16)
  images, variables = shapes(generator, jnp.ones((3, 6)))
  assert images.dtype == jnp.float32
  assert all(x.dtype == jnp.float32 for x in jax.tree.leaves(variables))
  _, seen = jax.eval_shape(
    lambda: generator.init_with_output(jax.random.key(0), jnp.ones((3, 6)), capture_intermediates=True)
  )
  assert seen['intermediates']['conv_1']['__call__'][0].dtype == jnp.bfloat16


def test_dropout_acts_in_training_alone():
  module = ConvDiscriminator(features=(8, 16), base=2, norm='none', dropout=0.5, init_std=None)
  images = jnp.ones((4, 8, 8, 1))
  variables = jax.jit(module.init)(jax.random.key(0), images)
  run = jax.jit(module.apply, static_argnames='train')
  apply = lambda train, seed: run(variables, images, train=train, rngs={'dropout': jax.random.key(seed)})
  np.testing.assert_array_equal(apply(False, 0), apply(False, 1))
  assert np.ptp(apply(True, 0)) > 0
