"""Predictions of a trained model for files of a user, without the data set."""

import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np

from dl.contract import keys
from dl.data.reading import read_inputs
from dl.errors import ConfigError, first_line
from dl.training import restore


def predict(
  workdir: str | pathlib.Path,
  inputs: Sequence[str],
  step: int | str | None = None,
  batch_size: int = 256,
  lines: bool = False,
  unreadable: Callable[[str], None] | None = None,
) -> Iterator[dict[str, Any]]:
  """One dict an input: `input` (its name) and the arrays, without the axis of the batch, that the task predicts.

  Labels come with `class`, their name, where the data set has names. `plain` makes JSON values of a row.

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
    for i, name in enumerate(names):
      row = {'input': name} | {k: np.asarray(v[i]) for k, v in outputs.items()}
      if 'label' in row and task.info.class_names:
        row['class'] = task.info.class_names[row['label']]
      yield row


def plain(row: dict[str, Any]) -> dict[str, Any]:
  """A row of `predict` as JSON values."""
  return {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in row.items()}
