"""Linear-chain conditional random fields (Lafferty, McCallum and Pereira 2001), in log space.

The score of a sequence of tags is the sum of what each position gives to its tag, and of what each tag gives to the
next one. A score of -inf forbids; some sequence has to be possible. Masks are of sequences that end early: the first
position is taken to be real.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int


class Chain(NamedTuple):
  """The scores of all sequences of tags.

  Attributes:
    emissions: of each tag at each position.
    transitions: [from, to].
    begin: of a tag at the first position.
    end: of a tag at the last real one.
  """

  emissions: Float[Array, 'b n tags']
  transitions: Float[Array, 'tags tags']
  begin: Float[Array, ' tags']
  end: Float[Array, ' tags']


def forbid(chain: Chain, transitions: Bool[np.ndarray, 'tags tags'], begin: Bool[np.ndarray, ' tags']) -> Chain:
  """The chain with -inf where a transition, or a tag at the beginning, is forbidden."""
  return chain._replace(
    transitions=jnp.where(transitions, -jnp.inf, chain.transitions), begin=jnp.where(begin, -jnp.inf, chain.begin)
  )


def log_likelihood(chain: Chain, tags: Int[Array, 'b n'], mask: Bool[Array, 'b n']) -> Float[Array, ' b']:
  """Nats of the probability of each sequence of tags; those at positions that are not real count for nothing."""
  return score(chain, tags, mask) - log_partition(chain, mask)


def score(chain: Chain, tags: Int[Array, 'b n'], mask: Bool[Array, 'b n']) -> Float[Array, ' b']:
  """The score of each sequence of tags."""
  tags = jnp.where(mask, tags, 0)
  given = jnp.take_along_axis(chain.emissions, tags[..., None], -1)[..., 0]
  steps = chain.transitions[tags[:, :-1], tags[:, 1:]]
  last = jnp.take_along_axis(tags, jnp.maximum(mask.sum(1, keepdims=True) - 1, 0), 1)[:, 0]
  total = jnp.where(mask, given, 0.0).sum(1) + jnp.where(mask[:, 1:], steps, 0.0).sum(1)
  return total + chain.begin[tags[:, 0]] + chain.end[last]


def log_partition(chain: Chain, mask: Bool[Array, 'b n']) -> Float[Array, ' b']:
  """The logarithm of the sum of exp(score) over all sequences, by the forward algorithm."""

  def step(alpha: Array, at: tuple[Array, Array]) -> tuple[Array, None]:
    given, real = at
    new = jax.nn.logsumexp(alpha[:, :, None] + chain.transitions, axis=1) + given
    return jnp.where(real[:, None], new, alpha), None

  alpha, _ = jax.lax.scan(step, chain.begin + chain.emissions[:, 0], _rest(chain, mask))
  return jax.nn.logsumexp(alpha + chain.end, axis=-1)


def viterbi(chain: Chain, mask: Bool[Array, 'b n']) -> tuple[Int[Array, 'b n'], Float[Array, ' b']]:
  """(the sequence of tags with the highest score, -1 at positions that are not real, that score)."""

  def step(best: Array, at: tuple[Array, Array]) -> tuple[Array, Array]:
    given, real = at
    through = best[:, :, None] + chain.transitions
    new = jnp.where(real[:, None], through.max(1) + given, best)
    stay = jnp.arange(best.shape[1])
    return new, jnp.where(real[:, None], through.argmax(1), stay)

  best, came_from = jax.lax.scan(step, chain.begin + chain.emissions[:, 0], _rest(chain, mask))
  best = best + chain.end
  last = best.argmax(-1)

  def back(tag: Array, came_from: Array) -> tuple[Array, Array]:
    return jnp.take_along_axis(came_from, tag[:, None], 1)[:, 0], tag

  first, later = jax.lax.scan(back, last, came_from, reverse=True)
  tags = jnp.concatenate([first[None], later]).T
  return jnp.where(mask, tags, -1).astype(jnp.int32), best.max(-1)


def _rest(chain: Chain, mask: Bool[Array, 'b n']) -> tuple[Float[Array, 'n b tags'], Bool[Array, 'n b']]:
  """What a scan goes over: emissions and mask of all positions but the first."""
  return jnp.moveaxis(chain.emissions, 1, 0)[1:], mask.T[1:]


def forbidden_by_bio(names: Sequence[str]) -> tuple[Bool[np.ndarray, 'tags tags'], Bool[np.ndarray, ' tags']]:
  """(forbidden transitions, tags forbidden at the beginning) of O, B-X and I-X: an I-X comes after B-X or I-X alone."""
  inside = np.asarray([name.startswith('I-') for name in names])
  kinds = np.asarray([name[2:] for name in names])
  return inside & (kinds[:, None] != kinds), inside
