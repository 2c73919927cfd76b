"""Spans of words by their tags: O outside of any, B-X at the first word of a span of kind X, I-X at its others.

They are those of conlleval (Tjong Kim Sang and De Meulder 2003), also where tags come in an order that is forbidden: an
I-X that follows no span of kind X begins one.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int


class Span(NamedTuple):
  """The words from `first` to `last`, that one among them."""

  kind: str
  first: int
  last: int


class Found(NamedTuple):
  """Of each word whether a span begins with it and, if so, the place of the last word, and of each tag its kind."""

  begins: Bool[Array, 'b n']
  last: Int[Array, 'b n']
  kind: Int[Array, 'b n']


def find(tags: Int[Array, 'b n'], names: Sequence[str]) -> Found:
  """The spans of sequences of tags, of which those below 0 are none."""
  prefix, kind_of = _parts(names)
  tags = jnp.where(tags < 0, len(names), tags)  # one more, outside as O is
  kind, first = jnp.asarray(kind_of)[tags], jnp.asarray(prefix == 'B')[tags]
  outside = kind < 0
  pad = lambda x, value, at: jnp.pad(x, ((0, 0), at), constant_values=value)
  other = kind != pad(kind, -1, (1, 0))[:, :-1]  # than the word before, be that outside or of another kind
  begins = ~outside & (first | other)
  ends = ~outside & (pad(begins, True, (0, 1))[:, 1:] | pad(outside, True, (0, 1))[:, 1:])
  places = jnp.arange(tags.shape[1])
  last = jax.lax.cummin(jnp.where(ends, places, tags.shape[1]), axis=1, reverse=True)
  return Found(begins, last, kind)


def compare(
  found: Int[Array, 'b n'], there: Int[Array, 'b n'], names: Sequence[str], weight: Float[Array, ' b']
) -> tuple[Float[Array, ''], Float[Array, ''], Float[Array, '']]:
  """(spans that are in both, in `found`, in `there`): the same are those of one kind, beginning and end."""
  a, b = find(found, names), find(there, names)
  both = a.begins & b.begins & (a.last == b.last) & (a.kind == b.kind)
  count = lambda spans: (spans.sum(1) * weight).sum()
  return count(both), count(a.begins), count(b.begins)


def of(tags: Int[np.ndarray, ' n'], names: Sequence[str]) -> list[Span]:
  """The spans of one sequence of tags, in order."""
  prefix, kinds = _parts(names)
  spans: list[Span] = []
  before = None
  for place, tag in enumerate(tags.tolist()):
    kind = names[tag][2:] if tag >= 0 and kinds[tag] >= 0 else None
    if kind is not None and (prefix[tag] == 'B' or kind != before):
      spans.append(Span(kind, place, place))
    elif kind is not None:
      spans[-1] = spans[-1]._replace(last=place)
    before = kind
  return spans


def _parts(names: Sequence[str]) -> tuple[np.ndarray, Int[np.ndarray, ' tags']]:
  """(the letter before the kind, the number of the kind or -1) of each tag, and of none at the end."""
  kinds = sorted({name[2:] for name in names if name[:2] in ('B-', 'I-')})
  number = {kind: i for i, kind in enumerate(kinds)}
  kind = [number.get(name[2:], -1) if name[:2] in ('B-', 'I-') else -1 for name in names]
  return np.asarray([*(name[:1] for name in names), 'O']), np.asarray([*kind, -1], np.int32)
