"""Speculative decoding: a small model drafts, a large one reads the draft at once (arXiv 2211.17192).

What is drawn is distributed as if the large model had drawn each token itself: a drafted token x is accepted with
probability min(1, p(x) / q(x)), and the first one that is not is drawn anew from max(p - q, 0), normalized.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key, PyTree

from dl.decoding.choice import Choice
from dl.decoding.decoder import Rewindable


class Drafted(NamedTuple):
  """What speculative decoding has drawn.

  Attributes:
    tokens: that continue the prompts.
    rounds: how often the large model has read a draft; on average, `length` / `rounds` tokens came of each.
    accepted: share of the drafted tokens that were accepted, each row by itself.
  """

  tokens: Int[Array, 'b length']
  rounds: Int[Array, '']
  accepted: Float[Array, '']


@functools.partial(jax.jit, static_argnames=('model', 'draft', 'length', 'ahead', 'vocab_size'))
def generate(
  model: Rewindable,
  variables: PyTree,
  draft: Rewindable,
  draft_variables: PyTree,
  prompt: Int[Array, 'b p'],
  key: Key[Array, ''],
  choice: Choice | float = 1.0,
  *,
  length: int,
  ahead: int = 4,
  vocab_size: int | None = None,
) -> Drafted:
  """Continues prompts by `length` tokens, as one compiled loop.

  Rows go on together: each round adds as many tokens as the row that accepts the fewest allows. In the others, the next
  token is then the drafted one, which was accepted, so that the rows do not disturb each other's distribution.

  Args:
    model: the large model.
    variables: its variables.
    draft: the small model, of the same vocabulary.
    draft_variables: its variables.
    prompt: one token or more a row.
    key: random key.
    choice: how each token is chosen, by both models; a number is its temperature.
    length: tokens to add.
    ahead: tokens that are drafted in a round.
    vocab_size: ids from here on are never drawn.

  Raises:
    ValueError: a context that is too short for the texts and a draft; a penalty, which depends on what is accepted; or
      a model that cannot forget what it has read.
  """
  choice = choice if isinstance(choice, Choice) else Choice(choice)
  batch, size = prompt.shape
  if choice.repetition_penalty is not None:
    raise ValueError('a repetition penalty depends on the tokens before, which a draft does not know')
  context = min((m.length for m in (model, draft) if m.length is not None), default=None)
  if context is not None and size + length + ahead > context:
    raise ValueError(f'{size + length} tokens and a draft of {ahead} do not fit a context of {context}')
  likelihood = lambda logits: choice.probabilities(logits[:, :vocab_size])
  draw = lambda p, key: jax.random.categorical(key, jnp.log(p)).astype(prompt.dtype)

  logits, cache = model.prefill(variables, prompt)
  draft_cache = draft.prefill(draft_variables, prompt)[1]
  first = draw(likelihood(logits), jax.random.fold_in(key, 0))
  tokens = jnp.zeros((batch, length + ahead), prompt.dtype).at[:, 0].set(first)

  def round_(carry):
    tokens, count, cache, draft_cache, rounds, accepted = carry
    key_draft, key_accept, key_next = jax.random.split(jax.random.fold_in(key, rounds + 1), 3)
    last = jax.lax.dynamic_index_in_dim(tokens, count - 1, axis=1, keepdims=False)

    def propose(carry, key):
      draft_cache, token = carry
      logits, draft_cache = draft.step(draft_variables, draft_cache, token)
      q = likelihood(logits)
      following = draw(q, key)
      return (draft_cache, following), (token, q)

    # One step more than is drafted, so that the draft has read its last token too.
    keys = jax.random.split(key_draft, ahead + 1)
    (draft_cache, _), (read, q) = jax.lax.scan(propose, (draft_cache, last), keys)
    read = read.T  # the last token, and the draft
    logits, cache = model.read(variables, cache, read)
    p = jax.vmap(likelihood, 1, 1)(logits)
    q = q[:ahead].swapaxes(0, 1)
    agreed = _agreed(p[:, :ahead], q, read[:, 1:], key_accept)
    each = jnp.cumprod(agreed, axis=1).sum(1)
    kept = each.min()
    pick = lambda x: jax.lax.dynamic_index_in_dim(x, jnp.minimum(kept, x.shape[1] - 1), axis=1, keepdims=False)
    rest = jnp.where(kept == ahead, pick(p), residual(pick(p), pick(q)))
    following = jnp.where(each > kept, pick(read[:, 1:]), draw(rest, key_next))

    new = jnp.where(jnp.arange(ahead + 1) < kept, jnp.pad(read[:, 1:], ((0, 0), (0, 1))), following[:, None])
    tokens = jax.lax.dynamic_update_slice(tokens, new, (0, count))
    cache, draft_cache = model.forget(cache, ahead - kept), draft.forget(draft_cache, ahead - kept)
    return tokens, count + kept + 1, cache, draft_cache, rounds + 1, accepted + each.mean() / ahead

  carry = tokens, jnp.int32(1), cache, draft_cache, jnp.int32(0), jnp.float32(0)
  tokens, _, _, _, rounds, accepted = jax.lax.while_loop(lambda carry: carry[1] < length, round_, carry)
  return Drafted(tokens[:, :length], rounds, accepted / jnp.maximum(rounds, 1))


def residual(p: Float[Array, 'b v'], q: Float[Array, 'b v']) -> Float[Array, 'b v']:
  """What a token is drawn from in place of one that is not accepted: max(p - q, 0), normalized (section 2.3)."""
  rest = jnp.maximum(p - q, 0)
  total = rest.sum(-1, keepdims=True)
  return jnp.where(total > 0, rest / jnp.where(total > 0, total, 1), p)  # p is q: nothing is refused but by rounding


def _agreed(
  p: Float[Array, 'b n v'], q: Float[Array, 'b n v'], drafted: Int[Array, 'b n'], key: Key[Array, '']
) -> Bool[Array, 'b n']:
  """Whether each drafted token is accepted, by itself: with probability min(1, p / q)."""
  of = lambda x: jnp.take_along_axis(x, drafted[..., None], axis=-1)[..., 0]
  return jax.random.uniform(key, drafted.shape) * of(q) < of(p)
