"""Which token is drawn: penalties and filters of logits, as pure functions, and all of them in the field's order."""

import flax
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key


@flax.struct.dataclass
class Choice:
  """How the next token is chosen; numbers may change from call to call without a new compilation, but for `top_k`.

  Attributes:
    temperature: of the softmax; 0 takes the likeliest token.
    top_k: draw among the k likeliest tokens alone; None for all.
    top_p: draw among the fewest likeliest tokens whose probabilities add to this (arXiv 1904.09751); None for all.
    min_p: draw among tokens of at least this share of the largest probability (arXiv 2407.01082); None for all.
    repetition_penalty: what positive logits of tokens that stand in the text already are divided by, and negative ones
      multiplied (CTRL, arXiv 1909.05858); None for nothing.
  """

  temperature: float | Float[Array, ''] = 1.0
  top_k: int | None = flax.struct.field(pytree_node=False, default=None)
  top_p: float | Float[Array, ''] | None = None
  min_p: float | Float[Array, ''] | None = None
  repetition_penalty: float | Float[Array, ''] | None = None

  def __call__(
    self, logits: Float[Array, 'b v'], key: Key[Array, ''], seen: Bool[Array, 'b v'] | None = None
  ) -> Int[Array, ' b']:
    """One token a row; `seen` are those of the text so far, which a penalty needs."""
    logits = self.filtered(logits, seen)
    greedy = jnp.asarray(self.temperature, jnp.float32) <= 0
    return jnp.where(greedy, jnp.argmax(logits, -1), jax.random.categorical(key, logits)).astype(jnp.int32)

  def filtered(self, logits: Float[Array, 'b v'], seen: Bool[Array, 'b v'] | None = None) -> Float[Array, 'b v']:
    """Logits whose softmax is what tokens are drawn from, unless the temperature is 0."""
    if self.repetition_penalty is not None:
      logits = penalized(logits, seen, self.repetition_penalty)
    logits = logits / jnp.maximum(jnp.asarray(self.temperature, jnp.float32), 1e-6)
    if self.top_k is not None:
      logits = likeliest(logits, self.top_k)
    if self.top_p is not None:
      logits = nucleus(logits, self.top_p)
    if self.min_p is not None:
      logits = not_unlikely(logits, self.min_p)
    return logits

  def probabilities(self, logits: Float[Array, 'b v'], seen: Bool[Array, 'b v'] | None = None) -> Float[Array, 'b v']:
    """What tokens are drawn from; all of it is the likeliest one's where the temperature is 0."""
    filtered = self.filtered(logits, seen)
    best = jax.nn.one_hot(jnp.argmax(filtered, -1), logits.shape[-1])
    return jnp.where(jnp.asarray(self.temperature, jnp.float32) <= 0, best, jax.nn.softmax(filtered))


def penalized(
  logits: Float[Array, 'b v'], seen: Bool[Array, 'b v'], penalty: float | Float[Array, '']
) -> Float[Array, 'b v']:
  """Logits with those of the tokens seen made less likely."""
  return jnp.where(seen, jnp.where(logits > 0, logits / penalty, logits * penalty), logits)


def likeliest(logits: Float[Array, 'b v'], count: int) -> Float[Array, 'b v']:
  """Logits of all but the `count` largest as -inf."""
  least = jax.lax.top_k(logits, min(count, logits.shape[-1]))[0][:, -1:]
  return jnp.where(logits < least, -jnp.inf, logits)


def nucleus(logits: Float[Array, 'b v'], mass: float | Float[Array, '']) -> Float[Array, 'b v']:
  """Logits as -inf but for the fewest, and at least one, whose probabilities add to `mass`."""
  order = jnp.argsort(-logits, -1)
  ordered = jax.nn.softmax(jnp.take_along_axis(logits, order, -1))
  before = jnp.cumsum(ordered, -1) - ordered
  kept = (before < mass).at[:, 0].set(True)
  return jnp.where(jnp.take_along_axis(kept, jnp.argsort(order, -1), -1), logits, -jnp.inf)


def not_unlikely(logits: Float[Array, 'b v'], share: float | Float[Array, '']) -> Float[Array, 'b v']:
  """Logits as -inf where the probability is below a share of the largest."""
  return jnp.where(logits < logits.max(-1, keepdims=True) + jnp.log(share), -jnp.inf, logits)
