"""Checkpoints of a run; the only file that knows Orbax."""

import contextlib
import inspect
import logging
import os
import pathlib
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, Self

import jax
from jaxtyping import PyTree

from dl.errors import ConfigError, TrainingError, first_line
from dl.parallel import processes
from dl.store import checksums, older, records

DAMAGED = '.damaged'
"""Ending of a checkpoint that was set aside."""

METRICS = 'metrics/metrics'
_ORBAX = f'{os.sep}orbax{os.sep}'
PATIENCE = 2**32
"""Seconds for a save of one process: Orbax counts them by the wall clock, which may jump by years."""

CHANGING = ('_CHECKPOINT_METADATA', 'commit_success.txt')
"""Files of a checkpoint which Orbax changes at the very end; nothing that is restored comes from them."""


class Checkpoints:
  """The checkpoints below one directory: the newest `last` are kept, and the `best` best by a metric.

  Saving is asynchronous: the arrays are copied before `save` returns and written while training goes on. A checkpoint
  has checksums of its files from the moment on in which it counts as finished. They are checked before it is restored:
  one that is damaged is named, and set aside by a run which continues from an earlier one.

  Attributes:
    notes: what was found wrong when the directory was opened, in lines for the user.
  """

  def __init__(
    self,
    directory: pathlib.Path,
    *,
    last: int = 2,
    best: int = 0,
    mode: Literal['min', 'max'] = 'min',
    read_only: bool = False,
  ):
    """Opens the directory; unless `read_only`, what a killed save left behind is removed, and damage set aside.

    Raises:
      ConfigError: no such directory, for reading.
      TrainingError: there are checkpoints, and all of them are damaged.
    """
    if read_only and not directory.is_dir():
      raise ConfigError(f'{directory}: holds no checkpoint')
    self._directory, self._mode = pathlib.Path(directory).absolute(), mode
    self.notes: list[str] = []
    self._checkpointer = None
    _quiet_orbax()
    if read_only:
      return
    if processes.is_first():
      self.notes = _set_aside(self._directory)
    processes.barrier('checkpoints')
    from orbax.checkpoint import v1 as ocp  # slow to import, and not needed before the first save

    policies = ocp.training.preservation_policies
    keep = [policies.LatestN(last)]
    if best:
      # Orbax keeps the last of the sorted: the best, and the earliest of equals.
      sign = 1 if mode == 'min' else -1
      value = lambda metrics: (metrics['value'], sign * metrics['step'])
      keep.append(
        policies.BestN(get_metric_fn=value, reverse=mode == 'min', n=best, keep_checkpoints_without_metrics=False)
      )
    saves = self._directory  # Orbax copies what it is given, so this may not be a method
    asynchronous = ocp.options.AsyncOptions(post_finalization_callback=lambda: _add_checksums(saves))
    if jax.process_count() == 1:  # nobody is waited for, so no time is too long
      asynchronous.timeout_secs = PATIENCE
      asynchronous.create_directories_asynchronously = False
    self._saving: int | None = None
    with self._writing():
      self._checkpointer = ocp.training.Checkpointer(
        self._directory,
        context=ocp.Context(async_options=asynchronous),
        preservation_policy=policies.AnyPreservationPolicy(keep),
        save_decision_policy=ocp.training.save_decision_policies.FixedIntervalPolicy(1),
        cleanup_tmp_directories=True,
      )

  def __enter__(self) -> Self:
    return self

  def __exit__(self, kind: type | None, *_: Any) -> None:
    if self._checkpointer is not None:
      # What is under way matters more than a save which failed, too.
      with self._writing() if kind is None else contextlib.suppress(Exception):
        self._checkpointer.close()

  @property
  def steps(self) -> list[int]:
    """Steps of the finished checkpoints, and of the one that is being saved, ascending."""
    return sorted({*finished(self._directory)} | ({self._saving} if self._checkpointer and self._saving else set()))

  @property
  def latest(self) -> int | None:
    """The newest step, if any."""
    return max(self.steps, default=None)

  @property
  def best(self) -> int | None:
    """The step with the best metric, if any has one; the earliest of equals."""
    sign = 1 if self._mode == 'min' else -1
    scored = [(sign * value, step) for step in finished(self._directory) if (value := self._value(step)) is not None]
    return min(scored)[1] if scored else None

  def save(self, step: int, items: Mapping[str, PyTree], value: float | None = None) -> None:
    """Starts to save `items` as of `step`; `value` is the metric which the best are chosen by.

    Raises:
      TrainingError: this one, or the one before, could not be written.
    """
    if step in self.steps:
      return
    self.wait()
    metrics = None if value is None else {'value': value, 'step': step}
    self._saving = step
    with self._writing():
      self._checkpointer.save_checkpointables_async(step, dict(items), metrics=metrics, force=True)

  def wait(self) -> None:
    """Blocks until the save under way is on disk; raises TrainingError if that could not be done."""
    if self._checkpointer is not None:
      with self._writing():
        self._checkpointer.wait()
      self._saving = None

  def poll(self) -> None:
    """Raises TrainingError if the save under way has failed; does not wait for it."""
    if self._saving is not None and not self._checkpointer.is_saving_in_progress():
      self.wait()

  def restore(self, step: int, items: Mapping[str, PyTree]) -> dict[str, PyTree]:
    """Loads the items of a checkpoint with the shapes, dtypes and shardings of the abstract `items`.

    Those of an earlier version of this code become such as it has now (`dl.store.older`).

    Raises:
      ConfigError: it is damaged, or does not hold such items.
    """
    from orbax.checkpoint import v1 as ocp

    path = self._directory / str(step)
    if self._checkpointer is None and (what := checksums.damage(path)):  # else it was checked when opened
      others = [s for s in self.steps if s != step]
      there = f'there are also: {", ".join(map(str, others))}' if others else 'there is no other'
      raise ConfigError(f'{self._directory}: the checkpoint of step {step} is damaged ({what}); {there}')
    try:
      saved = ocp.checkpointables_metadata(path).metadata
      before = {name: layout for name in items if (layout := older.layout(items[name], saved.get(name)))}
      loaded = ocp.load_checkpointables(path, {**items, **{name: like for name, (like, _) in before.items()}})
      return {**loaded, **{name: now(loaded[name]) for name, (_, now) in before.items()}}
    except (OSError, ValueError, KeyError, TypeError) as e:
      raise ConfigError(
        f'{path}: cannot be restored: {_root(e)}; it is damaged, or of a model or optimizer that has changed since'
      ) from e

  def find(self, step: int | str | None, where: str) -> int:
    """The step that `step` means: a number, 'best', or None for the newest; raises ConfigError if there is none."""
    steps = self.steps
    chosen = self.best if step == 'best' else self.latest if step is None else step
    if not steps:
      raise ConfigError(f'{where}: holds no finished checkpoint')
    if chosen is None:
      raise ConfigError(f"{where}: no checkpoint has a metric, so none is the best; see 'keep' in the config")
    if chosen not in steps:
      raise ConfigError(f'{where}: no checkpoint of step {chosen}; there are: {", ".join(map(str, steps))}')
    return int(chosen)

  def _value(self, step: int) -> float | None:
    """The metric of a finished checkpoint, if it has one that can be read."""
    try:
      return float(records.read(self._directory / str(step) / METRICS)['value'])
    except (OSError, ValueError, KeyError, TypeError):
      return None

  @contextlib.contextmanager
  def _writing(self) -> Iterator[None]:
    """Makes one line of whatever goes wrong when files are written."""
    try:
      yield
    except Exception as e:  # what Orbax and its storage raise has no common base
      what = 'the checkpoints' if self._saving is None else f'the checkpoint of step {self._saving}'
      raise TrainingError(f'cannot write {what} into {self._directory}: {_reason(e)}; {intact(self._directory)}') from e


