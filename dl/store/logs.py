"""The numbers of a run: `metrics.jsonl`, one JSON object a line, and the same numbers for TensorBoard."""

import contextlib
import importlib.util
import io
import json
import math
import os
import pathlib
import platform
import time
from collections.abc import Mapping
from typing import Any, Self

import numpy as np

from dl.errors import ConfigError
from dl.store import atomic, records

FILE = 'metrics.jsonl'

MACHINE = (
  'seconds', 'step_seconds', 'steps_per_second', 'examples_per_second', 'tokens_per_second', 'data_wait', 'memory_gb',
  'mfu',
)  # fmt: skip
"""What is logged that differs between two runs of the same config."""


class Logs:
  """Appends to a work directory's `metrics.jsonl`, and to `tensorboard/` where the `tensorboard` extra is installed.

  Each line is valid JSON, `{"step": 500, "split": "train", "loss": 0.31, ...}`, and is flushed as it is written. A
  number that is not finite is written as null, since JSON has no name for it.

  A resumed run sees its own past only: lines of steps after `resume_step`, which the run will write again, are
  dropped, and so is a last line that a kill tore. So log a step before its checkpoint is saved, not after.
  """

  def __init__(self, workdir: str | os.PathLike, resume_step: int | None = None, tensorboard: bool = True):
    """Opens the log.

    Args:
      workdir: the work directory; it is created if needed.
      resume_step: the step of the checkpoint that was restored; None for a run which starts anew, whose log is empty.
      tensorboard: whether to write TensorBoard events too (if the `tensorboard` extra is installed).

    Raises:
      ConfigError: a line other than the last is damaged.
    """
    workdir = pathlib.Path(workdir)
    workdir.mkdir(parents=True, exist_ok=True)
    path = workdir / FILE
    _truncate(path, resume_step)
    self._path, self._file = path, open(path, 'ab', buffering=0)  # noqa: SIM115 (close() closes it)
    self._events = None
    if tensorboard and importlib.util.find_spec('tensorboard'):
      self._events = _Events(workdir / 'tensorboard', 0 if resume_step is None else resume_step + 1)

  def write(self, step: int, split: str, values: Mapping[str, Any]) -> None:
    """Appends one line.

    Args:
      step: number of completed training steps.
      split: 'train', or the name of an evaluation.
      values: plain name -> number, list of numbers, or text; NumPy and JAX arrays are fetched from their device.
    """
    values = {str(name): _plain(value) for name, value in values.items()}
    taken = {'step', 'split'} & values.keys()
    if taken:
      raise ValueError(f'a metric cannot be called {taken.pop()!r}')
    line = json.dumps({'step': int(step), 'split': split, **values}, allow_nan=False)
    with atomic.named(self._path):
      _write_all(self._file, line.encode() + b'\n')
    if self._events:
      self._events.put(int(step), split, values)

  def sync(self) -> None:
    """Returns when all lines are on disk, where they survive a crash of the machine; call before a checkpoint."""
    with atomic.named(self._path):
      os.fsync(self._file.fileno())

  def close(self) -> None:
    """Closes the files."""
    if not self._file.closed:
      try:
        self.sync()
      finally:
        self._file.close()
    if self._events:
      self._events.close()
      self._events = None

  def __enter__(self) -> Self:
    return self

  def __exit__(self, kind: type | None, *_: object) -> None:
    with contextlib.suppress(() if kind is None else OSError):  # the error that is under way matters more
      self.close()


class Silent:
  """Takes the numbers and writes none: for the processes of a run which do not write."""

  def write(self, step: int, split: str, values: Mapping[str, Any]) -> None:
    """Nothing."""

  def sync(self) -> None:
    """Nothing."""

  def __enter__(self) -> Self:
    return self

  def __exit__(self, *error: object) -> None:
    pass


def read(workdir: str | os.PathLike) -> list[dict[str, Any]]:
  """All lines of a work directory's `metrics.jsonl`, in order; none if there is no file yet.

  A torn last line (the run is being written, or was killed) is left out. Raises ConfigError for any other damage.
  """
  path = pathlib.Path(workdir) / FILE
  return [record for record, _ in _parse(path)]


