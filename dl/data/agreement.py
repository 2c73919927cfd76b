"""Whether an evaluation's data go with those that a model learns from: the same classes, features and vocabulary."""

from typing import Any

import numpy as np
from jaxtyping import Int

from dl.contract.info import Info
from dl.data.source import stated
from dl.errors import ConfigError

NAMES = ('class_names', 'feature_names', 'vocabulary', 'tokenizer', 'target_vocabulary')
"""Facts by which numbers of a batch are told apart: an evaluation's have to be those of the training."""


def check(info: Info, learned: Any, source: Any) -> str | None:
  """What to warn of where an evaluation's source holds classes that the training data lack; None where it does not.

  Args:
    info: what is known about the training data.
    learned: the source of the training; None where it is not at hand.
    source: the source of the evaluation.

  Raises:
    ConfigError: other classes, features or words; or classes without an example to learn from, where the training
      source does not state how many classes there are.
  """
  own = stated(source)
  for name in NAMES:
    theirs, ours = own.fact(name), info.fact(name)
    if theirs is not None and ours is not None and theirs != ours:
      if name == 'tokenizer':
        raise ConfigError('its tokenizer is another than that of the training data')
      raise ConfigError(f'its {name} are {_names(theirs)}, those of the training data {_names(ours)}')
  labels, known = _labels(source), _classes(info, learned)
  if labels is None or known is None:
    return None
  lacking = ~np.isin(labels, known)
  if not lacking.any():
    return None
  classes = sorted({int(label) for label in labels[lacking]})
  named = [repr(info.class_names[c]) if info.class_names and c < len(info.class_names) else str(c) for c in classes]
  which = f'the class {named[0]}' if len(named) == 1 else f'the classes {", ".join(named[:10])}'
  said = f'{lacking.sum():,} of {len(labels):,} examples are of {which}, of which there is none to learn from'
  if learned is None or stated(learned).num_classes is not None:
    return said
  count = len(info.class_names or ()) or max(classes[-1], known.max()) + 1
  raise ConfigError(
    f'{said}; cut the data otherwise, leave these out, or state how many classes there are, if this is meant: '
    f'config.data.num_classes={count}'
  )


def _labels(source: Any) -> Int[np.ndarray, ' n'] | None:
  """The classes of all examples, one each, where they are known without reading examples one by one."""
  labels = getattr(source, 'labels', None)
  labels = None if labels is None else np.asarray(labels)
  return labels if labels is not None and labels.ndim == 1 and labels.dtype.kind in 'iu' else None


def _classes(info: Info, learned: Any) -> Int[np.ndarray, ' k'] | None:
  """The classes which there are examples of to learn from, where that is known."""
  if info.class_counts:
    return np.flatnonzero(info.class_counts)
  labels = _labels(learned)
  return None if labels is None else np.unique(labels)


def _names(names: tuple[str, ...]) -> str:
  return f'{", ".join(map(repr, names[:5]))}{", ..." if len(names) > 5 else ""} ({len(names)})'
