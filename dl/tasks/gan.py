"""Generative adversarial networks: a generator and a discriminator, two players with an optimizer each."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Key, PyTree

from dl.config.bounds import Depth, NotNegative
from dl.config.build import check_bounds
from dl.contract.kinds import IMAGE
from dl.contract.metrics import Mean, add, average
from dl.contract.state import State
from dl.contract.task import Batch, Metrics, Task, update
from dl.errors import ConfigError
from dl.show.pictures import grid
from dl.tasks import network

OBJECTIVES = {  # (loss of a real one's logit, of a generated one's, of the generator for it)
  'nonsaturating': (lambda d: jax.nn.softplus(-d), jax.nn.softplus, lambda d: jax.nn.softplus(-d)),
  'least_squares': (lambda d: 0.5 * (d - 1) ** 2, lambda d: 0.5 * d**2, lambda d: 0.5 * (d - 1) ** 2),
  'hinge': (lambda d: jax.nn.relu(1 - d), lambda d: jax.nn.relu(1 + d), lambda d: -d),
  'wasserstein': (lambda d: -d, lambda d: d, lambda d: -d),
}

_CHUNK = 256  # images which `sample` makes at once


@dataclasses.dataclass(frozen=True, kw_only=True)
class GAN(Task):
  """Two players: `model=dict(generator=..., discriminator=...)`, and `optim` likewise.

  The generator maps noise `[b, latent_size]` (its attribute) to images `[b, h, w, c]` in [-1, 1], the discriminator
  such images to logits `[b]`. "Generative adversarial networks", arXiv 1406.2661.

  Accuracies count logits above 0 as real (0.5 for 'least_squares'; a 'wasserstein' critic has no such point).

  A batch is cut into `discriminator_steps` parts, an update of the discriminator each, against as many fresh samples;
  then the generator makes one update with a part's worth of samples.

  Cite: goodfellow2014generative

  Attributes:
    objective: 'nonsaturating' (arXiv 1406.2661), 'least_squares' (1611.04076), 'hinge' (1705.02894) or 'wasserstein'
      (1701.07875, which needs a penalty).
    discriminator_steps: updates of the discriminator for one of the generator.
    simultaneous: whether the generator answers the discriminator of before the step, rather than the updated one.
    gradient_penalty: weight of (gradient norm - 1)^2 between real and generated images (arXiv 1704.00028).
    r1: weight gamma of gamma / 2 x squared gradient norm at real images (arXiv 1801.04406).
  """

  objective: Literal['nonsaturating', 'least_squares', 'hinge', 'wasserstein'] = 'nonsaturating'
  discriminator_steps: Depth = 1
  simultaneous: bool = False
  gradient_penalty: NotNegative = 0.0
  r1: NotNegative = 0.0

  def __post_init__(self):
    check_bounds(type(self), vars(self), 'config.task')
    players = ('generator', 'discriminator')
    if not isinstance(self.model, Mapping) or set(self.model) != set(players):
      given = ', '.join(self.model) if isinstance(self.model, Mapping) else type(self.model).__name__
      raise ConfigError(f'config.model: a GAN has two players, dict(generator=..., discriminator=...); got {given}')
    if not isinstance(getattr(self.model['generator'], 'latent_size', None), int):
      raise ConfigError('config.model.generator: needs a latent_size, an int attribute')

  @property
  def updates_per_step(self) -> int | dict[str, int]:
    if self.discriminator_steps == 1:
      return 1
    return {'generator': 1, 'discriminator': self.discriminator_steps}

  def check(self, batch: PyTree) -> None:
    shape = self.images(batch).shape
    if shape[0] % self.discriminator_steps:
      raise ConfigError(
        f'config.task.discriminator_steps: a batch of {shape[0]} cannot be cut into {self.discriminator_steps} parts'
      )
    params, extra = jax.eval_shape(lambda b: self.init(jax.random.key(0), b), batch)
    latents = jax.ShapeDtypeStruct((1, self.model['generator'].latent_size), jnp.float32)
    made = jax.eval_shape(
      lambda p, e, z: self._apply('generator', p['generator'], e, z, False)[0], params, extra, latents
    )
    if made.shape[1:] != shape[1:]:
      raise ConfigError(f'config.model.generator: makes images {made.shape[1:]}, and the data has {shape[1:]}')
    if (self.gradient_penalty or self.r1) and extra['discriminator'].get('batch_stats'):
      raise ConfigError(
        "config.model.discriminator: a gradient penalty is an example's own, which batch normalization does not keep; "
        "try norm='group'"
      )

  def images(self, batch: Batch) -> Float[Array, 'b h w c']:
    """The images of a batch, in [0, 1]; raises ConfigError where it has none."""
    columns = self.info.of_kind(IMAGE, batch)
    if not columns:
      raise ConfigError(f'config.data: a GAN needs images; the batch has {", ".join(batch)}')
    return batch[columns[0]]

  def init(self, key: Key[Array, ''], batch: Batch) -> tuple[dict[str, PyTree], Any]:
    inputs = {'generator': jnp.zeros((1, self.model['generator'].latent_size)), 'discriminator': self.images(batch)[:1]}
    rngs = {player: {'params': k} for player, k in zip(inputs, jax.random.split(key), strict=True)}
    return network.variables({player: self.model[player] for player in inputs}, inputs, rngs)

  def step(
    self, state: State, batch: Batch, key: Key[Array, ''], optim: Mapping[str, optax.GradientTransformation]
  ) -> tuple[State, Metrics]:
    """The discriminator's updates, then the generator's."""
    params, opt, extra = dict(state.params), dict(state.opt), state.extra
    before = params['discriminator'], extra['discriminator']
    *part_keys, generator_key = jax.random.split(key, self.discriminator_steps + 1)
    total = None
    for i, part_key in enumerate(part_keys):
      part = jax.tree.map(lambda x, i=i: jnp.split(x, self.discriminator_steps)[i], batch)
      grads, (extra, metrics) = jax.grad(self.discriminator_loss, has_aux=True)(
        params['discriminator'], params['generator'], extra, part, part_key, True
      )
      params['discriminator'], opt['discriminator'] = update(
        optim['discriminator'], grads, opt['discriminator'], params['discriminator']
      )
      total = metrics if total is None else add(total, metrics)
    judge = before if self.simultaneous else (params['discriminator'], extra['discriminator'])
    grads, (changed, metrics) = jax.grad(self.generator_loss, has_aux=True)(
      params['generator'], judge[0], extra | {'discriminator': judge[1]}, part['mask'], generator_key, True
    )
    params['generator'], opt['generator'] = update(optim['generator'], grads, opt['generator'], params['generator'])
    extra = extra | {'generator': changed['generator']}
    return State(step=state.step + 1, params=params, opt=opt, extra=extra), total | metrics

  def discriminator_loss(
    self, params: PyTree, generator: PyTree, extra: Any, batch: Batch, key: Key[Array, ''], train: bool
  ) -> tuple[Float[Array, ''], tuple[Any, Metrics]]:
    """(loss of the discriminator's `params`, (new extra, metrics)), against fresh samples of `generator`."""
    latent_key, penalty_key, *keys = jax.random.split(key, 5)
    real, mask = 2 * self.images(batch) - 1, batch['mask']
    fake, _ = self._apply('generator', generator, extra, self._latents(latent_key, len(real)), train, keys[0])
    real_logit, extra = self._apply('discriminator', params, extra, real, train, keys[1])
    fake_logit, extra = self._apply('discriminator', params, extra, fake, train, keys[2])
    real_loss, fake_loss, _ = OBJECTIVES[self.objective]
    border = 0.5 if self.objective == 'least_squares' else 0.0
    loss = real_loss(real_logit) + fake_loss(fake_logit)
    metrics = {
      'real_accuracy': Mean.of(real_logit > border, mask),
      'fake_accuracy': Mean.of(fake_logit <= border, mask),
    }
    if train and (self.gradient_penalty or self.r1):
      penalty = self._penalty(params, extra, real, fake, penalty_key)
      metrics['penalty'] = Mean.of(penalty, mask)
      loss = loss + penalty
    metrics['discriminator_loss'] = Mean.of(loss, mask)
    return average(metrics['discriminator_loss']), (extra, metrics)

  def generator_loss(
    self, params: PyTree, discriminator: PyTree, extra: Any, mask: Float[Array, ' b'], key: Key[Array, ''], train: bool
  ) -> tuple[Float[Array, ''], tuple[Any, Metrics]]:
    """(loss of the generator's `params`, (new extra, metrics)), judged by `discriminator`."""
    latent_key, *keys = jax.random.split(key, 3)
    fake, extra = self._apply('generator', params, extra, self._latents(latent_key, len(mask)), train, keys[0])
    logit, extra = self._apply('discriminator', discriminator, extra, fake, train, keys[1])
    loss = Mean.of(OBJECTIVES[self.objective][2](logit), mask)
    return average(loss), (extra, {'generator_loss': loss})

  def evaluate(self, state: State, batch: Batch, key: Key[Array, '']) -> Metrics:
    """The losses, without penalties, and accuracies on real images and as many generated ones."""
    generator, discriminator, extra = state.params['generator'], state.params['discriminator'], state.extra
    keys = jax.random.split(key)
    _, (_, of_discriminator) = self.discriminator_loss(discriminator, generator, extra, batch, keys[0], False)
    _, (_, of_generator) = self.generator_loss(generator, discriminator, extra, batch['mask'], keys[1], False)
    return of_discriminator | of_generator

  def sample(self, state: State, key: Key[Array, ''], count: int) -> Float[Array, 'count h w c']:
    """`count` images in [0, 1]; the first of them do not depend on `count`."""

    @jax.jit
    def make(params, extra, chunk):
      latents = self._latents(jax.random.fold_in(key, chunk), _CHUNK)
      return (self._apply('generator', params, extra, latents, False)[0] + 1) / 2

    chunks = range(-(-count // _CHUNK))
    images = [make(state.params['generator'], state.extra, jnp.int32(i)) for i in chunks]
    return jnp.concatenate(images)[:count]

  def artifacts(self, state: State, key: Key[Array, '']) -> dict[str, Any]:
    """`samples`: 64 images, 8 a row."""
    return {'samples': grid(np.asarray(self.sample(state, key, 64)), columns=8)}

  def _penalty(
    self, params: PyTree, extra: Any, real: Float[Array, 'b h w c'], fake: Float[Array, 'b h w c'], key: Key[Array, '']
  ) -> Float[Array, ' b']:
    """Penalties on the slope of the discriminator, an example each."""
    mix_key, *keys = jax.random.split(key, 3)

    def squared_slope(images, dropout_key):
      total = lambda x: self._apply('discriminator', params, extra, x, True, dropout_key)[0].sum()
      return (jax.grad(total)(images) ** 2).sum((1, 2, 3))

    penalty = jnp.zeros(len(real))
    if self.gradient_penalty:
      share = jax.random.uniform(mix_key, (len(real), 1, 1, 1))
      # The small number keeps the square root's own slope finite at 0.
      slope = jnp.sqrt(squared_slope(share * real + (1 - share) * fake, keys[0]) + 1e-12)
      penalty += self.gradient_penalty * (slope - 1) ** 2
    if self.r1:
      penalty += 0.5 * self.r1 * squared_slope(real, keys[1])
    return penalty

  def _latents(self, key: Key[Array, ''], count: int) -> Float[Array, 'count latent']:
    return jax.random.normal(key, (count, self.model['generator'].latent_size))

  def _apply(
    self, player: str, params: PyTree, extra: Any, inputs: Array, train: bool, key: Key[Array, ''] | None = None
  ) -> tuple[Array, Any]:
    """(outputs of a player with these parameters, new extra)."""
    outputs, changed = network.apply(self.model[player], params, extra[player], inputs, train, key, player)
    return outputs, extra | {player: changed}
