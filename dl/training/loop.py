"""THE training loop: build, shard, restore or initialize, then step, log, evaluate, save, and report."""

import contextlib
import dataclasses
import functools
import pathlib
import sys
import time
from typing import Any, Literal

import jax

from dl import report
from dl.config import Experiment, flatten
from dl.contract.metrics import better
from dl.contract.state import State
from dl.contract.task import Task
from dl.errors import ConfigError, TrainingError
from dl.parallel import meshes, processes
from dl.store import artifacts, logs, workdir
from dl.store.checkpoint import Checkpoints
from dl.store.skipped import Skipped
from dl.training import evaluation, evaluators, feed, keys, memory, schedule, seeds, start, steps
from dl.training.assemble import Parts, assemble, make_eval_pipelines
from dl.training.meter import Meter
from dl.training.profiler import Profiler
from dl.training.progress import Progress
from dl.training.recorder import Recorder
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
  """

  status: Literal['complete', 'interrupted']
  step: int
  state: State
  metrics: dict[str, dict[str, Any]]
  stopped_early: str | None


def train(
  experiment: Experiment, directory: str | pathlib.Path, *, show_progress: bool = True, profile: str | None = None
) -> Result:
  """Trains a config in a work directory, or continues the run which is there, bit for bit.

  Args:
    experiment: a config (`dl.config.load`).
    directory: the work directory; made if needed, and refused if it holds a run of another config.
    show_progress: whether to show progress on stderr.
    profile: 'first:last', steps to trace into `profile/` (`dl.training.profiler`).

  Raises:
    ConfigError: anything wrong with the config, the data or the directory, before anything is compiled or written.
    TrainingError: a loss which is not finite; the last checkpoint is from before.
  """
  # -- Build: every part is checked by shape; nothing is compiled or written yet.
  directory, first = pathlib.Path(directory), processes.is_first()
  workdir.check_same(experiment)
  workdir.check(directory, experiment)
  parts = assemble(experiment)
  mesh = meshes.make_mesh(experiment.mesh)
  evals, opinions = make_eval_pipelines(experiment), evaluators.make(parts)
  plan = schedule.make(parts, evaluation.numbers(parts, evals, opinions))
  profiler = Profiler(directory, profile if first else None, plan.total)
  functions, measures = steps.compiled(parts, mesh), evaluation.compiled(parts, mesh, opinions)
  meshes.check_evals(evals, mesh)
  memory.check_state(functions.like, mesh.local_devices)
  given = functools.cache(lambda: start.load(experiment.init_from, parts))
  if not (directory / workdir.CONFIG).exists():
    given()  # a mistake in it is found before anything is written

  with contextlib.ExitStack() as stack:
    # -- Restore or initialize.
    stack.enter_context(workdir.writing(directory))
    if first:
      stack.enter_context(workdir.claim(directory, experiment))
    workdir.check_shared(directory)
    saved = Checkpoints(directory / 'checkpoints', last=plan.keep.last, best=plan.keep.best, mode=plan.keep.mode)
    stack.enter_context(saved)
    for note in saved.notes:
      print(note, file=sys.stderr, flush=True)
    if functions.note and first:
      print(f'warning: {functions.note}', file=sys.stderr, flush=True)
    step = processes.of_first({'step': saved.latest or 0})['step']  # listings of shared directories may be old
    saved_step = step or None
    if step:
      items = saved.restore(step, dict(zip(('state', 'sums'), functions.like, strict=True)))
      state, sums = items['state'], items['sums']
    else:
      state, sums = functions.init(given()), functions.new_sums()
    log = stack.enter_context(logs.Logs(directory, resume_step=step or None) if first else logs.Silent())
    processes.barrier('opened')
    skipped = stack.enter_context(Skipped(directory, {'train': parts.pipeline, **evals}))
    past = logs.read(directory) if first else []
    found = {'history': [r for r in past if r['split'] != 'train'], 'complete': workdir.is_complete(directory)}
    history, complete = processes.of_first(found).values()  # so that all decide alike
    evaluated = max((r['step'] for r in history), default=0)  # a run stops at an evaluation, so not between two
    stopped = plan.stop_reason(history, evaluated)
    already_complete = complete and (step == plan.total or stopped)
    if not already_complete and first:
      workdir.begin_session(
        directory,
        experiment,
        total_steps=plan.total,
        parameters=sum(x.size for x in jax.tree.leaves(parts.state.params)),
        data=parts.record(),
        better={'train': better(functions.like[1].metrics), **plan.metrics},
        stopped_early=None,
      )
      stack.push(lambda kind, *_: kind is not None and _failed(directory))
    progress = stack.enter_context(Progress(plan.total, step)) if show_progress and first else None
    told_to_stop = processes.agreement(mesh, stack.enter_context(interruption()))
    if step and progress:
      progress.note(f'resuming at step {step:,} of {plan.total:,}')

    def not_finite(what: str, at: int) -> None:
      raise TrainingError(_not_finite(parts, what, at, saved))

    def save() -> None:
      nonlocal saved_step
      recorder.flush()
      recorder.check(sums)
      if not jax.device_get(functions.finite(state.params)):  # an update can overflow though its loss did not
        not_finite('a parameter', step)
      log.sync()
      skipped.write()
      saved.save(step, {'state': state, 'sums': sums}, plan.keep.value(history, step))
      saved_step = step

    # -- The loop. Nothing in it waits for the device, but evaluating and saving.
    seconds_before = max((r.get('seconds', 0.0) for r in past), default=0.0)
    meter = Meter(parts, mesh)
    recorder = stack.enter_context(Recorder(log, progress, meter, parts.optimizer, not_finite, step, seconds_before))
    stack.enter_context(profiler)
    throttle = feed.bounded(feed.queue_depth(parts.batch))
    batches = meter.waiting(feed.device_batches(parts, mesh, step, plan.calls(step)))
    while step < plan.total and not stopped and not told_to_stop():
      length, batch = next(batches)
      profiler.before(step, length)
      state, sums, done = (functions.train if length == 1 else functions.train_fused)(state, sums, batch)
      step += length
      throttle(done)
      profiler.after(step, done)
      recorder.poll()
      if progress:
        progress.update(step)
      due = plan.due(step)

      if 'log' in due:
        saved.poll()
        recorder.put(step, sums)
        sums = functions.new_sums()

      if {*due} - {'log'}:
        jax.block_until_ready(done)  # what the meter leaves out begins when the steps before it are done
        recorder.flush()

      if 'eval' in due:
        for name, pipeline in evals.items():
          with meter:
            values = evaluation.evaluate(measures[name], state, pipeline, mesh)
          log.write(step, name, values)
          history.append({'step': step, 'split': name} | values)
          if progress:
            progress.update(step, {f'{name} {k}': v for k, v in values.items() if not isinstance(v, list)})
        stopped = plan.stop_reason(history, step)
        if stopped and 'log' not in due:
          recorder.put(step, sums)
          recorder.flush()
          sums = functions.new_sums()

      if ('artifacts' in due or stopped) and type(parts.task).artifacts is not Task.artifacts:
        with meter:
          averaged = processes.gathered(state.averaged().replace(opt={}), mesh)
          if first:
            artifacts.write(directory, step, _artifacts(parts, averaged))

      if 'checkpoint' in due or stopped or ('eval' in due and plan.keep.is_best(history, step)):
        with meter:
          save()

    # -- Save and report.
    if saved_step != step:
      save()
    saved.wait()
    status = 'complete' if step == plan.total or stopped else 'interrupted'
    if status == 'complete' and not already_complete:
      averaged = seeds.one(state.averaged().replace(opt={}), experiment.seeds)
      for name, pipeline in evals.items():
        found = evaluation.findings(opinions[name], parts.task, averaged, pipeline, mesh, experiment.seed)
        if first:
          artifacts.write(directory, step, {f'{name}_{k}': v for k, v in found.items()})
    if not already_complete and first:
      workdir.update_run(
        directory, status=status, step=step, stopped_early=stopped, finished=time.strftime('%Y-%m-%dT%H:%M:%S%z')
      )
    if first:
      report.write([directory], directory / 'report.html')
  metrics = {r['split']: {k: v for k, v in r.items() if k not in ('step', 'split')} for r in history}
  return Result(status, step, state, metrics, stopped)


def _failed(directory: pathlib.Path) -> None:
  """Leaves word of a failed run, and its curves up to the failure, and lets the error go on."""
  with contextlib.suppress(ConfigError, OSError):  # the error that is under way matters more
    workdir.update_run(directory, status='failed')
    report.write([directory], directory / 'report.html')


def _artifacts(parts: Parts, averaged: State) -> dict[str, Any]:
  return parts.task.artifacts(seeds.one(averaged, parts.experiment.seeds), keys.artifacts(parts.experiment.seed))


def _not_finite(parts: Parts, what: str, step: int, saved: Checkpoints) -> str:
  """One line: what, when, the last good checkpoint, and which config key to look at."""
  saved.wait()
  found = [k.split('.learning_rate')[0] for k in flatten(parts.experiment.optim) if 'learning_rate' in k]
  keys = [f'config.optim.{k}.learning_rate' for k in found] or ['config.optim']
  last = f'the last good checkpoint is of step {saved.latest}' if saved.latest else 'there is no checkpoint yet'
  return f'{what} is not finite at step {step}; {last}; look at {keys[0]} or clip gradients'
