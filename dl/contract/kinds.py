"""Kinds of data, a row each: what a column of a batch holds, how it becomes floats, and where its facts come from.

A column is of the kind of its own name, or of the one that its source states: `kinds = {'left': 'image'}`. A kind of
one's own is a row in a file of one's own, named by its dotted path:

    WAVE = Kind(name=f'{__name__}.WAVE', to_float=lambda x: x / 32768.0, inputs=True, statistics=of_wave)

    class Recordings:
      kinds = {'wave': WAVE}
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Num

from dl.errors import ConfigError

if TYPE_CHECKING:
  from dl.contract.info import Info

Wrong = tuple[int, str]
"""(row, what is wrong with it)."""


FINITE = 'the features hold {}; fill in what is missing, or leave the example out'
"""What is said of features with a number that is not finite."""


_ROUNDED = 1e-3
"""By so much an image may leave [0, 1], as resizing does."""


def compact(values: Num[np.ndarray, '...']) -> Num[np.ndarray, '...']:
  """One of the dtypes that batches hold: bytes (and booleans) as uint8, other whole numbers int32, floats float32."""
  if values.dtype.kind == 'f':
    return values.astype(np.float32, copy=False)
  return values.astype(np.uint8 if values.dtype.kind == 'b' or values.dtype == np.uint8 else np.int32, copy=False)


def whole(values: Num[np.ndarray, '...']) -> Num[np.ndarray, '...']:
  """As `compact`, with bytes as int32, too."""
  return values.astype(np.float32 if values.dtype.kind == 'f' else np.int32, copy=False)


def pixels(values: Num[np.ndarray, '...']) -> Num[np.ndarray, '...']:
  """As `compact`; images of 16 bits become floats in [0, 1]."""
  return values.astype(np.float32) / np.float32(65535) if values.dtype == np.uint16 else compact(values)


def stack(examples: Sequence[Num[np.ndarray, '...']]) -> Num[np.ndarray, 'b ...']:
  """Examples of one shape as a batch; raises ConfigError where two differ."""
  first = np.shape(examples[0])
  for example in examples:
    if np.shape(example) != first:
      raise ConfigError(
        f'examples differ in shape: {first} and {np.shape(example)}; resize them, crop them with a transform, or give '
        f'their kind a `join`'
      )
  return np.stack(examples)


def stack_images(images: Sequence[Num[np.ndarray, 'h w c']]) -> Num[np.ndarray, 'b h w c']:
  """As `stack`; where some are bytes and others floats in [0, 1], all become floats."""
  if len({image.dtype for image in images}) > 1:
    images = [image.astype(np.float32) / np.float32(255) if image.dtype == np.uint8 else image for image in images]
  return stack(images)


def as_float(images: Num[Array, '...']) -> Float[Array, '...']:
  """Images as float32 in [0, 1]: unsigned bytes are divided by 255, floats pass."""
  if images.dtype == jnp.uint8:
    return images.astype(jnp.float32) / 255.0
  return images.astype(jnp.float32)


def as_numbers(values: Num[Array, '...']) -> Float[Array, '...']:
  """Numbers as float32, as they are."""
  return values.astype(jnp.float32)


def nothing_wrong(values: Num[Any, 'b ...'], info: 'Info') -> None:
  """Any values will do."""
  return None


def no_images(images: Num[np.ndarray, 'b ...'], info: 'Info') -> Wrong | None:
  """An image is stored as [height, width, channels], in bytes or floats from 0 to 1."""
  shape = images.shape[1:]
  if len(shape) == 3 and shape[0] in (1, 3, 4) and shape[2] > 4 and shape[0] < min(shape[1:]):
    return 0, (
      f'an image of shape {shape} is stored channels-first; store it as [height, width, channels]: '
      f'{(*shape[1:], shape[0])}'
    )
  if images.dtype == np.uint8 or not images.size or (images.min() >= -_ROUNDED and images.max() <= 1 + _ROUNDED):
    return None
  if wrong := not_finite(images, info, 'the image holds {}; fill in what is missing, or leave the example out'):
    return wrong
  row, value = _first(images, (images < -_ROUNDED) | (images > 1 + _ROUNDED))
  return (
    row,
    f'the image holds {value:g}; store bytes (uint8), or floats from 0 to 1 (normalize=True of a task does more)',
  )


def no_such_images(images: Num[Array, 'b ...'], info: 'Info') -> str | None:
  """Images have the size and the channels of those of the data, and are bytes or floats in [0, 1]."""
  if info.image_size is None:
    return None
  shape = np.shape(images)
  if len(shape) != 4 or shape[-1] != info.channels:
    first = ': move the channels to the end' if len(shape) == 4 and shape[1] == info.channels else ''
    return f'expected images [batch, height, width, {info.channels}], got the shape {shape}{first}'
  if shape[1:3] != info.image_size:
    size = lambda hw: f'{hw[0]}x{hw[1]}'
    return f'the model has learned from images of {size(info.image_size)}, got {size(shape[1:3])}; resize them'
  if images.dtype != np.uint8 and not np.issubdtype(images.dtype, np.floating):
    return f'expected bytes (uint8), or floats from 0 to 1, got {images.dtype}'
  if isinstance(images, np.ndarray) and images.dtype != np.uint8 and not (images.min() >= 0 and images.max() <= 1):
    return f'expected bytes, or floats from 0 to 1, got {images.min():g} to {images.max():g}'
  return None


def no_such_features(values: Num[Array, 'b ...'], info: 'Info') -> str | None:
  """A row has as many features as those of the data, all of them finite."""
  known = info.feature_names or info.mean
  count, shape = info.fact('feature_count') if known is None or len(known) == 1 else len(known), np.shape(values)
  if count is not None and (len(shape) < 2 or shape[-1] != count):
    return f'the model has learned from {count} features a row, got the shape {shape}'
  bad = not_finite(values, info, FINITE) if isinstance(values, np.ndarray) else None
  return bad and f'row {bad[0]}: {bad[1]}'


def no_such_tokens(values: Num[Array, 'b n'], info: 'Info') -> str | None:
  """Token ids are below the size of the vocabulary."""
  bad = outside_vocabulary(values, info) if isinstance(values, np.ndarray) else None
  return bad and f'row {bad[0]}: {bad[1]}'


def broken_series(series: Num[np.ndarray, 'b n c'], info: 'Info') -> Wrong | None:
  """Values are finite; a series that is shorter than others ends in steps all of whose channels are NaN."""
  finite = np.isfinite(series)
  if finite.all():
    return None
  ended = np.isnan(series).all(-1)
  real = ~np.logical_and.accumulate(ended[:, ::-1], 1)[:, ::-1]
  bad = ~finite & real[..., None]
  bad[~real.any(1)] = True  # of no step at all
  if not bad.any():
    return None
  row, value = _first(series, bad)
  step = int(np.argmax(bad[row].any(-1)))
  return row, f'step {step} of the series holds {value}; fill in what is missing, or leave the example out'


def no_such_series(values: Num[Array, 'b n c'], info: 'Info') -> str | None:
  """Series have the channels of those of the data and, where all of these were of one length, theirs."""
  shape, length = np.shape(values), info.fact('length')
  channels = None if info.mean is None else len(info.mean)
  if len(shape) != 3 or (channels is not None and shape[2] != channels) or (length is not None and shape[1] != length):
    steps = 'steps' if length is None else length
    return f'expected series [batch, {steps}, {"channels" if channels is None else channels}], got the shape {shape}'
  bad = broken_series(values, info) if isinstance(values, np.ndarray) else None
  return bad and f'row {bad[0]}: {bad[1]}'


def outside_classes(labels: Num[np.ndarray, 'b ...'], info: 'Info') -> Wrong | None:
  """Classes are numbered from 0; how many there are is known where the data set says so, or else the model."""
  first = _first_outside(labels, info.num_classes)
  if first is None:
    return _no_whole_numbers(labels, 'the label is')
  return first[0], f'the label is {first[1]}{_classes(first[1], info)}'


def outside_classes_or_void(labels: Num[np.ndarray, 'b h w'], info: 'Info') -> Wrong | None:
  """As `outside_classes`, but for pixels which have no class."""
  first = _first_outside(labels, info.num_classes, info.void_label)
  if first is None:
    return _no_whole_numbers(labels, 'the label_map holds')
  row, value = first
  void = '' if info.void_label is None else f', beside {info.void_label} for pixels without one'
  may_be_void = info.void_label is None and not value % 1
  advice = f', or leave such pixels out by config.task.void_label={value}' if may_be_void else ''
  return row, f'the label_map holds {value}{_classes(value, info, void)}{advice}'


def outside_vocabulary(tokens: Num[np.ndarray, 'b n'], info: 'Info') -> Wrong | None:
  """Token ids are below the size of the vocabulary; negative ones are padding."""
  if info.vocab_size is None or tokens.dtype.kind not in 'iu' or not tokens.size or tokens.max() < info.vocab_size:
    return None
  row, value = _first(tokens, tokens >= info.vocab_size)
  return row, (
    f'the tokens hold {value}; ids go from 0 to {info.vocab_size - 1}: encode the text by that vocabulary, or raise '
    f'the vocab_size of data and model'
  )


def outside_target_vocabulary(tokens: Num[np.ndarray, 'b n'], info: 'Info') -> Wrong | None:
  """As `outside_vocabulary`, of the texts that are to be written."""
  return outside_vocabulary(tokens, info.of_targets())


def no_such_words(words: Num[np.ndarray, 'b n ids'], info: 'Info') -> Wrong | None:
  """As `outside_vocabulary`, of words and, behind each, its characters."""
  characters = info.fact('characters')
  bad = outside_vocabulary(words[..., 0], info)
  if bad or characters is None or words[..., 1:].size == 0 or words[..., 1:].max() < len(characters):
    return bad
  row, value = _first(words[..., 1:], words[..., 1:] >= len(characters))
  return row, f'a word holds the character {value}; ids go from 0 to {len(characters) - 1}'


def outside_tags(tags: Num[np.ndarray, 'b n'], info: 'Info') -> Wrong | None:
  """Classes of words are numbered from 0; -1 is for what pads a shorter sentence."""
  first = _first_outside(tags, info.num_classes, -1)
  return first and (first[0], f'the tag is {first[1]}{_classes(first[1], info)}')


def not_finite(values: Num[np.ndarray, 'b ...'], info: 'Info', says: str) -> Wrong | None:
  """Numbers are finite; `says` what is wrong otherwise, with {} in the place of the one that is not."""
  if values.dtype.kind != 'f' or (finite := np.isfinite(values)).all():
    return None
  row, value = _first(values, ~finite)
  return row, says.format(value)


def _first(values: np.ndarray, bad: np.ndarray) -> tuple[int, Any]:
  """(row, value) of the first that is bad."""
  row, place = divmod(int(bad.argmax()), bad[0].size)
  return row, values.reshape(len(values), -1)[row, place]


def _first_outside(labels: np.ndarray, classes: int | None, void: int | None = None) -> tuple[int, Any] | None:
  if labels.dtype.kind not in 'iuf' or not labels.size:
    return None
  most, whole_numbers = np.inf if classes is None else classes - 1, labels.dtype.kind != 'f'
  if whole_numbers and labels.min() >= 0 and labels.max() <= most:
    return None
  bad = (labels < 0) | (labels > most)
  if not whole_numbers:
    bad |= labels % 1 != 0
  if void is not None:
    bad &= labels != void
  return _first(labels, bad) if bad.any() else None


def _no_whole_numbers(labels: np.ndarray, says: str) -> Wrong | None:
  """Classes are stored as whole numbers: an index cannot be a float, even one without a fraction."""
  if labels.dtype.kind != 'f' or not labels.size:
    return None
  return 0, f'{says} {labels.flat[0]}, a {labels.dtype}; store classes as whole numbers (int32), or predict a target'


def _classes(value: Any, info: 'Info', beside: str = '') -> str:
  """What is right in place of a label, and how to come by it."""
  if value % 1:
    return ', which is no class: classes are whole numbers, numbers to predict a target'
  most = '' if info.num_classes is None else f' to {info.num_classes - 1}'
  advice = 'leave out what has none' if value < 0 else 'number them so, or raise the num_classes of data and model'
  return f'; classes are numbered from 0{most}{beside}: {advice}'


@dataclasses.dataclass(frozen=True, kw_only=True)
class Kind:
  """What a column of a batch is.

  Attributes:
    name: its key in `KINDS`, or the dotted path of this row, by which a trained run finds it again.
    inputs: whether models read it; otherwise it is an answer, or something beside the example.
    batch: values of a source, of any numeric dtype -> one of the dtypes that batches hold (uint8, int32, float32).
    join: a list of such examples -> [b, ...]. Those of a ragged kind may differ in shape; what they are joined to must
      not, however many they are, since a training step is compiled for one shape: they are padded to a size of the
      kind's own, say. A source which is gathered by an index joins its examples itself.
    to_float: that array, on the device -> as models see it; traced in the compiled step.
    facts: what of `Info` its statistics say; those which the source states itself are left as they are.
    statistics: (values of the training part [n, ...], what is known already) -> facts by name: the function, or its
      dotted path below `dl.data.statistics`. What is no field of `Info` is kept in `Info.more`.
    of_all: whether statistics need every training example; otherwise a sample of them is enough where they have to be
      read one by one.
    wrong: (values [b, ...], info) -> (row, what is wrong with it), or None: looked at on the host, in every batch. The
      model's number of outputs is in `info` where the data states none (`dl.contract.task.Task.limits`).
    unfit: (what a user gives to `predict`, info) -> why the model cannot have learned from the like, or None.
    reader: what `dl.predict` reads files by: a class of `dl.data.readers.FileReader`, or its dotted path
      below `dl.data.readers`; None for what nothing is predicted from.
  """

  name: str
  inputs: bool = False
  batch: Callable[[Any], Any] = compact
  join: Callable[[Sequence[Any]], Any] = stack
  to_float: Callable[[Any], Any] = lambda x: x
  facts: tuple[str, ...] = ()
  statistics: str | Callable[[Any, 'Info'], Mapping[str, Any]] | None = None
  of_all: bool = False
  wrong: Callable[[Any, 'Info'], Wrong | None] = nothing_wrong
  unfit: Callable[[Any, 'Info'], str | None] = nothing_wrong
  reader: str | type | None = None


IMAGE = Kind(
  name='image',  # [h, w, c] bytes, or floats in [0, 1]
  inputs=True,
  batch=pixels,
  join=stack_images,
  to_float=as_float,
  facts=('mean', 'std', 'image_size', 'channels'),
  statistics='of_images',
  wrong=no_images,
  unfit=no_such_images,
  reader='Images',
)
FEATURES = Kind(
  name='features',  # [f] numbers
  inputs=True,
  to_float=as_numbers,
  facts=('mean', 'std'),
  statistics='of_features',
  wrong=functools.partial(not_finite, says=FINITE),
  unfit=no_such_features,
  reader='Features',
)
TOKENS = Kind(
  name='tokens',  # [length + 1] token ids, negative ones padding; their vocabulary is the source's to state
  inputs=True,
  batch=whole,
  facts=('vocab_size', 'vocabulary', 'tokenizer'),
  wrong=outside_vocabulary,
  unfit=no_such_tokens,
  reader='Tokens',
)
TARGET_TOKENS = Kind(
  name='target_tokens',  # [length] ids of a text that is to be written, and of its end; negative ones padding
  batch=whole,
  wrong=outside_target_vocabulary,
)
SERIES = Kind(
  name='series',  # [steps, channels] numbers; a shorter one ends in NaN
  inputs=True,
  to_float=as_numbers,
  facts=('mean', 'std'),
  statistics='of_series',
  wrong=broken_series,
  unfit=no_such_series,
  reader='Series',
)
WORDS = Kind(
  name='words',  # [length, 1 + characters] ids of a word and of its characters, negative ones padding
  inputs=True,
  batch=whole,
  facts=('vocab_size', 'vocabulary'),
  wrong=no_such_words,
  reader='Words',
)
LABEL = Kind(
  name='label',  # a class index
  batch=whole,
  facts=('num_classes', 'class_names', 'class_counts'),
  statistics='of_labels',
  of_all=True,
  wrong=outside_classes,
)
TARGET = Kind(
  name='target',  # a number
  facts=('target_mean', 'target_std'),
  statistics='of_target',
  of_all=True,
  wrong=functools.partial(
    not_finite, says='the target is {}, which cannot be learned; leave out an example without a finite one'
  ),
)
TAGS = Kind(
  name='tags',  # [length] class indices of words, -1 beside them
  batch=whole,
  facts=('num_classes', 'class_names'),
  wrong=outside_tags,
)
LABEL_MAP = Kind(
  name='label_map',  # [h, w] class indices, beside one that stands for none
  facts=('num_classes', 'class_names', 'class_counts', 'void_label'),
  wrong=outside_classes_or_void,
)
OTHER = Kind(name='other')
"""What stands beside an example and is none of these: an id, say."""

_ALL = (IMAGE, FEATURES, TOKENS, TARGET_TOKENS, SERIES, WORDS, LABEL, TAGS, TARGET, LABEL_MAP, OTHER)
KINDS = {kind.name: kind for kind in _ALL}
