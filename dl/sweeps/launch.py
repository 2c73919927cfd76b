"""The runs of a sweep, executed: as local processes with a bounded number at once, or as a SLURM array."""

import dataclasses
import os
import pathlib
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TextIO

from dl.errors import RESUME, ConfigError
from dl.show.words import duration, percent
from dl.store import logs
from dl.store import workdir as workdirs
from dl.sweeps.sweeping import Sweep, Trial
from dl.training import policy
from dl.training.prepare import plan
from dl.training.signals import interruption

LOGS = 'logs'
"""Where the output of each run goes, below the sweep's directory."""

_POLL = 0.05  # seconds between two looks at the processes
_EVERY = 10.0  # seconds between two lines of progress


@dataclasses.dataclass(frozen=True)
class Outcome:
  """What came of the runs: names of those which failed with their error lines, and whether some are left."""

  failed: dict[str, str]
  interrupted: bool


def check(runs: Sequence[Trial], metrics: Sequence[str] = ()) -> None:
  """Assembles as many runs as it takes to see each value of each swept key; raises ConfigError before any starts.

  Args:
    runs: which are not complete.
    metrics: 'split/metric' names; evaluations of some run must have them, but those of 'train', known once it trains.
  """
  seen: set[tuple[str, str]] = set()
  by_split: dict[str, list[str]] = {}
  for run in runs:
    values = {(key, repr(value)) for key, value in run.overrides.items() if key != 'seed'}
    if not seen or not values <= seen:
      seen |= values | {('', '')}
      try:
        made = plan(run.experiment).schedule
      except ConfigError as e:
        raise ConfigError(f'{run.name}: {e}') from e
      for split, names in made.metrics.items():
        by_split[split] = [*by_split.get(split, ()), *names]
  for metric in metrics if seen else ():
    if not metric.startswith('train/'):
      policy.check_metric(metric, by_split, '--metric')


def status(folder: pathlib.Path) -> str:
  """How far a run is: 'complete', 'interrupted', 'failed', 'running' (or killed), or 'waiting'."""
  return str(workdirs.read_run(folder).get('status')) if (folder / workdirs.RUN).exists() else 'waiting'


def command(workdir: pathlib.Path, sweep: Sweep, run: Trial) -> list[str]:
  """The command of one run."""
  shared = [f'--override={text}' for text in sweep.shared]
  return [
    sys.executable, '-m', 'dl.train', f'--config={sweep.path}', f'--workdir={workdir / run.name}', *shared, *run.flags()
  ]  # fmt: skip


def execute(
  workdir: pathlib.Path,
  sweep: Sweep,
  runs: Sequence[Trial],
  parallel: int,
  finished: Callable[[Trial], str] = lambda run: '',
  stream: TextIO | None = None,
) -> Outcome:
  """Runs what is not complete, at most `parallel` at once; a failed run does not stop the others.

  A run that another process trains, left by a sweep which was killed, say, is waited for, and then looked at again.

  SIGTERM or SIGINT is passed on to the runs, which save; a second one ends them.

  Args:
    workdir: the sweep's directory.
    sweep: the sweep.
    runs: which runs of it.
    parallel: processes at once.
    finished: a run which has ended -> what to say of it, its metric say.
    stream: where lines of progress go; sys.stderr if None.
  """
  stream = sys.stderr if stream is None else stream
  say = lambda *facts: print('   '.join(fact for fact in facts if fact), file=stream, flush=True)
  waiting = [run for run in runs if status(workdir / run.name) != 'complete']
  done, failed, interrupted = len(runs) - len(waiting), {}, False
  elsewhere: list[Trial] = []
  say(f'{len(runs)} runs, {done} of them complete; {parallel} at once; output in {workdir / LOGS}')
  going: dict[str, tuple[Trial, subprocess.Popen, float]] = {}
  clock = _Clock(len(runs), sum(_fraction(workdir / run.name) for run in runs))
  (workdir / LOGS).mkdir(parents=True, exist_ok=True)
  try:
    with interruption() as told_to_stop:
      passed_on = False
      while going or ((waiting or elsewhere) and not told_to_stop()):
        while waiting and len(going) + len(elsewhere) < parallel and not told_to_stop():
          run = waiting.pop(0)
          if by := workdirs.holder(workdir / run.name):  # of a sweep that was killed, or of SLURM
            elsewhere.append(run)
            say(f'{run.name} is trained by {by}, which is waited for')
            continue
          going[run.name] = (run, _start(workdir, sweep, run, parallel), time.monotonic())
        if told_to_stop() and not passed_on:
          passed_on = True
          say(f'told to stop: {len(going)} runs save')
          for _, process, _ in going.values():
            process.send_signal(signal.SIGTERM)
        time.sleep(_POLL)
        for run in [run for run in elsewhere if not workdirs.holder(workdir / run.name)]:
          elsewhere.remove(run)
          if workdirs.is_complete(workdir / run.name):
            done += 1
            say(f'{done}/{len(runs)}', run.name, 'complete', finished(run))
          else:
            waiting.insert(0, run)
        for run, process, began in list(going.values()):
          if process.poll() is None:
            continue
          del going[run.name]
          stopped = passed_on and process.returncode in (-signal.SIGTERM, -signal.SIGINT)
          if stopped and workdirs.is_complete(workdir / run.name):  # told to stop when it had done
            what, done = 'complete', done + 1
          elif process.returncode == RESUME or stopped:
            interrupted, what = True, 'interrupted'
          elif process.returncode:
            failed[run.name] = error_line(workdir, run, process.returncode)
            what = f'failed ({failed[run.name]})'
            done += 1
          else:
            what, done = 'complete', done + 1
          left = '' if passed_on else clock.left(done + sum(_fraction(workdir / name) for name in going))
          say(f'{done}/{len(runs)}', run.name, what, finished(run), duration(time.monotonic() - began), left)
        if clock.due():
          now = done + sum(_fraction(workdir / name) for name in going)
          say(f'{done}/{len(runs)}', percent(now / len(runs), 0), f'{len(going)} running', clock.left(now))
      interrupted |= bool(waiting or elsewhere)
  finally:
    for _, process, _ in going.values():  # on a second signal, or an error of this process
      process.kill()
      process.wait()
  return Outcome(failed, interrupted)


