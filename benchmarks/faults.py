"""python -m benchmarks.faults: breaks runs in every way that machines do, and writes docs/faults.md, the fault table.

Each trial is `python -m dl.train` in processes of its own, at real settings: real signals, a real disk that is full
(which needs the right to mount, as root has it), real damage to files. After it the same command goes on, and the last
state and the metrics must be those of a run which was left alone, bit for bit.
"""

import collections
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

from dl.store import checksums, logs
from dl.store import workdir as workdirs
from dl.training import restore, signals

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
    from dl.data.sources.sklearn import Digits
    self.columns = Digits().columns

  def __len__(self):
    return len(self.columns['label'])

  def __getitem__(self, index):
    if index == 1500 and 'FAULT' in os.environ:
      if os.environ['FAULT'] == 'hang':
        time.sleep(1e6)
      raise RuntimeError('the reader died')
    return {name: values[index] for name, values in self.columns.items()}


def nan_gradients(step: int) -> optax.GradientTransformation:
  step = step if os.environ.get('FAULT') == 'nan' else -1  # else the mistake is mended

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

SLOW = """
import os, time
from dl.store import checksums
write = checksums.write
def slow(*given, **options):
  if os.path.exists(os.environ['SLOW']):
    time.sleep(6)
  write(*given, **options)
checksums.write = slow
"""
"""What Python runs at its start: once a file exists, saves take six seconds longer, as on a slow disk."""


@dataclasses.dataclass
class Trial:
  """One fault that was injected.

  Attributes:
    fault: which.
    kind: of learning.
    moment: what it met: when, or which file; and after a colon how exactly.
    said: exit code, and the line on stderr.
    lost: steps that were computed once more.
    seconds: from the start of the same command to its first new step; None where there was none to come.
    same: whether the run ended like one that was left alone.
    date: when.
    machine: where.
  """

  fault: str
  kind: str
  moment: str
  said: str = ''
  lost: int | None = None
  seconds: float | None = None
  same: bool | None = None
  date: str = dataclasses.field(default_factory=lambda: time.strftime('%Y-%m-%dT%H:%M'))
  machine: str = f'{os.cpu_count()} CPU cores ({platform.machine()}) beside other jobs'


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
    err = tempfile.TemporaryFile('w+')  # noqa: SIM115 (ended() closes it); a pipe that nobody reads stops who writes
    process = subprocess.Popen(
      [sys.executable, '-m', 'dl.train', f'--config={ROOT}/experiments/{path}', f'--workdir={workdir}', *given],
      cwd=self.folder, env=env, stdout=subprocess.DEVNULL, stderr=err, text=True,
    )  # fmt: skip
    process.stderr = err
    return process

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

  def part(self, kind: str, *more: str, step: int = 3 * EVERY) -> pathlib.Path:
    """A copy of a run which was interrupted on its way, soon after a step."""
    workdir, copy = self.folder / f'part_{kind}{abs(hash((step, *more)))}', self.new()
    if not workdir.exists():
      process = self.start(kind, workdir, *more)
      wait_for(process, lambda: newest(workdir) >= step)
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
  process.wait(timeout=600)
  with process.stderr as err:
    err.seek(0)
    lines = [line.rstrip() for line in err if line.startswith(('error', 'warning', 'Traceback'))]
  return process.returncode, '\n'.join(lines)


def newest(workdir: pathlib.Path) -> int:
  """Step of the newest finished checkpoint; 0 if there is none."""
  folder = workdir / 'checkpoints'
  return max((int(p.name) for p in folder.glob('*') if p.name.isdecimal()), default=0) if folder.exists() else 0


def last_line(workdir: pathlib.Path) -> int:
  """The step of the last whole line of the metrics."""
  return max((r['step'] for r in logs.read(workdir)), default=0)


def saving(workdir: pathlib.Path) -> set[str]:
  """The checkpoints which are being written, or which a dead process has left."""
  return {p.name for p in (workdir / 'checkpoints').glob('*-tmp*')}


