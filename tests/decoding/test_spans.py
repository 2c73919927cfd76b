"""Spans of tags: those of conlleval, for people and as counts."""

import jax.numpy as jnp
import numpy as np
import pytest

from dl.decoding import spans

NAMES = ('O', 'B-x', 'B-y', 'I-x', 'I-y')


def conlleval(tags):
  """The spans of names of tags by the rules of conlleval's `startOfChunk` and `endOfChunk`, as (kind, first, last)."""
  found, begin = [], None
  for t, tag in enumerate([*tags, 'O']):
    before = tags[t - 1] if t else 'O'
    (was, kind_was), (now, kind) = ((x[0], x[2:]) for x in (before, tag))
    if begin is not None and (now in 'BO' or kind != kind_was):
      found.append((kind_was, begin, t - 1))
      begin = None
    if now == 'B' or (now == 'I' and (was == 'O' or kind != kind_was)):
      begin = t
  return found


@pytest.mark.parametrize(
  ('tags', 'expected'),
  [
    ('O B-x I-x O', [('x', 1, 2)]),
    ('B-x B-x I-x', [('x', 0, 0), ('x', 1, 2)]),
    ('I-x I-x O I-y', [('x', 0, 1), ('y', 3, 3)]),
    ('B-x I-y I-y', [('x', 0, 0), ('y', 1, 2)]),
    ('O O', []),
  ],
)
def test_by_hand(tags, expected):
  tags = tags.split()
  assert conlleval(tags) == expected
  assert [tuple(span) for span in spans.of(np.asarray([NAMES.index(tag) for tag in tags]), NAMES)] == expected


def test_counts_are_those_of_conlleval_in_any_order_of_tags():
  rng = np.random.default_rng(0)
  lengths = rng.integers(1, 8, 200)
  draw = lambda: np.where(np.arange(7) < lengths[:, None], rng.integers(0, 5, (200, 7)), -1)
  there = draw()
  found = np.where(rng.random((200, 7)) < 0.7, there, draw())
  weight = (np.arange(200) < 190).astype(np.float32)
  of = lambda rows: [set(conlleval([NAMES[tag] for tag in row if tag >= 0])) for row in rows[:190]]
  a, b = of(found), of(there)
  expected = [sum(len(x & y) for x, y in zip(a, b, strict=True)), sum(map(len, a)), sum(map(len, b))]
  assert expected[0] > 50
  counts = spans.compare(jnp.asarray(found), jnp.asarray(there), NAMES, jnp.asarray(weight))
  assert [int(x) for x in counts] == expected
  for row in found:
    names = [NAMES[tag] for tag in row if tag >= 0]
    assert [tuple(span) for span in spans.of(row, NAMES)] == conlleval(names)
