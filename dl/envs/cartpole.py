"""CartPole: balance a pole on a cart by pushing the cart left or right (Barto, Sutton and Anderson, 1983)."""

import dataclasses
import math
from typing import ClassVar

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key, UInt8

from dl.config.bounds import NotNegative, Number, Positive
from dl.envs.env import Env, Transition


@flax.struct.dataclass
class CartPoleState:
  """The state of one episode.

  Attributes:
    position: of the cart on its track, in metres.
    velocity: of the cart, in metres a second.
    angle: of the pole from the vertical, clockwise, in radians.
    angular_velocity: of the pole, in radians a second.
    time: steps since the start of the episode.
  """

  position: Float[Array, '']
  velocity: Float[Array, '']
  angle: Float[Array, '']
  angular_velocity: Float[Array, '']
  time: Int[Array, '']


@dataclasses.dataclass(frozen=True, kw_only=True)
class CartPole(Env):
  """The cart-pole system as gymnasium's `CartPole-v1` has it: Euler steps, a reward of 1 each, at most 500 of them.

  Action 0 pushes to the left, 1 to the right. An episode ends when the pole leans by more than `max_angle` or the cart
  leaves the track. "Neuronlike adaptive elements that can solve difficult learning control problems", IEEE
  Transactions on Systems, Man, and Cybernetics, 1983.

  Attributes:
    gravity: in metres a square second.
    cart_mass: in kilograms.
    pole_mass: in kilograms.
    half_length: half the pole's length, in metres.
    force: of a push, in newtons.
    interval: between steps, in seconds.
    max_angle: at which an episode ends, in radians.
    max_position: at which an episode ends, in metres from the middle.
    start: each number of a first state is uniform in (-start, start).
  """

  gravity: Number = 9.8
  cart_mass: Positive = 1.0
  pole_mass: Positive = 0.1
  half_length: Positive = 0.5
  force: Positive = 10.0
  interval: Positive = 0.02
  max_angle: Positive = 12 * 2 * math.pi / 360
  max_position: Positive = 2.4
  start: NotNegative = 0.05

  num_actions: ClassVar[int] = 2
  observation_names: ClassVar[tuple[str, ...]] = ('position', 'velocity', 'angle', 'angular_velocity')

  def reset(self, key: Key[Array, '']) -> CartPoleState:
    values = jax.random.uniform(key, (4,), minval=-self.start, maxval=self.start)
    return CartPoleState(*values, time=jnp.zeros([], jnp.int32))

  def observe(self, state: CartPoleState) -> Float[Array, '4']:
    return jnp.stack([state.position, state.velocity, state.angle, state.angular_velocity])

  def step(self, state: CartPoleState, action: Int[Array, '']) -> Transition:
    push = jnp.where(action == 1, self.force, -self.force)
    cos, sin = jnp.cos(state.angle), jnp.sin(state.angle)
    mass, moment = self.cart_mass + self.pole_mass, self.pole_mass * self.half_length
    pushed = (push + moment * state.angular_velocity**2 * sin) / mass
    angular_acceleration = (self.gravity * sin - cos * pushed) / (
      self.half_length * (4.0 / 3.0 - self.pole_mass * cos**2 / mass)
    )
    acceleration = pushed - moment * angular_acceleration * cos / mass
    state = CartPoleState(
      position=state.position + self.interval * state.velocity,
      velocity=state.velocity + self.interval * acceleration,
      angle=state.angle + self.interval * state.angular_velocity,
      angular_velocity=state.angular_velocity + self.interval * angular_acceleration,
      time=state.time + 1,
    )
    return Transition(
      state=state,
      observation=self.observe(state),
      reward=jnp.ones([]),
      terminated=(jnp.abs(state.position) > self.max_position) | (jnp.abs(state.angle) > self.max_angle),
      truncated=state.time >= self.max_steps,
    )

  def render(self, state: CartPoleState) -> UInt8[np.ndarray, '64 96 3']:
    height, width, ground, reach = 64, 96, 52, 30
    y, x = np.mgrid[:height, :width].astype(np.float64)
    centre = (width - 1) / 2 + float(state.position) / self.max_position * (width / 2 - 8)
    image = np.full((height, width, 3), 255, np.uint8)
    image[ground] = 120
    image[(abs(x - centre) <= 7) & (abs(y - ground) <= 3)] = (40, 44, 52)
    # Distance along the pole and across it, from the pivot on top of the cart.
    across_x, across_y = x - centre, (ground - 3) - y
    sin, cos = math.sin(float(state.angle)), math.cos(float(state.angle))
    along, across = across_x * sin + across_y * cos, across_x * cos - across_y * sin
    image[(along >= 0) & (along <= reach) & (abs(across) <= 1.2)] = (202, 108, 40)
    return image