def same(a: pathlib.Path, b: pathlib.Path) -> bool:
  """Whether two runs ended alike: state and metrics, bit for bit."""
  (_, x), (_, y) = restore.load_parts(a), restore.load_parts(b)
  equal = jax.tree.leaves(jax.tree.map(lambda p, q: np.array_equal(_plain(p), _plain(q)), x, y))
  numbers = lambda run: [{k: v for k, v in r.items() if k not in logs.MACHINE} for r in logs.read(run)]
  complete = workdirs.read_run(a)['status'] == workdirs.read_run(b)['status'] == 'complete'
  return all(equal) and complete and numbers(a) == numbers(b)


def _plain(x: Any) -> np.ndarray:
  return np.asarray(jax.random.key_data(x) if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key) else x)


# -- The faults. Each yields its trials; several in one run share what they are compared with.

ENDS = {'SIGKILL': -signal.SIGKILL, 'SIGTERM': 75, 'SIGINT': 75}
"""The exit code that each signal must lead to."""


def stops(bench: Bench, fault: str, kind: str, count: int) -> Iterator[Trial]:
  """Stops runs of one kind at least so many times, at random moments, each kind of moment among them."""
  whole, workdir, pending = bench.whole(kind), bench.new(), []
  moments = ['training', 'a save', 'training', 'the start'] if fault == 'SIGKILL' else ['training', 'a save']
  met: list[str] = []
  while len(met) < count or not {*moments} <= {*met}:
    assert len(met) < 4 * count, met
    clock, before = Clock(workdir), newest(workdir)
    process = bench.start(kind, workdir)
    moment = moments[len(met) % len(moments)]
    if moment == 'the start':
      time.sleep(bench.random.uniform(0, 4))
    else:
      seconds = clock.first_step(process)
      if pending and seconds is not None:
        pending[-1].seconds = pending[-1].seconds or seconds
      wait_for(process, lambda w=workdir, step=before: newest(w) > step)
      if moment == 'a save':
        wait_for(process, lambda w=workdir: saving(w))
      else:
        time.sleep(bench.random.uniform(0, 0.5))
    writes = saving(workdir)
    process.send_signal(signal.Signals[fault])
    inside = writes & saving(workdir)  # there before and after it was sent
    code, err = ended(process)
    if code == 0:  # too late: the run is complete
      yield from _settled(pending, workdir, whole)
      workdir, pending = bench.new(), []
      continue
    if moment != 'the start':
      if fault == 'SIGKILL':  # an unfinished save leaves its folder
        inside = writes = saving(workdir)
      moment = 'a save' if inside else 'the end of a save' if writes else 'training'
      assert code == ENDS[fault], (code, err)  # at the start, nobody may have asked for the signal yet
    met.append(moment)
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


def twice(bench: Bench, fault: str, kind: str) -> Iterator[Trial]:
  """A second signal while the save that the first asked for is under way: within `TOGETHER` of it, or later."""
  number = signal.Signals[fault.split()[0]]
  later = 'later' in fault
  workdir, patch, slow = bench.new(), bench.new(), bench.new()
  patch.mkdir()
  (patch / 'sitecustomize.py').write_text(SLOW)
  process = bench.start(kind, workdir, PYTHONPATH=str(patch), SLOW=str(slow))
  wait_for(process, lambda: newest(workdir) >= EVERY and not saving(workdir))
  slow.touch()
  first = time.monotonic()
  process.send_signal(number)
  assert wait_for(process, lambda: saving(workdir) and last_line(workdir) == _step(saving(workdir)))
  gap = bench.random.uniform(1.5 * signals.TOGETHER, 3) if later else bench.random.uniform(0.3, 0.8) * signals.TOGETHER
  time.sleep(max(first + gap - time.monotonic(), 0))
  writes, again = saving(workdir), time.monotonic()
  if not later and again - first > signals.TOGETHER:  # the machine is slow, too; once more
    process.kill()
    ended(process)
    yield from twice(bench, fault, kind)
    return
  assert writes and process.poll() is None and (again - first > signals.TOGETHER) == later
  process.send_signal(number)
  code, err = ended(process)
  took = time.monotonic() - again
  if later and number == signal.SIGTERM:  # the save was cut off
    assert code == -number and saving(workdir) == writes and newest(workdir) < _step(writes) and took < 2, (code, took)
  else:
    assert code == (-number if later else 75) and newest(workdir) == _step(writes), (code, err)
  lost = last_line(workdir) - newest(workdir)
  code_, again_, seconds = bench.finish(kind, workdir)
  assert code_ == 0, again_
  moment = (
    f'a save: of step {_step(writes)}, {again - first:.2f} s after the first; the process ended {took:.2f} s later'
  )
  yield Trial(fault, kind, moment, f'{code} {err}'.strip(), lost, seconds, same(workdir, bench.whole(kind)))


