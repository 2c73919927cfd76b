"""Mixture-of-experts feed-forward layers, whose experts a mesh of devices can share."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from dl.config.bounds import Positive, Size
from dl.contract.axes import Axes
from dl.nn import activations
from dl.nn.context import Context

AHEAD = 4
"""Tokens that an expert takes beyond its share of those so far: the first ones of a text are no even sample."""


def shares(counts: Int[Array, ' n'], experts: int, per_token: int, factor: float) -> Int[Array, ' n']:
  """How many of the first `counts` tokens an expert may have taken, at most; NumPy's arrays give NumPy's."""
  xp = np if isinstance(counts, np.ndarray) else jnp  # both round as float32, so that they agree
  return xp.ceil(np.float32(factor * per_token / experts) * counts.astype(np.float32)).astype(np.int32) + AHEAD


def route(
  probability: Float[Array, 'b n e'],
  per_token: int,
  share: Int[Array, ' n'],
  capacity: int,
  before: Int[Array, 'b e'] | int = 0,
) -> tuple[Bool[Array, 'b n e c'], Float[Array, 'b n e c'], Int[Array, 'b e']]:
  """Which place of which expert each token takes, within each sequence and from left to right.

  An expert takes a token if those that it has taken before are fewer than its share of the tokens so far, so what comes
  later in a sequence changes nothing. GShard (arXiv 2006.16668, algorithm 1) serves all first choices before second
  ones, by a capacity of the whole sequence, for which every token has to be known.

  Args:
    probability: of each expert, by token.
    per_token: how many experts a token goes to, the likeliest.
    share: of an expert, by token (`shares`); it never falls.
    capacity: places of an expert here, as many as it can take of these tokens.
    before: how many tokens each expert took before these.

  Returns:
    (which token is in which place, the weights of what comes back, how many tokens each expert has taken by now), the
    weights of a token's choices being their probabilities, made to add up to one; what an expert does not take is lost.
  """
  experts = probability.shape[-1]
  asked, left = 0, probability
  for _ in range(per_token):  # not `top_k`, for which the partitioner would gather the whole batch
    choice = jax.nn.one_hot(left.argmax(-1), experts, dtype=jnp.int32)
    asked, left = asked + choice, jnp.where(choice == 1, -jnp.inf, left)
  before = jnp.broadcast_to(jnp.asarray(before, jnp.int32), (len(probability), experts))[:, None]
  # taken(t) = min(taken(t - 1) + asked(t), share(t)), of which all steps are known at once
  sums = before + jnp.cumsum(asked, 1)
  taken: Int[Array, 'b n e'] = sums + jnp.minimum(jax.lax.cummin(share[:, None] - sums, axis=1), 0)
  earlier = jnp.concatenate([before, taken[:, :-1]], 1)
  dispatch = (taken > earlier)[..., None] & ((earlier - before)[..., None] == jnp.arange(capacity))
  weight = asked * probability / (asked * probability).sum(-1, keepdims=True)
  return dispatch, weight[..., None] * dispatch, taken[:, -1]


class Experts(nn.Module):
  """Feed-forward layers of which each token uses a few (GShard, arXiv 2006.16668; Switch, arXiv 2101.03961).

  Returns the output and the load-balancing loss, `experts * sum(fraction of first choices * mean probability)`
  (Switch Transformers, equation 4), which is 1 where tokens are spread evenly.

  What a token gets depends on those before it alone (`route`), and a cache remembers how many each expert has taken.

  Attributes:
    experts: how many there are.
    per_token: how many of them a token goes to.
    capacity_factor: how many tokens an expert may have taken at any position, as a multiple of its even share of those
      so far, and `AHEAD` more; a token that none takes keeps only the residual. From experts / per_token on, all are
      taken.
    hidden: hidden features of an expert.
    activation: name, dotted path or function.
    kernel_init: initializer of the router and the first layers.
    out_init: initializer of the second layers.
    dtype: compute type; the router is float32.
  """

  experts: Size
  per_token: Size
  capacity_factor: Positive
  hidden: Size
  activation: activations.Activation = 'gelu'
  kernel_init: Any = nn.initializers.normal(0.02)
  out_init: Any = nn.initializers.normal(0.02)
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self, x: Float[Array, 'b n width'], context: Context
  ) -> tuple[Float[Array, 'b n width'], Float[Array, '']]:
    if not 1 <= self.per_token <= self.experts:
      raise ValueError(f'a token can go to 1 to {self.experts} experts, got {self.per_token}')
    b, n, width = x.shape
    positions = jnp.arange(n) if context.positions is None else context.positions
    rule = self.experts, self.per_token, self.capacity_factor
    router = nn.Dense(self.experts, False, jnp.float32, kernel_init=self.kernel_init, name='router')
    probability = jax.nn.softmax(router(x.astype(jnp.float32)))
    before = jnp.zeros((b, self.experts), jnp.int32)
    if context.decode:
      remembered = self.variable('cache', 'taken', lambda: before)
      before = jnp.where(positions[0] == 0, 0, remembered.value)
    capacity = n if context.decode else min(int(shares(np.asarray([n]), *rule)[0]), n)
    dispatch, combine, taken = route(probability, self.per_token, shares(positions + 1, *rule), capacity, before)
    if context.decode:
      remembered.value = taken
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
