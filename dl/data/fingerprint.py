"""What tells data from other data: how many examples there are, and hashes of some, by which a run knows its own."""

import dataclasses
import hashlib
from collections.abc import Iterator, Mapping
from typing import Any, Self

import numpy as np
from jaxtyping import Int

from dl.contract.info import Info
from dl.data.parts import Part
from dl.data.pipeline import Pipeline
from dl.data.source import Arrays
from dl.errors import ConfigError, StuckError, TrainingError
from dl.show.words import number

PLACES = 64
"""The examples are looked at in so many places, evenly spread."""

BYTES = 2**28
"""Data in memory is hashed whole up to this size; of larger data, the beginning of each stretch between two places."""

TOLERANCE = 1e-4
"""Of statistics, relatively: those of the same data differ in the last digits from one machine to the next."""


@dataclasses.dataclass(frozen=True)
class Fingerprint:
  """What is kept of the examples of a source.

  Attributes:
    examples: how many there are.
    whole: whether a hash is of all examples from its place to the next, and not of one alone.
    hashes: place -> hash; without those which could not be read.
  """

  examples: int
  whole: bool
  hashes: Mapping[int, str]

  def to_json(self) -> dict[str, Any]:
    """Plain values: the hashes are one text, in order of their places, with '-' for one that is missing."""
    hashes = ' '.join(self.hashes.get(place, '-') for place in _places(self.examples).tolist())
    return {'examples': self.examples, 'whole': self.whole, 'hashes': hashes}

  @classmethod
  def from_json(cls, values: Mapping[str, Any]) -> Self:
    """The inverse; raises TypeError, ValueError or LookupError for anything else."""
    count = int(values['examples'])
    hashes = zip(_places(count).tolist(), values['hashes'].split(), strict=True)
    return cls(count, bool(values['whole']), {place: text for place, text in hashes if text != '-'})

  def changed(self, now: 'Fingerprint') -> str | None:
    """How later examples differ from these; None where no difference shows."""
    if now.examples != self.examples:
      return f'{now.examples:,} examples, not {self.examples:,}'
    differ = [place for place, text in self.hashes.items() if now.hashes.get(place, text) != text]
    if not differ or now.whole != self.whole:
      return None
    where = f'example {differ[0]:,}' if not self.whole else f'examples from {differ[0]:,} on'
    return f'other values ({where}, and {len(differ) - 1} more of {len(self.hashes)} places)'


def of(pipeline: Pipeline) -> Fingerprint:
  """The fingerprint of the source of a pipeline, before any transform; reads at most `PLACES` examples one by one.

  Raises:
    StuckError: the time limit of the pipeline has passed in which no example came.
  """
  source = pipeline.source
  count = len(source)
  places = _places(count)
  table = source.source if isinstance(source, Part) else source
  if isinstance(table, Arrays):
    size = max(sum(column.nbytes for column in table.columns.values()), 1)
    ends = np.append(places[1:], count)
    if whole := size <= BYTES:
      stretches = zip(places, ends, strict=True)
    else:
      stretches = zip(places, places + np.maximum((ends - places) * BYTES // size, 1), strict=True)
    hashes = {int(a): _hash({k: v[a:b] for k, v in table.columns.items()}) for a, b in stretches}
    return Fingerprint(count, whole, hashes)
  contents = getattr(table, 'contents', {})
  if contents and sum(array.nbytes for array in contents.values()) <= BYTES:
    ends = np.append(places[1:], count)
    share = lambda array, a, b: array[len(array) * a // count : len(array) * b // count]
    stretch = lambda a, b: {name: share(array, int(a), int(b)) for name, array in contents.items()}
    return Fingerprint(count, True, {int(a): _hash(stretch(a, b)) for a, b in zip(places, ends, strict=True)})
  one_by_one = lambda index: dict(_examples(source, index, pipeline.timeout))
  hashes = one_by_one(places)
  again = one_by_one(places[:1])
  same = all(hashes.get(place, text) == text for place, text in again.items())
  return Fingerprint(count, False, hashes if same else {})  # a source that draws at random has none


def _examples(source: Any, index: np.ndarray, timeout: float) -> Iterator[tuple[int, str]]:
  """(place, hash) of those examples which can be read; training says what is wrong with others."""
  some = Pipeline(Part(source, index), 1, train=False, on_error='skip', timeout=timeout)
  try:
    for place, batch in zip(index.tolist(), some, strict=True):
      if batch.pop('mask').all():
        yield place, _hash(batch)
  except StuckError:
    raise
  except (ConfigError, TrainingError):
    return


def _places(count: int) -> Int[np.ndarray, ' k']:
  return np.unique(np.linspace(0, count, PLACES, endpoint=False).astype(np.int64))


def _hash(columns: Mapping[str, np.ndarray]) -> str:
  digest = hashlib.blake2b(digest_size=4)
  for name in sorted(columns):
    values = np.ascontiguousarray(columns[name])
    digest.update(f'{name} {values.shape} {values.dtype.name}'.encode())
    digest.update(values.data.cast('B') if values.size else b'')
  return digest.hexdigest()


def facts_changed(before: Info, now: Info) -> str | None:
  """How what is said about the data differs from what was said before, where both say something."""
  for field in dataclasses.fields(Info):
    a, b = getattr(before, field.name), getattr(now, field.name)
    if a is None or b is None or field.name in ('kinds', 'more') or a == b:
      continue
    if field.name == 'tokenizer':
      return 'the tokenizer is another one'
    several = isinstance(a, tuple) and isinstance(b, tuple)
    if not several:
      a, b = (a,), (b,)
    if len(a) != len(b):
      return f'{len(b)} {field.name}, not {len(a)}'
    for i, (old, new) in enumerate(zip(a, b, strict=True)):
      if not _alike(old, new, a):
        return f'{field.name} is {_short(new)}, was {_short(old)}' + (f' (number {i})' if several else '')
  return None


def _alike(old: Any, new: Any, all_old: tuple) -> bool:
  if not isinstance(old, float) or not isinstance(new, float):
    return old == new
  return abs(new - old) <= TOLERANCE * max(map(abs, all_old))


def _short(value: Any) -> str:
  return number(value) if isinstance(value, float) else repr(value)
