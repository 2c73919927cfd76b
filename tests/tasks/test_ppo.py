"""PPO against NumPy and PyTorch, and its trained policy in gymnasium's own CartPole."""

import collections
import pathlib

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AbstractMesh

from dl import config, optim
from dl.config.build import build
from dl.contract import metrics
from dl.contract.state import State
from dl.errors import ConfigError
from dl.models.actor_critic import ActorCritic
from dl.tasks.ppo import PPO, advantages
from dl.training import steps
from dl.training.assemble import assemble

ROOT = pathlib.Path(__file__).parents[2]


def make_task(**changes):
  """A small one, whose time limit cuts episodes short."""
  env = dict(name='cartpole.CartPole', max_steps=11)
  return PPO(
    **dict(model=ActorCritic(num_actions=2, features=(16, 16)), env=env, num_envs=6, rollout_length=20) | changes
  )


def make_state(task, chain):
  params, extra = jax.jit(lambda: task.init(jax.random.key(0), {}))()
  return State(step=jnp.zeros([], jnp.int32), params=params, opt={'model': chain.init(params['model'])}, extra=extra)


def numbers(found):
  return metrics.compute(jax.device_get(found))


@pytest.fixture(scope='module')
def rolled():
  """(task, state, new extra, rollout, metrics of episodes)."""
  task = make_task()
  state = make_state(task, optax.sgd(0.1))
  extra, rollout, episodes = jax.jit(task.rollout)(state.params['model'], state.extra, jax.random.key(3))
  return task, state, extra, jax.device_get(rollout), numbers(episodes)


def numpy_advantages(reward, value, next_value, terminated, truncated, discount, gae_lambda):
  """A plain loop, one environment after another."""
  result = np.zeros(reward.shape)
  for n in range(reward.shape[1]):
    later = 0.0
    for t in reversed(range(reward.shape[0])):
      future = 0.0 if terminated[t, n] else next_value[t, n]
      surprise = reward[t, n] + discount * future - value[t, n]
      if terminated[t, n] or truncated[t, n]:
        later = 0.0
      later = surprise + discount * gae_lambda * later
      result[t, n] = later
  return result


def test_advantages_as_a_plain_loop():
  generator = np.random.default_rng(0)
  reward, value, next_value = generator.normal(size=(3, 40, 5)).astype(np.float32)
  terminated, truncated = generator.random((2, 40, 5)) < 0.1
  assert (terminated & truncated).any()
  found = jax.jit(advantages)(reward, value, next_value, terminated, truncated, 0.97, 0.9)
  expected = numpy_advantages(reward, value, next_value, terminated, truncated, 0.97, 0.9)
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_a_time_limit_is_not_a_fall():
  """With a right value function, a cut episode has no surprise at all, and a fall has one."""
  value = np.full((1, 2), 1 / (1 - 0.9), np.float32)
  found = advantages(np.ones((1, 2)), value, value, np.array([[False, True]]), np.array([[True, False]]), 0.9, 0.95)
  np.testing.assert_allclose(found, [[0.0, 1 - 10.0]], atol=1e-5)