def _step(names: set[str]) -> int:
  """The step of the newest of the checkpoints which are being written."""
  return max((int(name.split('.')[0]) for name in names), default=-1)


SHORT = ['train_for=160', 'keep={}']


def damaged(bench: Bench, fault: str, kind: str, number: int) -> Iterator[Trial]:
  """Damages the newest checkpoint of a run: parameters, optimizer state or metadata in turn."""
  workdir = bench.part(kind, *SHORT, step=EVERY * bench.random.choice([2, 3, 5]))
  step = newest(workdir)
  folder = workdir / f'checkpoints/{step}'
  target = ['parameters', 'optimizer state', 'metadata'][number % 3]
  if target == 'metadata':  # every file that holds no values of arrays
    names = json.loads((folder / checksums.FILE).read_text())['crc32']
    places = [(n, 0, size) for n, (size, _) in names.items() if size and '/ocdbt.process_0/d/' not in n]
    name, begin, size = bench.random.choice(places)
    what = name
  else:
    places = _arrays(folder, {'parameters': 'params.', 'optimizer state': 'opt.'}[target])
    what, name, begin, size = bench.random.choice(places)
  content = bytearray((folder / name).read_bytes())
  at = begin + bench.random.randrange(size)
  if fault == 'bit-flipped checkpoint':
    content[at] ^= 1 << bench.random.randrange(8)
  else:
    del content[at:]
  whole_size = (folder / name).stat().st_size
  (folder / name).write_bytes(content)
  reading = subprocess.run(
    [sys.executable, '-m', 'dl.evaluate', f'--workdir={workdir}'],
    cwd=bench.folder, env=os.environ | {'PYTHONPATH': str(ROOT)}, capture_output=True, text=True, check=False,
  )  # fmt: skip
  before = max(int(p.name) for p in folder.parent.glob('*') if p.name.isdecimal() and int(p.name) < step)
  shutil.move(folder, folder.with_name('aside'))
  clock = Clock(workdir)  # as of the step before
  shutil.move(folder.with_name('aside'), folder)
  process = bench.start(kind, workdir, *SHORT)
  seconds = clock.first_step(process)
  code, err = ended(process)
  assert code == 0 and f'step {step} is damaged ({name}: ' in err and f'from step {before}' in err, (code, err)
  assert reading.returncode == 2 and reading.stderr.count('\n') == 1 and name in reading.stderr, reading
  moment = f'{target}: {what}, byte {at:,} of {whole_size:,}, step {step}'
  yield Trial(fault, kind, moment, err, step - before, seconds, same(workdir, bench.whole(kind, *SHORT)))


def _arrays(folder: pathlib.Path, prefix: str) -> list[tuple[str, str, int, int]]:
  """(array, file, offset, size) of the large arrays of a checkpoint's state: their bytes are found in its files."""
  import tensorstore

  store = tensorstore.KvStore.open({'driver': 'ocdbt', 'base': f'file://{folder}/state/'}).result()
  names = [key for key in store.list().result() if key.startswith(prefix.encode()) and b'/c' in key]
  files = [p for p in (folder / 'state').rglob('*') if p.is_file()]
  found = []
  for key in names:
    value = store.read(key).result().value
    if len(value) > 1000:  # the others are written into the tree that names them
      path = next(p for p in files if value in p.read_bytes())
      name = path.relative_to(folder).as_posix()
      found.append((key.decode().split('/')[0], name, path.read_bytes().index(value), len(value)))
  return found


