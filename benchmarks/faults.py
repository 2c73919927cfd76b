"""python -m benchmarks.faults: breaks runs in every way that machines do, and writes docs/faults.md, the fault table.

Each trial is `python -m dl.train` in processes of its own, at real settings: real signals, a real disk that is full
(which needs the right to mount, as root has it), real damage to files. After it the same command goes on, and the last
state and the metrics must be those of a run which was left alone, bit for bit.
"""

import dataclasses
import json
import os
import pathlib
import platform
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from absl import app, flags

from dl import checksums, logs, meter, restore
from dl import workdir as workdirs

flags.DEFINE_integer('kills', 52, 'SIGKILLs, over the kinds of learning.')
flags.DEFINE_integer('trials', 4, 'Trials of each other fault.')
flags.DEFINE_integer('seed', 0, 'Of the moments and of what is damaged.')
flags.DEFINE_list('only', [], 'Run these faults alone, and keep what is recorded of the others.')
flags.DEFINE_boolean('table', False, 'Only write docs/faults.md from docs/faults.json.')

ROOT = pathlib.Path(__file__).parents[1]
RECORD, PAGE = ROOT / 'docs/faults.json', ROOT / 'docs/faults.md'
EVERY = 20
"""Steps between two checkpoints."""

KINDS = {
  'classify': ('vision/digits_lenet.py', ['train_for=400']),
  'lm': (
    'text/stdlib_gpt.py',
    ['train_for=300', 'model.layers=1', 'model.width=32', 'model.heads=2', 'model.length=32', 'data.length=32',
     'data.batch_size=8'],
  ),
  'gan': ('generative/digits_gan.py', ['train_for=200']),
  'ppo': ('rl/cartpole_ppo.py', ['train_for=160', 'task.num_envs=4', 'task.eval_episodes=4']),
}  # fmt: skip
SCHEDULE = ['log_every=1', f'checkpoint_every={EVERY}', 'eval_every=60', 'early_stop=None', 'artifacts_every=None']

MODULE = '''
"""A source of which an example raises or hangs, and a stage that sees NaN, when the environment says so."""
import os
import time
import jax
import jax.numpy as jnp
import numpy as np
import optax


class Digits:
  def __init__(self):
    from dl.data.sklearn import Digits
    self.columns = Digits('all').columns

  def __len__(self):
    return len(self.columns['label'])

  def __getitem__(self, index):
    if index == 1500 and 'FAULT' in os.environ:
      if os.environ['FAULT'] == 'hang':
        time.sleep(1e6)
      raise RuntimeError('the reader died')
    return {name: values[index] for name, values in self.columns.items()}


def nan_gradients(step: int) -> optax.GradientTransformation:
  def update(updates, count, params=None):
    bad = jnp.where(count + 1 == step, jnp.nan, 1.0)
    return jax.tree.map(lambda u: u * bad, updates), count + 1
  return optax.GradientTransformation(lambda params: jnp.int32(0), update)
'''

CLOCK = """
import itertools, time
time_, time_ns, years = time.time, time.time_ns, itertools.cycle([0, 9, -9, 1, -30])
time.time = lambda: time_() + next(years) * 365 * 86400
time.time_ns = lambda: time_ns() + next(years) * 365 * 86400 * 10**9
"""
"""What Python runs at its start: every look at the clock sees another year."""


@dataclasses.dataclass
class Trial:
  """One fault that was injected.

  Attributes:
    fault: which.
    kind: of learning.
    moment: when, or how exactly.
    said: exit code, and the line on stderr.
    lost: steps that were computed once more.
    seconds: from the start of the same command to its first new step; None where there was none to come.
    same: whether the run ended like one that was left alone.
  """

  fault: str
  kind: str
  moment: str
  said: str = ''
  lost: int | None = None
  seconds: float | None = None
  same: bool | None = None


