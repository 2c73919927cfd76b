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
  execution = _Execution(workdir, sweep, runs, parallel, finished, sys.stderr if stream is None else stream)
  (workdir / LOGS).mkdir(parents=True, exist_ok=True)
  try:
    with interruption() as told_to_stop:
      while execution.going or (execution.left and not told_to_stop()):
        while execution.has_room and not told_to_stop():
          execution.start_next()
        if told_to_stop():
          execution.pass_on()
        time.sleep(_POLL)
        execution.look()
  finally:
    execution.kill()  # on a second signal, or an error of this process
  return Outcome(execution.failed, execution.interrupted or execution.left)


class _Execution:
  """The runs of a sweep on their way, from waiting to done.

  Attributes:
    going: name of a run -> the run, its process, and when that was started.
    failed: names of runs -> error lines.
    interrupted: whether a run has stopped before its end.
  """

  def __init__(
    self,
    workdir: pathlib.Path,
    sweep: Sweep,
    runs: Sequence[Trial],
    parallel: int,
    finished: Callable[[Trial], str],
    stream: TextIO,
  ):
    """Says how many there are; the arguments are those of `execute`."""
    self._workdir, self._sweep, self._parallel = workdir, sweep, parallel
    self._finished, self._stream = finished, stream
    self._waiting = [run for run in runs if status(workdir / run.name) != 'complete']
    self._elsewhere: list[Trial] = []  # trained by another process
    self.going: dict[str, tuple[Trial, subprocess.Popen, float]] = {}
    self._total, self._done = len(runs), len(runs) - len(self._waiting)
    self.failed: dict[str, str] = {}
    self.interrupted = self._passed_on = False
    self._clock = _Clock(len(runs), sum(_fraction(workdir / run.name) for run in runs))
    self._say(f'{len(runs)} runs, {self._done} of them complete; {parallel} at once; output in {workdir / LOGS}')

  @property
  def left(self) -> bool:
    """Whether there are runs which no process of this sweep has begun."""
    return bool(self._waiting or self._elsewhere)

  @property
  def has_room(self) -> bool:
    """Whether one of them can begin now."""
    return bool(self._waiting) and len(self.going) + len(self._elsewhere) < self._parallel

  def start_next(self) -> None:
    """Starts the next run, unless another process trains it, of a sweep that was killed, or of SLURM."""
    run = self._waiting.pop(0)
    if by := workdirs.holder(self._workdir / run.name):
      self._elsewhere.append(run)
      self._say(f'{run.name} is trained by {by}, which is waited for')
    else:
      process = _start(self._workdir, self._sweep, run, self._parallel)
      self.going[run.name] = (run, process, time.monotonic())

  def pass_on(self) -> None:
    """Tells all that are going to save and end, once."""
    if not self._passed_on:
      self._passed_on = True
      self._say(f'told to stop: {len(self.going)} runs save')
      for _, process, _ in self.going.values():
        process.send_signal(signal.SIGTERM)

  def look(self) -> None:
    """Notes which runs have ended, and says how far the others are every now and then."""
    for run in [run for run in self._elsewhere if not workdirs.holder(self._workdir / run.name)]:
      self._elsewhere.remove(run)
      if workdirs.is_complete(self._workdir / run.name):
        self._done += 1
        self._say_of_runs(run.name, 'complete', self._finished(run))
      else:
        self._waiting.insert(0, run)
    for run, process, began in list(self.going.values()):
      if process.poll() is not None:
        del self.going[run.name]
        what = self._ended(run, process.returncode)
        left = '' if self._passed_on else self._clock.left(self._now())
        self._say_of_runs(run.name, what, self._finished(run), duration(time.monotonic() - began), left)
    if self._clock.due():
      now = self._now()
      self._say_of_runs(percent(now / self._total, 0), f'{len(self.going)} running', self._clock.left(now))

  def kill(self) -> None:
    """Ends what is still going, at once."""
    for _, process, _ in self.going.values():
      process.kill()
      process.wait()

  def _ended(self, run: Trial, code: int) -> str:
    """What became of a run whose process has ended; it is counted."""
    stopped = self._passed_on and code in (-signal.SIGTERM, -signal.SIGINT)
    if code == 0 or (stopped and workdirs.is_complete(self._workdir / run.name)):  # told to stop when it had done
      self._done += 1
      return 'complete'
    if code == RESUME or stopped:
      self.interrupted = True
      return 'interrupted'
    self._done += 1
    self.failed[run.name] = error_line(self._workdir, run, code)
    return f'failed ({self.failed[run.name]})'

  def _now(self) -> float:
    """How many runs, and parts of runs, are done."""
    return self._done + sum(_fraction(self._workdir / name) for name in self.going)

  def _say(self, *facts: str) -> None:
    print('   '.join(fact for fact in facts if fact), file=self._stream, flush=True)

  def _say_of_runs(self, *facts: str) -> None:
    self._say(f'{self._done}/{self._total}', *facts)


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
