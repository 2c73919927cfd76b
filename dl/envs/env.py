"""What an environment is: pure functions of one episode's state, to be vectorized with `jax.vmap`."""

import dataclasses
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, PyTree, UInt8

from dl.config.bounds import Size


class Transition(NamedTuple):
  """What one step of one episode gives.

  Attributes:
    state: the state after the step.
    observation: what is seen of it; it is the episode's last one where the episode ends.
    reward: the reward of the step.
    terminated: the episode has ended by itself: nothing follows, so the value of what follows is 0.
    truncated: a time limit has cut the episode: its future was worth the value of `observation`.
  """

  state: PyTree
  observation: Float[Array, '...']
  reward: Float[Array, '']
  terminated: Bool[Array, '']
  truncated: Bool[Array, '']


@dataclasses.dataclass(frozen=True, kw_only=True)
class Env:
  """Base of the environments: a frozen dataclass of physical constants, whose methods are pure.

  Attributes:
    max_steps: the time limit, after which an episode is truncated.
    num_actions: number of discrete actions.
    observation_names: one name for each number of an observation.
  """

  max_steps: Size = 500

  num_actions: ClassVar[int]
  observation_names: ClassVar[tuple[str, ...]]

  def reset(self, key: Key[Array, '']) -> PyTree:
    """The state at the start of an episode."""
    raise NotImplementedError

  def observe(self, state: PyTree) -> Float[Array, '...']:
    """What an agent sees of a state."""
    raise NotImplementedError

  def step(self, state: PyTree, action: Int[Array, '']) -> Transition:
    """One step; what follows the end of an episode is undefined (see `autoreset`)."""
    raise NotImplementedError

  def render(self, state: PyTree) -> UInt8[np.ndarray, 'h w 3']:
    """A picture of a host state."""
    raise NotImplementedError(f'{type(self).__name__} cannot be rendered')


def autoreset(
  env: Env, state: PyTree, action: Int[Array, ''], key: Key[Array, '']
) -> tuple[PyTree, Float[Array, '...'], Transition]:
  """One step, and a new episode at once where the old one ends.

  Returns:
    (state, observation, transition): where to go on from, and the transition, which keeps the old episode's real
    last observation; a value estimate at a time limit needs it.
  """
  transition = env.step(state, action)
  done = transition.terminated | transition.truncated
  state = jax.tree.map(lambda new, old: jnp.where(done, new, old), env.reset(key), transition.state)
  return state, env.observe(state), transition