def full_disk(bench: Bench, fault: str, kind: str) -> Iterator[Trial]:
  """Fills a disk, so that one kind of file is the first which finds no room; the others' room is reserved."""
  target = {'at a checkpoint': 'checkpoint', 'at the log': logs.FILE, "at TensorBoard's log": 'tensorboard'}
  target = target[fault.split(', ')[1]]
  for _ in range(5):
    trial, broke = _full_disk(bench, fault, kind, target)
    if broke == target:
      yield trial
      return
    print(f'{fault}: it was {broke} that broke; once more', flush=True)
  raise AssertionError(f'{fault}: {target} was never the first')


def _full_disk(bench: Bench, fault: str, kind: str, target: str) -> tuple[Trial, str]:
  """One try, and what broke in it."""
  disk = bench.new()
  disk.mkdir()
  subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=16m', 'tmpfs', disk], check=True)
  try:
    workdir = disk / 'run'
    process = bench.start(kind, workdir)
    after = bench.random.choice([2, 3, 4]) * EVERY
    wait_for(process, lambda: newest(workdir) >= after and not saving(workdir))
    found = {logs.FILE: workdir / logs.FILE, 'tensorboard': next((workdir / 'tensorboard').iterdir())}
    for name, path in found.items():
      if name != target:
        subprocess.run(['fallocate', '--keep-size', '--length', '256KiB', path], check=True)
    leave = int(100 * bench.random.random() ** 3) * 4096 if target == 'checkpoint' else 0  # of 1 MB, small ones often
    with (disk / 'filler').open('ab', buffering=0) as filler:
      while process.poll() is None:  # old checkpoints go, and make room
        free = os.statvfs(disk)
        if (more := free.f_bavail * free.f_frsize - leave) > 0:
          filler.write(bytes(more))
        time.sleep(0.002)
    code, err = ended(process)
    said, intact = last_line(workdir), newest(workdir)
    assert code == 1 and err.count('\n') == 0 and 'No space left on device' in err, (code, err)
    assert f'the last checkpoint, of step {intact}, is intact' in err, err
    assert checksums.exist(workdir / f'checkpoints/{intact}') and not checksums.damage(
      workdir / f'checkpoints/{intact}'
    )
    what = err.removeprefix('error: cannot write ').split(': No space')[0]
    broke = 'checkpoint' if what.startswith('the checkpoint of step ') else pathlib.Path(what).parent.name
    broke = logs.FILE if what == str(workdir / logs.FILE) else broke
    (disk / 'filler').unlink()
    code, again, seconds = bench.finish(kind, workdir)
    assert code == 0, again
    moment = f'{broke}: {leave // 1024} KB left after step {after}'
    trial = Trial(fault, kind, moment, f'1 {err}', said - intact, seconds, same(workdir, bench.whole(kind)))
    return trial, broke
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


def _images(folder: pathlib.Path) -> pathlib.Path:
  """A folder of 400 images, which all are good."""
  from PIL import Image

  from dl.data.sources.sklearn import Digits

  columns = Digits().columns
  for i in range(400):
    path = folder / f'{columns["label"][i]}/{i:03}.{"png" if i % 2 else "jpg"}'
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.rint(columns['image'][i, ..., 0] * 255).astype(np.uint8)).save(path)
  return folder