def test_rollout_is_what_happened(rolled):
  """Replayed step by step in gymnasium: what was seen, rewarded, and how each episode ended."""
  import gymnasium

  task, state, extra, rollout, episodes = rolled
  assert rollout.observation.shape == (20, 6, 4)
  done = rollout.terminated | rollout.truncated
  assert rollout.truncated.any() and set(rollout.action.ravel()) == {0, 1}
  assert not np.allclose(rollout.next_observation[done], np.roll(rollout.observation, -1, 0)[done], atol=1e-3)
  following = rollout.observation[1:][~done[:-1]]
  np.testing.assert_allclose(rollout.next_observation[:-1][~done[:-1]], following, rtol=1e-6, atol=1e-7)  # fused apart
  np.testing.assert_array_equal(rollout.observation[0], state.extra['env']['observation'])
  logits, _ = state_apply(task, state, rollout.observation)
  np.testing.assert_allclose(
    rollout.log_probability,
    np.take_along_axis(jax.nn.log_softmax(logits), rollout.action[..., None], -1)[..., 0],
    atol=1e-5,
  )
  returns, unfinished = [], []
  with gymnasium.make('CartPole-v1', max_episode_steps=11) as env:
    for n in range(6):
      fresh, total = True, 0
      for t in range(20):
        if fresh:
          env.reset()
          total = 0
        env.unwrapped.state = rollout.observation[t, n].astype(np.float64)
        seen, reward, terminated, truncated, _ = env.step(int(rollout.action[t, n]))
        np.testing.assert_allclose(rollout.next_observation[t, n], seen, atol=1e-5)
        assert (rollout.reward[t, n], rollout.terminated[t, n], rollout.truncated[t, n]) == (
          reward,
          terminated,
          truncated,
        )
        total += reward
        fresh = terminated or truncated
        returns += [total] if fresh else []
      unfinished.append(0 if fresh else total)
  assert episodes == pytest.approx({'return': np.mean(returns), 'episode_length': np.mean(returns)})
  assert extra['env']['episode_length'].tolist() == extra['env']['episode_return'].tolist() == unfinished


def state_apply(task, state, observation):
  return task.model.apply({'params': state.params['model']}, observation)


class Reference:
  """The same update in PyTorch, in float64, written from the paper."""

  def __init__(self, params):
    import torch

    self.torch = torch
    self.params = {
      layer: {k: torch.tensor(np.asarray(v, np.float64), requires_grad=True) for k, v in leaves.items()}
      for layer, leaves in params.items()
    }

  def model(self, x):
    def through(name):
      h = x
      for layer in (f'{name}_0', f'{name}_1'):
        h = self.torch.tanh(h @ self.params[layer]['kernel'] + self.params[layer]['bias'])
      return h @ self.params[f'{name}_out']['kernel'] + self.params[f'{name}_out']['bias']

    return through('actor'), through('critic')[..., 0]

  def loss(self, task, examples):
    torch = self.torch
    data = {k: torch.tensor(np.asarray(v, np.float64)) for k, v in examples.items()}
    logits, value = self.model(data['observation'])
    policy = torch.distributions.Categorical(logits=logits)
    ratio = (policy.log_prob(data['action']) - data['log_probability']).exp()
    advantage = (data['advantage'] - data['advantage'].mean()) / data['advantage'].std(unbiased=False)
    surrogate = torch.min(ratio * advantage, ratio.clamp(1 - task.clip, 1 + task.clip) * advantage)
    squares = (value - data['target']) ** 2
    if task.value_clip is not None:
      moved = (value - data['value']).clamp(-task.value_clip, task.value_clip)
      squares = torch.max(squares, (data['value'] + moved - data['target']) ** 2)
    parts = -surrogate.mean(), squares.mean() / 2, policy.entropy().mean()
    loss = parts[0] + task.value_weight * parts[1] - task.entropy_weight * parts[2]
    clipped = ((ratio - 1).abs() > task.clip).double().mean()
    return loss, dict(zip(('policy_loss', 'value_loss', 'entropy'), parts)) | {'clip_fraction': clipped}

  def leaves(self):
    return [p for layer in self.params.values() for p in layer.values()]

  def values(self, grads=False):
    return {
      layer: {k: (v.grad if grads else v).detach().numpy() for k, v in leaves.items()}
      for layer, leaves in self.params.items()
    }


def close(found, expected, **tolerance):
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **tolerance), dict(found), expected)


