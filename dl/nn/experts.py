"""Mixture-of-experts feed-forward layers, whose experts a mesh of devices can share."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from dl.contract.axes import Axes
from dl.errors import ConfigError
from dl.nn import activations


def route(
  probability: Float[Array, 'b n e'], per_token: int, capacity: int
) -> tuple[Bool[Array, 'b n e c'], Float[Array, 'b n e c']]:
  """Which place of which expert each token takes (GShard, arXiv 2006.16668, algorithm 1), within each sequence.

  First choices go before second ones, and earlier tokens before later ones. What an expert has no place for is dropped.

  Args:
    probability: of each expert, by token.
    per_token: how many experts a token goes to, the likeliest.
    capacity: places of an expert in a sequence.

  Returns:
    (which token is in which place, the weights of what comes back), the weights of a token's choices being their
    probabilities, made to add up to one.
  """
  experts = probability.shape[-1]
  chosen, left = [], probability
  for _ in range(per_token):  # not `top_k`, for which the partitioner would gather the whole batch
    chosen.append(jax.nn.one_hot(left.argmax(-1), experts, dtype=jnp.int32))
    left = jnp.where(chosen[-1] == 1, -jnp.inf, left)
  of_chosen = (sum(chosen) * probability).sum(-1)
  taken = jnp.zeros((len(probability), 1, experts), jnp.int32)
  dispatch = combine = 0
  for mine in chosen:
    place: Int[Array, 'b n e'] = taken + jnp.cumsum(mine, 1) - mine
    taken = taken + mine.sum(1, keepdims=True)
    at = (mine[..., None] == 1) & (place[..., None] == jnp.arange(capacity))
    weight = (mine * probability).sum(-1) / of_chosen
    dispatch, combine = dispatch | at, combine + weight[..., None, None] * at
  return dispatch, combine


class Experts(nn.Module):
  """Feed-forward layers of which each token uses a few (GShard, arXiv 2006.16668; Switch, arXiv 2101.03961).

  Returns the output and the load-balancing loss, `experts * sum(fraction of first choices * mean probability)`
  (Switch Transformers, equation 4), which is 1 where tokens are spread evenly.

  Attributes:
    experts: how many there are.
    per_token: how many of them a token goes to.
    capacity_factor: places of an expert, as a multiple of its even share of a sequence; a token without one keeps only
      the residual.
    hidden: hidden features of an expert.
    activation: name, dotted path or function.
    kernel_init: initializer of the router and the first layers.
    out_init: initializer of the second layers.
    dtype: compute type; the router is float32.
  """

  experts: int
  per_token: int
  capacity_factor: float
  hidden: int
  activation: activations.Activation = 'gelu'
  kernel_init: Any = nn.initializers.normal(0.02)
  out_init: Any = nn.initializers.normal(0.02)
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: Float[Array, 'b n width']) -> tuple[Float[Array, 'b n width'], Float[Array, '']]:
    if not 1 <= self.per_token <= self.experts:
      raise ConfigError(f'config.model.experts_per_token: must be from 1 to {self.experts}, got {self.per_token}')
    n, width = x.shape[1:]
    capacity = min(max(round(self.capacity_factor * self.per_token * n / self.experts), 1), n)
    router = nn.Dense(self.experts, False, jnp.float32, kernel_init=self.kernel_init, name='router')
    probability = jax.nn.softmax(router(x.astype(jnp.float32)))
    dispatch, combine = route(probability, self.per_token, capacity)
    shapes = {'up': (self.experts, width, self.hidden), 'down': (self.experts, self.hidden, width)}
    up, down = (
      self.param(name, init, shapes[name]).astype(self.dtype)
      for name, init in (('up', self.kernel_init), ('down', self.out_init))
    )
    # Sequences go to where the experts are, and come back.
    sent = Axes(('group', 'expert', None, None))(jnp.einsum('bnec,bnw->becw', dispatch.astype(self.dtype), x))
    hidden = activations.get(self.activation)(jnp.einsum('becw,ewh->bech', sent, up))
    hidden = Axes(('group', 'expert', None, 'hidden'))(hidden)
    done = Axes(('group', 'expert', None, None))(jnp.einsum('bech,ehw->becw', hidden, down))
    done = Axes(('batch', None, None, None))(done)
    y = jnp.einsum('bnec,becw->bnw', combine.astype(self.dtype), done)
    first = jax.nn.one_hot(probability.argmax(-1), self.experts)
    return y, self.experts * (first.mean((0, 1)) * probability.mean((0, 1))).sum()
