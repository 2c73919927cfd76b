"""The n-gram models that language models, and masked ones, are compared with."""

import collections
import itertools

import numpy as np
import pytest

from benchmarks.masked import count, fill_in
from benchmarks.ngram import WORD, Table, bits_per_token, discounts, interpolate, ngrams

RNG = np.random.default_rng(0)
TRAIN = RNG.choice(np.frombuffer(b'abcd', np.uint8), 400, p=[0.6, 0.2, 0.15, 0.05])


@pytest.mark.parametrize('smoothing', ['witten_bell', 'kneser_ney'])
def test_probabilities_add_up_to_one(smoothing):
  tables = [Table(k, ngrams(TRAIN, k)) for k in (1, 2, 3)]
  if smoothing == 'kneser_ney':
    tables[:2] = [table.continuations() for table in tables[1:]]
  every = np.arange(256, dtype=np.uint64)
  for context in (b'ab', b'dd', b'xy', b'xa'):
    p, prefix = np.full(256, 1 / 256), int.from_bytes(context, 'big')
    for table in tables:
      keep = np.uint64(prefix % 256 ** (table.order - 1))
      p = interpolate(table, p, (keep << np.uint64(8)) | every, smoothing)
    assert p.min() > 0
    assert p.sum() == pytest.approx(1.0)


def test_witten_bell_equals_a_plain_one():
  heldout = RNG.choice(np.frombuffer(b'abcde', np.uint8), 100)
  seen, after = collections.Counter(), collections.defaultdict(collections.Counter)
  for k in (1, 2, 3):
    for i in range(len(TRAIN) - k + 1):
      gram = bytes(TRAIN[i : i + k])
      seen[gram] += 1
      after[gram[:-1]][gram[-1]] += 1

  def p(context, byte):
    lower = p(context[1:], byte) if context else 1 / 256
    found = after.get(context)
    return (found[byte] + len(found) * lower) / (found.total() + len(found)) if found else lower

  expected = [
    -np.mean([np.log2(p(bytes(heldout[i - k + 1 : i]), heldout[i])) for i in range(2, 100)]) for k in (1, 2, 3)
  ]
  np.testing.assert_allclose(bits_per_token(TRAIN, heldout, 3, 'witten_bell'), expected)


def test_kneser_ney_of_words_equals_a_plain_one():
  """By the formulas of Chen and Goodman (1998, section 4.4.1), in dictionaries; ids do not fit a byte."""
  rng = np.random.default_rng(1)
  share = 1 / np.arange(1, 41)
  train, heldout = (rng.choice(np.arange(40) * 1000, n, p=share / share.sum()) for n in (3000, 200))
  counts = {3: collections.Counter(zip(train, train[1:], train[2:]))}
  before = {2: collections.defaultdict(set), 1: collections.defaultdict(set)}
  for gram in counts[3]:
    before[2][gram[1:]].add(gram[0])
  for gram in set(itertools.pairwise(train)):
    before[1][gram[1:]].add(gram[0])
  counts |= {k: {gram: len(kinds) for gram, kinds in found.items()} for k, found in before.items()}
  taken = {k: discounts(np.asarray(list(found.values()), float)) for k, found in counts.items()}
  n1, n2, n3, n4 = (sum(c == i for c in counts[3].values()) for i in (1, 2, 3, 4))
  y = n1 / (n1 + 2 * n2)
  np.testing.assert_allclose(taken[3], [0, 1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3])

  def p(context, word):
    k = len(context) + 1
    after = {gram[-1]: count for gram, count in counts[k].items() if gram[:-1] == context}
    lower = p(context[1:], word) if context else 1 / 40_000
    if not after:
      return lower
    spare = sum(taken[k][min(count, 3)] for count in after.values())
    count = after.get(word, 0)
    return (count - taken[k][min(count, 3)] + spare * lower) / sum(after.values())

  expected = -np.mean([np.log2(p(tuple(heldout[i - 2 : i]), heldout[i])) for i in range(2, 200)])
  assert bits_per_token(train, heldout, 3, 'kneser_ney', 40_000, WORD)[-1] == pytest.approx(expected)


def test_a_higher_order_predicts_a_periodic_text():
  text = np.tile(np.frombuffer(b'abacad', np.uint8), 200)
  for smoothing in ('witten_bell', 'kneser_ney'):
    one, two, three = bits_per_token(text, text[:60], 3, smoothing)
    assert one > two > three and three < 0.6


def test_pairs_on_both_sides_fill_in_blanks():
  texts = np.array([[0, 1, 2, -1], [0, 1, 3, 1], [2, 1, 2, -1]])
  found = count(texts, 4)
  assert found.single.sum() == pytest.approx(1.0) and found.after.sum(1) == pytest.approx(np.ones(5))
  # Behind a 1, which stands there four times, were 2 (twice), 3 and an end: three kinds.
  assert found.after[1, 2] == pytest.approx((2 + 3 * found.single[2]) / (4 + 3))
  chosen = np.array([[False, True, False, False], [False, False, True, True], [True, False, False, False]])
  seen = fill_in(found, texts, chosen)
  shares = []
  for row, place, truth, left, right in ((0, 1, 1, 0, 2), (1, 2, 3, 1, None), (1, 3, 1, None, 4), (2, 0, 2, 4, 1)):
    assert texts[row, place] == truth
    share = found.single[:4] if left is None else found.after[left, :4]
    share = share if right is None else share * found.after[:4, right]
    shares.append((share / share.sum(), truth))
  assert seen.nats == pytest.approx(-np.mean([np.log(share[truth]) for share, truth in shares]))
  assert seen.bigram == np.mean([share.argmax() == truth for share, truth in shares])
  assert seen.unigram == 0.5  # the most frequent is 1