@pytest.mark.parametrize('value_clip', [0.2, None])
def test_loss_and_gradients_as_pytorch(rolled, value_clip):
  """On a rollout of other parameters, so that ratios and values are clipped."""
  pytest.importorskip('torch')
  _, state, _, rollout, _ = rolled
  task = make_task(value_clip=value_clip)
  examples = jax.jit(task.examples)(state.params['model'], state.extra, rollout)
  moved = jax.tree.map(lambda x: x + 0.15 * jax.random.normal(jax.random.key(x.size), x.shape), state.params)
  loss = lambda p: task.loss(p, state.extra, examples, jax.random.key(0), True)
  run = jax.jit(jax.value_and_grad(loss, has_aux=True))
  (loss, (_, found)), grads = run(moved)
  reference = Reference(moved['model'])
  expected, parts = reference.loss(task, examples)
  expected.backward()
  assert float(loss) == pytest.approx(expected.item(), rel=1e-4)
  found = numbers(found)
  assert 0.05 < found['clip_fraction'] < 0.95 and found['approx_kl'] > 0
  assert found['loss'] == pytest.approx(float(loss), rel=1e-5)
  for name, value in parts.items():
    assert found[name] == pytest.approx(value.item(), rel=1e-4), name
  close(grads['model'], reference.values(grads=True), rtol=1e-3, atol=1e-5)


def test_a_whole_step_as_pytorch(rolled):
  """Three updates on the whole rollout, whose advantages come from NumPy."""
  torch = pytest.importorskip('torch')
  state = rolled[1]
  task = make_task(epochs=3, minibatches=1, discount=0.9)
  key = jax.random.key(5)
  new, found = jax.jit(lambda s: task.step(s, {}, key, {'model': optax.sgd(0.5)}))(state)
  _, rollout, _ = jax.jit(task.rollout)(state.params['model'], state.extra, jax.random.split(key)[0])
  reference = Reference(state.params['model'])
  with torch.no_grad():
    value, next_value = (
      reference.model(torch.tensor(np.asarray(x, np.float64)))[1].numpy()
      for x in (rollout.observation, rollout.next_observation)
    )
  advantage = numpy_advantages(
    np.asarray(rollout.reward), value, next_value, rollout.terminated, rollout.truncated, 0.9, 0.95
  )
  examples = {'observation': rollout.observation, 'action': rollout.action, 'value': value, 'advantage': advantage}
  examples |= {'log_probability': rollout.log_probability, 'target': advantage + value}
  optimizer, losses = torch.optim.SGD(reference.leaves(), lr=0.5), []
  for _ in range(3):
    optimizer.zero_grad()
    loss, _ = reference.loss(task, {k: np.asarray(v).reshape(-1, *v.shape[2:]) for k, v in examples.items()})
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
  assert numbers(found)['loss'] == pytest.approx(np.mean(losses), rel=1e-3)
  close(new.params['model'], reference.values(), rtol=1e-3, atol=1e-4)
  assert int(new.step) == 1


def test_each_pass_uses_each_example_once(rolled):
  """With a learning rate of 0 every pass has the same loss, whatever the parts; and updates are counted."""
  task = make_task(epochs=3, minibatches=4, normalize_advantages=False)
  chain = optax.adam(0.0)
  state = rolled[1].replace(opt={'model': chain.init(rolled[1].params['model'])})
  new, found = jax.jit(lambda s: task.step(s, {}, jax.random.key(1), {'model': chain}))(state)
  assert int(new.opt['model'][0].count) == task.updates_per_step == 12
  assert found['loss'].weight == 3 * task.examples_per_step == 360

  @jax.jit
  def whole(state):
    _, rollout, _ = task.rollout(state.params['model'], state.extra, jax.random.split(jax.random.key(1))[0])
    examples = task.examples(state.params['model'], state.extra, rollout)
    return task.loss(state.params, state.extra, examples, jax.random.key(0), True)[0]

  loss = whole(state)
  assert numbers(found)['loss'] == pytest.approx(float(loss), rel=1e-4)
  assert numbers(found)['clip_fraction'] == 0 and abs(numbers(found)['approx_kl']) < 1e-6


ROUGH = dict(name='cartpole.CartPole', max_steps=40, start=0.15)