class Bench:
  """A folder for runs, and the runs which were left alone."""

  def __init__(self, folder: pathlib.Path, seed: int):
    self.folder, self.random = folder, random.Random(seed)
    self._count = 0
    (folder / 'my_faults.py').write_text(MODULE)
    sys.path.append(str(folder))  # the configs of its runs name it

  def new(self) -> pathlib.Path:
    self._count += 1
    return self.folder / f'run{self._count}'

  def start(self, kind: str, workdir: pathlib.Path, *more: str, **variables: str) -> subprocess.Popen:
    path, overrides = KINDS[kind]
    given = [f'--config.{o}' for o in [*overrides, *SCHEDULE, *more]]
    env = os.environ | {'JAX_PLATFORMS': 'cpu', 'XLA_FLAGS': '', 'XDG_CACHE_HOME': str(self.folder / 'cache')}
    env |= {'PYTHONPATH': os.pathsep.join([variables.pop('PYTHONPATH', ''), str(ROOT)])} | variables
    return subprocess.Popen(
      [sys.executable, '-m', 'dl.train', f'--config={ROOT}/experiments/{path}', f'--workdir={workdir}', *given],
      cwd=self.folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip

  def finish(self, kind: str, workdir: pathlib.Path, *more: str, **variables: str) -> tuple[int, str, float | None]:
    """(exit code, errors, seconds to the first new step) of the command."""
    clock = Clock(workdir)
    process = self.start(kind, workdir, *more, **variables)
    seconds = clock.first_step(process)
    return (*ended(process), seconds)

  def whole(self, kind: str, *more: str) -> pathlib.Path:
    """A complete run that nothing happened to."""
    workdir = self.folder / f'whole_{kind}{abs(hash(more))}'
    if not workdir.exists():
      code, err = ended(self.start(kind, workdir, *more))
      assert code == 0, err
    return workdir

  def part(self, kind: str, *more: str) -> pathlib.Path:
    """A copy of a run which was interrupted on its way."""
    workdir, copy = self.folder / f'part_{kind}{abs(hash(more))}', self.new()
    if not workdir.exists():
      process = self.start(kind, workdir, *more)
      wait_for(process, lambda: newest(workdir) >= 3 * EVERY)
      process.send_signal(signal.SIGTERM)
      assert ended(process)[0] == 75
    shutil.copytree(workdir, copy)
    return copy


class Clock:
  """Notices the first step which a command takes, by the metrics that it writes."""

  def __init__(self, workdir: pathlib.Path):
    self._path, self._from = workdir / logs.FILE, newest(workdir)
    stale = any(r['step'] > self._from for r in logs.read(workdir))  # these lines go, with their file
    self._old = self._path.stat().st_ino if stale else None
    self._began = time.monotonic()

  def stepped(self) -> bool:
    """Whether there is a new step."""
    if not self._path.exists() or self._path.stat().st_ino == self._old:
      return False
    return last_line(self._path.parent) > self._from

  def first_step(self, process: subprocess.Popen) -> float | None:
    """Seconds until then; None if the process ended before."""
    return time.monotonic() - self._began if wait_for(process, self.stepped) else None


def wait_for(process: subprocess.Popen, condition: Callable[[], bool], seconds: float = 300) -> bool:
  """Waits until something is so, or the process has ended; returns whether it is so."""
  began = time.monotonic()
  while process.poll() is None and time.monotonic() - began < seconds:
    if condition():
      return True
    time.sleep(0.002)
  return condition()


def ended(process: subprocess.Popen) -> tuple[int, str]:
  """(exit code, its error lines, without progress) of a process."""
  _, err = process.communicate(timeout=600)
  lines = [line for line in err.splitlines() if line.startswith(('error', 'warning', 'Traceback'))]
  return process.returncode, '\n'.join(lines)


def newest(workdir: pathlib.Path) -> int:
  """Step of the newest finished checkpoint; 0 if there is none."""
  folder = workdir / 'checkpoints'
  return max((int(p.name) for p in folder.glob('*') if p.name.isdecimal()), default=0) if folder.exists() else 0


def last_line(workdir: pathlib.Path) -> int:
  """The step of the last whole line of the metrics."""
  return max((r['step'] for r in logs.read(workdir)), default=0)


def saving(workdir: pathlib.Path) -> bool:
  return any((workdir / 'checkpoints').glob('*-tmp*'))


def same(a: pathlib.Path, b: pathlib.Path) -> bool:
  """Whether two runs ended alike: state and metrics, bit for bit."""
  (_, x), (_, y) = restore.load_parts(a), restore.load_parts(b)
  equal = jax.tree.leaves(jax.tree.map(lambda p, q: np.array_equal(_plain(p), _plain(q)), x, y))
  numbers = lambda run: [{k: v for k, v in r.items() if k not in meter.NUMBERS} for r in logs.read(run)]
  complete = workdirs.read_run(a)['status'] == workdirs.read_run(b)['status'] == 'complete'
  return all(equal) and complete and numbers(a) == numbers(b)


def _plain(x: Any) -> np.ndarray:
  return np.asarray(jax.random.key_data(x) if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key) else x)


