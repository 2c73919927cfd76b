"""What a run has on disk while it trains: whose directory it is, what was there, and what is written, in order."""

import contextlib
import pathlib
import sys
import time
from collections.abc import Iterable, Mapping
from typing import Any, NoReturn, Self

import jax

from dl import report
from dl.config import flatten
from dl.contract.info import Info
from dl.contract.metrics import better
from dl.contract.state import State
from dl.data.fingerprint import Fingerprint, facts_changed
from dl.data.source import find_kind
from dl.errors import ConfigError, TrainingError
from dl.parallel import processes
from dl.store import artifacts, logs, workdir
from dl.store.checkpoint import Checkpoints
from dl.store.skipped import Skipped
from dl.training import given
from dl.training.assemble import reading_record
from dl.training.prepare import Prepared
from dl.training.steps import Sums


def check_data(directory: pathlib.Path, run: Prepared) -> None:
  """Raises ConfigError where a run began with other data than there is now, or `run.json` is damaged."""
  if not (directory / workdir.RUN).exists():  # it ended before its first step
    return
  before = workdir.read_run(directory).get('data') or {}
  with reading_record():
    facts = Info.from_json(before.get('info', {}), find_kind)
    began = {name: Fingerprint.from_json(values) for name, values in before.get('fingerprints', {}).items()}
  now = run.fingerprints() if began else {}  # a run of before there were any
  changes = [f'{name}: {what}' for name in began.keys() & now.keys() if (what := began[name].changed(now[name]))]
  changes += [what] if (what := facts_changed(facts, run.parts.task.info)) else []
  if changes:
    raise ConfigError(
      f'--workdir: {directory} holds a run which began with other data: {"; ".join(sorted(changes))}; bring that back, '
      'or choose another directory (config.init_from starts a run from the weights of this one)'
    )


