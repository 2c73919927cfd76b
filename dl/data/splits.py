"""Deterministic splits: which examples of a data set are the training, validation and test parts."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Int

from dl.errors import ConfigError, nearest

SPLITS = ('train', 'validation', 'test', 'all')

_AT_RANDOM = 'set stratify=False to cut at random, or leave out rare classes'


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
  strata = _Strata(labels, names) if stratify and labels is not None else None
  if folds is not None:
    rest, tested = _fold(n, strata, seed, folds, fold)
  else:
    rest, tested = _carve(everything, strata, _count(test, n, 'test'), seed, 'test')
  held = _count(validation, n, 'validation')
  if split == 'test':
    return _nonempty(tested, split)
  train, validated = _carve(rest, strata, held, seed, 'validation')
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

  Raises:
    ConfigError: an unknown or empty split, or sizes which cannot be.
  """
  if given is None:
    rules = dict(seed=seed, test=test, validation=validation, stratify=stratify, folds=folds, fold=fold, names=names)
    return select(split, n, labels, **rules), select('train', n, labels, **rules)
  if folds is not None:
    raise ConfigError('folds: the data comes in parts already; folds need one set')
  if 'train' not in given:
    raise ConfigError(f'the data has no training part, only {", ".join(given)}')
  parts = dict(given)
  held = _count(validation, len(given['train']), 'validation')
  if 'validation' not in parts and held:
    strata = _Strata(labels[given['train']], names) if stratify and labels is not None else None
    kept, carved = _carve(np.arange(len(given['train'])), strata, held, seed, 'validation')
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
  index: Int[np.ndarray, ' k'], strata: '_Strata | None', count: int, seed: int, name: str
) -> tuple[np.ndarray, np.ndarray]:
  """(what remains, `count` of them), each sorted."""
  if not count:
    return index, index[:0]
  if count >= len(index):
    raise ConfigError(f'{name}: {count} of the {len(index)} examples which are left leaves nothing to train on')
  from sklearn.model_selection import train_test_split

  labels = None
  if strata is not None:
    labels = strata.labels[index]
    strata.check(labels, 2, name, f'{count} of {len(index)} examples')
    classes, most = len(np.unique(labels)), min(count, len(index) - count)
    if classes > most:
      raise ConfigError(f'{name}: a part of {most} examples cannot have each of {classes} classes; {_AT_RANDOM}')
  rest, held = train_test_split(index, test_size=count, random_state=seed, stratify=labels)
  return np.sort(rest), np.sort(held)


def _fold(n: int, strata: '_Strata | None', seed: int, folds: int, fold: int) -> tuple[np.ndarray, np.ndarray]:
  if isinstance(folds, bool) or not isinstance(folds, int) or not 2 <= folds <= n:
    raise ConfigError(f'folds: expected a number from 2 to the {n} examples, got {folds!r}')
  if isinstance(fold, bool) or not isinstance(fold, int) or not 0 <= fold < folds:
    raise ConfigError(f'fold: expected a number from 0 to {folds - 1}, got {fold!r}')
  from sklearn.model_selection import KFold, StratifiedKFold

  if strata is None:
    kind, labels = KFold, None
  else:
    kind, labels = StratifiedKFold, strata.labels
    strata.check(labels, folds, 'folds', f'{folds} folds')
  return list(kind(folds, shuffle=True, random_state=seed).split(np.zeros(n), labels))[fold]


@dataclasses.dataclass(frozen=True)
class _Strata:
  """The classes that each part is to have the shares of.

  Attributes:
    labels: the class of each example.
    names: of the classes, where they have some.
  """

  labels: Int[np.ndarray, ' n']
  names: Sequence[str] | None

  def check(self, labels: Int[np.ndarray, ' k'], least: int, where: str, what: str) -> None:
    """Raises ConfigError for a class of fewer than `least` examples."""
    classes, members = np.unique(labels, return_counts=True)
    if members.min() >= least:
      return
    fewest = int(classes[members.argmin()])
    name = repr(self.names[fewest]) if self.names and 0 <= fewest < len(self.names) else fewest
    have = 'is a single example' if members.min() == 1 else f'are {members.min()} examples'
    raise ConfigError(
      f'{where}: {what} cannot have the shares of the classes: of class {name} there {have}; {_AT_RANDOM}'
    )