# -- The faults. Each yields its trials; several in one run share what they are compared with.

SIGNALS = {
  'SIGKILL': [signal.SIGKILL], 'SIGTERM': [signal.SIGTERM], 'SIGTERM twice': [signal.SIGTERM] * 2,
  'SIGINT': [signal.SIGINT],
}  # fmt: skip


def signals(bench: Bench, fault: str, kind: str, count: int) -> Iterator[Trial]:
  """Stops runs of one kind so many times, at random moments."""
  whole, workdir, pending = bench.whole(kind), bench.new(), []
  moments = ['training', 'a save', 'training', 'the start'] if fault == 'SIGKILL' else ['training', 'a save']
  done = 0
  while done < count:
    clock, before = Clock(workdir), newest(workdir)
    process = bench.start(kind, workdir)
    moment = moments[done % len(moments)]
    if moment == 'the start':
      time.sleep(bench.random.uniform(0, 4))
    else:
      seconds = clock.first_step(process)
      if pending and seconds is not None:
        pending[-1].seconds = pending[-1].seconds or seconds
      if moment == 'a save':
        wait_for(process, lambda w=workdir, step=before: newest(w) > step)
        wait_for(process, lambda w=workdir: saving(w))
      else:
        wait_for(process, lambda w=workdir, step=before: newest(w) > step)
        time.sleep(bench.random.uniform(0, 0.5))
    for i, number in enumerate(SIGNALS[fault]):
      if i:  # while it saves what the first made it save
        wait_for(process, lambda w=workdir: saving(w), 5)
      process.send_signal(number)
    code, err = ended(process)
    if code == 0:  # too late: the run is complete
      yield from _settled(pending, workdir, whole)
      workdir, pending = bench.new(), []
      continue
    done += 1
    if moment != 'the start':  # what it really was: an unfinished save leaves its folder
      moment = 'a save' if saving(workdir) else 'training'
    lost = max(last_line(workdir) - newest(workdir), 0) if clock.stepped() else 0
    pending.append(Trial(fault, kind, moment, f'{code} {err}'.strip(), lost))
  code, err, seconds = bench.finish(kind, workdir)
  assert code == 0, err
  pending[-1].seconds = seconds
  yield from _settled(pending, workdir, whole)


def _settled(trials: Sequence[Trial], workdir: pathlib.Path, whole: pathlib.Path) -> Iterator[Trial]:
  equal = same(workdir, whole)
  for trial in trials:
    trial.same = equal
    yield trial


def damaged(bench: Bench, fault: str, kind: str) -> Iterator[Trial]:
  """Damages the newest checkpoint of a run."""
  workdir = bench.part(kind)
  step = newest(workdir)
  folder = workdir / f'checkpoints/{step}'
  names = [*json.loads((folder / checksums.FILE).read_text())['crc32']]
  sizes = [(folder / name).stat().st_size for name in names]
  name = bench.random.choices(names, sizes)[0]
  content = bytearray((folder / name).read_bytes())
  if fault == 'bit-flipped checkpoint':
    content[bench.random.randrange(len(content))] ^= 1 << bench.random.randrange(8)
  else:
    del content[bench.random.randrange(len(content)) :]
  (folder / name).write_bytes(content)
  reading = subprocess.run(
    [sys.executable, '-m', 'dl.evaluate', f'--workdir={workdir}'],
    cwd=bench.folder, env=os.environ | {'PYTHONPATH': str(ROOT)}, capture_output=True, text=True, check=False,
  )  # fmt: skip
  before = max(int(p.name) for p in folder.parent.glob('*') if p.name.isdecimal() and int(p.name) < step)
  shutil.move(folder, folder.with_name('aside'))
  clock = Clock(workdir)  # as of the step before
  shutil.move(folder.with_name('aside'), folder)
  process = bench.start(kind, workdir)
  seconds = clock.first_step(process)
  code, err = ended(process)
  assert code == 0 and f'step {step} is damaged ({name}: ' in err, (code, err)
  assert reading.returncode == 2 and reading.stderr.count('\n') == 1 and name in reading.stderr, reading
  yield Trial(fault, kind, name.split('/')[-1], err, step - before, seconds, same(workdir, bench.whole(kind)))