class Session:
  """One session of a run in its work directory; for use as a context, within which `begin` comes first.

  Of several processes the first one writes, but for checkpoints and what each has skipped; `begin`, `save` and `finish`
  are to be called by all. An error inside the context leaves word of itself in `run.json`, and a report.

  Attributes:
    log: where lines of metrics go.
    history: the lines of evaluations so far, {'step': ..., 'split': ..., **numbers}, in order.
    stopped: why the run had stopped early; None if it had not.
    complete: whether the run was complete before.
    seconds: of training in earlier sessions.
    saved_step: the newest step with a checkpoint, if any.
  """

  log: logs.Logs | logs.Silent
  history: list[dict[str, Any]]
  stopped: str | None
  complete: bool
  seconds: float
  saved_step: int | None

  def __init__(
    self,
    directory: pathlib.Path,
    run: Prepared,
    extension: Mapping[str, Any] | None = None,
    config_file: pathlib.Path | None = None,
  ):
    """Keeps the arguments.

    Args:
      directory: the work directory.
      run: the run.
      extension: what is to be recorded of one (`dl.training.extension`).
      config_file: where the config is from, if from a file; it is copied.
    """
    self._directory, self._run, self._first = directory, run, processes.is_first()
    self._extension, self._config_file = extension, config_file
    self._stack = contextlib.ExitStack()

  def __enter__(self) -> Self:
    self._stack.enter_context(workdir.writing(self._directory))
    return self

  def __exit__(self, *error: Any) -> bool | None:
    return self._stack.__exit__(*error)

  def begin(self) -> tuple[int, State, Sums]:
    """Claims the directory, and restores the newest checkpoint or initializes; (steps done, state, sums).

    Raises:
      ConfigError: the directory is in use, cannot be written to, or is not the one of the other processes.
      TrainingError: all its checkpoints are damaged.
    """
    run, keep = self._run, self._run.schedule.keep
    if self._first:
      self._stack.enter_context(workdir.claim(self._directory, run.experiment, self._extension))
    workdir.check_shared(self._directory)
    folder = self._directory / 'checkpoints'
    self._saved = self._stack.enter_context(Checkpoints(folder, last=keep.last, best=keep.best, mode=keep.mode))
    warning = [f'warning: {run.functions.note}'] if run.functions.note and self._first else []
    for note in [*self._saved.notes, *warning]:
      print(note, file=sys.stderr, flush=True)
    step = processes.of_first({'step': self._saved.latest or 0})['step']  # listings of shared directories may be old
    self.saved_step = step or None
    if step:
      items = self._saved.restore(step, dict(zip(('state', 'sums'), run.functions.like, strict=True)))
      state, sums = items['state'], items['sums']
    else:
      state, sums = run.functions.init(dict(run.given())), run.functions.new_sums()
    log = logs.Logs(self._directory, resume_step=step or None) if self._first else logs.Silent()
    self.log = self._stack.enter_context(log)
    processes.barrier('opened')
    self._skipped = self._stack.enter_context(Skipped(self._directory, {'train': run.parts.pipeline, **run.evals}))
    self._look_back(step)
    if not self.complete and self._first:
      workdir.begin_session(
        self._directory,
        run.experiment,
        self._config_file,
        **({'init_from': given.summary(run.given(), run.parts)} if not step and run.given() else {}),
        total_steps=run.schedule.total,
        parameters=sum(x.size for x in jax.tree.leaves(run.parts.state.params)),
        data=run.parts.record()
        | {'fingerprints': {name: f.to_json() for name, f in run.fingerprints().items()}, 'times': run.times()},
        better={'train': better(run.functions.like[1].metrics), **run.schedule.metrics},
        stopped_early=None,
      )
      self._stack.push(lambda kind, *_: kind is not None and self._fail())
    return step, state, sums

  def _look_back(self, step: int) -> None:
    """What the log and `run.json` say of earlier sessions."""
    past = logs.read(self._directory) if self._first else []
    facts = {
      'history': [r for r in past if r['split'] != 'train'],
      'complete': workdir.is_complete(self._directory),
      'seconds': max((r.get('seconds', 0.0) for r in past), default=0.0),
    }
    self.history, complete, self.seconds = processes.of_first(facts).values()  # so that all decide alike
    evaluated = max((r['step'] for r in self.history), default=0)  # a run stops at an evaluation, so not between two
    self.stopped = self._run.schedule.stop_reason(self.history, evaluated)
    self.complete = complete and (step == self._run.schedule.total or self.stopped is not None)

  def evaluated(self, step: int, name: str, numbers: Mapping[str, Any]) -> None:
    """Logs the numbers of an evaluation."""
    self.log.write(step, name, numbers)
    self.history.append({'step': step, 'split': name} | numbers)

  def best(self, step: int, state: State) -> tuple[int, State]:
    """(step, state) of the best checkpoint, given the last ones; to be called once all is saved."""
    chosen = self._saved.best
    chosen = processes.of_first({'best': step if chosen is None else chosen})['best']
    if chosen == step:
      return step, state
    return chosen, self._saved.restore(chosen, {'state': self._run.functions.like[0]})['state']

  def at(self, step: int) -> dict[str, dict[str, Any]]:
    """Evaluation name -> its numbers at a step, of those which measured then."""
    return _by_name(r for r in self.history if r['step'] == step)

  def latest(self) -> dict[str, dict[str, Any]]:
    """Evaluation name -> its latest numbers."""
    return _by_name(self.history)

  def write_artifacts(self, step: int, shown: Mapping[str, Any]) -> None:
    """Writes what people would rather look at."""
    if self._first:
      artifacts.write(self._directory, step, shown)

  def save(self, step: int, state: State, sums: Sums) -> None:
    """Starts to save a checkpoint, once the log and what was skipped are on disk: one never is without the other.

    Raises:
      TrainingError: a parameter is not finite, or something cannot be written.
    """
    if not jax.device_get(self._run.functions.finite(state.params)):  # an update can overflow though its loss did not
      self.not_finite('a parameter', step)
    self.log.sync()
    self._skipped.write()
    value = self._run.schedule.keep.value(self.history, step)
    self._saved.save(step, {'state': state, 'sums': sums}, value)
    self.saved_step = step

  def poll(self) -> None:
    """Raises TrainingError if the save under way has failed; does not wait for it."""
    self._saved.poll()

  def wait(self) -> None:
    """Returns when the save under way is on disk; raises TrainingError if that could not be done."""
    self._saved.wait()

  def finish(self, status: str, step: int, stopped: str | None, best: Mapping[str, Any] | None = None) -> None:
    """Says in `run.json` how the session ended, and which checkpoint is the best, and writes the report."""
    if not self._first:
      return
    if not self.complete:
      finished = time.strftime('%Y-%m-%dT%H:%M:%S%z')
      found = {} if best is None else {'best': best}
      workdir.update_run(self._directory, status=status, step=step, stopped_early=stopped, finished=finished, **found)
    report.write([self._directory], self._directory / 'report.html')

  def not_finite(self, what: str, step: int) -> NoReturn:
    """Raises a TrainingError: what, when, the last good checkpoint, and which config key to look at."""
    self.wait()
    stages = [k.split('.learning_rate')[0] for k in flatten(self._run.experiment.optim) if 'learning_rate' in k]
    key = f'config.optim.{stages[0]}.learning_rate' if stages else 'config.optim'
    latest = self._saved.latest
    last = f'the last good checkpoint is of step {latest}' if latest else 'there is no checkpoint yet'
    raise TrainingError(f'{what} is not finite at step {step}; {last}; look at {key} or clip gradients')

  def _fail(self) -> None:
    """Leaves word of a failed run, and its curves up to the failure, and lets the error go on."""
    with contextlib.suppress(ConfigError, OSError):  # the error that is under way matters more
      workdir.update_run(self._directory, status='failed')
      report.write([self._directory], self._directory / 'report.html')


def _by_name(history: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
  """Evaluation name -> its last numbers."""
  return {r['split']: {k: v for k, v in r.items() if k not in ('step', 'split')} for r in history}