def _parse(path: pathlib.Path) -> list[tuple[dict[str, Any], bytes]]:
  """(record, its line without the newline) for each whole line."""
  parsed = [*records.lines(path)]
  while parsed and not parsed[-1][1].strip():
    parsed.pop()
  whole = [record is not None and isinstance(record.get('step'), int) for record, _ in parsed]
  if not all(whole[:-1]):
    number = whole.index(False) + 1
    raise ConfigError(f'{path}, line {number}: not a metrics line; mend it or start a new work directory')
  return parsed if all(whole) else parsed[:-1]


def _truncate(path: pathlib.Path, resume_step: int | None) -> None:
  """Keeps whole lines of steps up to `resume_step`; the file is replaced in one move, or not at all."""
  if not path.exists():
    return
  parsed = _parse(path) if resume_step is not None else []
  kept = b''.join(line + b'\n' for record, line in parsed if record['step'] <= resume_step)
  if kept == path.read_bytes():
    return
  new = path.with_suffix('.jsonl.new')
  with atomic.named(path):
    with open(new, 'wb') as f:
      f.write(kept)
      f.flush()
      os.fsync(f.fileno())
    os.replace(new, path)


def _plain(value: Any) -> Any:
  """A JSON value: arrays become numbers or lists, a number which is not finite becomes None."""
  if value is None or isinstance(value, bool | int | str):
    return value
  if isinstance(value, float):
    return value if math.isfinite(value) else None
  if isinstance(value, list | tuple):
    return [_plain(v) for v in value]
  array = np.asarray(value)
  if array.dtype.kind not in 'biuf' and not _is_small_float(array.dtype):
    raise TypeError(f'a metric must be a number, a list of numbers or text, got {value!r}')
  return _plain(array.tolist() if array.dtype.kind in 'biuf' else array.astype(np.float32).tolist())


def _is_small_float(dtype: np.dtype) -> bool:
  """Whether a type is bfloat16 or an 8-bit float, which NumPy does not know as numbers."""
  return dtype.name.startswith(('bfloat', 'float'))


class _Events:
  """Writes TensorBoard event files, each event at once: TensorBoard's own writer leaves errors to a thread."""

  def __init__(self, logdir: pathlib.Path, purge_step: int):
    from tensorboard.compat.proto import event_pb2, summary_pb2
    from tensorboard.summary.writer.record_writer import RecordWriter

    self._event, self._summary = event_pb2.Event, summary_pb2.Summary
    logdir.mkdir(parents=True, exist_ok=True)
    # Files are read in the order of their names, and a run may be resumed within a second.
    name = f'events.out.tfevents.{int(time.time()):010}.{platform.node()}.{os.getpid()}.{time.time_ns()}'
    self._path, self._file = logdir / name, open(logdir / name, 'ab', buffering=0)  # noqa: SIM115 (close() closes it)
    self._writer = RecordWriter(_Whole(self._file))
    start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
    self._add(file_version='brain.Event:2')
    self._add(step=purge_step, session_log=start)

  def put(self, step: int, split: str, values: Mapping[str, Any]) -> None:
    numbers = [pair for name, value in values.items() for pair in _scalars(f'{split}/{name}', value)]
    self._add(step=step, summary=self._summary(value=[self._summary.Value(tag=t, simple_value=n) for t, n in numbers]))

  def close(self) -> None:
    self._file.close()

  def _add(self, **fields: Any) -> None:
    with atomic.named(self._path):
      self._writer.write(self._event(wall_time=time.time(), **fields).SerializeToString())


class _Whole:
  """A file without a buffer whose `write` writes everything."""

  def __init__(self, file: io.FileIO):
    self._file = file

  def write(self, content: bytes) -> None:
    _write_all(self._file, content)


def _write_all(file: io.FileIO, content: bytes) -> None:
  """Writes without a buffer, which would try again on closing: a disk may take a part before it is full."""
  while content:
    content = content[file.write(content) :]


def _scalars(tag: str, value: Any) -> list[tuple[str, float]]:
  if isinstance(value, list):
    return [pair for i, v in enumerate(value) for pair in _scalars(f'{tag}/{i}', v)]
  if value is None:
    return [(tag, math.nan)]
  return [] if isinstance(value, str) else [(tag, float(value))]