def test_evaluation_plays_each_episode_once_and_to_its_end(rolled):
  """The mean return is that of single episodes played one after another."""
  task, state = make_task(env=ROUGH, eval_episodes=12), rolled[1]
  key = jax.random.key(4)
  found = jax.jit(task.evaluate)(state, {}, key)
  assert found['return'].weight == found['episode_length'].weight == 12
  env, step = task.environment, jax.jit(task.environment.step)
  predict, reset, lengths = jax.jit(task.predict), jax.jit(env.reset), []
  for reset_key in jax.random.split(jax.random.split(key)[0], 12):
    current, t, done = reset(reset_key), 0, False
    while not done:
      output = predict(state, env.observe(current)[None], key)
      current, _, _, terminated, truncated = step(current, output['action'][0])
      t, done = t + 1, terminated or truncated
    lengths.append(t)
  assert min(lengths) < max(lengths)
  assert numbers(found) == {
    'return': pytest.approx(np.mean(lengths)),
    'episode_length': pytest.approx(np.mean(lengths)),
  }
  sampling = make_task(env=ROUGH, eval_episodes=12, deterministic=False)
  assert numbers(jax.jit(sampling.evaluate)(state, {}, key)) != numbers(found)


def test_predict(rolled):
  task, state, *_ = rolled
  found = jax.jit(task.predict)(state, np.ones((5, 4)), jax.random.key(0))
  assert found['action'].shape == found['value'].shape == (5,)
  np.testing.assert_allclose(found['probability'].sum(1), 1.0, rtol=1e-5)
  np.testing.assert_array_equal(found['action'], found['probability'].argmax(1))


@pytest.mark.parametrize(
  'changes, words',
  [
    (dict(minibatches=7), 'config.task.minibatches.*6 environments x 20 steps'),
    (dict(num_envs=0), 'config.task.num_envs'),
    (dict(env='cartpole.CartPol'), 'CartPole'),
    (dict(env=dict(name='cartpole.CartPole', gravitation=1.0)), 'gravitation'),
    (dict(env='env.Transition'), 'config.task.env'),
  ],
)
def test_mistakes_are_one_line(changes, words):
  with pytest.raises(ConfigError, match=words) as e:
    make_task(**changes)
  assert '\n' not in str(e.value)


def test_a_policy_of_other_actions_is_a_mistake():
  task = make_task(model=ActorCritic(num_actions=3))
  with pytest.raises(ConfigError, match=r'3 actions.* 2'):
    jax.eval_shape(lambda: task.init(jax.random.key(0), {}))


class Normalized(ActorCritic):
  """One whose observations are batch-normalized."""

  @nn.compact
  def __call__(self, observations, train=False):
    return super().__call__(nn.BatchNorm(use_running_average=not train)(observations), train)


def test_batch_statistics_which_would_never_change_are_a_mistake():
  with pytest.raises(ConfigError, match=r'^config\.model: Normalized has batch statistics, which PPO never updates'):
    jax.eval_shape(lambda: make_task(model=Normalized(num_actions=2)).init(jax.random.key(0), {}))


