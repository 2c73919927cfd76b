"""Predictions of a trained model for files of a user, without the data set."""

import dataclasses
import math
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from dl.contract import keys
from dl.contract.info import Info
from dl.data.reading import read_inputs
from dl.data.tokenizers.vocabulary import decode
from dl.decoding import spans
from dl.errors import ConfigError, first_line
from dl.show.words import rounded
from dl.training import restore


@dataclasses.dataclass(frozen=True)
class Prediction:
  """What is predicted for one input.

  Attributes:
    input: its name: the file, or the place in one.
    outputs: the arrays that the task predicts, without the axis of the batch.
    info: what the run knows about its data.
    step: of the checkpoint that predicts.
  """

  input: str
  outputs: Mapping[str, np.ndarray]
  info: Info
  step: int | None = None

  def arrays(self) -> dict[str, Any]:
    """`input` and the outputs as they are, by the names and in the order of `row`.

    A `label` stays, as a number, after the name of its class, where the data set has names; other outputs keep theirs.
    """
    outputs, row = dict(self.outputs), {'input': self.input}
    own, names = self._own, self.info.class_names
    if 'label' in outputs and np.ndim(outputs['label']) == 0 and (own or names):
      row[own or 'class'] = names[outputs['label']] if names else outputs.pop('label')
    elif 'target' in outputs and np.ndim(outputs['target']) == 0:
      row[own or 'target'] = outputs.pop('target')
    elif targets := self._targets:
      row |= dict(zip(targets, outputs.pop('target').T, strict=True))
    return row | {name: value for name, value in outputs.items() if name not in row}

  def row(self) -> dict[str, Any]:
    """`input` and what people read, as plain values.

    A `label` or `target` comes first, under the name of the column that the model learned to predict, where the data
    set says one; otherwise a label is called `class`. Classes are called by their names, or numbers where they have
    none. A `probability` of each class becomes `p(cat)`, `p(dog)`, ..., in six decimals; other floats have seven
    digits, which is all that float32 knows. A number that is not finite is None. A forecast is a list of steps for
    each of the series, by its name. Of `tags`, the spans come first: each with its kind, the numbers of its first and
    last word, from 0, and its words. Of a text that is written for another one, there is the `text`; of a text with
    blanks, the `text` with what is filled in, and for each of its `blanks` the likeliest tokens, each with its
    probability.
    """
    outputs, row = dict(self.outputs), {'input': self.input}
    own, names = self._own, self.info.class_names
    if 'label' in outputs and outputs['label'].ndim == 0:
      label = int(outputs.pop('label'))
      row[own or 'class'] = names[label] if names else label
      if 'probability' in outputs and outputs['probability'].ndim == 1:
        shares = outputs.pop('probability').tolist()
        row |= {
          f'p({name})': round(p, 6) if math.isfinite(p) else None
          for name, p in zip(names or range(len(shares)), shares, strict=True)
        }
    elif 'target' in outputs and outputs['target'].ndim == 0:
      row[own or 'target'] = _plain(outputs.pop('target'))
    elif 'tags' in outputs and names:
      tags, words = outputs.pop('tags'), self.input.split(' ')
      found = [span for span in spans.of(tags, names) if span.last < len(words)]
      row['spans'] = [span._asdict() | {'words': ' '.join(words[span.first : span.last + 1])} for span in found]
      row['tags'] = [names[tag] for tag in tags if tag >= 0]
    elif 'guesses' in outputs and 'tokens' in outputs:
      filled, guesses, shares = (outputs.pop(name) for name in ('tokens', 'guesses', 'probability'))
      row['text'] = decode(filled, self.info)
      row['blanks'] = [
        [[decode([token], self.info), _plain(share)] for token, share in zip(*blank, strict=True)]
        for blank in zip(guesses, shares, strict=True)
        if blank[0][0] >= 0
      ]
    elif 'target_tokens' in outputs:
      row['text'] = decode(outputs.pop('target_tokens'), self.info.of_targets())
    elif targets := self._targets:
      row |= {name: _plain(steps) for name, steps in zip(targets, outputs.pop('target').T, strict=True)}
    return row | {name: _plain(value) for name, value in outputs.items() if name not in row}

  @property
  def _own(self) -> str | None:
    """The name of the column that the model learned to predict, where it has one that can be told from the input's."""
    return None if self.info.target_name == 'input' else self.info.target_name

  @property
  def _targets(self) -> Sequence[str] | None:
    """The names of the series, of a forecast of several."""
    return self.info.fact('targets') if np.ndim(self.outputs.get('target')) == 2 else None


def predict(
  workdir: str | pathlib.Path,
  inputs: Sequence[str],
  step: int | str | None = None,
  batch_size: int = 256,
  lines: bool = False,
  unreadable: Callable[[str], None] | None = None,
) -> Iterator[Prediction]:
  """One prediction an input.

  Args:
    workdir: the work directory of a run.
    inputs: files, folders or globs (`dl.data.reading.read_inputs`).
    step: which checkpoint: a step, 'best', or None for the newest.
    batch_size: inputs predicted at once.
    lines: whether each line of a text file is an input of its own.
    unreadable: is told of each file that cannot be read, which is then left out; None makes that an error.

  Raises:
    ConfigError: no such run or checkpoint, a task without predictions, or inputs which the model cannot take.
  """
  task, state = restore.load(workdir, step)
  made_by = int(state.step)
  predict_batch = jax.jit(task.predict)
  key = keys.prediction()
  column = restore.input_column(workdir, task.info)
  compiled = set()  # shapes of a row of full batches: a short one is padded to such a batch, or compiled once more
  batches = read_inputs(inputs, task.info, column, batch_size=batch_size, lines=lines, unreadable=unreadable)
  for names, batch in batches:
    rows, shape = len(names), batch.shape[1:]
    if rows == batch_size:
      compiled.add(shape)
    size = batch_size if shape in compiled else min(1 << (rows - 1).bit_length(), batch_size)
    padded = np.concatenate([batch, np.repeat(batch[:1], size - rows, 0)])
    try:
      outputs = jax.device_get(predict_batch(state, padded, key))
    except NotImplementedError as e:
      raise ConfigError(first_line(e)) from e
    _check(outputs, size, f'{type(task).__name__}.predict')
    for i, name in enumerate(names):
      yield Prediction(name, {k: np.asarray(v[i]) for k, v in outputs.items()}, task.info, made_by)


def _check(outputs: Any, rows: int, who: str) -> None:
  """Raises ConfigError unless a task has predicted named arrays, one row an input."""
  if not isinstance(outputs, Mapping):
    got = f'{outputs.dtype} {outputs.shape}' if isinstance(outputs, np.ndarray) else type(outputs).__name__
    raise ConfigError(f"{who}: must return a dict of arrays [batch, ...], as {{'image': images}}, got {got}")
  for name, value in outputs.items():
    if np.ndim(value) == 0 or len(value) != rows:
      raise ConfigError(f'{who}: {name!r} must have a row for each of the {rows} inputs, got {np.shape(value)}')


def _plain(value: np.ndarray) -> Any:
  """Numbers, or nested lists of them, with None for one that is not finite, which JSON has no word for."""
  if value.dtype.kind != 'f':
    return value.tolist()
  short = np.frompyfunc(lambda x: rounded(x, 7) if math.isfinite(x) else None, 1, 1)(value)
  return short.tolist() if value.ndim else short