def error_line(workdir: pathlib.Path, run: Trial, code: int) -> str:
  """Why a run failed, in one line: the last 'error: ...' it wrote, else the last line, else its exit code."""
  lines = (workdir / LOGS / f'{run.name}.txt').read_text(encoding='utf-8', errors='replace').split('\n')
  lines = [line.strip() for line in lines if line.strip()]
  lines = lines[max((i for i, line in enumerate(lines) if line.startswith('$ ')), default=-1) + 1 :]  # of this time
  if code < 0:
    return f'killed by signal {-code}'
  errors = [line.removeprefix('error: ') for line in lines if line.startswith('error: ')]
  return (errors or lines or [f'exit code {code}'])[-1]


def slurm(workdir: pathlib.Path, sweep: Sweep, runs: Sequence[Trial], parallel: int | None) -> str:
  """A batch script whose array has a task for each run which is not complete.

  A task that is told to stop (120 s before its time limit) saves, and is put into the queue again.
  """
  wanted = {run.name for run in runs if status(workdir / run.name) != 'complete'}
  indices = [i for i, run in enumerate(sweep.runs) if run.name in wanted]
  if not indices:
    raise ConfigError(f'--slurm: all {len(runs)} runs are complete; see --report')
  bound = f'%{parallel}' if parallel else ''
  folder = workdir.absolute()
  run = shlex.join([sys.executable, '-m', 'dl.sweep', f'--workdir={folder}'])
  return f"""#!/bin/bash
#SBATCH --job-name={_one_word(folder.name)}
#SBATCH --array={_ranges(indices)}{bound}
#SBATCH --output={_one_word(str(folder / LOGS))}/%A_%a.txt
#SBATCH --open-mode=append
#SBATCH --requeue
#SBATCH --signal=B:TERM@120
# {len(indices)} runs. Partition, time and devices are those of the call: sbatch --time=4:00:00 --gpus=1 THIS_FILE
cd {shlex.quote(os.getcwd())} || exit 1
stopping=0
{run} --index="$SLURM_ARRAY_TASK_ID" &
child=$!
trap 'stopping=1; kill -TERM "$child" 2> /dev/null' TERM INT
wait "$child"
code=$?
if [ "$stopping" -eq 1 ]; then  # the signal ended the wait, not the run, which saves
  wait "$child"
  code=$?
fi
if [ "$code" -eq {RESUME} ] && [ -n "$SLURM_ARRAY_JOB_ID" ]; then
  scontrol requeue "${{SLURM_ARRAY_JOB_ID}}_${{SLURM_ARRAY_TASK_ID}}"
fi
exit "$code"
"""


def _start(workdir: pathlib.Path, sweep: Sweep, run: Trial, parallel: int) -> subprocess.Popen:
  arguments = [*command(workdir, sweep, run), '--noprogress']
  environment = dict(os.environ)
  if parallel > 1:  # JAX takes three quarters of a GPU's memory for each process unless it is told otherwise
    environment.setdefault('XLA_PYTHON_CLIENT_MEM_FRACTION', f'{0.9 / parallel:.3f}')
  with (workdir / LOGS / f'{run.name}.txt').open('a', encoding='utf-8') as log:
    log.write(f'$ {shlex.join(arguments)}\n')
    log.flush()
    # In a session of its own: Ctrl-C in a terminal reaches this process alone, which passes it on once.
    return subprocess.Popen(
      arguments, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, start_new_session=True
    )


def _fraction(folder: pathlib.Path) -> float:
  """Which part of a run's steps is logged, from 0 to 1; a complete run is 1 however early it stopped."""
  if status(folder) == 'complete':
    return 1.0
  try:
    total = workdirs.read_run(folder)['total_steps']
    return min(max((r['step'] for r in logs.read(folder)), default=0) / total, 1.0)
  except (ConfigError, KeyError, TypeError, ZeroDivisionError):  # it has not begun, or is being written
    return 0.0


class _Clock:
  """The time left, from how many runs (and parts of runs) were done since it was made."""

  def __init__(self, total: int, start: float):
    self._total, self._start, self._began = total, start, time.monotonic()
    self._said = self._began

  def left(self, now: float) -> str:
    elapsed = time.monotonic() - self._began
    if now <= self._start or now >= self._total:
      return ''
    return f'{duration(elapsed * (self._total - now) / (now - self._start))} left'

  def due(self) -> bool:
    now = time.monotonic()
    if now - self._said < _EVERY:
      return False
    self._said = now
    return True


def _ranges(indices: Sequence[int]) -> str:
  """Ascending numbers as SLURM writes them: '0-3,7'."""
  return ','.join(f'{a}-{b}' if b > a else str(a) for a, b in _spans(indices))


def _spans(indices: Sequence[int]) -> Iterator[tuple[int, int]]:
  first = last = indices[0]
  for i in indices[1:]:
    if i > last + 1:
      yield first, last
      first = i
    last = i
  yield first, last


def _one_word(text: str) -> str:
  """A text for an #SBATCH line, which knows no quotes that all versions agree on."""
  if any(c.isspace() or c in '"\'\\' for c in text):
    raise ConfigError(f'--slurm: the path {text!r} has characters which a batch script cannot hold; choose another')
  return text