def _damage_images(bench: Bench, folder: pathlib.Path) -> dict[pathlib.Path, bytes]:
  """Makes six of them ones that cannot be decoded; returns their contents before."""
  good = {path: path.read_bytes() for path in bench.random.sample(sorted(folder.rglob('*.*')), 6)}
  for number, (path, content) in enumerate(good.items()):
    path.write_bytes([content[: len(content) // 2], b'', b'<html>'][number % 3])
  return good


def _of_images(folder: pathlib.Path, policy: str) -> list[str]:
  data = {'name': 'images.Folder', 'path': str(folder), 'image_size': [8, 8], 'channels': 1, 'batch_size': 16}
  return [f'data={data | {"on_error": policy, "split": "all", "in_memory": False, "test": 0}}', *PLAIN]


def bad_images(bench: Bench, fault: str, kind: str, number: int) -> Iterator[Trial]:
  """Files of images that become unreadable, before the start or under way; they are mended, and the run goes on."""
  folder, workdir = _images(bench.new()), bench.new()
  given = _of_images(folder, 'stop')
  whole = bench.whole(kind, *given)
  under_way = number % 2 == 1
  good = {} if under_way else _damage_images(bench, folder)
  process = bench.start(kind, workdir, *given)
  if under_way:
    wait_for(process, lambda: newest(workdir) >= EVERY)
    good = _damage_images(bench, folder)
  code, err = ended(process)
  assert code in (1, 2) and err.count('\n') == 0 and any(f'{p} cannot be read as an image' in err for p in good), (
    code,
    err,
  )
  at = last_line(workdir)
  lost = at - newest(workdir)
  for path, content in good.items():
    path.write_bytes(content)
  code_, again, seconds = bench.finish(kind, workdir, *given)
  assert code_ == 0, again
  moment = f'training: after step {at}' if under_way else 'the start'
  yield Trial(fault, kind, moment, f'{code} {err}', lost, seconds, same(workdir, whole))


def skipped_images(bench: Bench, fault: str, kind: str) -> Iterator[Trial]:
  """Files of images that cannot be decoded are left out; a run that is killed leaves out the same."""
  folder, whole, workdir = _images(bench.new()), bench.new(), bench.new()
  good = _damage_images(bench, folder)
  given = _of_images(folder, 'skip')
  code, err, _ = bench.finish(kind, whole, *given)
  assert code == 0 and f'warning: {len(good)} examples' in err, (code, err)
  process = bench.start(kind, workdir, *given)
  wait_for(process, lambda: newest(workdir) >= EVERY)
  time.sleep(bench.random.uniform(0, 0.3))
  process.kill()
  killed, _ = ended(process)
  at = last_line(workdir)
  assert killed == -signal.SIGKILL and not workdirs.is_complete(workdir) and at < last_line(whole), (killed, at)
  lost = max(at - newest(workdir), 0)
  code, again, seconds = bench.finish(kind, workdir, *given)
  assert code == 0, again
  counted = [sorted((run / 'skipped.jsonl').read_text().splitlines()) for run in (whole, workdir)]
  assert len(counted[0]) == len(good) and all(any(str(p) in line for line in counted[0]) for p in good), counted
  moment = f'{len(counted[1])} of {len(good)} counted: killed after step {at}, with {killed}'
  equal = same(workdir, whole) and counted[0] == counted[1]
  yield Trial(fault, kind, moment, f'{code} {again}', lost, seconds, equal)


def _finite(workdir: pathlib.Path) -> bool:
  """Whether all checkpoints of a run hold finite parameters and optimizer state."""
  steps = [int(p.name) for p in (workdir / 'checkpoints').iterdir() if p.name.isdecimal()]
  states = [restore.load_parts(workdir, step)[1] for step in steps]
  finite = lambda x: not jax.dtypes.issubdtype(x.dtype, np.floating) or bool(np.isfinite(x).all())
  return bool(states) and all(finite(x) for s in states for x in jax.tree.leaves((s.params, s.opt, s.extra)))


def nan(bench: Bench, fault: str, kind: str) -> Iterator[Trial]:
  """A gradient which is NaN though the loss is finite, by a mistake in code of the user's, which is then mended."""
  step = bench.random.randrange(EVERY + 2, 3 * EVERY)
  stages = {'nan': {'name': 'my_faults.nan_gradients', 'step': step}, 'sgd': {'name': 'sgd', 'learning_rate': 0.1}}
  given, workdir = f'optim={stages}', bench.new()
  code, err, _ = bench.finish(kind, workdir, given, FAULT='nan')
  assert code == 1 and err.count('\n') == 0 and 'not finite' in err, (code, err)
  assert f'the last good checkpoint is of step {newest(workdir)}' in err and _finite(workdir), err
  lost = max(last_line(workdir) - newest(workdir), 0)
  code, again, seconds = bench.finish(kind, workdir, given)
  assert code == 0, again
  yield Trial(fault, kind, f'training: step {step}', f'1 {err}', lost, seconds, same(workdir, bench.whole(kind, given)))


def diverges(bench: Bench, fault: str, kind: str) -> Iterator[Trial]:
  """A learning rate under which training diverges; another one is another run, from the weights of the last good."""
  at = EVERY * bench.random.choice([1, 2, 3]) + bench.random.randrange(2, EVERY - 3)
  constants = [{'name': 'constant_schedule', 'value': value} for value in (0.05, 1e30)]
  schedule = {'name': 'join_schedules', 'schedules': constants, 'boundaries': [at]}
  wrong = f'optim={ {"sgd": {"name": "sgd", "learning_rate": schedule}} }'
  right = f'optim={ {"sgd": {"name": "sgd", "learning_rate": 0.05}} }'
  workdir, new = bench.new(), bench.new()
  code, err, _ = bench.finish(kind, workdir, wrong)
  assert code == 1 and err.count('\n') == 0 and 'not finite' in err and 'learning_rate' in err, (code, err)
  good = newest(workdir)
  assert f'the last good checkpoint is of step {good}' in err and good == at // EVERY * EVERY, err
  refused, line, _ = bench.finish(kind, workdir, right)
  assert refused == 2 and 'holds a run of another config: optim.sgd.learning_rate' in line, (refused, line)
  assert newest(workdir) == good and _finite(workdir)
  code, again, seconds = bench.finish(kind, new, right, f'init_from={ {"name": "run", "path": str(workdir)} }')
  assert code == 0 and workdirs.is_complete(new) and _finite(new), again
  found = err.split('at step ')[1].split(';')[0]
  yield Trial(fault, kind, f'training: 1e30 from step {at}, found at {found}', f'1 {err}', None, seconds, True)


def in_use(bench: Bench, fault: str, kind: str) -> Iterator[Trial]:
  """A second run in a directory where one is running."""
  workdir = bench.new()
  process = bench.start(kind, workdir)
  wait_for(process, lambda: newest(workdir) >= EVERY)
  code, err = ended(bench.start(kind, workdir))
  assert process.poll() is None
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
  assert ended(process)[0] == -signal.SIGKILL
  at = last_line(workdir)
  lost = max(at - newest(workdir), 0)
  code, err, seconds = bench.finish(kind, workdir, PYTHONPATH=str(patch))
  assert code == 0, err
  yield Trial(
    fault, kind, f'training: after step {at}', f'{code} {err}'.strip(), lost, seconds, same(workdir, bench.whole(kind))
  )


FAULTS: dict[str, tuple[Callable, str]] = {
  'SIGTERM': (stops, 'sent while it trains, and while it saves'),
  'SIGTERM twice, at once': (
    twice, f'again within {signals.TOGETHER:.0f} s, while it saves for the first (on a disk that is slow by 6 s); the '
    'two count as one'
  ),
  'SIGTERM twice, later': (
    twice, f'again {1.5 * signals.TOGETHER:.1f} to 3 s later, while it saves for the first (on a disk that is slow by '
    '6 s); it ends at once, and the save with it'
  ),
  'SIGINT': (stops, 'sent while it trains, and while it saves'),
  'SIGINT twice, later': (
    twice,
    f'again {1.5 * signals.TOGETHER:.1f} to 3 s later, as above; it ends once the save is done',
  ),
  'bit-flipped checkpoint': (damaged, 'a random bit of the newest'),
  'truncated checkpoint': (damaged, 'a file of the newest is cut at a random byte'),
  'full disk, at a checkpoint': (
    full_disk, 'another file takes a disk of 16 MB, but for a part of the next checkpoint and what logs need'
  ),
  'full disk, at the log': (full_disk, "another file takes a disk of 16 MB, but for what TensorBoard's log needs"),
  "full disk, at TensorBoard's log": (full_disk, 'another file takes a disk of 16 MB, but for what the log needs'),
  'dead reader': (reader, 'an example raises RuntimeError in a thread'),
  'a reader that hangs': (reader, 'an example sleeps for ever; data.timeout=2'),
  'corrupt images, stop': (bad_images, 'six of 400 files cut short, empty, or HTML; then mended'),
  'corrupt images, skipped': (skipped_images, "the same at the start, data.on_error='skip'; and a SIGKILL"),
  'NaN gradient': (
    nan, 'an optimizer stage of the user has a mistake: NaN at a random step, the loss is finite; then it is mended'
  ),
  'divergence': (diverges, 'from a random step on the learning rate is 1e30; then another one'),
  'directory in use': (in_use, 'the same command twice at the same time'),
  'read-only directory': (read_only, 'mounted read-only, and writable again'),
  'a clock that jumps': (clock, 'time.time() differs by up to 39 years from call to call; and a SIGKILL'),
}  # fmt: skip
"""Fault -> (what injects it, how)."""

LOST = {
  'divergence': 'by design the directory keeps to its config, and refuses another; no checkpoint holds a NaN',
  'directory in use': 'nothing; the first run went on',
}
"""What a table says where there are no steps to count."""

AFTER = {
  'divergence': 'not as this run; a new one, which init_from gives the last good weights: ',
  'directory in use': 'it never stopped',
}
"""What a table says, before the seconds, where it is not the same command that goes on."""


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
  days = sorted({t.date[:10] for t in trials})
  where = ' and '.join(sorted({t.machine for t in trials}))
  between = ' to '.join(dict.fromkeys([days[0], days[-1]]))
  lines = [
    '<!-- Written by `python -m benchmarks.faults`: change that, not this. -->', '# Faults', '',
    f'Written by `python -m benchmarks.faults` ([source](../benchmarks/faults.py)); every trial is in '
    f'[faults.json](faults.json). Measured {between} on {where}, with a checkpoint every {EVERY} '
    f'steps. Each trial is the command itself, in a process of its own; after the fault the same command goes on, and '
    f'the last state and the metrics must be those of a run that was left alone, bit for bit.', '',
    '* **what it met**: in how many trials, as seen when it was injected, or as the error line names it.',
    '* **lost**: steps which were computed a second time, since the last checkpoint; nothing else.',
    '* **goes on after**: seconds from the start of the same command to its first new step, with the start of Python '
    'and JAX, and what is in the compilation cache: median, and the longest.', '',
    '| fault | how injected | what it met | tried | ended right | what it says | lost | goes on after |',
    '|---|---|---|---:|---:|---|---|---:|',
  ]  # fmt: skip
  rows = [('SIGKILL', 'at random moments: training, inside a save, starting')]
  rows += [(fault, how) for fault, (_, how) in FAULTS.items()]
  for fault, how in rows:
    found = of(fault)
    if not found:
      continue
    good = sum(t.same is True for t in found)
    cells = [fault, how, _met(found), len(found), good, _said(found), _lost(fault, found), _after(fault, found)]
    lines.append(f'| {" | ".join(map(str, cells))} |')
  lines += ['', '## SIGKILL', '', '| learning | kills | inside a save | at the start | equal at the end | steps lost | '
            'goes on after |', '|---|---:|---:|---:|---:|---|---:|']  # fmt: skip
  for kind in dict.fromkeys(t.kind for t in kills):
    mine = [t for t in kills if t.kind == kind]
    count = lambda moment, mine=mine: sum(t.moment == moment for t in mine)
    lines.append(
      f'| {kind} | {len(mine)} | {count("a save")} | {count("the start")} | {sum(bool(t.same) for t in mine)} | '
      f'{_lost("SIGKILL", mine)} | {_after("SIGKILL", mine)} |'
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
  '* `data.timeout` (600 s without an example) ends a run whose readers hang, and names what they read.',
  "* The last 'good' checkpoint is the last of which all numbers are finite. Where a run diverges slowly, it may be "
  'ruined already, and an earlier one is the one to start from.',
]


def _said(trials: Sequence[Trial]) -> str:
  """Exit codes of the trials."""
  codes = sorted({t.said.split()[0] for t in trials if t.said.split()[0].lstrip('-').isdecimal()}, key=int)
  lines = {line.split(':')[0] for t in trials for line in t.said.splitlines() if line.startswith('warning')}
  text = f'exit code {", ".join(codes)}' if codes else ''
  if any('error: ' in t.said for t in trials):
    text += ', one line'
  return text or ('a warning' if lines else '')


def _met(trials: Sequence[Trial]) -> str:
  """What the fault met, and how often."""
  counts = collections.Counter(t.moment.split(':')[0] for t in trials if t.moment)
  return ', '.join(f'{what}: {count}' if len(counts) > 1 else what for what, count in sorted(counts.items()))


def _lost(fault: str, trials: Sequence[Trial]) -> str:
  if fault in LOST:
    return LOST[fault]
  steps = [t.lost for t in trials if t.lost is not None]
  if not any(steps):
    return 'nothing'
  return f'{statistics.median(steps):g} steps, at most {max(steps)}'


def _after(fault: str, trials: Sequence[Trial]) -> str:
  seconds = [t.seconds for t in trials if t.seconds is not None]
  return AFTER.get(fault, '') + (f'{statistics.median(seconds):.1f} s, {max(seconds):.1f} s' if seconds else '')


def remember(fault: str, trials: Sequence[Trial], hidden: str) -> None:
  """Puts the trials of a fault in the place of the earlier ones, without the name of a folder that is gone."""
  record = json.loads(RECORD.read_text())
  kept = [t for t in record['trials'] if t['fault'] != fault] + [dataclasses.asdict(t) for t in trials]
  order = ['SIGKILL', *FAULTS]
  record['trials'] = sorted((t for t in kept if t['fault'] in order), key=lambda t: order.index(t['fault']))
  RECORD.write_text(json.dumps(record, indent=1).replace(hidden, '...') + '\n')
  PAGE.write_text(page(json.loads(RECORD.read_text())))


def main(_: Sequence[str]) -> None:
  """Runs the trials, and writes the record and the page."""
  FLAGS = flags.FLAGS
  if FLAGS.table:
    PAGE.write_text(page(json.loads(RECORD.read_text())))
    return
  signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it, and so would runs
  unknown = {*FLAGS.only} - {'SIGKILL', *FAULTS}
  if unknown:
    raise app.UsageError(f'--only: no fault {unknown}')
  done: list[Trial] = []
  for fault in ['SIGKILL', *FAULTS]:
    if FLAGS.only and fault not in FLAGS.only:
      continue
    trials: list[Trial] = []
    with tempfile.TemporaryDirectory() as folder:
      for trial in _trials(Bench(pathlib.Path(folder), FLAGS.seed), fault, FLAGS.kills, FLAGS.trials):
        trials.append(trial)
        print(json.dumps(dataclasses.asdict(trial)), flush=True)
    remember(fault, trials, folder)
    done += trials
  bad = [t for t in done if t.same is not True]
  print(f'{len(done)} trials, {len(bad)} of which ended otherwise than they must')
  if not FLAGS.only:
    cost = {'checksum_seconds_per_gb': round(checksum_cost(), 3)}
    RECORD.write_text(json.dumps(cost | {'trials': json.loads(RECORD.read_text())['trials']}, indent=1) + '\n')
    PAGE.write_text(page(json.loads(RECORD.read_text())))
  if bad:
    raise SystemExit(1)


def _trials(bench: Bench, fault: str, kills: int, count: int) -> Iterator[Trial]:
  """All trials of a fault."""
  if fault == 'SIGKILL':
    for kind in KINDS:
      yield from stops(bench, fault, kind, kills // len(KINDS))
    return
  inject, _ = FAULTS[fault]
  if inject is stops:
    yield from stops(bench, fault, 'classify', count)
  elif inject in (damaged, bad_images):
    for number in range(3 * count if inject is damaged else count):
      yield from inject(bench, fault, 'classify', number)
  else:
    for _ in range(count):
      yield from inject(bench, fault, 'classify')


if __name__ == '__main__':
  flags.DEFINE_integer('kills', 52, 'SIGKILLs, over the kinds of learning.')
  flags.DEFINE_integer('trials', 4, 'Trials of each other fault; of damage, three times as many.')
  flags.DEFINE_integer('seed', 0, 'Of the moments and of what is damaged.')
  flags.DEFINE_multi_string(
    'only', [], 'Run this fault alone (may be repeated), and keep what is recorded of the others.'
  )
  flags.DEFINE_boolean('table', False, 'Only write docs/faults.md from docs/faults.json.')
  app.run(main)
