"""What a data set says about itself: plain values that a task may need long after the data is gone."""

import dataclasses
from typing import Any, Self


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
    vocabulary: one string a token id; None for UTF-8 bytes.
    image_size: (height, width) which image files are resized to before prediction.
    channels: number of image channels.
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
  image_size: tuple[int, int] | None = None
  channels: int | None = None

  def to_json(self) -> dict[str, Any]:
    """The fields which are set, as JSON values."""
    return {k: v for k, v in dataclasses.asdict(self).items() if v is not None}

  @classmethod
  def from_json(cls, values: dict[str, Any]) -> Self:
    """The inverse of `to_json`."""
    return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})
