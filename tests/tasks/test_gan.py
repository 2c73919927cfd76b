"""The two players' losses and gradients against PyTorch, their updates, and digits which a classifier knows."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dl.contract import metrics
from dl.contract.state import State
from dl.errors import ConfigError
from dl.models.gan import ConvDiscriminator, ConvGenerator
from dl.optim.stages import params_ema
from dl.tasks.gan import GAN, OBJECTIVES


def make_task(norm='batch', generator=None, discriminator=None, **changes):
  model = {
    'generator': ConvGenerator(**dict(latent_size=5, features=(8,), base=4, channels=1, norm=norm) | (generator or {})),
    'discriminator': ConvDiscriminator(**dict(features=(8, 16), base=2, norm=norm) | (discriminator or {})),
  }
  return GAN(**dict(model=model) | changes)


def make_batch(rows=8):
  images = jax.random.uniform(jax.random.key(7), (rows, 8, 8, 1))
  return {'image': images, 'mask': jnp.ones(rows)}


def arbitrary(path, leaf):
  """Values which leave nothing at 0 or 1."""
  name = jax.tree_util.keystr(path, simple=True, separator='/')
  noise = np.random.default_rng(len(name)).normal(size=leaf.shape) * 0.3
  return jnp.asarray(1 + abs(noise) if name.endswith(('var', 'scale')) else noise, jnp.float32)


def make_state(task, optim):
  shapes = jax.eval_shape(task.init, jax.random.key(0), make_batch())
  params, extra = jax.tree_util.tree_map_with_path(arbitrary, shapes)
  opt = {player: optim[player].init(params[player]) for player in params}
  return State(step=jnp.zeros([], jnp.int32), params=params, opt=opt, extra=extra)


def players(state):
  return state.params['generator'], state.params['discriminator']


def both(chain):
  return {'generator': chain, 'discriminator': chain}


def numbers(found):
  return metrics.compute(jax.device_get(found))


def close(found, expected, **tolerance):
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **tolerance), found, expected)


def latents(key, count, parts):
  """The noise which a loss draws from its key."""
  return jax.random.normal(jax.random.split(key, parts)[0], (count, 5))


class Reference:
  """Both players in PyTorch, in float64, in training mode."""

  def __init__(self, params):
    import torch

    self.torch = torch
    self.params = jax.tree.map(lambda x: torch.tensor(np.asarray(x, np.float64), requires_grad=True), params)

  def _layer(self, player, i, x, convolve, activation):
    nn, params = self.torch.nn.functional, self.params[player]
    x = convolve(x, params[f'conv_{i}'])
    if f'norm_{i}' in params:
      norm = params[f'norm_{i}']
      x = nn.batch_norm(x, None, None, norm['scale'], norm['bias'], training=True, eps=1e-5)
    return activation(x)

  def generate(self, z):
    nn = self.torch.nn.functional

    def convolve(x, conv):
      weight = conv['kernel'].flip(0, 1).permute(2, 3, 0, 1).contiguous()
      stride, padding = (1, 0) if x.shape[-1] == 1 else (2, 1)
      return nn.conv_transpose2d(x, weight, conv.get('bias'), stride, padding)

    x = self.torch.tensor(np.asarray(z, np.float64))[:, :, None, None]
    for i in range(2):
      x = self._layer('generator', i, x, convolve, self.torch.tanh if i == 1 else self.torch.relu)
    return x

  def judge(self, x):
    nn = self.torch.nn.functional

    def convolve(x, conv):
      stride, padding = (1, 0) if x.shape[-1] == 2 else (2, 1)
      return nn.conv2d(x, conv['kernel'].permute(3, 2, 0, 1).contiguous(), conv.get('bias'), stride, padding)

    for i in range(3):
      last = lambda x: x
      x = self._layer('discriminator', i, x, convolve, last if i == 2 else lambda x: nn.leaky_relu(x, 0.2))
    return x.flatten()

  def grads(self, player):
    return jax.tree.map(lambda x: x.grad.numpy(), self.params[player])


def torch_losses(torch, objective, real, fake):
  """(the discriminator's loss, the generator's), from logits, as each paper has them."""
  bce = torch.nn.functional.binary_cross_entropy_with_logits
  ones, zeros = torch.ones_like(fake), torch.zeros_like(fake)
  return {
    'nonsaturating': lambda: (bce(real, ones) + bce(fake, zeros), bce(fake, ones)),
    'least_squares': lambda: (((real - 1) ** 2).mean() / 2 + (fake**2).mean() / 2, ((fake - 1) ** 2).mean() / 2),
    'hinge': lambda: ((1 - real).clamp(min=0).mean() + (1 + fake).clamp(min=0).mean(), -fake.mean()),
    'wasserstein': lambda: (fake.mean() - real.mean(), -fake.mean()),
  }[objective]()


@pytest.mark.parametrize('objective', OBJECTIVES)
def test_objectives_as_pytorch(objective):
  torch = pytest.importorskip('torch')
  real, fake = np.random.default_rng(0).normal(size=(2, 9)) * 3
  real_loss, fake_loss, generator_loss = OBJECTIVES[objective]
  expected = torch_losses(torch, objective, torch.tensor(real), torch.tensor(fake))
  found = real_loss(real).mean() + fake_loss(fake).mean(), generator_loss(fake).mean()
  np.testing.assert_allclose(found, [x.item() for x in expected], rtol=1e-5)


def test_losses_and_gradients_as_pytorch():
  torch = pytest.importorskip('torch')
  task, objective = make_task(objective='least_squares'), 'least_squares'
  state, batch, key = make_state(task, both(optax.sgd(0.1))), make_batch(), jax.random.key(3)
  generator, discriminator, stats = *players(state), state.extra

  @jax.jit
  def run():
    judged = jax.value_and_grad(task.discriminator_loss, has_aux=True)
    made = jax.value_and_grad(task.generator_loss, has_aux=True)
    return (
      judged(discriminator, generator, stats, batch, key, True),
      made(generator, discriminator, stats, batch['mask'], key, True),
    )

  ((d_loss, (_, found)), d_grads), ((g_loss, _), g_grads) = run()
  reference = Reference(state.params)
  real = torch.tensor(np.asarray(batch['image'], np.float64)).permute(0, 3, 1, 2) * 2 - 1
  real_logit, fake_logit = reference.judge(real), reference.judge(reference.generate(latents(key, 8, 5)).detach())
  expected, _ = torch_losses(torch, objective, real_logit, fake_logit)
  expected.backward()
  assert float(d_loss) == pytest.approx(expected.item(), rel=1e-4)
  close(d_grads, reference.grads('discriminator'), rtol=1e-3, atol=1e-5)
  assert numbers(found)['real_accuracy'] == (real_logit > 0.5).double().mean().item()
  assert numbers(found)['fake_accuracy'] == (fake_logit <= 0.5).double().mean().item()

  reference = Reference(state.params)
  _, expected = torch_losses(
    torch, objective, real_logit.detach(), reference.judge(reference.generate(latents(key, 8, 3)))
  )
  expected.backward()
  assert float(g_loss) == pytest.approx(expected.item(), rel=1e-4)
  close(g_grads, reference.grads('generator'), rtol=1e-3, atol=1e-5)


def test_penalties_as_pytorch():
  torch = pytest.importorskip('torch')
  task = make_task(norm='none', objective='wasserstein', gradient_penalty=10.0, r1=0.7)
  state, batch, key = make_state(task, both(optax.sgd(0.1))), make_batch(), jax.random.key(3)
  run = jax.jit(jax.value_and_grad(task.discriminator_loss, has_aux=True), static_argnums=5)
  (loss, (_, found)), grads = run(
    state.params['discriminator'], state.params['generator'], state.extra, batch, key, True
  )
  reference = Reference(state.params)
  real = torch.tensor(np.asarray(batch['image'], np.float64)).permute(0, 3, 1, 2) * 2 - 1
  fake = reference.generate(latents(key, 8, 5)).detach()

  def squared_slope(images):
    images = images.clone().requires_grad_()
    (slope,) = torch.autograd.grad(reference.judge(images).sum(), images, create_graph=True)
    return slope.flatten(1).square().sum(1)

  share = jax.random.uniform(jax.random.split(jax.random.split(key, 5)[1], 3)[0], (8, 1, 1, 1))
  share = torch.tensor(np.asarray(share, np.float64))
  penalty = 10 * (squared_slope(share * real + (1 - share) * fake).sqrt() - 1).square() + 0.35 * squared_slope(real)
  expected = reference.judge(fake).mean() - reference.judge(real).mean() + penalty.mean()
  expected.backward()
  assert numbers(found)['penalty'] == pytest.approx(penalty.mean().item(), rel=1e-4)
  assert float(loss) == pytest.approx(expected.item(), rel=1e-4)
  close(grads, reference.grads('discriminator'), rtol=2e-3, atol=1e-5)


@pytest.mark.parametrize('simultaneous', [False, True])
def test_a_step_is_one_update_of_each(simultaneous):
  """The generator answers the discriminator which the step has just made, or, if simultaneous, the one before."""
  task = make_task(simultaneous=simultaneous)
  optim = both(optax.sgd(0.5))
  state, batch, key = make_state(task, optim), make_batch(), jax.random.key(3)

  @jax.jit
  def run(state):
    new, found = task.step(state, batch, key, optim)
    generator, discriminator, stats = *players(state), state.extra
    d_key, g_key = jax.random.split(key)
    grads, (d_stats, _) = jax.grad(task.discriminator_loss, has_aux=True)(
      discriminator, generator, stats, batch, d_key, True
    )
    updated = jax.tree.map(lambda p, g: p - 0.5 * g, discriminator, grads)
    judge, stats = (discriminator, stats) if simultaneous else (updated, d_stats)
    grads, (g_stats, _) = jax.grad(task.generator_loss, has_aux=True)(
      generator, judge, stats, batch['mask'], g_key, True
    )
    expected = {'generator': jax.tree.map(lambda p, g: p - 0.5 * g, generator, grads), 'discriminator': updated}
    return new, found, expected, {'generator': g_stats['generator'], 'discriminator': d_stats['discriminator']}

  new, found, expected, stats = run(state)
  close(new.params, expected, rtol=1e-5, atol=1e-6)
  close(new.extra, stats, rtol=1e-5, atol=1e-6)
  assert int(new.step) == 1
  assert set(found) == {'generator_loss', 'discriminator_loss', 'real_accuracy', 'fake_accuracy'}


def test_several_updates_of_the_discriminator_share_the_batch():
  task = make_task(discriminator_steps=2)
  assert task.updates_per_step == {'generator': 1, 'discriminator': 2} and make_task().updates_per_step == 1
  optim = both(optax.adam(1e-3))
  state = make_state(task, optim)
  new, found = jax.jit(lambda s, b: task.step(s, b, jax.random.key(3), optim))(state, make_batch())
  assert int(new.opt['discriminator'][0].count) == 2 and int(new.opt['generator'][0].count) == 1
  assert found['real_accuracy'].weight == found['discriminator_loss'].weight == 8
  assert found['generator_loss'].weight == 4
  with pytest.raises(ConfigError, match=r'config.task.discriminator_steps.* 9 .* 2 parts'):
    task.check(jax.eval_shape(lambda: make_batch(9)))


def test_evaluation_counts_real_rows_alone():
  task = make_task()
  state, batch = make_state(task, both(optax.sgd(0.1))), make_batch()
  evaluate = jax.jit(lambda s, b: task.evaluate(s, b, jax.random.key(0)))
  whole = evaluate(state, batch)
  padded = {
    'image': batch['image'].at[6:].set(jnp.nan),
    'mask': batch['mask'].at[6:].set(0.0),
  }
  part = evaluate(state, padded)
  assert all(m.weight == 6 for m in part.values()) and all(np.isfinite(m.total) for m in part.values())
  rest = evaluate(state, {'image': jnp.roll(batch['image'], 2, 0), 'mask': (jnp.arange(8) < 2).astype(jnp.float32)})
  assert part['real_accuracy'].total + rest['real_accuracy'].total == whole['real_accuracy'].total


def test_samples():
  task = make_task()
  state = make_state(task, both(optax.chain(optax.sgd(0.1), params_ema(0.9))))
  images = task.sample(state, jax.random.key(0), 300)
  assert images.shape == (300, 8, 8, 1) and images.dtype == jnp.float32
  assert 0 <= images.min() < 0.4 < 0.6 < images.max() <= 1 and images.std(0).min() > 0
  np.testing.assert_array_equal(task.sample(state, jax.random.key(0), 3), images[:3])
  moved = state.replace(params=jax.tree.map(lambda x: x + 1, state.params))
  np.testing.assert_array_equal(task.sample(moved.averaged(), jax.random.key(0), 3), images[:3])
  assert task.artifacts(state, jax.random.key(0))['samples'].shape == (8 * 9 - 1, 8 * 9 - 1, 1)


@pytest.mark.parametrize(
  'changes, words',
  [
    (dict(model=ConvGenerator()), 'config.model: a GAN has two players'),
    (dict(model={'generator': ConvDiscriminator(), 'discriminator': ConvDiscriminator()}), 'latent_size'),
    (dict(discriminator_steps=0), 'config.task.discriminator_steps'),
    (dict(r1=-1.0), 'config.task.r1'),
  ],
)
def test_mistakes_are_one_line(changes, words):
  with pytest.raises(ConfigError, match=words) as e:
    make_task(**changes)
  assert '\n' not in str(e.value)


def test_a_model_which_does_not_fit_the_data_is_a_mistake():
  shapes = jax.eval_shape(make_batch)
  make_task().check(shapes)
  with pytest.raises(ConfigError, match=r'config.model.generator: makes images \(16, 16, 1\).*\(8, 8, 1\)'):
    make_task(generator=dict(base=8)).check(shapes)
  with pytest.raises(ConfigError, match='a GAN needs images; the batch has features'):
    make_task().check({'features': jax.ShapeDtypeStruct((8, 3), jnp.float32)})
  with pytest.raises(ConfigError, match=r"config.model.discriminator.*norm='group'"):
    make_task(r1=1.0).check(shapes)


@pytest.mark.slow
def test_it_draws_digits():
  """A fifteenth of the experiment: the samples lie near real digits, of all ten classes."""
  from sklearn.datasets import load_digits
  from sklearn.neighbors import KNeighborsClassifier

  images, label = load_digits(return_X_y=True)
  images = (images / 16).astype(np.float32)
  task = GAN(
    model={
      'generator': ConvGenerator(latent_size=64, features=(64, 32), base=2, channels=1),
      'discriminator': ConvDiscriminator(features=(32, 64), base=2),
    }
  )
  optim = {
    'generator': optax.chain(optax.adam(2e-3, b1=0.5), params_ema(0.99)),
    'discriminator': optax.adam(1e-3, b1=0.5),
  }
  params, extra = jax.jit(task.init)(jax.random.key(0), make_batch())
  opt = {player: optim[player].init(params[player]) for player in params}
  state = State(step=jnp.zeros([], jnp.int32), params=params, opt=opt, extra=extra)
  step = jax.jit(lambda s, b: task.step(s, b, jax.random.fold_in(jax.random.key(0), s.step), optim), donate_argnums=0)
  generator = np.random.default_rng(0)
  for _ in range(400):
    rows = generator.integers(0, len(images), 64)
    state, found = step(state, {'image': images[rows].reshape(64, 8, 8, 1), 'mask': np.ones(64, np.float32)})
  assert all(np.isfinite(v) for v in numbers(found).values())
  judge = KNeighborsClassifier(10).fit(images, label)
  samples = np.asarray(task.sample(state.averaged(), jax.random.key(0), 1000)).reshape(1000, 64)
  probability, distance = judge.predict_proba(samples), judge.kneighbors(samples)[0][:, 0].mean()
  shares = np.bincount(probability.argmax(1), minlength=10) / 1000
  assert shares.min() >= 0.03 and shares.max() <= 0.25
  # 0.98 for real digits, 0.66 for their pixels drawn one by one, 0.55 at the start.
  assert probability.max(1).mean() > 0.75
  # 1.03 between real digits, 2.14 for their pixels drawn one by one, 3.04 at the start.
  assert distance < 1.7
