"""THE training loop: build, shard, restore or initialize, then step, log, evaluate, save, and report."""

import contextlib
import dataclasses
import pathlib
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

import jax
import numpy as np

from dl import artifacts, logs, metrics, policy, report, sharding, steps, workdir
from dl.assemble import Parts, abstractly, assemble, make_eval_pipelines
from dl.checkpoint import Checkpoints, abstract
from dl.config import flatten
from dl.data.pipeline import prefetch
from dl.errors import TrainingError
from dl.progress import Progress
from dl.state import State


@dataclasses.dataclass(frozen=True)
class Result:
  """How a session of training ended.

  Attributes:
    status: 'complete', or 'interrupted': told to stop, saved, and the same call continues.
    step: completed training steps.
    state: the final state, on the devices.
    metrics: evaluation name -> its latest numbers.
  """

  status: Literal['complete', 'interrupted']
  step: int
  state: State
  metrics: dict[str, dict[str, Any]]


def train(config: Mapping[str, Any], directory: str | pathlib.Path, *, show_progress: bool = True) -> Result:
  """Trains a config in a work directory, or continues the run which is there, bit for bit.

  Args:
    config: a resolved config (`dl.config.load`).
    directory: the work directory; made if needed, and refused if it holds a run of another config.
    show_progress: whether to show progress on stderr.

  Raises:
    ConfigError: anything wrong with the config, the data or the directory, before anything is compiled or written.
    TrainingError: a loss which is not finite; the last checkpoint is from before.
  """
  # -- Build: every part is checked by shape; nothing is compiled or written yet.
  directory = pathlib.Path(directory)
  workdir.check(directory, config)
  parts = assemble(config)
  mesh = sharding.make_mesh(config['mesh'])
  evals = make_eval_pipelines(config)
  for where, pipeline in {'data': parts.pipeline, **{f'eval.{k}': v for k, v in evals.items()}}.items():
    if pipeline is not None:
      sharding.check_batch(pipeline.batch_size, mesh, f'config.{where}.batch_size')
  every = {k: parts.steps(f'{k}_every') for k in ('log', 'eval', 'checkpoint', 'artifacts')}
  every = {k: n for k, n in every.items() if n is not None}
  keep, stop = _policies(parts, evals)
  total = parts.total_steps

  # -- Shard: where the state and the batches live, and the compiled functions (compiled at their first call).
  whole = sharding.replicated(mesh)
  shardings = sharding.state_shardings(config['sharding'], mesh, parts.state)
  train_step = steps.make_train_step(parts)
  step_fn = jax.jit(train_step, donate_argnums=(0, 1), out_shardings=(shardings, whole, whole))
  fused = steps.fuse(train_step, config['steps_per_call'])
  fused_fn = jax.jit(fused, donate_argnums=(0, 1), out_shardings=(shardings, whole, whole))
  eval_fn = jax.jit(steps.make_eval_step(parts.task, config['seed']), out_shardings=whole)
  finite_fn = jax.jit(steps.all_finite, out_shardings=whole)
  new_sums = jax.jit(lambda: steps.zero_sums(parts), out_shardings=whole)

  def place(host: tuple[int, Any]) -> tuple[int, Any]:
    length, batches = host
    if length == 1:
      return 1, sharding.place(batches[0], sharding.batch_sharding(mesh))
    stacked = jax.tree.map(lambda *x: np.stack(x), *batches)
    return length, sharding.place(stacked, sharding.batch_sharding(mesh, leading=1))

  with contextlib.ExitStack() as stack:
    # -- Restore or initialize.
    workdir.claim(directory, config)
    saved = Checkpoints(directory / 'checkpoints', last=keep.last, best=keep.best, mode=keep.mode)
    stack.enter_context(saved)
    step = saved.latest or 0
    if step:
      like = {
        'state': abstract(parts.state, shardings),
        'sums': jax.tree.map(
          lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=whole), jax.eval_shape(new_sums)
        ),
      }
      items = saved.restore(step, like)
      state, sums = items['state'], items['sums']
    else:
      state, sums = jax.jit(parts.init, out_shardings=shardings)(), new_sums()
    log = stack.enter_context(logs.Logs(directory, resume_step=step or None))
    history = [r for r in logs.read(directory) if r['split'] != 'train']
    evaluated = max((r['step'] for r in history), default=0)  # a run stops at an evaluation, so not between two
    stopped = stop is not None and stop[0].should_stop(history, evaluated, stop[1])
    already_complete = step == total or stopped
    if not already_complete:
      workdir.begin_session(
        directory,
        config,
        total_steps=total,
        parameters=sum(x.size for x in jax.tree.leaves(parts.state.params)),
        data=parts.record(),
      )
      stack.push(lambda kind, *_: kind is not None and workdir.update_run(directory, status='failed') and False)
    progress = stack.enter_context(Progress(total, step)) if show_progress else None
    told_to_stop = stack.enter_context(interruption())
    if step and progress:
      progress.note(f'resuming at step {step:,} of {total:,}')

    def check_finite(found: steps.Sums) -> None:
      if found.bad_step >= 0:
        names = [k for k, m in found.metrics.items() if not all(np.isfinite(x).all() for x in jax.tree.leaves(m))]
        fail(', '.join(names), int(found.bad_step))

    def fail(what: str, at: int) -> None:
      raise TrainingError(_not_finite(parts, what, at, saved))

    def save() -> None:
      check_finite(jax.device_get(sums))
      if not jax.device_get(finite_fn(state.params)):  # an update can overflow though its loss did not
        fail('a parameter', step)
      log.sync()
      saved.save(step, {'state': state, 'sums': sums}, keep.value(history, step))

    # -- The loop. Nothing in it waits for the device, but logging, evaluating and saving.
    seconds_before = max((r.get('seconds', 0.0) for r in logs.read(directory)), default=0.0)
    began = logged_at = time.monotonic()
    logged_step = step
    throttle = steps.bounded(depth=8)
    lengths = steps.plan_calls(step, total, config['steps_per_call'], every)
    batches = prefetch(
      _host_calls(parts, step, lengths), place, size=1 if parts.pipeline is None else parts.pipeline.prefetch
    )
    while step < total and not stopped and not told_to_stop():
      length, batch = next(batches)
      state, sums, done = (step_fn if length == 1 else fused_fn)(state, sums, batch)
      step += length
      throttle(done)
      if progress:
        progress.update(step)
      due = {k for k, n in every.items() if step % n == 0} | ({*every, 'eval', 'artifacts'} if step == total else set())

      if 'log' in due:
        found = jax.device_get(sums)
        check_finite(found)
        now = time.monotonic()
        values = metrics.compute(found.metrics) | parts.optimizer.rates(step)
        values |= {
          'steps_per_second': (step - logged_step) / (now - logged_at),
          'seconds': seconds_before + now - began,
        }
        log.write(step, 'train', values)
        if progress:
          progress.update(step, {k: v for k, v in values.items() if k not in ('seconds', 'steps_per_second')})
        sums, logged_step, logged_at = new_sums(), step, now

      if 'eval' in due:
        for name, pipeline in evals.items():
          values = steps.evaluate(eval_fn, state, pipeline, mesh)
          log.write(step, name, values)
          history.append({'step': step, 'split': name} | values)
          if progress:
            progress.update(step, {f'{name} {k}': v for k, v in values.items() if not isinstance(v, list)})
        stopped = stop is not None and stop[0].should_stop(history, step, stop[1])

      if 'artifacts' in due or stopped:
        artifacts.write(directory, step, _artifacts(parts, state))

      if due & {'checkpoint'} or stopped or (evals and 'eval' in due and keep.is_best(history, step)):
        save()

    # -- Save and report.
    if saved.latest != step:
      save()
    saved.wait()
    status = 'complete' if step == total or stopped else 'interrupted'
    if not already_complete:
      workdir.update_run(directory, status=status, step=step, finished=time.strftime('%Y-%m-%dT%H:%M:%S%z'))
    report.write([directory], directory / 'report.html')
  return Result(
    status, step, state, {r['split']: {k: v for k, v in r.items() if k not in ('step', 'split')} for r in history}
  )


