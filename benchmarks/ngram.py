"""python -m benchmarks.ngram [--orders=5] [--split=validation] [--packages]
python -m benchmarks.ngram --orders=3 --train=wiki.train.tokens.gz --heldout=wiki.test.tokens.gz

What a language model has to beat: interpolated n-gram models of bytes on the standard library's source, in bits per
character; or of words, of one file on another, in perplexity. Two ways of smoothing, each with its top order 1..n:
Witten-Bell, and modified Kneser-Ney (Chen and Goodman, An Empirical Study of Smoothing Techniques for Language
Modeling, 1998).
"""

import time
from collections.abc import Sequence

import numpy as np
from absl import app, flags
from jaxtyping import Float, Int, UInt64

_ORDERS = flags.DEFINE_integer('orders', 5, 'Longest n-gram, in bytes; of words, 4.', lower_bound=1, upper_bound=8)
_PACKAGES = flags.DEFINE_boolean('packages', False, 'Packages too; stdlib_gpt leaves them out.')
_TRAIN = flags.DEFINE_string('train', None, 'A text of words to learn from, in place of the standard library.')
_HELDOUT = flags.DEFINE_string('heldout', None, 'The text of words which is predicted.')
_SPLIT = flags.DEFINE_enum('split', 'validation', ['validation', 'test'], 'Part which is predicted.')


BYTE, WORD = 8, 16
"""Bits of a token in an n-gram, which has 64."""


def ngrams(tokens: Int[np.ndarray, ' n'], order: int, bits: int = BYTE) -> UInt64[np.ndarray, ' n-order+1']:
  """Every run of `order` tokens, packed with the oldest on top: the context is the number shifted right by `bits`."""
  packed = np.zeros(len(tokens) - order + 1, np.uint64)
  for i in range(order):
    packed = (packed << np.uint64(bits)) | tokens[i : i + len(packed)].astype(np.uint64)
  return packed


class Table:
  """How often each n-gram was seen, and what each context adds up to.

  Attributes:
    order: tokens of an n-gram.
    bits: of a token.
    grams: the different n-grams, sorted.
    counts: how often each was seen.
    contexts: the different contexts, sorted.
    totals: sum of the counts after each context.
    kinds: number of different tokens after each context.
  """

  def __init__(self, order: int, seen: UInt64[np.ndarray, ' n'], bits: int = BYTE):
    self.order, self.bits = order, bits
    self.grams, counts = np.unique(seen, return_counts=True)
    self.counts = counts.astype(np.float64)
    context = self.grams >> np.uint64(bits)
    self.starts = np.flatnonzero(np.r_[True, context[1:] != context[:-1]])  # sorted grams have sorted contexts
    self.contexts = context[self.starts]
    self.totals = self.sum_after(self.counts)
    self.kinds = self.sum_after(np.ones_like(self.counts))

  def sum_after(self, values: Float[np.ndarray, ' g']) -> Float[np.ndarray, ' c']:
    """Sum of a value over the n-grams of each context."""
    return np.add.reduceat(values, self.starts)

  def continuations(self) -> 'Table':
    """The table of one order less, in which an n-gram counts once for each different token before it."""
    kept = np.uint64(2 ** (self.bits * (self.order - 1)) - 1)
    return Table(self.order - 1, self.grams & kept, self.bits)


def look_up(
  keys: UInt64[np.ndarray, ' k'], values: Float[np.ndarray, ' k'], wanted: UInt64[np.ndarray, ' n']
) -> Float[np.ndarray, ' n']:
  """The value of each wanted key; 0 for those which are not there."""
  at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
  return np.where(keys[at] == wanted, values[at], 0.0)


def interpolate(
  table: Table, lower: Float[np.ndarray, ' n'], wanted: UInt64[np.ndarray, ' n'], smoothing: str
) -> Float[np.ndarray, ' n']:
  """p(token | context) of the wanted n-grams, from the probabilities `lower` of those one token shorter."""
  context = wanted >> np.uint64(table.bits)
  total = look_up(table.contexts, table.totals, context)
  count = look_up(table.grams, table.counts, wanted)
  if smoothing == 'witten_bell':
    spare = look_up(table.contexts, table.kinds, context)
    scale = total + spare
  else:
    discount = discounts(table.counts)
    taken = discount[np.minimum(table.counts, 3).astype(int)]
    spare = look_up(table.contexts, table.sum_after(taken), context)
    count = count - discount[np.minimum(count, 3).astype(int)]
    scale = total
  return np.where(total > 0, (count + spare * lower) / np.maximum(scale, 1), lower)