def intact(directory: pathlib.Path) -> str:
  """What a run which ends for want of disk says about its checkpoints, and what to do."""
  last = max(finished(directory), default=None)
  if last is None:
    return 'there is no checkpoint yet; mend it and run the same command again'
  return f'the last checkpoint, of step {last}, is intact, and the same command continues from it'


def abstract(tree: PyTree, sharding: Callable[[Any], Any] | PyTree) -> PyTree:
  """Shapes of a tree with a sharding for each leaf."""
  return jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), tree, sharding)


def finished(directory: pathlib.Path) -> list[int]:
  """Steps of the checkpoints which are whole: Orbax gives them this name in one move."""
  if not directory.is_dir():
    return []
  return sorted(int(p.name) for p in directory.iterdir() if p.name.isascii() and p.name.isdecimal() and p.is_dir())


def _add_checksums(directory: pathlib.Path) -> None:
  """Called by one process when all have written their files, just before the checkpoint gets its final name."""
  for path in directory.glob('*.orbax-checkpoint-tmp*'):
    checksums.write(path, leave_out=CHANGING)


def _set_aside(directory: pathlib.Path) -> list[str]:
  """Renames damaged checkpoints, so that the newest left is intact; returns a line on each.

  The newest are read in full until one is intact. Of the older ones only what tells the best is.

  Raises:
    TrainingError: none is intact. Then all stay, so that the next start will not take the run for a new one.
  """
  notes, damaged, good = [], {}, None
  for step in reversed(finished(directory)):
    path = directory / str(step)
    what = checksums.damage(path, None if good is None else (METRICS,))
    if what:
      damaged[step] = what
    elif good is None:
      good = step
      if not checksums.exist(path):
        notes.append(f'warning: the checkpoint of step {step} has no checksums, so nobody knows whether it is intact')
  if damaged and good is None:
    listed = ', '.join(f'{step} ({what})' for step, what in damaged.items())
    raise TrainingError(
      f'no checkpoint in {directory} is intact: {listed}; put a copy of one there, or start in another directory'
    )
  for step, what in damaged.items():
    aside = directory / f'{step}{DAMAGED}'
    shutil.rmtree(aside, ignore_errors=True)
    os.replace(directory / str(step), aside)
    then = f'; going on from step {good}' if step > good else ''
    notes.append(f'warning: the checkpoint of step {step} is damaged ({what}); it is now {aside.name}{then}')
  return notes


