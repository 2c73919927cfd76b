"""TensorFlow Datasets by name, read from prepared array_record files without TensorFlow."""

import concurrent.futures
import contextlib
import functools
import math
import pathlib
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
from absl import logging

from dl.config.bounds import Count, NotNegative, Size
from dl.contract.info import Info
from dl.data import statistics
from dl.data.source import Example, standard
from dl.data.sources import images
from dl.errors import ConfigError, first_line, nearest

CHUNK = 256
IN_MEMORY_BYTES = 2**31
"""A set which takes at most this many bytes when decoded is decoded once and kept in memory."""


class Tfds:
  """A data set of TensorFlow Datasets (https://www.tensorflow.org/datasets) which has been prepared as array_record.

  Images become `image` (uint8), class labels `label`, a number to predict `target`, and other numbers `features`.
  A set has splits of its own, whose names TFDS reads, slices among them; so this class takes `split` itself.
  """

  def __init__(
    self,
    dataset: str,
    split: str = 'train',
    *,
    data_dir: str | None = None,
    builder_kwargs: dict | None = None,
    validation: NotNegative | Count = 0,
    inputs: str | None = None,
    targets: str | None = None,
    image_size: tuple[Size, Size] | None = None,
    resize: bool = True,
    in_memory: bool | None = None,
    on_error: Literal['stop', 'skip'] = 'stop',
  ):
    """Opens the set, and decodes it if it is to be in memory.

    Args:
      dataset: its official name, such as 'mnist' or 'glue/cola'.
      split: a split, or a slice such as 'train[:90%]' or 'train+test'; 'all' is every split.
      data_dir: where prepared sets are; None is TFDS's own default, ~/tensorflow_datasets.
      builder_kwargs: arguments of the set's builder.
      validation: share or count of the training split's last examples which are the split 'validation' instead; for
        sets that have none.
      inputs: feature to learn from; None takes the set's own choice (its supervised keys).
      targets: feature to predict; likewise.
      image_size: (height, width) to resize images to; needed where they differ in size.
      resize: False leaves each image at its own size, for a `transform` which crops to `image_size`.
      in_memory: whether to decode once and keep the arrays; None does so where they take at most 2 GiB.
      on_error: 'skip' leaves images which cannot be decoded out of the mean and deviation.

    Raises:
      ConfigError: a set which is not there or not prepared, an unknown split or feature, or undecodable images.
    """
    self._open = functools.partial(_open, dataset, data_dir, dict(builder_kwargs or {}))
    facts = self._open('all', None).dataset_info
    self._train_split, split = _carve(split, facts, validation)
    self._columns = _columns(facts, inputs, targets)
    self._size = _image_size(self._columns, facts, image_size)
    self._facts = facts
    self._data = self._open(split, self._decoders())
    self._info: Info | None = None
    self._split = split
    self._resize = resize
    if in_memory and not resize:
      raise ConfigError('in_memory: images in memory have one size, so they need resize=True')
    if in_memory is None:
      in_memory = resize and len(self._data) * self._bytes_per_example() <= IN_MEMORY_BYTES
    self._skips = on_error == 'skip'
    self._unreadable: dict[int, str] = {}
    self.columns = self._load(self._data, self._unreadable) if in_memory else None

  @property
  def vectorized(self) -> bool:
    """Whether the examples are in memory, so that a batch is one gather."""
    return self.columns is not None

  @property
  def info(self) -> Info:
    """Facts of the training part; their first use decodes it where another part was built, or a sample of it."""
    if self._info is None:
      if self._split == self._train_split and self.columns is not None:
        columns, unreadable = self.columns, self._unreadable
      else:
        data = self._open(self._train_split, self._decoders())
        exact = len(data) * self._bytes_per_example() <= IN_MEMORY_BYTES
        columns = self._load(data, unreadable := {}, None if exact else statistics.SAMPLE)
      if unreadable:
        columns = {name: np.delete(values, list(unreadable), axis=0) for name, values in columns.items()}
      self._info = Info(**self._statistics(columns))
    return self._info

  def __len__(self) -> int:
    return len(self._data)

  def __getitem__(self, index: Any) -> Example:
    if self.columns is None:
      return self._example(self._data[index], self._size if self._resize else None)
    for i in np.intersect1d(index, list(self._unreadable)) if self._unreadable else ():
      raise ConfigError(self._unreadable[int(i)])
    return {name: values[index] for name, values in self.columns.items()}

  def _decoders(self) -> dict[str, Any]:
    """Images are decoded here: TFDS would say that OpenCV is missing, and does not resize."""
    import tensorflow_datasets as tfds

    return {f: tfds.decode.SkipDecoding() for key, f in self._columns.items() if key == 'image'}

  def _example(self, raw: Example, size: tuple[int, int] | None) -> Example:
    result = {}
    for key, feature in self._columns.items():
      value = raw[feature]
      if key == 'image':
        channels = self._facts.features[feature].shape[-1]
        try:
          value = images.decode(value, size, channels)
        except (OSError, ValueError, SyntaxError, EOFError) as e:
          raise ConfigError(f'{self._facts.name}: an image cannot be decoded: {first_line(e)}') from e
      elif key == 'features':
        value = np.asarray(value, np.float32).reshape(-1)
      elif key == 'target':
        value = np.float32(value)
      result[key] = standard(key, value)
    return result

  def _bytes_per_example(self) -> int:
    sizes = []
    for key, feature in self._columns.items():
      shape = self._facts.features[feature].shape
      if key == 'image':
        sizes.append(math.prod((*self._size, shape[-1])))
      else:
        sizes.append(4 * math.prod(shape))
    return sum(sizes)

  def _load(self, data: Any, unreadable: dict[int, str], sample: int | None = None) -> Example:
    """Every example, or so many evenly spread ones, as columns; of those which are skipped (place, why) is noted."""
    index = np.arange(len(data))
    if sample is not None and sample < len(data):
      index = np.unique(np.linspace(0, len(data) - 1, sample).astype(int))
    chunks = [index[i : i + CHUNK].tolist() for i in range(0, len(index), CHUNK)]
    columns: Example = {}

    def fill(number: int) -> None:
      for i, raw in enumerate(data.__getitems__(chunks[number]), number * CHUNK):
        try:
          example = self._example(raw, self._size)
        except ConfigError as e:
          if not self._skips:
            raise ConfigError(f'example {index[i]}: {e}') from e
          unreadable[i] = str(e)
          continue
        for name, value in example.items():
          columns[name][i] = value

    for name, value in self._first(data, index).items():
      columns[name] = np.zeros((len(index), *value.shape), value.dtype)
    with concurrent.futures.ThreadPoolExecutor() as pool:
      for _ in images.progress(pool.map(fill, range(len(chunks))), len(chunks), f'decoding {self._facts.name}'):
        pass
    return columns

  def _first(self, data: Any, index: np.ndarray) -> Example:
    """The first example that can be read, of those at an index, or the error of the first."""
    error = None
    for i in index:
      try:
        return self._example(data[int(i)], self._size)
      except ConfigError as e:
        error = error or ConfigError(f'example {i}: {e}')
        if not self._skips:
          break
    raise error

  def _statistics(self, columns: Example) -> dict[str, Any]:
    facts: dict[str, Any] = {}
    if 'image' in columns:
      facts |= statistics.of_images(columns['image'], Info())
    elif 'features' in columns:
      facts |= statistics.of_features(columns['features'], Info())
      facts['feature_names'] = tuple(f'{self._columns["features"]}_{i}' for i in range(columns['features'].shape[1]))
    if 'label' in columns:
      feature = self._facts.features[self._columns['label']]
      names = tuple(str(name) for name in feature.names)
      facts |= {'class_names': names} | statistics.of_labels(columns['label'], Info(class_names=names))
      facts['target_name'] = self._columns['label']
    elif 'target' in columns:
      facts |= statistics.of_target(columns['target'], Info())
      facts['target_name'] = self._columns['target']
    return facts