@contextlib.contextmanager
def interruption() -> Iterator[Callable[[], bool]]:
  """Yields a function which says whether SIGTERM or SIGINT has asked to stop; a second signal acts at once."""
  asked = threading.Event()
  if threading.current_thread() is not threading.main_thread():
    yield asked.is_set
    return
  before = {s: signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT)}

  def ask(number: int, _: Any) -> None:
    asked.set()
    signal.signal(number, before[number])

  for s in before:
    signal.signal(s, ask)
  try:
    yield asked.is_set
  finally:
    for s, handler in before.items():
      signal.signal(s, handler)


def _host_calls(parts: Parts, start: int, lengths: Iterator[int]) -> Iterator[tuple[int, list[Any]]]:
  """The host batches of each compiled call."""
  batches = parts.pipeline.iterate(start) if parts.pipeline is not None else None
  for length in lengths:
    yield length, [{} if batches is None else next(batches) for _ in range(length)]


def _policies(parts: Parts, evals: Mapping[str, Any]) -> tuple[policy.Keep, tuple[policy.EarlyStop, int] | None]:
  """What to keep and when to stop, checked against the metrics which the evaluations have."""
  config = parts.config
  step = steps.make_eval_step(parts.task, config['seed'])
  names = {}
  for name, pipeline in evals.items():
    batch = {} if pipeline is None else jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), pipeline[0])
    found = abstractly(step, parts.state, batch, jax.ShapeDtypeStruct((), np.int32), where=f'config.eval.{name}')
    names[name] = [k for k, m in found.items() if not isinstance(m, metrics.Confusion)]
  policy.check_expect(config['expect'], names)
  keep = policy.make(policy.Keep, config['keep'], 'config.keep', names)
  if config['early_stop'] is None:
    return keep, None
  stop = policy.make(policy.EarlyStop, config['early_stop'], 'config.early_stop', names)
  return keep, (stop, parts.duration(stop.patience, 'config.early_stop.patience'))


def _artifacts(parts: Parts, state: State) -> dict[str, Any]:
  key = jax.random.fold_in(jax.random.key(parts.config['seed']), 2**31 - 2)
  return parts.task.artifacts(state.averaged(), key)


def _not_finite(parts: Parts, what: str, step: int, saved: Checkpoints) -> str:
  """One line: what, when, the last good checkpoint, and which config key to look at."""
  saved.wait()
  found = [k.split('.learning_rate')[0] for k in flatten(parts.config['optim']) if 'learning_rate' in k]
  keys = [f'config.optim.{k}.learning_rate' for k in found] or ['config.optim']
  last = f'the last good checkpoint is of step {saved.latest}' if saved.latest else 'there is no checkpoint yet'
  return f'{what} is not finite at step {step}; {last}; look at {keys[0]} or clip gradients'
