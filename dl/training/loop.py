"""THE training loop: prepare, restore or initialize, then step, log, evaluate, save, and report."""

import contextlib
import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any, Literal

import jax

from dl.config import Experiment
from dl.contract import keys
from dl.contract.state import State
from dl.contract.task import Task
from dl.errors import ConfigError
from dl.parallel import processes
from dl.store import workdir
from dl.training import evaluation, extension, feed, given, overview, padding, policy, seeds
from dl.training.meter import Meter
from dl.training.prepare import Prepared, prepare
from dl.training.profiler import Profiler
from dl.training.progress import Hidden, Progress
from dl.training.recorder import Recorder
from dl.training.session import Session, check_data
from dl.training.signals import interruption


@dataclasses.dataclass(frozen=True)
class Result:
  """How a session of training ended.

  Attributes:
    status: 'complete', or 'interrupted': told to stop, saved, and the same call continues.
    step: completed training steps.
    state: the final state, on the devices.
    metrics: evaluation name -> its latest numbers.
    stopped_early: why it was complete before its last step; None if it was not.
    best: of a complete run which keeps the best: the `step` of it, the `metric` that chose it and its `value`, and
      `metrics`, evaluation name -> numbers at that step; None otherwise.
    of_best: evaluations whose numbers are of that checkpoint.
    task: the learning problem: `task.predict(state, inputs, key)`.
  """

  status: Literal['complete', 'interrupted']
  step: int
  state: State
  metrics: dict[str, dict[str, Any]]
  stopped_early: str | None
  best: dict[str, Any] | None
  of_best: tuple[str, ...]
  task: Task


def train(
  experiment: Experiment,
  directory: str | pathlib.Path,
  *,
  show_progress: bool = True,
  profile: str | None = None,
  extend: bool = False,
  config_file: str | pathlib.Path | None = None,
) -> Result:
  """Trains a config in a work directory, or continues the run which is there, bit for bit.

  Args:
    experiment: a config (`dl.config.load`).
    directory: the work directory; made if needed, and refused if it holds a run of another config.
    show_progress: whether to show progress on stderr.
    profile: 'first:last', steps to trace into `profile/` (`dl.training.profiler`).
    extend: whether the run which is there goes on for longer than it was to: `train_for` is a greater one. Its
      schedules and intervals are then those of the whole length; `run.json` records it.
    config_file: the file that the config is from; the directory keeps a copy.

  Raises:
    ConfigError: anything wrong with the config, the data or the directory, before anything is compiled or written.
    TrainingError: a loss which is not finite; the last checkpoint is from before.
  """
  directory, first = pathlib.Path(directory), processes.is_first()
  workdir.check_same(experiment)
  try:
    workdir.check(directory, experiment, extend)
  except ConfigError:
    prepare(experiment)  # a mistake in the config itself is said first: another directory would not help
    raise
  run = prepare(experiment)
  parts, mesh, plan, functions = run.parts, run.mesh, run.schedule, run.functions
  profiler = Profiler(directory, profile if first else None, plan.total)
  if (directory / workdir.CONFIG).exists():
    check_data(directory, run)
  else:
    run.given()  # a mistake in it is found before anything is written
  extended = extension.record(directory, run) if extend else None

  with (
    Session(directory, run, extended, config_file and pathlib.Path(config_file)) as session,
    contextlib.ExitStack() as stack,
  ):
    step, state, sums = session.begin()
    shown = Progress(plan.total, step, parts.steps_per_epoch) if show_progress and first else Hidden()
    progress = stack.enter_context(shown)
    told_to_stop = processes.agreement(mesh, stack.enter_context(interruption()))
    if step < plan.total:
      progress.note(overview.before(run, directory))
    if not step and run.given():
      progress.note(given.said(experiment.init_from, given.summary(run.given(), parts)))
    if extended and first:
      progress.note(extension.note(directory, run, step))
    if step:
      progress.note(f'resuming at step {step:,} of {plan.total:,}')
    if step < plan.total:
      progress.note(overview.compiling(run))
    if not step:
      padding.check(parts.task, state, run.evals, run.evaluators, run.measures, mesh)
    meter = Meter(parts, mesh)
    recorder = Recorder(session.log, progress, meter, parts.optimizer, session.not_finite, step, session.seconds)
    stack.enter_context(recorder)
    stack.enter_context(profiler)
    throttle = feed.bounded(feed.queue_depth(parts.batch))
    batches = meter.waiting(feed.device_batches(parts, mesh, step, plan.calls(step)))
    shows = type(parts.task).artifacts is not Task.artifacts

    def save() -> None:
      recorder.flush()
      recorder.check(sums)
      session.save(step, state, sums)

    # -- Nothing in the loop waits for the device, but evaluating and saving.
    stopped = session.stopped
    while step < plan.total and not stopped and not told_to_stop():
      length, batch = next(batches)
      profiler.before(step, length)
      state, sums, done = (functions.train if length == 1 else functions.train_fused)(state, sums, batch)
      step += length
      throttle(done)
      profiler.after(step, done)
      recorder.poll()
      progress.update(step)
      due = plan.due(step)

      if 'log' in due:
        session.poll()
        recorder.put(step, sums)
        sums = functions.new_sums()

      if {*due} - {'log'}:
        jax.block_until_ready(done)  # what the meter leaves out begins when the steps before it are done
        recorder.flush()

      if 'eval' in due:
        with meter:
          evaluate(run, session, progress, step, state)
        stopped = plan.stop_reason(session.history, step)
        if stopped and 'log' not in due:
          recorder.put(step, sums)
          recorder.flush()
          sums = functions.new_sums()

      if ('artifacts' in due or stopped) and shows:
        with meter:
          session.write_artifacts(step, artifacts(run, state))

      if 'checkpoint' in due or stopped or ('eval' in due and plan.keep.is_best(session.history, step)):
        with meter:
          save()

    # -- Save and report.
    if session.saved_step != step:
      save()
    session.wait()
    status = 'complete' if step == plan.total or stopped else 'interrupted'
    if status == 'complete' and not session.complete:
      conclude(run, session, progress, step, state)
    best = best_of(run, session) if status == 'complete' else None
    session.finish(status, step, stopped, best)
  return Result(status, step, state, session.latest(), stopped, best, run.of_best, parts.task)


