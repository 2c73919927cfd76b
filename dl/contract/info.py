"""What a data set says about itself: plain values that a task may need long after the data is gone."""

import dataclasses
from collections.abc import Callable, Collection, Mapping
from typing import Any, Self

from dl.contract.kinds import KINDS, OTHER, Kind


@dataclasses.dataclass(frozen=True, kw_only=True)
class Info:
  """Facts about a data set, saved in `run.json` so that a trained model never needs the set again.

  Attributes:
    num_classes: number of classes, for labelled data.
    class_names: one name a class, in label order.
    class_counts: examples of each class in the training split (for class weights).
    feature_names: names of the columns of `features`.
    target_name: name of the regression target or label column.
    mean: mean of the inputs over the training split: per feature (tabular) or per channel (images in [0, 1]).
    std: standard deviation, likewise; never zero.
    target_mean: mean of a regression target over the training split.
    target_std: its standard deviation; never zero.
    vocab_size: number of token ids, for text.
    vocabulary: one string a token id; None for UTF-8 bytes, or for those of a tokenizer.
    tokenizer: the JSON of a tokenizer of subwords (`dl.data.tokenizers.subwords`), which a run keeps in a file.
    void_label: label of pixels which have no class.
    image_size: (height, width) which image files are resized to before prediction.
    channels: number of image channels.
    table: (name, value) of how the text of tables is read (`dl.data.tables.Format`).
    columns: those of a batch, where there is one.
    kinds: (column, its kind) of the columns whose kind is not that of their own name.
    more: (name, value) of facts that are none of the above: those of kinds of one's own.
  """

  num_classes: int | None = None
  class_names: tuple[str, ...] | None = None
  class_counts: tuple[int, ...] | None = None
  feature_names: tuple[str, ...] | None = None
  target_name: str | None = None
  mean: tuple[float, ...] | None = None
  std: tuple[float, ...] | None = None
  target_mean: float | None = None
  target_std: float | None = None
  vocab_size: int | None = None
  vocabulary: tuple[str, ...] | None = None
  tokenizer: str | None = None
  void_label: int | None = None
  image_size: tuple[int, int] | None = None
  channels: int | None = None
  table: tuple[tuple[str, Any], ...] | None = None
  columns: tuple[str, ...] | None = None
  kinds: tuple[tuple[str, Kind], ...] | None = None
  more: tuple[tuple[str, Any], ...] | None = None

  def kind(self, column: str) -> Kind:
    """What a column of a batch is: by default what its name says."""
    return dict(self.kinds or ()).get(column) or KINDS.get(column, OTHER)

  def inputs(self, columns: Collection[str]) -> tuple[str, ...]:
    """Those columns of a batch which models read: of kinds that the source states first, then in order of `KINDS`."""
    stated = dict(self.kinds or ())
    order = [*stated, *(name for name in KINDS if name not in stated)]
    return tuple(name for name in order if name in columns and self.kind(name).inputs)

  @property
  def input(self) -> str | None:
    """The column which a model with one input reads; None without data, or where no model reads any of it."""
    return next(iter(self.inputs(self.columns or ())), None)

  def of_kind(self, kind: Kind, columns: Collection[str]) -> tuple[str, ...]:
    """Those columns of a batch which are of a kind, in the order of `inputs` or else of the batch."""
    return tuple(name for name in dict.fromkeys((*self.inputs(columns), *columns)) if self.kind(name) is kind)

  def fact(self, name: str) -> Any:
    """A fact by its name, be it a field or one of `more`; None where it is not known."""
    return getattr(self, name) if name in FIELDS else dict(self.more or ()).get(name)

  def of_targets(self) -> Self:
    """Facts of the texts that are to be written, of pairs of texts, where they have a vocabulary of their own."""
    size = self.fact('target_vocab_size')
    own = dict(vocab_size=size, vocabulary=self.fact('target_vocabulary'), tokenizer=None)
    return self if size is None else dataclasses.replace(self, **own)

  def completed(self, facts: Mapping[str, Any]) -> Self:
    """With those of the facts which are not known yet."""
    new = {name: value for name, value in facts.items() if self.fact(name) is None}
    more = (*(self.more or ()), *((name, value) for name, value in new.items() if name not in FIELDS))
    return dataclasses.replace(self, **{n: v for n, v in new.items() if n in FIELDS} | {'more': more or None})

  def to_json(self) -> dict[str, Any]:
    """The fields which are set, as JSON values; a kind is its name."""
    values = {field: getattr(self, field) for field in FIELDS if getattr(self, field) is not None}
    return values | ({'kinds': tuple((c, kind.name) for c, kind in self.kinds)} if self.kinds else {})

  @classmethod
  def from_json(cls, values: Mapping[str, Any], find: Callable[[str], Kind] = KINDS.__getitem__) -> Self:
    """The inverse of `to_json`; `find` gives a kind by its name."""
    values = {name: _tuples(value) for name, value in values.items()}
    if 'kinds' in values:
      values['kinds'] = tuple((column, find(name)) for column, name in values['kinds'])
    return cls(**values)


FIELDS = tuple(field.name for field in dataclasses.fields(Info))

SAID_BY_TASKS = ('void_label',)
"""Facts that a task may say of the data, by an argument of the same name."""


def to_float(batch: Mapping[str, Any], info: Info) -> dict[str, Any]:
  """The batch as models see it: images as float32 in [0, 1], say."""
  return {column: info.kind(column).to_float(values) for column, values in batch.items()}


def _tuples(value: Any) -> Any:
  return tuple(map(_tuples, value)) if isinstance(value, list | tuple) else value