def _open(dataset: str, data_dir: str | None, builder_kwargs: dict[str, Any], split: str, decoders: Any) -> Any:
  """A random-access TFDS data source; every way in which that fails is one line."""
  import tensorflow_datasets as tfds

  try:
    with _quiet():
      return tfds.data_source(
        dataset, split=split, data_dir=data_dir, download=False, decoders=decoders, builder_kwargs=builder_kwargs
      )
  except tfds.core.DatasetNotFoundError as e:
    raise ConfigError(f'TFDS has no data set {dataset!r}; {nearest(dataset, _known(data_dir))}') from e
  except (AssertionError, KeyError, FileNotFoundError, NotImplementedError, ImportError) as e:
    folder = data_dir or '~/tensorflow_datasets'
    if 'version' in str(e):
      raise ConfigError(first_line(e).rpartition('": ')[2]) from e
    here = ', '.join(_prepared(data_dir)) or 'none'
    raise ConfigError(
      f'the data set {dataset!r} is not prepared as array_record in {folder} (prepared there: {here}); prepare it '
      f"once: pip install -e '.[prepare]' && tfds build {dataset} --file_format=array_record --data_dir={folder}"
    ) from e
  except (ValueError, TypeError) as e:
    if 'Paths sequence' in str(e):
      raise ConfigError(f'split: {split!r} of {dataset} is empty') from e
    if 'split' in str(e):
      raise ConfigError(f'split: {dataset}: {first_line(e)}') from e
    raise ConfigError(f'{dataset}: {first_line(e)}') from e


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
  """Keeps TFDS's remarks on missing files off stderr; what they mean is in the error."""
  before = logging.get_verbosity()
  logging.set_verbosity(logging.ERROR)
  try:
    yield
  finally:
    logging.set_verbosity(before)


