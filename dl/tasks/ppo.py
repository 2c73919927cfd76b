"""Proximal policy optimization: act, estimate advantages, and improve the policy, all in one compiled step."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Int, Key, PyTree

from dl.config.bounds import Depth, NotNegative, Positive, Share, Size
from dl.config.build import build, check_bounds
from dl.contract.axes import named
from dl.contract.metrics import Mean
from dl.contract.state import State
from dl.contract.task import Batch, Metrics, Task, update
from dl.envs.env import Env, autoreset
from dl.errors import ConfigError
from dl.show.pictures import grid
from dl.tasks import network


class Rollout(NamedTuple):
  """What the agent did and saw; every array is `[time, envs]`, observations `[time, envs, observation]`.

  Attributes:
    observation: before the action.
    action: taken.
    log_probability: of the action, when it was taken.
    reward: for the action.
    next_observation: after the action; where an episode ends it is that episode's last, not the next one's first.
    terminated: the episode ended by itself.
    truncated: a time limit cut the episode.
  """

  observation: Float[Array, 't n o']
  action: Int[Array, 't n']
  log_probability: Float[Array, 't n']
  reward: Float[Array, 't n']
  next_observation: Float[Array, 't n o']
  terminated: Bool[Array, 't n']
  truncated: Bool[Array, 't n']


@dataclasses.dataclass(frozen=True, kw_only=True)
class PPO(Task):
  """An actor-critic agent with discrete actions, whose environments live in the training state.

  A training step is a rollout of `rollout_length` steps in each of `num_envs` environments, then `epochs` passes over
  it in `minibatches` shuffled parts, each part one optimizer update. "Proximal policy optimization algorithms",
  arXiv 1707.06347; "High-dimensional continuous control using generalized advantage estimation", arXiv 1506.02438.

  The model maps observations `[b, observation]` to (logits `[b, actions]`, values `[b]`). It acts and learns in its
  evaluation mode: the ratio of probabilities is of one and the same network, so dropout drops nothing, and batch
  normalization, whose statistics would never change, is refused.

  Cite: schulman2017proximal, schulman2016high

  Attributes:
    env: the environment, below `dl.envs`: its name, or a dict of `name` and constants.
    num_envs: environments which run side by side.
    rollout_length: steps in each before the policy is updated.
    epochs: passes over each rollout.
    minibatches: parts of each pass; they must divide `num_envs * rollout_length`.
    discount: worth of a reward one step later.
    gae_lambda: 0 trusts the value function alone, 1 the rewards alone.
    clip: how far the probability ratio of an action is followed from 1.
    value_clip: how far a value is followed from the rollout's; None for a plain squared error.
    value_weight: weight of the value loss.
    entropy_weight: weight of the entropy bonus.
    normalize_advantages: to mean 0 and standard deviation 1 in each part.
    eval_episodes: episodes of an evaluation.
    deterministic: whether evaluation and artifacts take the likeliest action, rather than a random one.
  """

  env: str | dict = 'cartpole.CartPole'
  num_envs: Size = 32
  rollout_length: Size = 128
  epochs: Depth = 4
  minibatches: Size = 4
  discount: Share = 0.99
  gae_lambda: Share = 0.95
  clip: Positive = 0.2
  value_clip: Positive | None = 0.2
  value_weight: NotNegative = 0.5
  entropy_weight: NotNegative = 0.01
  normalize_advantages: bool = True
  eval_episodes: Size = 100
  deterministic: bool = True

  environment: Env = dataclasses.field(init=False, repr=False)

  needs_data: ClassVar[bool] = False

  def __post_init__(self):
    check_bounds(type(self), vars(self), 'config.task')
    if self.examples_per_step % self.minibatches:
      raise ConfigError(
        f'config.task.minibatches: {self.num_envs} environments x {self.rollout_length} steps '
        f'cannot be cut into {self.minibatches} equal parts'
      )
    spec = {'name': self.env} if isinstance(self.env, str) else self.env
    object.__setattr__(self, 'environment', build(spec, 'dl.envs', 'config.task.env', Env))

  @property
  def examples_per_step(self) -> int:
    return self.num_envs * self.rollout_length

  @property
  def updates_per_step(self) -> int:
    return self.epochs * self.minibatches

  @property
  def shared(self) -> dict[str, int]:
    return {'num_envs': self.num_envs, 'minibatches': self.examples_per_step // self.minibatches}

  def init(self, key: Key[Array, ''], batch: Batch) -> tuple[dict[str, PyTree], Any]:
    model_key, env_key = jax.random.split(key)
    env_state = jax.vmap(self.environment.reset)(jax.random.split(env_key, self.num_envs))
    observation = jax.vmap(self.environment.observe)(env_state)
    params, extra = network.variables(self.players, {'model': observation}, {'model': model_key})
    if 'batch_stats' in extra['model']:
      raise ConfigError(
        f'config.model: {type(self.model).__name__} has batch statistics, which PPO never updates; use a layer norm'
      )
    logits, _ = jax.eval_shape(self._apply, params['model'], extra, observation)
    if logits.shape[-1] != self.environment.num_actions:
      raise ConfigError(
        f'config.model: its policy has {logits.shape[-1]} actions, and the environment {self.environment.num_actions}'
      )
    zeros = jnp.zeros(self.num_envs)
    acting = {'state': env_state, 'observation': observation, 'episode_return': zeros, 'episode_length': zeros}
    return params, extra | {'env': acting}

  def step(
    self, state: State, batch: Batch, key: Key[Array, ''], optim: Mapping[str, optax.GradientTransformation]
  ) -> tuple[State, Metrics]:
    """A rollout, and `updates_per_step` updates of the model; `batch` is not looked at."""
    rollout_key, update_key = jax.random.split(key)
    extra, rollout, episodes = self.rollout(state.params['model'], state.extra, rollout_key)
    examples = self.examples(state.params['model'], extra, rollout)

    def minibatch(carry, index):
      params, opt = carry
      part = named(jax.tree.map(lambda x: x[index], examples), ('batch',))
      grads, (_, metrics) = jax.grad(self.loss, has_aux=True)({'model': params}, extra, part, update_key, True)
      return update(optim['model'], grads['model'], opt, params), metrics

    def epoch(carry, epoch_key):
      order = jax.random.permutation(epoch_key, self.examples_per_step)
      return jax.lax.scan(minibatch, carry, order.reshape(self.minibatches, -1))

    carry = state.params['model'], state.opt['model']
    (params, opt), metrics = jax.lax.scan(epoch, carry, jax.random.split(update_key, self.epochs))
    metrics = jax.tree.map(lambda x: x.sum((0, 1)), metrics)
    return State(step=state.step + 1, params={'model': params}, opt={'model': opt}, extra=extra), metrics | episodes

  def rollout(self, params: PyTree, extra: Any, key: Key[Array, '']) -> tuple[Any, Rollout, Metrics]:
    """Acts for `rollout_length` steps: (new extra, what happened, metrics of the episodes that ended)."""

    def act(carry, step_key):
      carry = named(carry, ('batch',))  # environments are what devices share
      action_key, reset_key = jax.random.split(step_key)
      logits, _ = self._apply(params, extra, carry['observation'])
      action = jax.random.categorical(action_key, logits)
      env_state, observation, seen = jax.vmap(autoreset, (None, 0, 0, 0))(
        self.environment, carry['state'], action, jax.random.split(reset_key, self.num_envs)
      )
      done = seen.terminated | seen.truncated
      episode_return, episode_length = carry['episode_return'] + seen.reward, carry['episode_length'] + 1
      ended = {'return': Mean.of(episode_return, done, better='max'), 'episode_length': Mean.of(episode_length, done)}
      happened = Rollout(
        observation=carry['observation'],
        action=action,
        log_probability=_log_probability(logits, action),
        reward=seen.reward,
        next_observation=seen.observation,
        terminated=seen.terminated,
        truncated=seen.truncated,
      )
      carry = {
        'state': env_state,
        'observation': observation,
        'episode_return': jnp.where(done, 0.0, episode_return),
        'episode_length': jnp.where(done, 0.0, episode_length),
      }
      return carry, (happened, ended)

    acting, (rollout, ended) = jax.lax.scan(act, extra['env'], jax.random.split(key, self.rollout_length))
    return extra | {'env': acting}, named(rollout, (None, 'batch')), jax.tree.map(lambda x: x.sum(0), ended)

  def examples(self, params: PyTree, extra: Any, rollout: Rollout) -> Batch:
    """A rollout as a batch of `num_envs * rollout_length` examples, with advantages and targets of the value."""
    value = self._apply(params, extra, rollout.observation)[1]
    advantage = advantages(
      rollout.reward,
      value,
      self._apply(params, extra, rollout.next_observation)[1],
      rollout.terminated,
      rollout.truncated,
      self.discount,
      self.gae_lambda,
    )
    examples = {
      'observation': rollout.observation,
      'action': rollout.action,
      'log_probability': rollout.log_probability,
      'value': value,
      'advantage': advantage,
      'target': advantage + value,
    }
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), examples)

  def loss(
    self, params: dict[str, PyTree], extra: Any, batch: Batch, key: Key[Array, ''], train: bool
  ) -> tuple[Float[Array, ''], tuple[Any, Metrics]]:
    """The clipped surrogate loss of one part of `examples`."""
    logits, value = self._apply(params['model'], extra, batch['observation'])
    change = _log_probability(logits, batch['action']) - batch['log_probability']
    ratio = jnp.exp(change)
    advantage = batch['advantage']
    if self.normalize_advantages:
      advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
    policy_loss = -jnp.minimum(ratio * advantage, jnp.clip(ratio, 1 - self.clip, 1 + self.clip) * advantage)
    value_loss = 0.5 * (value - batch['target']) ** 2
    if self.value_clip is not None:
      near = batch['value'] + jnp.clip(value - batch['value'], -self.value_clip, self.value_clip)
      value_loss = jnp.maximum(value_loss, 0.5 * (near - batch['target']) ** 2)
    log_probabilities = jax.nn.log_softmax(logits)
    entropy = -(jnp.exp(log_probabilities) * log_probabilities).sum(-1)
    losses = policy_loss + self.value_weight * value_loss - self.entropy_weight * entropy
    metrics = {
      'loss': Mean.of(losses),
      'policy_loss': Mean.of(policy_loss),
      'value_loss': Mean.of(value_loss),
      'entropy': Mean.of(entropy),
      'approx_kl': Mean.of(ratio - 1 - change),
      'clip_fraction': Mean.of(jnp.abs(ratio - 1) > self.clip),
    }
    return losses.mean(), (extra, metrics)

  def evaluate(self, state: State, batch: Batch, key: Key[Array, '']) -> Metrics:
    """Mean return and length of `eval_episodes` episodes, each from its start to its end; `batch` is not looked at."""
    reset_key, act_key = jax.random.split(key)
    env = jax.vmap(self.environment.reset)(jax.random.split(reset_key, self.eval_episodes))
    zeros = jnp.zeros(self.eval_episodes)

    def act(carry):
      time, env, running, episode_return, episode_length = carry
      observation = jax.vmap(self.environment.observe)(env)
      action, _, _ = self._choose(state, observation, jax.random.fold_in(act_key, time))
      seen = jax.vmap(self.environment.step)(env, action)
      episode_return = episode_return + jnp.where(running, seen.reward, 0.0)
      episode_length = episode_length + running
      return time + 1, seen.state, running & ~(seen.terminated | seen.truncated), episode_return, episode_length

    carry = 0, env, zeros == 0, zeros, zeros
    *_, episode_return, episode_length = jax.lax.while_loop(lambda carry: carry[2].any(), act, carry)
    return {'return': Mean.of(episode_return, better='max'), 'episode_length': Mean.of(episode_length)}

  def predict(self, state: State, inputs: Float[Array, 'b o'], key: Key[Array, '']) -> dict[str, Array]:
    """Observations to the likeliest `action` [b], the `probability` [b, actions] of each, and the `value` [b]."""
    logits, value = self._apply(state.params['model'], state.extra, jnp.asarray(inputs, jnp.float32))
    return {'action': logits.argmax(-1), 'probability': jax.nn.softmax(logits), 'value': value}

  def artifacts(self, state: State, key: Key[Array, '']) -> dict[str, Any]:
    """One episode: `episode`, a strip of pictures of it, and `trace`, a table of each step."""
    env_states, seen = jax.device_get(jax.jit(self._episode)(state, key))
    length = int(np.argmax(seen['done'])) + 1
    trace = [
      {
        'step': t,
        **dict(zip(self.environment.observation_names, seen['observation'][t].tolist(), strict=True)),
        'action': int(seen['action'][t]),
        'probability': float(seen['probability'][t]),
        'value': float(seen['value'][t]),
        'reward': float(seen['reward'][t]),
      }
      for t in range(length)
    ]
    shown = np.linspace(0, length - 1, min(length, 12)).round().astype(int)
    frames = [self.environment.render(jax.tree.map(lambda x, t=t: x[t], env_states)) for t in shown]
    return {'episode': grid(np.stack(frames), columns=4), 'trace': trace}

  def _episode(self, state: State, key: Key[Array, '']) -> tuple[PyTree, dict[str, Array]]:
    """The states of one episode, `max_steps` of them, and what the agent saw and did; it ends at the first `done`."""
    reset_key, act_key = jax.random.split(key)

    def act(env, time):
      observation = self.environment.observe(env)
      action, probability, value = self._choose(state, observation[None], jax.random.fold_in(act_key, time))
      seen = self.environment.step(env, action[0])
      step = {
        'observation': observation,
        'action': action[0],
        'probability': probability[0, action[0]],
        'value': value[0],
        'reward': seen.reward,
        'done': seen.terminated | seen.truncated,
      }
      return seen.state, (env, step)

    return jax.lax.scan(act, self.environment.reset(reset_key), jnp.arange(self.environment.max_steps))[1]

  def _choose(
    self, state: State, observation: Float[Array, 'b o'], key: Key[Array, '']
  ) -> tuple[Int[Array, ' b'], Float[Array, 'b a'], Float[Array, ' b']]:
    """(action, probabilities, value)."""
    logits, value = self._apply(state.params['model'], state.extra, observation)
    action = logits.argmax(-1) if self.deterministic else jax.random.categorical(key, logits)
    return action, jax.nn.softmax(logits), value

  def _apply(
    self, params: PyTree, extra: Any, observation: Float[Array, '*b o']
  ) -> tuple[Float[Array, '*b a'], Float[Array, '*b']]:
    return network.apply(self.model, params, extra['model'], observation, False)[0]


def advantages(
  reward: Float[Array, 't n'],
  value: Float[Array, 't n'],
  next_value: Float[Array, 't n'],
  terminated: Bool[Array, 't n'],
  truncated: Bool[Array, 't n'],
  discount: float,
  gae_lambda: float,
) -> Float[Array, 't n']:
  """Generalized advantage estimates (arXiv 1506.02438).

  Args:
    reward: of each step.
    value: of the observation before each step.
    next_value: of the observation after each step, the old episode's last one where it ends. What follows a
      termination is worth nothing; what a time limit cuts off is worth this.
    terminated: the episode ended by itself.
    truncated: a time limit cut the episode. Neither kind of end lets later advantages flow back over it.
    discount: worth of a reward one step later.
    gae_lambda: decay of later surprises, beside the discount.
  """
  surprise = reward + discount * jnp.where(terminated, 0.0, next_value) - value
  decay = discount * gae_lambda * ~(terminated | truncated)

  def backwards(later, now):
    advantage = now[0] + now[1] * later
    return advantage, advantage

  return jax.lax.scan(backwards, jnp.zeros_like(reward[0]), (surprise, decay), reverse=True)[1]


def _log_probability(logits: Float[Array, '*b a'], action: Int[Array, '*b']) -> Float[Array, '*b']:
  return jnp.take_along_axis(jax.nn.log_softmax(logits), action[..., None], axis=-1)[..., 0]