def discounts(counts: Float[np.ndarray, ' g']) -> Float[np.ndarray, '4']:
  """What modified Kneser-Ney takes from n-grams seen 0, 1, 2, and 3 or more times."""
  n1, n2, n3, n4 = (int((counts == i).sum()) for i in (1, 2, 3, 4))
  if not n1 * n2 * n3 * n4:  # too little text to tell
    return np.array([0.0, 0.5, 0.5, 0.5])
  y = n1 / (n1 + 2 * n2)
  best = (1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3)
  # Never nothing: an unseen token must stay possible.
  return np.array([0.0, *(np.clip(d, 0.1, i) for i, d in enumerate(best, 1))])


def bits_per_token(
  train: Int[np.ndarray, ' n'],
  heldout: Int[np.ndarray, ' m'],
  orders: int,
  smoothing: str,
  size: int = 256,
  bits: int = BYTE,
) -> list[float]:
  """Bits per token of the held-out text for models whose top order is 1, 2, ..., `orders`.

  Args:
    train: the text to learn from.
    heldout: the text which is predicted.
    orders: the longest n-gram.
    smoothing: 'witten_bell' or 'kneser_ney'.
    size: number of token ids.
    bits: of a token in an n-gram.
  """
  raw = [Table(k, ngrams(train, k, bits), bits) for k in range(1, orders + 1)]
  if smoothing == 'kneser_ney':
    lower_tables = [table.continuations() for table in raw[1:]]
  else:
    lower_tables = raw[:-1]
  # All orders predict the same tokens: those with a whole context before them.
  wanted = [ngrams(heldout, k, bits)[orders - k :] for k in range(1, orders + 1)]
  lower, result = np.full(len(wanted[0]), 1 / size), []
  for k in range(orders):
    p = interpolate(raw[k], lower, wanted[k], smoothing)
    result.append(float(-np.log2(p).mean()))
    if k < orders - 1:
      lower = interpolate(lower_tables[k], lower, wanted[k], smoothing)
  return result


def read() -> tuple[np.ndarray, np.ndarray, int, int]:
  """(text to learn from, text to predict, number of token ids, bits of a token), as the flags say."""
  from dl.data.sources.text import StandardLibrary, TextFiles

  if (_TRAIN.value is None) != (_HELDOUT.value is None):
    raise app.UsageError('--train and --heldout go together')
  if _TRAIN.value is None:
    part = lambda split: np.asarray(StandardLibrary(256, split, packages=_PACKAGES.value).tokens)
    return part('train'), part(_SPLIT.value), 256, BYTE
  path = dict(train=_TRAIN.value, test=_HELDOUT.value)
  train, heldout = (TextFiles(path, 1, split, vocabulary='words') for split in path)
  size = train.info.vocab_size
  if size > 2**WORD or _ORDERS.value * WORD > 64:
    raise app.UsageError(f'{size} words of {WORD} bits, and n-grams of 64: at most {2**WORD} words and --orders=4')
  return train.tokens, heldout.tokens, size, WORD


def main(argv: Sequence[str]) -> None:
  """Prints the sizes and a line an order."""
  del argv
  began = time.monotonic()
  train, heldout, size, bits = read()
  words = bits == WORD
  unit, score = ('words', 'perplexity') if words else ('bytes', 'bits per character')
  print(f'train: {len(train):,} {unit}, held out: {len(heldout):,} {unit}, {size:,} different ones')
  names = ('witten_bell', 'kneser_ney')
  columns = [bits_per_token(train, heldout, _ORDERS.value, name, size, bits) for name in names]
  columns = [[2**v for v in column] if words else column for column in columns]
  print('order  ' + '  '.join(f'{n:>11}' for n in names) + f'   ({score})')
  for k, row in enumerate(zip(*columns, strict=True), 1):
    print(f'{k:>5}  ' + '  '.join(f'{v:11.4f}' for v in row))
  print(f'best: {min(map(min, columns)):.4f} ({time.monotonic() - began:.0f} s)')


if __name__ == '__main__':
  app.run(main)