def full_disk(bench: Bench, fault: str, kind: str) -> Iterator[Trial]:
  """Fills a disk while a run saves, or writes its log."""
  disk = bench.new()
  disk.mkdir()
  subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=16m', 'tmpfs', disk], check=True)
  try:
    workdir = disk / 'run'
    process = bench.start(kind, workdir)
    wait_for(process, lambda: newest(workdir) >= 2 * EVERY and not saving(workdir))
    free = os.statvfs(disk)
    leave = 16 * 4096 if 'checkpoint' in fault else 0
    (disk / 'filler').write_bytes(b'0' * max(free.f_bavail * free.f_frsize - leave, 0))
    code, err = ended(process)
    said = last_line(workdir)
    intact = newest(workdir)
    assert code == 1 and err.count('\n') == 0 and f'the last checkpoint, of step {intact}, is intact' in err, (
      code,
      err,
    )
    (disk / 'filler').unlink()
    code, again, seconds = bench.finish(kind, workdir)
    assert code == 0, again
    yield Trial(fault, kind, '', f'1 {err}', said - intact, seconds, same(workdir, bench.whole(kind)))
  finally:
    subprocess.run(['umount', '--lazy', disk], check=True)


PLAIN = ["task={'name': 'classify.Classify'}", 'eval={}', 'eval_every=None', 'expect={}', 'keep={}']
SOURCE = ["data={'name': 'my_faults.Digits', 'batch_size': 16, 'timeout': 2}", *PLAIN]


def reader(bench: Bench, fault: str, kind: str) -> Iterator[Trial]:
  """A thread which reads examples raises, or hangs."""
  workdir, whole = bench.new(), bench.whole(kind, *SOURCE)
  code, err, _ = bench.finish(kind, workdir, *SOURCE, FAULT='hang' if 'hangs' in fault else 'raise')
  assert code == 1 and 'example 1500' in err, (code, err)
  lost = last_line(workdir) - newest(workdir)
  code, again, seconds = bench.finish(kind, workdir, *SOURCE)
  assert code == 0, again
  yield Trial(fault, kind, '', f'1 {err}', lost, seconds, same(workdir, whole))