def _root(error: BaseException) -> str:
  """The first line of the error at the bottom, which Orbax wraps in others, or its beginning."""
  while error.__cause__ is not None:
    error = error.__cause__
  return first_line(error)[:160]


def _reason(error: Exception) -> str:
  """One line on why something could not be written."""
  if isinstance(error, OSError) and error.strerror:
    return error.strerror
  text = ' '.join(str(error).split())
  for known in ('No space left on device', 'File too large', 'Read-only file system', 'Disk quota exceeded'):
    if known in text:
      return known
  return first_line(error)


def _quiet_orbax() -> None:
  """Keeps what Orbax's threads and tasks say of a failure off stderr, for good: they may do so until the process ends.

  The failure itself is raised where it is waited for. To call this twice is to call it once. Nothing tells a callback
  into a closed event loop of Orbax from one into another loop, so no closed loop is told of.
  """
  for name in ('absl', 'asyncio'):
    logging.getLogger(name).addFilter(_not_orbax)
  if not isinstance(sys.unraisablehook, _NotOrbax):
    sys.unraisablehook = _NotOrbax(sys.unraisablehook)


def _not_orbax(record: logging.LogRecord) -> bool:
  """A filter of what Orbax logs, and asyncio of Orbax's tasks."""
  return _ORBAX not in (record.pathname if record.name == 'absl' else record.getMessage())


class _NotOrbax:
  """A `sys.unraisablehook` for what ends, or is forgotten, after another read or write of the same loop has failed."""

  def __init__(self, before: Callable[[Any], Any]):
    self.before = before

  def __call__(self, error: Any) -> None:
    late = isinstance(error.exc_value, RuntimeError) and str(error.exc_value) == 'Event loop is closed'
    forgotten = inspect.iscoroutine(error.object) and _ORBAX in error.object.cr_code.co_filename
    if not (late or forgotten):
      self.before(error)
