"""A part of a source, for training or for a test, with the facts of its training part: around any source.

test = part(Digits(), 'test')
train = part(MySet('data.h5'), test=0.2, split_seed=3)
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int, Num, Shaped

from dl.config.bounds import Count, NotNegative, Positive, Seed, Size
from dl.contract.info import Info
from dl.data import statistics
from dl.data.buckets import Buckets
from dl.data.pipeline import Pipeline
from dl.data.source import Arrays, Example, stated, title, wrong_with
from dl.data.splits import choose
from dl.errors import ConfigError, StuckError, TrainingError

RULES = ('test', 'validation', 'stratify', 'folds', 'fold', 'split_seed', 'gap')
"""Keys of the data which say how a source is cut: arguments of `part`."""

STATED = ('num_classes',)
"""Keys of the data which state what a source may not know: arguments of `part`, too."""

IN_MEMORY_BYTES = 2**31
"""All examples of a source of at most so many bytes are looked at where that takes one gather."""


class Part:
  """Some examples of a source, in its order.

  Attributes:
    whole: the source.
    index: places of the examples in it.
    source: what the examples are read from: the whole, or what it makes of these examples alone.
  """

  def __init__(
    self,
    whole: Any,
    index: Int[np.ndarray, ' k'],
    train: Int[np.ndarray, ' t'] | None = None,
    timeout: Positive = 600.0,
    facts: Mapping[str, Any] | None = None,
    labels: Num[np.ndarray, 'n ...'] | None = None,
  ):
    """Keeps the arguments.

    Args:
      whole: a source.
      index: places of the examples in it.
      train: places of the training examples, which `info` is about; None for these.
      timeout: seconds to wait for examples that `info` reads.
      facts: of the data, which others than the source say.
      labels: the classes of all examples of the whole, where they are known.
    """
    self.whole, self.index, self._train, self._timeout = whole, index, index if train is None else train, timeout
    self._facts, self._labels = dict(facts or {}), labels
    self.source = whole.take(index) if hasattr(whole, 'take') else None

  @property
  def vectorized(self) -> bool:
    """Whether a batch is one gather."""
    return bool(getattr(self.whole if self.source is None else self.source, 'vectorized', False))

  @functools.cached_property
  def paths(self) -> Sequence[Any] | None:
    """The files of the examples, where they are files."""
    paths = getattr(self.whole, 'paths', None)
    return None if paths is None else [paths[i] for i in self.index]

  @property
  def labels(self) -> Num[np.ndarray, 'k ...'] | None:
    """The classes of the examples, where they are known."""
    return None if self._labels is None else self._labels[self.index]

  @property
  def buckets(self) -> Buckets | None:
    """The buckets of the examples, where they are in some."""
    whole = getattr(self.whole, 'buckets', None)
    return None if whole is None else whole.take(self.index)

  @property
  def span(self) -> tuple[str, str] | None:
    """The first and the last time in the part, where the source says when its examples were."""
    times = _times(self.whole)
    return None if times is None else (str(times[self.index].min()), str(times[self.index].max()))

  @property
  def columns(self) -> dict[str, Num[np.ndarray, 'k ...']]:
    """The examples of a source in memory, by column."""
    return self[np.arange(len(self))] if self.source is None else self.source.columns

  @property
  def stated(self) -> Info:
    """What the source says itself, and the facts that others say."""
    return dataclasses.replace(stated(self.whole), **self._facts)

  @functools.cached_property
  def info(self) -> Info:
    """Facts about the data, those of the training part among them; the first use may read examples."""
    info = self.stated
    if self._labels is not None:
      info = statistics.complete(info, {'label': self._labels[self._train]})
    trained = self.source
    if trained is not None and not np.array_equal(self._train, self.index):
      trained = self.whole.take(self._train)
    if hasattr(trained, 'facts'):
      return info.completed(trained.facts())
    if isinstance(trained, Arrays):
      return statistics.complete(info, trained.columns)
    return _from_examples(self.whole, self._train, info, self._timeout, self._facts)

  def __len__(self) -> int:
    return len(self.index if self.source is None else self.source)

  def __getitem__(self, index: Any) -> Example:
    if self.source is not None:
      return self.source[index]
    return self.whole[int(self.index[index]) if np.ndim(index) == 0 else self.index[index]]


def part(
  source: Any,
  split: str = 'train',
  *,
  test: NotNegative | Count | None = None,
  validation: NotNegative | Count = 0.0,
  stratify: bool = True,
  folds: Size | None = None,
  fold: Count = 0,
  split_seed: Seed = 0,
  gap: Count = 0,
  num_classes: Size | None = None,
  timeout: Positive = 600.0,
  facts: Mapping[str, Any] | None = None,
) -> Part:
  """A part of a source; its `info` says the facts of the training part, whatever part it is.

  Args:
    source: the examples; see `dl.data.source`.
    split: which part: 'train', 'validation', 'test' or 'all'; for a set which comes in parts, the name of one.
    test: size of the test part; None takes the source's `default_test`. See `dl.data.splits.choose`.
    validation: size of the validation part, likewise; of a set which comes in parts without one, a share of its
      training part.
    stratify: whether each part has the classes' shares, where the classes of all examples are known without reading
      them one by one: of a source which has `labels`, or is gathered by an index. Others are cut at random.
    folds: cut into this many folds; then the test part is fold number `fold`.
    fold: see `folds`.
    split_seed: of the shuffle which decides; it is not the run's seed, so that every run has the same test part.
    gap: of a source which says the `times` of its examples, whose parts are cut by time: how many examples are left out
      before the validation part, and before the test part.
    num_classes: how many classes there are, where the source does not say so: then some may lack examples in the
      training part.
    timeout: seconds to wait for examples which have to be read for `info`.
    facts: of the data, which others than the source say (`dl.contract.info.Info`).

  Raises:
    ConfigError: an unknown or empty split, sizes which cannot be, or labels which are no classes.
  """
  if not len(source):
    raise ConfigError(f'{title(source)} is empty')
  facts = _with_classes(facts or {}, num_classes, stated(source))
  info, labels = dataclasses.replace(stated(source), **facts), _labels(source)
  known = source.columns if isinstance(source, Arrays) else {} if labels is None else {'label': labels}
  for column, values in known.items():
    if wrong := wrong_with(column, values, info):
      raise ConfigError(f'example {wrong[0]}: {wrong[1]}')
  given = getattr(source, 'parts', None)
  size = getattr(source, 'default_test', 0) if test is None else test
  rules = dict(seed=split_seed, test=size, validation=validation, stratify=stratify, folds=folds, fold=fold)
  rules |= {'names': info.class_names, 'times': _times(source), 'gap': gap}
  strata = labels if labels is not None and labels.ndim == 1 and labels.dtype.kind in 'iu' else None
  return Part(source, *choose(split, len(source), strata, given, **rules), timeout, facts, labels)


def _times(source: Any) -> Shaped[np.ndarray, ' n'] | None:
  """When each example was, where the source says so: numbers or dates."""
  times = getattr(source, 'times', None)
  if times is None:
    return None
  times = np.asarray(times)
  if times.shape != (len(source),) or times.dtype.kind not in 'iufM' or (times != times).any():
    raise ConfigError(f'{title(source)}.times must hold a number or date for each of {len(source)} examples')
  return times


def _with_classes(facts: Mapping[str, Any], num_classes: int | None, own: Info) -> dict[str, Any]:
  """The facts, and the number of classes, where it is given and the source does not contradict."""
  if num_classes is None:
    return dict(facts)
  known = own.num_classes if own.class_names is None else len(own.class_names)
  if known not in (None, num_classes):
    names = f': {", ".join(map(repr, own.class_names[:12]))}' if own.class_names else ''
    raise ConfigError(f'num_classes: is {num_classes}, but the source has {known} classes{names}')
  return {**facts, 'num_classes': num_classes}


def _labels(source: Any) -> Num[np.ndarray, 'n ...'] | None:
  """The labels of all examples, where they are known without reading examples one by one."""
  labels = getattr(source, 'labels', None)
  if labels is not None:
    return np.asarray(labels)
  try:
    if not getattr(source, 'vectorized', False) or not _is_small(source) or 'label' not in source[np.arange(1)]:
      return None
    return np.asarray(source[np.arange(len(source))]['label'])
  except Exception:  # a source is anybody's code; training says what is wrong with it
    return None


def _is_small(source: Any) -> bool:
  one = source[np.arange(1)]
  return len(source) * sum(np.asarray(values).nbytes for values in one.values()) <= IN_MEMORY_BYTES


def _from_examples(
  source: Any, train: Int[np.ndarray, ' t'], info: Info, timeout: float, facts: Mapping[str, Any]
) -> Info:
  """What the training examples say: all of them where they are in memory, or else a sample, read by threads.

  Examples that cannot be read, or which differ in shape, are left out: training says what is wrong with them.
  """
  try:
    every = bool(getattr(source, 'vectorized', False)) and _is_small(source)
    if not every:
      train = train[np.unique(np.linspace(0, len(train) - 1, min(statistics.SAMPLE, len(train))).astype(int))]
    part = Part(source, train, facts=facts)
    sample = Pipeline(part, min(256, len(train)), train=False, on_error='skip', timeout=timeout)
    columns = list(sample.example())
    if not statistics.wanted(info, columns, every):
      return info
    batches = [{k: v[batch['mask'] > 0] for k, v in batch.items()} for batch in sample]
  except StuckError:
    raise
  except (ConfigError, TrainingError):
    return info
  columns = {k: np.concatenate([batch[k] for batch in batches]) for k in batches[0] if k != 'mask'}
  return statistics.complete(info, columns, every)
