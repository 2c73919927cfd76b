"""The environment against gymnasium's own, step for step."""

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dl.envs.cartpole import CartPole, CartPoleState
from dl.envs.env import autoreset

ENV = CartPole()


@pytest.fixture(scope='module')
def reference():
  with gymnasium.make('CartPole-v1') as env:
    yield env


def make_states(values, time=0):
  values = jnp.asarray(values, jnp.float32)
  return CartPoleState(*values.T, time=jnp.full(values.shape[:1], time, jnp.int32))


def start(reference, values):
  reference.reset()
  reference.unwrapped.state = np.asarray(values, np.float64)


def near_border(observation):
  """Whether float32 and float64 could disagree on the end."""
  return abs(abs(observation[0]) - ENV.max_position) < 1e-5 or abs(abs(observation[2]) - ENV.max_angle) < 1e-5


def test_one_step_from_any_state(reference):
  generator = np.random.default_rng(0)
  values = (generator.uniform(-1, 1, (1500, 4)) * [2.6, 4, 0.25, 4]).astype(np.float32)
  actions = generator.integers(0, 2, len(values))
  steps = jax.device_get(jax.jit(jax.vmap(ENV.step))(make_states(values), actions))
  compared = ends = 0
  for i in range(len(values)):
    start(reference, values[i])
    expected, reward, terminated, truncated, _ = reference.unwrapped.step(int(actions[i]))
    np.testing.assert_allclose(steps.observation[i], expected, rtol=1e-5, atol=2e-6)
    assert steps.reward[i] == reward and steps.truncated[i] == truncated
    if not near_border(expected):
      assert steps.terminated[i] == terminated
      compared, ends = compared + 1, ends + terminated
  assert compared > 1450 and 200 < ends < 1300


@pytest.mark.parametrize('episodes', [80, pytest.param(240, marks=pytest.mark.thorough)])
def test_whole_episodes(reference, episodes):
  """The same observations and the same last step, in float64, as gymnasium computes.

  Random episodes are never brought back together. Those which balance until the time limit are: an upright pole
  multiplies a difference in the last bit by 10 about every 30 steps.
  """
  generator = np.random.default_rng(1)
  starts = generator.uniform(-0.05, 0.05, (episodes, 4))
  weights = np.array([0.05, 0.2, 1.0, 0.4])  # of a controller that keeps the pole up
  ends = []
  with jax.enable_x64(True):
    step = jax.jit(ENV.step)
    for i, values in enumerate(starts):
      start(reference, values)
      state, observation, balances = CartPoleState(*values, time=np.int32(0)), values, i < 4
      for t in range(1, 502):
        action = int(observation @ weights > 0) if balances else int(generator.integers(2))
        observation, reward, *done, _ = reference.step(action)
        state, mine, my_reward, *my_done = step(state, action)
        assert mine.dtype == np.float64
        np.testing.assert_allclose(mine.astype(np.float32), observation, rtol=1e-6, atol=1e-9)
        assert my_reward == reward and [bool(d) for d in my_done] == done
        if balances:
          state = CartPoleState(*reference.unwrapped.state, time=state.time)
        if any(done):
          ends.append((t, *done))
          break
  assert ends[:4] == [(500, False, True)] * 4
  assert all(terminated and not truncated for _, terminated, truncated in ends[4:])
  assert min(ends)[0] < 12 and max(ends[4:])[0] > 50


def test_a_fall_at_the_time_limit_is_both(reference):
  values = [2.39, 3.0, 0.0, 0.0]
  start(reference, values)
  reference._elapsed_steps = 499
  *_, term, trunc, _ = reference.step(1)
  transition = jax.vmap(ENV.step)(make_states([values], time=499), jnp.array([1]))
  assert (bool(transition.terminated[0]), bool(transition.truncated[0])) == (term, trunc) == (True, True)


def test_first_states():
  states = jax.vmap(ENV.reset)(jax.random.split(jax.random.key(0), 4000))
  observations = np.asarray(jax.vmap(ENV.observe)(states))
  assert observations.shape == (4000, len(ENV.observation_names))
  assert (abs(observations) < 0.05).all() and not np.asarray(states.time).any()
  np.testing.assert_allclose(observations.mean(0), 0, atol=0.002)
  np.testing.assert_allclose(observations.std(0), 0.05 / 3**0.5, rtol=0.05)
  again = jax.vmap(ENV.reset)(jax.random.split(jax.random.key(0), 4000))
  np.testing.assert_array_equal(jax.vmap(ENV.observe)(again), observations)


def test_autoreset_starts_anew_and_keeps_the_last_observation():
  states = make_states([[2.39, 3.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]], time=7)
  keys = jax.random.split(jax.random.key(0))
  new, observation, transition = jax.vmap(autoreset, (None, 0, 0, 0))(ENV, states, jnp.array([1, 1]), keys)
  assert transition.terminated.tolist() == [True, False]
  assert transition.observation[0, 0] > ENV.max_position
  assert abs(observation[0]).max() < 0.05
  assert new.time.tolist() == [0, 8]
  np.testing.assert_array_equal(observation[1], transition.observation[1])
  np.testing.assert_array_equal(jax.vmap(ENV.observe)(new), observation)


def test_constants_are_arguments():
  short = CartPole(max_steps=3, gravity=1.0)
  states = make_states([[0.0, 0.0, 0.1, 0.0]], time=2)
  transition = jax.vmap(short.step)(states, jnp.array([0]))
  assert bool(transition.truncated[0])
  assert transition.observation[0, 3] < jax.vmap(ENV.step)(states, jnp.array([0])).observation[0, 3]


def test_render_shows_where_cart_and_pole_are():
  def dark_and_orange(position, angle):
    image = ENV.render(jax.tree.map(lambda x: np.asarray(x[0]), make_states([[position, 0.0, angle, 0.0]])))
    assert image.dtype == np.uint8 and image.shape == (64, 96, 3)
    cart, pole = (image == [40, 44, 52]).all(-1), (image == [202, 108, 40]).all(-1)
    return np.argwhere(cart)[:, 1].mean(), np.argwhere(pole)[:, 1].mean()

  middle, upright = dark_and_orange(0.0, 0.0)
  assert abs(middle - 47.5) < 1 and abs(upright - 47.5) < 1
  assert dark_and_orange(2.0, 0.0)[0] > middle + 20
  assert dark_and_orange(0.0, 0.2)[1] > upright + 1 > upright - 1 > dark_and_orange(0.0, -0.2)[1]
