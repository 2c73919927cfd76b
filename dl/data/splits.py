"""Deterministic splits: which examples of a data set are the training, validation and test parts."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Int, Shaped

from dl.errors import ConfigError, nearest

SPLITS = ('train', 'validation', 'test', 'all')

_HINT = 'set stratify=False to cut at random, or leave out rare classes'


def select(
  split: str,
  n: int,
  labels: Int[np.ndarray, ' n'] | None = None,
  *,
  seed: int = 0,
  test: float | int = 0.2,
  validation: float | int = 0.0,
  stratify: bool = True,
  folds: int | None = None,
  fold: int = 0,
  names: Sequence[str] | None = None,
  times: Shaped[np.ndarray, ' n'] | None = None,
  gap: int = 0,
) -> Int[np.ndarray, ' k']:
  """The sorted indices of one part of `n` examples; the parts are disjoint and cover all.

  Args:
    split: 'train', 'validation', 'test' or 'all'.
    n: number of examples.
    labels: class of each example; None for a set without classes.
    seed: of the shuffle which decides; it is not the run's seed, so that every run has the same test part.
    test: size of the test part: a fraction of `n` (rounded up), or a count.
    validation: size of the validation part, likewise a fraction of `n` or a count.
    stratify: whether each part has the classes' shares (where there are labels).
    folds: cut into this many folds; then the test part is fold number `fold` and `test` is not used.
    fold: which fold is the test part, from 0.
    names: of the classes, for error lines.
    times: when each example was. Then the parts are cut by time: the last are the test part, those before them the
      validation part. Examples of one time stay together, so a part may be larger than it is asked to be.
    gap: how many of the last examples before the validation part, and before the test part, are left out.

  Raises:
    ConfigError: an unknown or empty split, or sizes which cannot be.
  """
  if split not in SPLITS:
    raise ConfigError(f'split: there is no split {split!r}; {nearest(split, SPLITS)}')
  if not isinstance(stratify, bool):
    raise ConfigError(f'stratify: expected True or False, got {stratify!r}')
  everything = np.arange(n)
  if split == 'all':
    return _nonempty(everything, split)
  cutter = _cutter(labels if stratify else None, names, seed, times, gap)
  if folds is not None:
    rest, tested = cutter.fold(n, folds, fold)
  else:
    rest, tested = _carve(everything, cutter, _count(test, n, 'test'), 'test')
  held = _count(validation, n, 'validation')
  if split == 'test':
    return _nonempty(tested, split)
  train, validated = _carve(rest, cutter, held, 'validation')
  return _nonempty(train if split == 'train' else validated, split)


def ranges(lengths: Mapping[str, int]) -> dict[str, Int[np.ndarray, ' k']]:
  """Split -> indices, of parts of these lengths which stand one behind the other."""
  ends = np.cumsum(list(lengths.values()))
  return {split: np.arange(end - n, end) for (split, n), end in zip(lengths.items(), ends, strict=True)}


def choose(
  split: str,
  n: int,
  labels: Int[np.ndarray, ' n'] | None = None,
  given: Mapping[str, Int[np.ndarray, ' k']] | None = None,
  *,
  seed: int = 0,
  test: float | int | None = 0.2,
  validation: float | int = 0.0,
  stratify: bool = True,
  folds: int | None = None,
  fold: int = 0,
  names: Sequence[str] | None = None,
  times: Shaped[np.ndarray, ' n'] | None = None,
  gap: int = 0,
) -> tuple[Int[np.ndarray, ' k'], Int[np.ndarray, ' t']]:
  """(indices of a split, indices of the training part), for a set which may come with splits of its own.

  Args:
    split: name of the split.
    n: number of examples, over all the splits.
    labels: class of each example.
    given: split name -> indices, where the set comes in parts; None where `select` is to cut it. A validation part
      which is not given is carved out of the training part, `validation` being a share of that.
    seed: see `select`, as for the other arguments.
    test: see `select`; unused where the parts are given.
    validation: see `select`.
    stratify: see `select`.
    folds: see `select`.
    fold: see `select`.
    names: see `select`.
    times: see `select`; a validation part which is not given is then the end of the training part.
    gap: see `select`.

  Raises:
    ConfigError: an unknown or empty split, or sizes which cannot be.
  """
  if given is None:
    rules = dict(seed=seed, test=test, validation=validation, stratify=stratify, folds=folds, fold=fold)
    rules |= dict(names=names, times=times, gap=gap)
    return select(split, n, labels, **rules), select('train', n, labels, **rules)
  if folds is not None:
    raise ConfigError('folds: the data comes in parts already; folds need one set')
  if 'train' not in given:
    raise ConfigError(f'the data has no training part, only {", ".join(given)}')
  parts = dict(given)
  held = _count(validation, len(given['train']), 'validation')
  if 'validation' not in parts and held:
    of_train = lambda values: None if values is None else values[given['train']]
    cutter = _cutter(of_train(labels) if stratify else None, names, seed, of_train(times), gap)
    kept, carved = _carve(np.arange(len(given['train'])), cutter, held, 'validation')
    parts['train'], parts['validation'] = given['train'][kept], given['train'][carved]
  if split == 'all':
    return _nonempty(np.arange(n), split), parts['train']
  if split in ('validation', 'test') and split not in parts:
    hint = '; set validation=0.1, say' if split == 'validation' else ''
    raise ConfigError(f'split: the data has no {split!r} part, only {", ".join(sorted(parts))}{hint}')
  if split not in parts:
    raise ConfigError(f'split: there is no split {split!r}; {nearest(split, [*parts, "all"])}')
  return _nonempty(parts[split], split), parts['train']


def _nonempty(index: Int[np.ndarray, ' k'], split: str) -> Int[np.ndarray, ' k']:
  if not len(index):
    hint = f'; set {split}=0.1, say' if split in ('validation', 'test') else ''
    raise ConfigError(f'split: the {split!r} part is empty{hint}')
  return index


def _count(size: float | int, n: int, name: str) -> int:
  """A fraction or a count as a count; fractions are rounded up, as scikit-learn does."""
  if isinstance(size, bool) or not isinstance(size, int | float) or size < 0 or (isinstance(size, float) and size >= 1):
    raise ConfigError(f'{name}: expected a fraction below 1 or a number of examples, got {size!r}')
  count = size if isinstance(size, int) else int(np.ceil(round(size * n, 9)))
  if count and count >= n:
    raise ConfigError(f'{name}: {size} of {n} examples leaves nothing to train on')
  return count


def _carve(
  index: Int[np.ndarray, ' k'], cutter: '_AtRandom | _InTime', count: int, name: str
) -> tuple[np.ndarray, np.ndarray]:
  """(what remains, `count` of them), each sorted."""
  if not count:
    return index, index[:0]
  if count >= len(index):
    raise ConfigError(
      f'{name}: {count:,} examples of {len(index):,}, which the other part leaves, leave nothing to train on'
    )
  rest, held = cutter.cut(index, count, name)
  return np.sort(rest), np.sort(held)


def _cutter(
  labels: Int[np.ndarray, ' n'] | None,
  names: Sequence[str] | None,
  seed: int,
  times: Shaped[np.ndarray, ' n'] | None,
  gap: int,
) -> '_AtRandom | _InTime':
  if times is not None:
    return _InTime(times, gap)
  if gap:
    raise ConfigError("gap: is between parts that are cut by time; name the column of it, such as time='date'")
  return _AtRandom(seed, labels, names)


@dataclasses.dataclass(frozen=True)
class _AtRandom:
  """Parts at random.

  Attributes:
    seed: of the shuffle.
    labels: the class of each example, where each part is to have the classes' shares.
    names: of the classes, where they have some.
  """

  seed: int
  labels: Int[np.ndarray, ' n'] | None
  names: Sequence[str] | None

  def cut(self, index: Int[np.ndarray, ' k'], count: int, name: str) -> tuple[np.ndarray, np.ndarray]:
    """(what remains, `count` of them)."""
    from sklearn.model_selection import train_test_split

    labels = None if self.labels is None else self.labels[index]
    if labels is not None:
      self._check(labels, 2, name, f'{count} of {len(index)} examples')
      classes, most = len(np.unique(labels)), min(count, len(index) - count)
      if classes > most:
        raise ConfigError(f'{name}: a part of {most} examples cannot have each of {classes} classes; {_HINT}')
    return train_test_split(index, test_size=count, random_state=self.seed, stratify=labels)

  def fold(self, n: int, folds: int, fold: int) -> tuple[np.ndarray, np.ndarray]:
    """(all the others, fold number `fold`)."""
    if isinstance(folds, bool) or not isinstance(folds, int) or not 2 <= folds <= n:
      raise ConfigError(f'folds: expected a number from 2 to the {n} examples, got {folds!r}')
    if isinstance(fold, bool) or not isinstance(fold, int) or not 0 <= fold < folds:
      raise ConfigError(f'fold: expected a number from 0 to {folds - 1}, got {fold!r}')
    from sklearn.model_selection import KFold, StratifiedKFold

    if self.labels is not None:
      self._check(self.labels, folds, 'folds', f'{folds} folds')
    kind = KFold if self.labels is None else StratifiedKFold
    return list(kind(folds, shuffle=True, random_state=self.seed).split(np.zeros(n), self.labels))[fold]

  def _check(self, labels: Int[np.ndarray, ' k'], least: int, where: str, what: str) -> None:
    """Raises ConfigError for a class of fewer than `least` examples."""
    classes, members = np.unique(labels, return_counts=True)
    if members.min() >= least:
      return
    fewest = int(classes[members.argmin()])
    name = repr(self.names[fewest]) if self.names and 0 <= fewest < len(self.names) else fewest
    have = 'is a single example' if members.min() == 1 else f'are {members.min()} examples'
    raise ConfigError(f'{where}: {what} cannot have the shares of the classes: of class {name} there {have}; {_HINT}')


@dataclasses.dataclass(frozen=True)
class _InTime:
  """The last ones as a part.

  Attributes:
    times: when each example was.
    gap: how many of those before a part are left out.
  """

  times: Shaped[np.ndarray, ' n']
  gap: int

  def cut(self, index: Int[np.ndarray, ' k'], count: int, name: str) -> tuple[np.ndarray, np.ndarray]:
    """(what is before the part and its gap, the last `count`, and those of the same time as the first of them)."""
    order = index[np.argsort(self.times[index], kind='stable')]
    first = int(np.searchsorted(self.times[order], self.times[order[-count]]))
    if first <= self.gap:
      raise ConfigError(
        f'{name}: the examples from {self.times[order[first]]} on, and a gap of {self.gap}, leave nothing to train on'
      )
    return order[: first - self.gap], order[first:]

  def fold(self, n: int, folds: int, fold: int) -> tuple[np.ndarray, np.ndarray]:
    """There are none."""
    raise ConfigError('folds: would train on examples from after those that are tested; leave out folds, or time')