def _prepared(data_dir: str | None) -> list[str]:
  """Names of the sets which have been prepared in a folder."""
  root = pathlib.Path(data_dir or '~/tensorflow_datasets').expanduser()
  return sorted({p.relative_to(root).parts[0] for p in root.glob('*/**/dataset_info.json')}) if root.is_dir() else []


def _known(data_dir: str | None) -> list[str]:
  import tensorflow_datasets as tfds

  return [*_prepared(data_dir), *tfds.list_builders(with_community_datasets=False)]


def _carve(split: str, facts: Any, validation: float | int) -> tuple[str, str]:
  """(TFDS split of the training part, TFDS split to read)."""
  if isinstance(validation, bool) or not isinstance(validation, int | float) or validation < 0:
    raise ConfigError(f'validation: expected a fraction below 1 or a number of examples, got {validation!r}')
  if not validation:
    if split == 'validation' and 'validation' not in facts.splits:
      raise ConfigError(
        f"split: {facts.name} has no split 'validation', only {', '.join(facts.splits)}; set validation=0.1, say"
      )
    return (split if split.startswith('train') and '+' not in split else 'train'), split
  if 'validation' in facts.splits:
    raise ConfigError(f"validation: {facts.name} has a split 'validation' of its own; leave this out")
  n = facts.splits['train'].num_examples
  count = validation if isinstance(validation, int) else math.ceil(round(validation * n, 9))
  if not 0 < count < n:
    raise ConfigError(f'validation: {validation} of {n} examples leaves nothing to train on')
  carved = {'train': f'train[:{n - count}]', 'validation': f'train[{n - count}:]'}
  if split not in carved and 'train' in split:
    raise ConfigError(f'split: {split!r} would overlap with validation={validation}; use one of the two')
  return carved['train'], carved.get(split, split)


def _columns(facts: Any, inputs: str | None, targets: str | None) -> dict[str, str]:
  """Key of a batch -> feature of the set."""
  import tensorflow_datasets as tfds

  features = facts.features
  if not isinstance(features, tfds.features.FeaturesDict):
    raise ConfigError(f'{facts.name}: its examples are not dicts of features, which this source cannot read')
  keys = facts.supervised_keys
  if inputs is None or targets is None:
    own = keys if isinstance(keys, tuple) and len(keys) == 2 and all(isinstance(k, str) for k in keys) else (None, None)
    inputs, targets = inputs or own[0], targets or own[1]
  if inputs is None:
    raise ConfigError(f'{facts.name} does not say what to learn from; set inputs= and targets= ({", ".join(features)})')
  for name in (inputs, targets):
    if name is not None and name not in features:
      raise ConfigError(f'{facts.name} has no feature {name!r}; {nearest(name, features)}')
  columns = {}

  def numeric(feature: Any) -> bool:
    plain = isinstance(feature, tfds.features.Tensor) and not isinstance(feature, tfds.features.ClassLabel)
    return plain and np.dtype(feature.np_dtype).kind in 'biuf'  # `dtype` would import TensorFlow

  if isinstance(features[inputs], tfds.features.Image):
    columns['image'] = inputs
  elif numeric(features[inputs]) and None not in features[inputs].shape:
    columns['features'] = inputs
  else:
    raise ConfigError(f'{facts.name}: {inputs!r} is neither an image nor numbers, but {features[inputs]!r}')
  if targets is not None:
    if isinstance(features[targets], tfds.features.ClassLabel):
      columns['label'] = targets
    elif numeric(features[targets]) and not features[targets].shape:
      columns['target'] = targets
    else:
      raise ConfigError(f'{facts.name}: {targets!r} is neither a class nor a number, but {features[targets]!r}')
  return columns


def _image_size(columns: dict[str, str], facts: Any, size: tuple[int, int] | None) -> tuple[int, int] | None:
  if 'image' not in columns:
    if size is not None:
      raise ConfigError(f'image_size: {facts.name} has no images')
    return None
  *own, channels = facts.features[columns['image']].shape
  if size is None and None in own:
    raise ConfigError(f'{facts.name}: its images differ in size; set image_size=(height, width)')
  size = tuple(own) if size is None else tuple(size)
  images.check_size(size, channels)
  return size