@pytest.fixture(scope='module')
def trained():
  """(task, best state, returns of three seeds when trained, in the last steps and greedy, one step twice).

  Three seeds of the experiment itself, trained side by side: which one of several ends in a dip differs from processor
  to processor by what it rounds, and a broken agent has none that learns.
  """
  experiment = config.load(str(ROOT / 'experiments/rl/cartpole_ppo.py'))
  task = build(experiment.task, 'dl.tasks', 'config.task', model=build(experiment.model, 'dl.models', 'config.model'))
  keys = jax.vmap(jax.random.key)(jnp.arange(3))
  params, extra = jax.jit(jax.vmap(lambda key: task.init(key, {})))(keys)
  one = jax.tree.map(lambda x: x[0], params)
  steps = int(experiment.train_for.split()[0])
  chain = optim.make(experiment.optim, one, optim.Length(steps), task.updates_per_step).chains['model']
  step = jax.jit(jax.vmap(lambda s, key: task.step(s, {}, jax.random.fold_in(key, s.step), {'model': chain})))
  opt = {'model': jax.vmap(chain.init)(params['model'])}
  first = state = State(step=jnp.zeros([3], jnp.int32), params=params, opt=opt, extra=extra)
  last = collections.deque(maxlen=8)  # rollouts: in less than 500 steps of the environment, a good agent may end none
  for _ in range(steps):
    state, found = step(state, keys)
    last.append(found)
  again = step(first, keys)[0], step(first, keys)[0]
  greedy = jax.jit(jax.vmap(lambda s: task.evaluate(s, {}, jax.random.key(0))))(state)
  found = metrics.total(jax.device_get([*last]))
  sampled = [numbers(jax.tree.map(lambda x, i=i: x[i], found))['return'] for i in range(3)]
  returns = [numbers(jax.tree.map(lambda x, i=i: x[i], greedy))['return'] for i in range(3)]
  best = jax.tree.map(lambda x: x[np.argmax(returns)], state)
  return task, best, sampled, returns, again


@pytest.mark.thorough
def test_it_learns(trained):
  task, state, sampled, returns, _ = trained
  assert np.median(returns) >= 475 and np.median(sampled) > 450
  found = numbers(jax.jit(task.evaluate)(state, {}, jax.random.key(0)))
  assert found['return'] == found['episode_length'] == pytest.approx(max(returns))
  sampling = PPO(model=task.model, deterministic=False)
  assert numbers(jax.jit(sampling.evaluate)(state, {}, jax.random.key(0)))['return'] >= 450


@pytest.mark.thorough
def test_gymnasium_agrees(trained):
  """The greedy policy in gymnasium's own CartPole-v1, whose first states are gymnasium's too."""
  import gymnasium

  task, state, *_ = trained
  act = jax.jit(lambda o: task.predict(state, o, jax.random.key(0))['action'])
  envs = [gymnasium.make('CartPole-v1') for _ in range(20)]
  observations = [env.reset(seed=i)[0] for i, env in enumerate(envs)]
  totals, running = np.zeros(20), np.ones(20, bool)
  while running.any():
    actions = np.asarray(act(np.stack(observations)))
    for i in np.flatnonzero(running):
      observations[i], reward, terminated, truncated, _ = envs[i].step(int(actions[i]))
      totals[i] += reward
      running[i] = not (terminated or truncated)
  assert totals.mean() >= 475


@pytest.mark.thorough
def test_a_step_is_a_function_of_the_state(trained):
  *_, (a, b) = trained
  jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.mark.thorough
def test_artifacts_show_an_episode(trained):
  task, state, *_ = trained
  found = task.artifacts(state, jax.random.key(0))
  assert found['episode'].dtype == np.uint8 and found['episode'].shape[-1] == 3
  assert 475 <= len(found['trace']) <= 500
  row = found['trace'][7]
  assert set(row) == {'step', *task.environment.observation_names, 'action', 'probability', 'value', 'reward'}
  assert row['step'] == 7 and 0.5 <= row['probability'] <= 1 and row['action'] in (0, 1)


@pytest.mark.parametrize(
  'envs, parts, message', [(6, 2, 'num_envs: a batch of 6'), (4, 4, 'minibatches: a batch of 10')]
)
def test_environments_that_devices_cannot_share_are_refused(envs, parts, message):
  shape = dict(num_envs=envs, rollout_length=10, minibatches=parts, epochs=1)
  made = assemble(config.load(f'{ROOT}/experiments/rl/cartpole_ppo.py', [f'task.{k}={v}' for k, v in shape.items()]))
  with pytest.raises(ConfigError, match=f'config.task.{message} cannot be shared by 4 devices'):
    steps.compiled(made, AbstractMesh((4,), ('data',)))