def pictures(bench: Bench, fault: str, kind: str) -> Iterator[Trial]:
  """Files of images that cannot be decoded."""
  from PIL import Image

  from dl.data.sklearn import Digits

  folder, columns = bench.new(), Digits('all').columns
  for i in range(400):
    path = folder / f'{columns["label"][i]}/{i:03}.{"png" if i % 2 else "jpg"}'
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.rint(columns['image'][i, ..., 0] * 255).astype(np.uint8)).save(path)
  bad = bench.random.sample(sorted(folder.rglob('*.*')), 6)
  for number, path in enumerate(bad):
    content = path.read_bytes()
    path.write_bytes([content[: len(content) // 2], b'', b'<html>'][number % 3])
  skips = 'skipped' in fault
  data = {'name': 'images.Folder', 'path': str(folder), 'image_size': [8, 8], 'channels': 1, 'batch_size': 16}
  data |= {'on_error': 'skip' if skips else 'stop', 'split': 'all', 'in_memory': False, 'test': 0}
  given = [f'data={data}', *PLAIN]
  workdir = bench.new()
  code, err, seconds = bench.finish(kind, workdir, *given)
  if not skips:
    assert code in (1, 2) and any(str(p) in err for p in bad), (code, err)
    yield Trial(fault, kind, '', f'{code} {err}')
    return
  assert code == 0, err
  count = len((workdir / 'skipped.jsonl').read_text().splitlines())
  other = bench.new()
  process = bench.start(kind, other, *given)
  wait_for(process, lambda: newest(other) >= EVERY)
  process.kill()
  ended(process)
  code, again, seconds = bench.finish(kind, other, *given)
  assert code == 0, again
  yield Trial(fault, kind, f'{count} of {len(bad)} counted', f'0 {err}', 0, seconds, same(workdir, other))


def nan(bench: Bench, fault: str, kind: str) -> Iterator[Trial]:
  """A gradient which is NaN though the loss is finite."""
  step = bench.random.randrange(EVERY + 2, 3 * EVERY)
  optimizer = {'nan': {'name': 'my_faults.nan_gradients', 'step': step}, 'sgd': {'name': 'sgd', 'learning_rate': 0.1}}
  workdir = bench.new()
  code, err, _ = bench.finish(kind, workdir, f'optim={optimizer}')
  assert code == 1 and 'not finite' in err, (code, err)
  _, state = restore.load_parts(workdir)
  finite = all(np.isfinite(_plain(x)).all() for x in jax.tree.leaves(state.params))
  yield Trial(fault, kind, f'step {step}', f'1 {err}', None, None, finite)


def in_use(bench: Bench, fault: str, kind: str) -> Iterator[Trial]:
  """A second run in a directory where one is running."""
  workdir = bench.new()
  process = bench.start(kind, workdir)
  wait_for(process, lambda: newest(workdir) >= EVERY)
  code, err = ended(bench.start(kind, workdir))
  assert code == 2 and 'is in use by process' in err, (code, err)
  assert ended(process)[0] == 0
  yield Trial(fault, kind, '', f'{code} {err}', 0, None, same(workdir, bench.whole(kind)))


def read_only(bench: Bench, fault: str, kind: str) -> Iterator[Trial]:
  """A directory that cannot be written to."""
  workdir = bench.part(kind)
  before = sorted((p, p.stat().st_mtime_ns) for p in workdir.rglob('*'))
  subprocess.run(['mount', '--bind', workdir, workdir], check=True)
  try:
    subprocess.run(['mount', '-o', 'remount,ro,bind', workdir], check=True)
    code, err = ended(bench.start(kind, workdir))
    assert code == 2 and 'cannot write to' in err and err.count('\n') == 0, (code, err)
  finally:
    subprocess.run(['umount', '--lazy', workdir], check=True)
  untouched = before == sorted((p, p.stat().st_mtime_ns) for p in workdir.rglob('*'))
  code, again, seconds = bench.finish(kind, workdir)
  assert code == 0, again
  yield Trial(fault, kind, '', f'2 {err}', 0, seconds, untouched and same(workdir, bench.whole(kind)))


def clock(bench: Bench, fault: str, kind: str) -> Iterator[Trial]:
  """A clock which jumps by years at every look, and a kill."""
  patch, workdir = bench.new(), bench.new()
  patch.mkdir()
  (patch / 'sitecustomize.py').write_text(CLOCK)
  process = bench.start(kind, workdir, PYTHONPATH=str(patch))
  wait_for(process, lambda: newest(workdir) >= 2 * EVERY)
  process.kill()
  ended(process)
  lost = max(last_line(workdir) - newest(workdir), 0)
  code, err, seconds = bench.finish(kind, workdir, PYTHONPATH=str(patch))
  assert code == 0, err
  yield Trial(fault, kind, '', f'{code} {err}'.strip(), lost, seconds, same(workdir, bench.whole(kind)))


FAULTS: dict[str, tuple[Callable, str]] = {
  'SIGTERM': (signals, 'sent while it trains or saves'),
  'SIGTERM twice': (signals, 'sent again while it saves for the first'),
  'SIGINT': (signals, 'sent while it trains or saves'),
  'bit-flipped checkpoint': (damaged, 'a random bit of a random file of the newest, by size'),
  'truncated checkpoint': (damaged, 'a random file of the newest, cut anywhere'),
  'full disk, at a checkpoint': (full_disk, 'a file takes a disk of 16 MB but for 64 KB'),
  'full disk, at the log': (full_disk, 'a file takes all of a disk of 16 MB'),
  'dead reader': (reader, 'an example raises RuntimeError in a thread'),
  'a reader that hangs': (reader, 'an example sleeps for ever; data.timeout=2'),
  'corrupt images, stop': (pictures, 'six of 400 files cut short, empty, or HTML'),
  'corrupt images, skipped': (pictures, "the same, data.on_error='skip'; and a SIGKILL"),
  'NaN gradient': (nan, 'an optimizer stage sees NaN at a random step, the loss is finite'),
  'directory in use': (in_use, 'the same command twice at the same time'),
  'read-only directory': (read_only, 'mounted read-only'),
  'a clock that jumps': (clock, 'time.time() differs by up to 39 years from call to call; and a SIGKILL'),
}
"""Fault -> (what injects it, how)."""

LOST = {
  'NaN gradient': 'nothing; no checkpoint holds a NaN',
  'corrupt images, stop': 'nothing was begun, or the steps since the last checkpoint',
  'directory in use': 'nothing; the first run went on',
  'read-only directory': 'nothing; no file was touched',
}
"""What a table says where there are no steps to count."""


def checksum_cost() -> float:
  """Seconds to check one GB of checkpoint that is in the page cache."""
  with tempfile.TemporaryDirectory() as folder:
    path, size = pathlib.Path(folder), 2**28
    for i in range(4):
      (path / str(i)).write_bytes(os.urandom(size // 4))
    checksums.write(path)
    began = time.perf_counter()
    assert checksums.damage(path) is None
    return (time.perf_counter() - began) / size * 1e9


def page(record: dict[str, Any]) -> str:
  """docs/faults.md."""
  trials = [Trial(**t) for t in record['trials']]
  of = lambda fault: [t for t in trials if t.fault == fault]
  kills = of('SIGKILL')
  lines = [
    '<!-- Written by `python -m benchmarks.faults`: change that, not this. -->', '# Faults', '',
    f'Written by `python -m benchmarks.faults` ([source](../benchmarks/faults.py)); every trial is in '
    f'[faults.json](faults.json). Measured {record["date"]} on {record["machine"]}, with a checkpoint every {EVERY} '
    f'steps. Each trial is the command itself, in a process of its own; after the fault the same command goes on, and '
    f'the last state and the metrics must be those of a run that was left alone, bit for bit.', '',
    '* **lost**: steps which were computed a second time, since the last checkpoint; nothing else.',
    '* **goes on after**: seconds from the start of the same command to its first new step, with the start of Python '
    'and JAX, and what is in the compilation cache: median, and the longest.', '',
    '| fault | how injected | tried | ended right | what it says | lost | goes on after |',
    '|---|---|---:|---:|---|---|---:|',
  ]  # fmt: skip
  rows = [('SIGKILL', 'at random moments: training, inside a save, starting')]
  rows += [(fault, how) for fault, (_, how) in FAULTS.items()]
  for fault, how in rows:
    found = of(fault)
    if not found:
      continue
    good = sum(t.same is not False for t in found)
    lines.append(
      f'| {fault} | {how} | {len(found)} | {good} | {_said(found)} | {_lost(fault, found)} | {_after(found)} |'
    )
  lines += ['', '## SIGKILL', '', '| learning | kills | inside a save | at the start | equal at the end | steps lost | '
            'goes on after |', '|---|---:|---:|---:|---:|---|---:|']  # fmt: skip
  for kind in dict.fromkeys(t.kind for t in kills):
    mine = [t for t in kills if t.kind == kind]
    count = lambda moment, mine=mine: sum(t.moment == moment for t in mine)
    lines.append(
      f'| {kind} | {len(mine)} | {count("a save")} | {count("the start")} | {sum(bool(t.same) for t in mine)} | '
      f'{_lost("SIGKILL", mine)} | {_after(mine)} |'
    )
  cost = f'{record["checksum_seconds_per_gb"]:.2f} s a GB'
  lines += ['', '## How', '', *NOTES]
  lines += [f'* Checksums take {cost} to check on this machine, from memory; the thread that saves writes them.', '']
  return '\n'.join(lines)


NOTES = [
  '* A checkpoint counts once it has its name, which it gets in one move after its files, and a checksum of each '
  '(`checksums.json`), are on the disk. What a killed save leaves has another name, and is removed at the next start.',
  '* On a resume the newest checkpoint is read and compared with its checksums. A damaged one is named, set aside '
  'as `STEP.damaged`, and the one before is used; two are kept by default (`keep.last`). If none is intact the run '
  'stops, and does not start anew. `dl.evaluate`, `dl.sample`, `dl.predict` and `dl.load` refuse a damaged one.',
  '* A file that cannot be written ends the run with one line and exit code 1; the last checkpoint is not touched.',
  "* `data.on_error='skip'` replaces an example which cannot be read by the next of the order, a function of the step; "
  'in evaluation it does not count. Which, and why, is in `skipped.jsonl`, and their number on stderr at the end.',
  '* `data.timeout` (600 s) ends a run whose readers hang, and names what they read.',
]


def _said(trials: Sequence[Trial]) -> str:
  """Exit codes of the trials."""
  codes = sorted({t.said.split()[0] for t in trials if t.said.split()[0].lstrip('-').isdecimal()}, key=int)
  lines = {line.split(':')[0] for t in trials for line in t.said.splitlines() if line.startswith('warning')}
  text = f'exit code {", ".join(codes)}' if codes else ''
  if any('error: ' in t.said for t in trials):
    text += ', one line'
  return text or ('a warning' if lines else '')


def _lost(fault: str, trials: Sequence[Trial]) -> str:
  if fault in LOST:
    return LOST[fault]
  steps = [t.lost for t in trials if t.lost is not None]
  if not any(steps):
    return 'nothing'
  return f'{statistics.median(steps):.0f} steps, at most {max(steps)}'


def _after(trials: Sequence[Trial]) -> str:
  seconds = [t.seconds for t in trials if t.seconds is not None]
  return f'{statistics.median(seconds):.1f} s, {max(seconds):.1f} s' if seconds else '-'


def main(_: Sequence[str]) -> None:
  """Runs the trials, and writes the record and the page."""
  FLAGS = flags.FLAGS
  if FLAGS.table:
    PAGE.write_text(page(json.loads(RECORD.read_text())))
    return
  trials: list[Trial] = []
  wanted = lambda fault: not FLAGS.only or fault in FLAGS.only

  def keep(found: Iterator[Trial]) -> None:
    for trial in found:
      trials.append(trial)
      print(json.dumps(dataclasses.asdict(trial)), flush=True)

  with tempfile.TemporaryDirectory() as folder:
    bench = Bench(pathlib.Path(folder), FLAGS.seed)
    if wanted('SIGKILL'):
      for kind in KINDS:
        keep(signals(bench, 'SIGKILL', kind, FLAGS.kills // len(KINDS)))
    for fault, (inject, _) in FAULTS.items():
      if wanted(fault) and inject is signals:
        keep(signals(bench, fault, 'classify', FLAGS.trials))
      elif wanted(fault):
        for _ in range(FLAGS.trials):
          keep(inject(bench, fault, 'classify'))
  bad = [t for t in trials if t.same is False]
  print(f'{len(trials)} trials, {len(bad)} of which ended otherwise than a run left alone')
  old = json.loads(RECORD.read_text())['trials'] if FLAGS.only else []
  record = {
    'date': time.strftime('%Y-%m-%d'),
    'machine': f'{os.cpu_count()} CPU cores ({platform.machine()}) beside other jobs',
    'checksum_seconds_per_gb': round(checksum_cost(), 3),
    'trials': [t for t in old if not wanted(t['fault'])] + [dataclasses.asdict(t) for t in trials],
  }
  text = json.dumps(record, indent=1).replace(folder, '...')
  RECORD.write_text(text + '\n')
  PAGE.write_text(page(json.loads(text)))
  if bad:
    raise SystemExit(1)


if __name__ == '__main__':
  app.run(main)