def evaluate(run: Prepared, session: Session, progress: Progress | Hidden, step: int, state: State) -> None:
  """Measures a state on each evaluation that is made along the way, logs and shows the numbers."""
  for name, pipeline in run.evals.items():
    if name in run.of_best:
      continue
    values = evaluation.evaluate(run.measures[name], state, pipeline, run.mesh)
    session.evaluated(step, name, values)
    progress.update(step, {f'{name} {k}': v for k, v in values.items()})


def conclude(run: Prepared, session: Session, progress: Progress | Hidden, step: int, state: State) -> None:
  """What is due once, of the last state and of the best: the evaluations that wait for it, and what evaluators find.

  A number that a session has logged before it was killed stays.
  """
  states = dict.fromkeys(run.evals, (step, state))
  if run.of_best:
    states |= dict.fromkeys(run.of_best, session.best(step, state))
  for name in run.of_best:
    at, best = states[name]
    if name not in session.at(at):
      values = evaluation.evaluate(run.measures[name], best, run.evals[name], run.mesh)
      session.evaluated(at, name, values)
      progress.update(values={f'{name} {k}': v for k, v in values.items()})
  examine(run, session, states)


def best_of(run: Prepared, session: Session) -> dict[str, Any] | None:
  """`Result.best`, from the numbers so far."""
  keep = run.schedule.keep
  if not keep.best:
    return None
  points = policy.values(session.history, keep.metric)
  step = policy.best_step(points, keep.mode)
  if step is None:  # none was finite
    return None
  return {'step': step, 'metric': keep.metric, 'value': dict(points)[step], 'metrics': session.at(step)}


def examine(run: Prepared, session: Session, states: Mapping[str, tuple[int, State]]) -> None:
  """Writes what the evaluators find: evaluation name -> (step, state) of what they look at."""
  task, experiment = run.parts.task, run.experiment
  for name, pipeline in run.evals.items():
    step, state = states[name]
    averaged = seeds.one(state.averaged().replace(opt={}), experiment.seeds)
    shown = evaluation.findings(run.evaluators[name], task, averaged, pipeline, run.mesh, experiment.seed)
    session.write_artifacts(step, {f'{name}_{k}': v for k, v in shown.items()})


def artifacts(run: Prepared, state: State) -> dict[str, Any]:
  """What the task shows of a state, in the first process; a collective, which gives the others nothing."""
  averaged = processes.gathered(state.averaged().replace(opt={}), run.mesh)
  if not processes.is_first():
    return {}
  experiment = run.experiment
  return run.parts.task.artifacts(seeds.one(averaged, experiment.seeds), keys.artifacts(experiment.seed))
