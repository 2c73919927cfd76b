"""What machines do to a run: damaged files, full disks, signals, unreadable data, NaN gradients, odd clocks."""

import contextlib
import dataclasses
import errno
import gc
import itertools
import json
import logging
import os
import pathlib
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import patience
import pytest
from PIL import Image
from small import SMALL, each_call, interrupted, records, small

import dl
from benchmarks import faults
from dl.commands import evaluate
from dl.data import fetch
from dl.data.parts import part
from dl.data.pipeline import Pipeline
from dl.data.sources.images import Folder
from dl.data.sources.sklearn import Digits
from dl.errors import ConfigError, StuckError, TrainingError
from dl.store import checksums, logs
from dl.store import workdir as workdirs
from dl.store.checkpoint import Checkpoints
from dl.training import loop, restore, signals

ROOT = pathlib.Path(__file__).parents[1]


def train(config, workdir):
  return loop.train(config, workdir, show_progress=False)


def saved(workdir):
  return sorted(int(p.name) for p in (workdir / 'checkpoints').iterdir() if p.name.isdecimal())


def assert_same_run(workdir, whole):
  """The last state and the metrics of a run are those of another, bit for bit."""
  (_, a), (_, b) = restore.load_parts(workdir), restore.load_parts(whole)
  assert jax.tree.structure(a) == jax.tree.structure(b)
  jax.tree.map(np.testing.assert_array_equal, a, b)
  assert records(workdir) == records(whole)
  assert workdirs.read_run(workdir)['status'] == 'complete'


def assert_one_line(error, *says):
  assert '\n' not in str(error)
  for text in says:
    assert text in str(error), str(error)


@pytest.fixture
def copied(runs, tmp_path):
  """A copy of a complete run of 40 steps, which has checkpoints of step 20 and 40."""
  workdir = tmp_path / 'run'
  shutil.copytree(runs('perceptron'), workdir)
  return workdir


@pytest.fixture(scope='module')
def cut(tmp_path_factory):
  """The same run, interrupted after 25 steps; no test may change it."""
  workdir = tmp_path_factory.mktemp('cut') / 'run'
  with interrupted(25):
    train(small('perceptron'), workdir)
  return workdir


# -- Checkpoints.


def flip(path, at=0.5):
  """Flips one bit of a file, and nothing else: not its size, not its times."""
  content, times = bytearray(path.read_bytes()), path.stat()
  content[int(at * (len(content) - 1))] ^= 4
  path.write_bytes(content)
  os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def halve(path):
  path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def large_file(workdir, step):
  return max((workdir / f'checkpoints/{step}/state').rglob('*'), key=lambda p: p.is_file() and p.stat().st_size)


def test_checksums_find_any_damage(tmp_path):
  (tmp_path / 'below').mkdir()
  contents = {'a': b'x' * 1000, 'below/b': os.urandom(3 * checksums.CHUNK // 2), 'empty': b'', 'later': b'1'}
  for name, content in contents.items():
    (tmp_path / name).write_bytes(content)
  assert not checksums.exist(tmp_path) and checksums.damage(tmp_path) is None
  checksums.write(tmp_path, leave_out=['later'])
  (tmp_path / 'later').write_bytes(b'2')
  assert checksums.exist(tmp_path) and checksums.damage(tmp_path) is None
  for damage, says in [(flip, 'its checksum differs'), (halve, 'has 500 bytes of 1,000'), (os.unlink, 'is missing')]:
    damage(tmp_path / 'a')
    assert checksums.damage(tmp_path) == f'a: {says}'
    assert checksums.damage(tmp_path, only=['below/b', 'never']) is None
    (tmp_path / 'a').write_bytes(contents['a'])
  for at in (0, 0.001, 0.7, 1):
    flip(tmp_path / 'below/b', at)
    assert checksums.damage(tmp_path) == 'below/b: its checksum differs'
    flip(tmp_path / 'below/b', at)
  own = (tmp_path / checksums.FILE).read_bytes()
  for content in (b'', own[:-20], b'{}', b'[]', b'\xff', own.replace(b'"a"', b'"../a"'), own.replace(b'"a"', b'"/a"')):
    (tmp_path / checksums.FILE).write_bytes(content)
    assert checksums.FILE in checksums.damage(tmp_path)
  for at in range(0, len(own), 7):
    (tmp_path / checksums.FILE).write_bytes(own)
    flip(tmp_path / checksums.FILE, at / len(own))
    assert checksums.damage(tmp_path) or json.loads((tmp_path / checksums.FILE).read_bytes()) == json.loads(own)


@pytest.mark.parametrize(
  ('damage', 'says'),
  [
    (flip, 'its checksum differs'),
    *(pytest.param(*case, marks=pytest.mark.thorough) for case in [(halve, 'bytes of'), (os.unlink, 'is missing')]),
  ],
)
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(runs, copied, damage, says, capfd):
  assert saved(copied) == [20, 40] and all(checksums.exist(copied / f'checkpoints/{s}') for s in (20, 40))
  victim = large_file(copied, 40)
  damage(victim)
  name = victim.relative_to(copied / 'checkpoints/40').as_posix()
  for reading in (dl.load, evaluate.evaluate):
    with pytest.raises(ConfigError) as e:
      reading(copied)
    assert_one_line(e.value, 'the checkpoint of step 40 is damaged', name, says, 'there are also: 20')
  assert int(dl.load(copied, step=20)[1].step) == 20
  capfd.readouterr()
  result = train(small('perceptron'), copied)
  assert (result.status, result.step) == ('complete', 40)
  out, err = capfd.readouterr()
  assert out == '' and err.count('\n') == 1
  assert_one_line(err.strip(), f'step 40 is damaged ({name}: ', says, '40.damaged; going on from step 20')
  assert_same_run(copied, runs('perceptron'))


def test_damage_is_found_in_every_file_that_is_restored(copied):
  """Any other file may change without a consequence."""
  checkpoint = copied / 'checkpoints/40'
  _, whole = restore.load_parts(copied)
  found = set()
  for path in sorted(p for p in checkpoint.rglob('*') if p.is_file()):
    content = path.read_bytes()
    flip(path)
    if checksums.damage(checkpoint):
      found.add(path.relative_to(checkpoint).as_posix())
    else:
      jax.tree.map(np.testing.assert_array_equal, whole, restore.load_parts(copied)[1])
    path.write_bytes(content)
  assert len(found) > 10 and large_file(copied, 40).relative_to(checkpoint).as_posix() in found
  assert checksums.damage(checkpoint) is None


def test_a_run_without_an_intact_checkpoint_stops(copied, capfd):
  for step in (20, 40):
    flip(large_file(copied, step))
  before = sorted(copied.rglob('*'))
  for _ in range(2):  # not even the second time does it start anew
    with pytest.raises(TrainingError) as e:
      train(small('perceptron'), copied)
    assert_one_line(e.value, 'no checkpoint in', 'is intact: 40 (state/', '20 (state/', 'checksum differs')
  assert sorted(copied.rglob('*')) == before
  assert capfd.readouterr() == ('', '')


def test_the_best_checkpoint_may_be_the_damaged_one(tmp_path, capfd):
  """Its score is one of its files, which Orbax reads whatever is restored."""
  keep = "keep={'best': 1, 'last': 1, 'metric': 'test/loss'}"
  config = small('perceptron', keep, 'eval_every=10', 'optim.adam.learning_rate=0.0', 'train_for=30')
  train(config, tmp_path / 'run')
  assert saved(tmp_path / 'run') == [10, 30]  # nothing is learned, so the first is the best
  halve(tmp_path / 'run/checkpoints/10/metrics/metrics')
  assert train(config, tmp_path / 'run').status == 'complete'
  assert 'step 10 is damaged (metrics/metrics: ' in capfd.readouterr().err
  assert saved(tmp_path / 'run') == [30]


def test_checkpoints_without_checksums_are_used_with_a_warning(runs, copied, capfd):
  (copied / f'checkpoints/40/{checksums.FILE}').unlink()
  assert int(dl.load(copied)[1].step) == 40
  assert train(small('perceptron'), copied).step == 40
  assert_one_line(capfd.readouterr().err.strip(), 'warning: the checkpoint of step 40 has no checksums')


def test_a_checkpoint_without_checksums_may_turn_out_to_be_damaged(copied, capfd):
  (copied / f'checkpoints/40/{checksums.FILE}').unlink()
  halve(large_file(copied, 40))
  with pytest.raises(ConfigError) as e:
    dl.load(copied)
  assert_one_line(e.value, 'checkpoints/40: cannot be restored', 'damaged')
  gc.collect()  # Orbax's other reads, which nobody waits for any more
  assert capfd.readouterr() == ('', '')


def test_only_what_orbax_leaves_behind_is_not_told(copied, monkeypatch, caplog):
  told = []
  monkeypatch.setattr(sys, 'unraisablehook', told.append)
  for _ in range(2):
    dl.load(copied)
  hook = sys.unraisablehook
  assert hook.before == told.append

  def tell(value, of=None):
    hook(types.SimpleNamespace(exc_value=value, object=of))

  def coroutine(path):
    names = {}
    exec(compile('async def read(): pass', path, 'exec'), names)
    made = names['read']()
    made.close()
    return made

  tell(RuntimeError('Event loop is closed'))
  tell(ValueError('no such array'), of=coroutine('/x/orbax/read.py'))
  assert told == []
  mine = RuntimeError('mine')
  tell(mine)
  tell(mine, of=coroutine('/x/mine/read.py'))
  assert [e.exc_value for e in told] == [mine, mine]
  caplog.clear()
  for path in ('/x/orbax/read.py', '/x/mine/read.py'):
    logging.getLogger('asyncio').error('Task exception was never retrieved, defined at %s', path)
  assert [r.args for r in caplog.records] == [('/x/mine/read.py',)]


def test_what_killed_writers_leave_is_harmless(runs, cut, tmp_path):
  workdir = tmp_path / 'run'
  shutil.copytree(cut, workdir)
  shutil.copytree(workdir / 'checkpoints/25', workdir / 'checkpoints/30.orbax-checkpoint-tmp')
  halve(next(p for p in (workdir / 'checkpoints/30.orbax-checkpoint-tmp/state').rglob('*') if p.is_file()))
  for name in ('run.json.new', 'config.json.new', 'metrics.jsonl.new', 'report.html.new'):
    (workdir / name).write_text('{"half')
  with open(workdir / 'metrics.jsonl', 'a') as f:
    f.write('{"step": 30, "split": "tr')
  train(small('perceptron'), workdir)
  assert_same_run(workdir, runs('perceptron'))


KILL = """
import os, signal, sys
from small import small
from dl.store import checkpoint
from dl.training import loop

write = checkpoint.checksums.write

def killed(directory, **options):
  if directory.name.startswith('40.'):
    os.kill(os.getpid(), signal.SIGKILL)
  write(directory, **options)

checkpoint.checksums.write = killed
loop.train(small('perceptron'), sys.argv[1], show_progress=False)
"""


@pytest.mark.thorough
def test_a_kill_inside_a_checkpoint_costs_the_steps_since_the_one_before(runs, tmp_path, environment):
  """At the last moment: every file is written, and the directory has not got its name."""
  workdir = tmp_path / 'run'
  done = subprocess.run(
    [sys.executable, '-c', KILL, workdir],
    env=environment | {'PYTHONPATH': f'{ROOT}:{ROOT / "tests"}'}, capture_output=True, text=True, check=False,
  )  # fmt: skip
  assert done.returncode == -signal.SIGKILL, done.stderr
  assert saved(workdir) == [20] and [p.name for p in workdir.glob('checkpoints/40*')] == ['40.orbax-checkpoint-tmp']
  assert int(dl.load(workdir)[1].step) == 20
  train(small('perceptron'), workdir)
  assert saved(workdir) == [20, 40] and not [*workdir.glob('checkpoints/*-tmp*')]
  assert_same_run(workdir, runs('perceptron'))


# -- Disks.


@contextlib.contextmanager
def largest_file(size):
  """The operating system refuses to let this process write beyond so many bytes of a file."""
  before = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
  try:
    yield
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def until(condition, seconds=600.0):
  began = time.monotonic()
  while not condition():
    assert time.monotonic() - began < seconds
    time.sleep(0.005)


def test_a_checkpoint_that_cannot_be_written_ends_the_run(runs, tmp_path, capfd):
  whole = runs('perceptron')  # first, so that no compiled program is to be kept where files may not be large
  workdir, limits = tmp_path / 'run', contextlib.ExitStack()
  config = small('perceptron', 'checkpoint_every=15')

  def after(number, _):
    if number == 16:
      until((workdir / 'checkpoints/15').is_dir)
      limits.enter_context(largest_file(6000))  # more than `run.json` takes, with whatever command

  with limits, each_call(after), pytest.raises(TrainingError) as e:
    train(config, workdir)
  assert_one_line(e.value, 'checkpoint of step 30', 'File too large', 'the last checkpoint, of step 15, is intact')
  assert 'Traceback' not in capfd.readouterr().err
  assert workdirs.read_run(workdir)['status'] == 'failed'
  assert int(dl.load(workdir)[1].step) == 15
  train(config, workdir)
  assert_same_run(workdir, whole)


def test_a_failed_save_is_noticed_without_waiting_for_the_next(tmp_path):
  state = {'state': jnp.ones(10_000)}
  with Checkpoints(tmp_path / 'checkpoints') as saving:
    saving.save(1, state)
    until(lambda: saving.poll() or saved(tmp_path) == [1])
    saving.poll()
    with largest_file(100), pytest.raises(TrainingError) as e:
      saving.save(2, state)
      until(saving.poll)
    assert_one_line(e.value, 'checkpoint of step 2', 'File too large', 'the last checkpoint, of step 1, is intact')
    assert saved(tmp_path) == [1]
    saving.save(3, state)
    saving.wait()
  assert saved(tmp_path) == [1, 3]


def test_metrics_that_cannot_be_written_end_the_run(runs, tmp_path, capfd):
  workdir, limits = tmp_path / 'run', contextlib.ExitStack()

  def after(number, _):
    if number == 25:
      until((workdir / 'checkpoints/20').is_dir)
      limits.enter_context(largest_file((workdir / 'metrics.jsonl').stat().st_size + 50))

  with limits, each_call(after), pytest.raises(TrainingError) as e:
    train(small('perceptron'), workdir)
  assert_one_line(e.value, f'cannot write {workdir}/metrics.jsonl: File too large; the last checkpoint, of step 20, is')
  assert 'Traceback' not in capfd.readouterr().err
  assert (workdir / 'metrics.jsonl').read_bytes()[-1:] != b'\n'  # a part of the line had room
  train(small('perceptron'), workdir)
  assert_same_run(workdir, runs('perceptron'))


@pytest.mark.parametrize(
  'name',
  [
    pytest.param('run.json', marks=pytest.mark.thorough),
    pytest.param('report.html', marks=pytest.mark.thorough),
    '00000040_test_classes.csv',
  ],
)
def test_a_file_that_cannot_be_written_ends_the_run(runs, cut, tmp_path, name, monkeypatch):
  """The disk is full for this one file."""
  workdir, replace = tmp_path / 'run', os.replace

  def full(source, to):
    if pathlib.Path(to).name == name:
      raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    replace(source, to)

  shutil.copytree(cut, workdir)
  monkeypatch.setattr(os, 'replace', full)
  with pytest.raises((TrainingError, ConfigError)) as e:
    train(small('perceptron'), workdir)
  monkeypatch.undo()
  assert_one_line(e.value, 'cannot write', f'/{name}', 'No space left on device')
  if name != 'report.html':
    assert_one_line(e.value, 'the last checkpoint, of step', 'is intact, and the same command continues from it')
  assert not (workdir / f'{name}.new').exists()
  train(small('perceptron'), workdir)
  assert_same_run(workdir, runs('perceptron'))


@pytest.fixture
def read_only(tmp_path):
  """A function which makes a folder one that nobody may write to; undone at the end."""
  with contextlib.ExitStack() as stack:

    def refuse(folder):
      if os.geteuid():
        folder.chmod(0o555)
        return stack.callback(folder.chmod, 0o755)
      mount = lambda *arguments: subprocess.run(['mount', *arguments, folder], check=True, capture_output=True)
      try:
        mount('--bind', folder)
      except (OSError, subprocess.CalledProcessError) as e:
        pytest.skip(f'root cannot mount here, and may write to any folder: {e}')
      stack.callback(subprocess.run, ['umount', '--lazy', folder], check=True)
      mount('-o', 'remount,ro,bind')

    yield refuse


def test_a_read_only_directory_is_refused_for_training_and_good_for_reading(copied, read_only, tmp_path):
  before = sorted(copied.rglob('*'))
  read_only(copied)
  for workdir in (copied, copied / 'new'):
    with pytest.raises(ConfigError) as e:
      train(small('perceptron'), workdir)
    assert_one_line(e.value, f'--workdir: cannot write to {workdir}: ')
  assert sorted(copied.rglob('*')) == before
  assert int(dl.load(copied)[1].step) == 40
  assert evaluate.evaluate(copied)['test'].items() <= records(copied, 'test')[-1].items()


def test_a_place_where_nothing_can_be_made_is_refused():
  with pytest.raises(ConfigError) as e:
    train(small('perceptron'), pathlib.Path('/proc/run'))
  assert_one_line(e.value, '--workdir: cannot write to /proc/run: ')


# -- Signals and clocks. SIGKILL, and SIGTERM as a process gets it, are in test_resume.py.


@pytest.mark.parametrize(
  ('number', 'error'),
  [pytest.param(signal.SIGINT, KeyboardInterrupt, marks=pytest.mark.thorough), (signal.SIGTERM, SystemExit)],
)
def test_a_signal_saves_and_a_second_one_ends_at_once(runs, tmp_path, number, error, monkeypatch):
  def end(*_):
    raise SystemExit  # as the default action would, but this process has other tests to do

  workdir, before = tmp_path / 'run', signal.signal(signal.SIGTERM, end)
  monkeypatch.setattr(signals, 'TOGETHER', 0.0)  # two within a second count as one
  send = lambda *numbers: lambda n, _: [os.kill(os.getpid(), number) for at in numbers if n == at]
  try:
    with each_call(send(13)):
      assert train(small('perceptron'), workdir).status == 'interrupted'
    assert saved(workdir) == [13]
    with each_call(send(9, 9)), pytest.raises(error):
      train(small('perceptron'), workdir)
  finally:
    signal.signal(signal.SIGTERM, before)
  assert saved(workdir) in ([13], [13, 20])  # it was not saved at 22
  train(small('perceptron'), workdir)
  assert_same_run(workdir, runs('perceptron'))


def test_nothing_but_timestamps_depends_on_the_clock(runs, tmp_path, monkeypatch):
  """Each look at it sees another year, the past as well as the future."""
  real, years = (time.time, time.time_ns), itertools.cycle([0, 9, -9, 1, -30])
  jump = lambda: next(years) * 365 * 86400
  monkeypatch.setattr(time, 'time', lambda: real[0]() + jump())
  monkeypatch.setattr(time, 'time_ns', lambda: real[1]() + jump() * 10**9)
  workdir = tmp_path / 'run'
  with interrupted(25):
    loop.train(small('perceptron'), workdir)
  loop.train(small('perceptron'), workdir)
  monkeypatch.undo()
  assert_same_run(workdir, runs('perceptron'))
  assert saved(workdir) == [25, 40]
  seconds = [r['seconds'] for r in logs.read(workdir) if r['split'] == 'train']
  assert all(0 < b - a < 100 for a, b in itertools.pairwise([0, *seconds]))
  assert all(r['steps_per_second'] > 0 for r in logs.read(workdir) if r['split'] == 'train')


# -- Numbers.


def nan_gradients(step: int) -> optax.GradientTransformation:
  """An optimizer stage that sees NaN gradients at one step."""

  def update(updates, count, params=None):
    bad = jnp.where(count + 1 == step, jnp.nan, 1.0)
    return jax.tree.map(lambda u: u * bad, updates), count + 1

  return optax.GradientTransformation(lambda params: jnp.int32(0), update)


@pytest.mark.parametrize(('every', 'says'), [(8, 'loss is not finite at step 22'), (1, 'not finite at step 21')])
def test_a_nan_gradient_with_a_finite_loss_reaches_no_checkpoint(tmp_path, every, says):
  """The loss of step 21 is finite; its gradient is not, and so neither are the parameters after it."""
  optimizer = {'nan': {'name': f'{__name__}.nan_gradients', 'step': 21}, 'sgd': {'name': 'sgd', 'learning_rate': 0.1}}
  config = dataclasses.replace(
    small('perceptron', f'checkpoint_every={every}', 'eval={}'), optim=optimizer, eval_every=None
  )
  with pytest.raises(TrainingError) as e:
    train(config, tmp_path / 'run')
  last = 20 // every * every
  assert_one_line(e.value, says, f'the last good checkpoint is of step {last}', 'config.optim.sgd.learning_rate')
  assert saved(tmp_path / 'run')[-1] == last
  _, state = restore.load_parts(tmp_path / 'run')
  assert all(np.isfinite(x).all() for x in jax.tree.leaves(state))


# -- Data.


@pytest.fixture(scope='module')
def pictures(tmp_path_factory):
  """A folder of 60 digits, of which five cannot be read, and the same without these."""
  folder = tmp_path_factory.mktemp('pictures') / 'all'
  columns = Digits().columns
  for i in range(60):
    path = folder / f'{columns["label"][i]}/{i:02}.{"png" if i % 2 else "jpg"}'
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.rint(columns['image'][i, ..., 0] * 255).astype(np.uint8)).resize((64, 64)).save(path)
  bad = [next(folder.rglob(f'{i:02}.*')) for i in (7, 20, 21, 33, 48)]
  bad[0].write_bytes(b'')
  for path in bad[1:3]:
    halve(path)
  bad[3].write_bytes(bad[3].read_bytes()[:2])
  bad[4].write_text('<html>404</html>')
  shutil.copytree(folder, folder.with_name('good'))
  for path in bad:
    (folder.with_name('good') / path.relative_to(folder)).unlink()
  return folder, sorted(bad)


def pipeline_of(folder, *, in_memory=False, on_error='skip', **options):
  source = part(Folder(str(folder), (8, 8), channels=1, in_memory=in_memory, on_error=on_error), 'all')
  return Pipeline(source, 8, on_error=on_error, **options)


@pytest.mark.parametrize('in_memory', [False, True])
def test_examples_that_cannot_be_read_are_replaced_by_a_function_of_the_step(pictures, in_memory):
  folder, bad = pictures
  whole = pipeline_of(folder, in_memory=in_memory, seed=3)
  paths = whole.source.paths
  order = np.concatenate([np.random.default_rng([3, epoch]).permutation(60) for epoch in range(3)])
  expected = []
  for place in range(128):
    epoch, at = divmod(place, 60)
    following = np.roll(order[60 * epoch : 60 * epoch + 60], -at)
    expected.append(next(i for i in following if paths[i] not in bad))
  image = lambda i: np.asarray(Image.open(paths[i]).resize((8, 8), Image.Resampling.BILINEAR))
  for step, batch in zip(range(16), whole.iterate(0)):
    wanted = expected[8 * step : 8 * step + 8]
    np.testing.assert_array_equal(batch['image'][..., 0], [image(i) for i in wanted])
    np.testing.assert_array_equal(batch['label'], whole.source.labels[wanted])
    np.testing.assert_array_equal(batch['mask'], 1)
    for again in (pipeline_of(folder, in_memory=in_memory, seed=3)[step], whole[step]):
      jax.tree.map(np.testing.assert_array_equal, again, batch)
  assert [paths[i] for i in sorted(whole.skipped)] == bad
  assert all(str(paths[i]) in reason for i, reason in whole.skipped.items())


@pytest.mark.parametrize('in_memory', [False, True])
def test_an_evaluation_counts_no_example_that_cannot_be_read(pictures, in_memory):
  folder, _ = pictures
  batches = list(pipeline_of(folder, train=False, in_memory=in_memory))
  rows = {k: np.concatenate([b[k] for b in batches]) for k in batches[0]}
  good = list(pipeline_of(folder.with_name('good'), train=False, on_error='stop'))
  kept = {k: np.concatenate([b[k] for b in good]) for k in good[0]}
  assert rows['mask'].sum() == kept['mask'].sum() == 55 and len(rows['mask']) == 64
  for name in ('image', 'label'):
    np.testing.assert_array_equal(rows[name][rows['mask'] > 0], kept[name][kept['mask'] > 0])


def test_an_example_that_cannot_be_read_stops_with_its_name(pictures):
  folder, bad = pictures
  data = pipeline_of(folder, on_error='skip', train=False)
  stopping = Pipeline(data.source, 8, train=False, where='config.eval.test')
  first = data.source.paths.index(bad[0])
  for read in (lambda: stopping[first // 8], lambda: list(stopping.iterate(0))):
    with pytest.raises(ConfigError) as e:
      read()
    assert_one_line(e.value, f'config.eval.test: example {first}: {bad[0]} cannot be read as an image: ')
  with pytest.raises(ConfigError, match=str(bad[0])):
    pipeline_of(folder, on_error='stop', in_memory=True)


class Broken:
  """Examples of which some raise, one by one or gathered."""

  def __init__(self, bad=(), error=ZeroDivisionError, gathers=False, count=96):
    self.bad, self.error, self.vectorized, self.count = set(bad), error, gathers, count

  def __len__(self):
    return self.count

  def __getitem__(self, index):
    if self.bad & set(np.atleast_1d(index).tolist()):
      raise self.error('of course')
    image = np.float32(index)[..., None, None, None] * np.ones((8, 8, 1), np.float32) / self.count
    return {'image': image, 'label': np.int32(index) % 10}


@pytest.mark.parametrize('gathers', [False, True])
@pytest.mark.parametrize('error', [ZeroDivisionError, OSError, SystemExit, MemoryError])
def test_any_error_of_a_source_is_one_line(gathers, error):
  data = Pipeline(Broken([40], error, gathers), 16, shuffle=False)
  data[1]
  for read in (lambda: data[2], lambda: list(itertools.islice(data.iterate(0), 4))):
    with pytest.raises(TrainingError) as e:
      read()
    assert_one_line(e.value, 'config.data: example 40 cannot be read', error.__name__, 'of course')
  skipping = Pipeline(Broken([40, 41, 50], error, gathers), 16, shuffle=False, on_error='skip')
  if error is MemoryError:  # that is no property of an example
    with pytest.raises(TrainingError, match='MemoryError'):
      skipping[2]
    return
  np.testing.assert_array_equal(skipping[2]['image'][:, 0, 0, 0] * 96, [*range(32, 40), 42, 42, *range(42, 48)])
  assert sorted(skipping.skipped) == [40, 41]
  np.testing.assert_array_equal(skipping[5]['label'], Pipeline(Broken(gathers=gathers), 16, shuffle=False)[5]['label'])


def test_data_that_is_gone_altogether_stops_even_where_examples_may_be_skipped():
  data = Pipeline(Broken(range(1000), OSError, count=1000), 16, on_error='skip')
  with pytest.raises(TrainingError) as e:
    data[0]
  assert_one_line(e.value, 'of 100 examples in a row none can be read; the first: config.data: example', 'OSError')
  with pytest.raises(TrainingError, match='by an array of indices: TypeError'):
    Pipeline(OnlySingly(), 16)[0]


class OnlySingly(Broken):
  """Says that it gathers, and does not."""

  def __init__(self):
    super().__init__(gathers=True)

  def __getitem__(self, index):
    if np.ndim(index):
      raise TypeError('one at a time')
    return super().__getitem__(index)


@pytest.mark.parametrize(('key', 'value'), [('on_error', 'skp'), ('on_error', None), ('timeout', 0), ('timeout', '9')])
def test_what_is_no_policy_is_one_line(key, value):
  with pytest.raises(ConfigError, match=rf'^config\.data\.{key}: '):
    Pipeline(Broken(), 16, **{key: value})


def test_a_run_counts_what_it_skips(pictures, tmp_path, capfd):
  """Also across an interruption; and its evaluation is that of the examples which can be read."""
  folder, bad = pictures
  data = {'name': 'images.Folder', 'path': str(folder), 'image_size': [8, 8], 'channels': 1, 'batch_size': 16}
  config = small('perceptron', 'train_for=12', 'eval_every=6', 'log_every=3', 'checkpoint_every=5')
  data = data | {'split': 'all', 'on_error': 'skip'}
  config = dataclasses.replace(config, data=data, eval={'test': {'split': 'all'}})
  train(config, tmp_path / 'whole')
  names = {(split, p.name) for split in ('train', 'test') for p in bad}
  paths = Folder(str(folder), (8, 8), channels=1).paths
  skips = lambda run: [json.loads(line) for line in (tmp_path / run / 'skipped.jsonl').read_text().splitlines()]
  assert sorted((r['split'], paths[r['index']].name) for r in skips('whole')) == sorted(names)
  assert all(paths[r['index']].name in r['reason'] for r in skips('whole'))
  err = capfd.readouterr().err
  assert err.count('\n') == 2 and "warning: 5 examples of 'train' could not be read and were replaced by others" in err
  assert "warning: 5 examples of 'test' could not be read and were left out" in err and 'skipped.jsonl' in err
  with interrupted(7):
    train(config, tmp_path / 'cut')
  train(config, tmp_path / 'cut')
  assert_same_run(tmp_path / 'cut', tmp_path / 'whole')
  assert sorted(map(str, skips('cut'))) == sorted(map(str, skips('whole')))
  own = {'split': 'all', 'name': 'images.Folder', 'path': str(folder.with_name('good'))}
  good = dataclasses.replace(config, eval={'test': own})
  good.eval['test'] |= {'image_size': [8, 8], 'channels': 1}
  train(good, tmp_path / 'good')
  a, b = (records(tmp_path / name, 'test')[-1] for name in ('whole', 'good'))
  for key in ('loss', 'accuracy', 'class_accuracy'):
    np.testing.assert_allclose(a[key], b[key], rtol=1e-6)


# -- Readers.


def broken(path):
  """A config whose source raises in the middle of the first epoch."""
  config = small('perceptron', 'log_every=1', 'checkpoint_every=2', 'eval={}')
  data = {'name': path, 'batch_size': 8, 'shuffle': False, 'bad': [60]}
  return dataclasses.replace(config, data=data, eval_every=None)


class BrokenAt60(Broken):
  def __init__(self, bad: list):
    super().__init__(bad)


def test_a_reader_that_dies_ends_the_run_and_leaves_the_checkpoint(tmp_path):
  config = broken(f'{__name__}.BrokenAt60')
  with pytest.raises(TrainingError) as e:
    train(config, tmp_path / 'run')
  assert_one_line(e.value, 'config.data: example 60 cannot be read: ZeroDivisionError: of course')
  assert workdirs.read_run(tmp_path / 'run')['status'] == 'failed'
  assert 1 <= max(saved(tmp_path / 'run'), default=0) <= 7 or records(tmp_path / 'run') == []


HANGS = """
import threading
import numpy as np
from dl.contract.info import Info
from dl.data import fetch
from patience import queues

hangs = threading.Event()
fetch.queue = queues(hangs, before=37)

class Hangs:
  info = Info(mean=(0.5,), std=(1.0,), image_size=(8, 8), channels=1)  # else examples would be read for these

  def __init__(self, at: int = 10**9):
    self.at = at
    self.paths = [f'disk/{i}.png' for i in range(1000)]

  def __len__(self):
    return 1000

  def __getitem__(self, index):
    if index == self.at:
      hangs.set()
      threading.Event().wait()
    return {'image': np.full((8, 8, 1), index % 256, np.uint8), 'label': np.int32(index % 10)}
"""


def test_a_reader_that_hangs_ends_the_run(tmp_path, environment):
  """The whole command: threads that never end would keep a process from ending, too. 37 batches come before."""
  (tmp_path / 'mine.py').write_text(HANGS)
  path, overrides = SMALL['perceptron']
  data = "data={'name': 'mine.Hangs', 'at': 300, 'batch_size': 8, 'shuffle': False, 'timeout': 500}"
  overrides = [*overrides[:1], *overrides[2:], data, 'eval={}', 'eval_every=None', 'checkpoint_every=4', 'log_every=1']
  done = subprocess.run(
    [sys.executable, '-m', 'dl.train', f'--config={ROOT}/experiments/{path}', f'--workdir={tmp_path}/run',
     '--noprogress', *(f'--config.{o}' for o in overrides)],
    cwd=tmp_path, env=environment | {'PYTHONPATH': f'{ROOT}:{ROOT / "tests"}'}, capture_output=True, text=True,
    check=False,
  )  # fmt: skip
  assert (done.returncode, done.stdout) == (1, ''), done.stderr
  assert done.stderr.count('\n') == 1
  says = 'no batch came for 500 s (config.data.timeout): example 300 (disk/300.png) has been read for '
  assert done.stderr.startswith(f'error: config.data: {says}')
  assert max(saved(tmp_path / 'run')) >= 32
  assert [r['step'] for r in records(tmp_path / 'run')][-1] >= 32


def test_what_hangs_is_named_in_python_too(monkeypatch):
  hangs, let_go = threading.Event(), threading.Event()

  class Waits(Broken):
    def __getitem__(self, index):
      if index == 40:
        hangs.set()
        let_go.wait()
      return super().__getitem__(index)

  monkeypatch.setattr(fetch, 'queue', patience.queues(hangs, before=5))
  batches = Pipeline(Waits(), 8, shuffle=False, num_threads=2).iterate(0)
  assert len([next(batches) for _ in range(5)]) == 5
  with pytest.raises(StuckError, match=r'example 40 has been read for \d'):
    next(batches)
  let_go.set()


def test_a_time_limit_is_one_of_seconds():
  """Nothing ever comes, so however busy the machine is, the time is over first."""
  let_go = threading.Event()
  with pytest.raises(StuckError, match='late'):
    next(fetch.ahead(filter(lambda _: let_go.wait(), [1]), 0.1, lambda: 'late'))
  let_go.set()


def test_what_makes_progress_is_waited_for():
  """However large a batch is, and however long it takes: only one of which no more examples come is given up."""
  asked, ready = [], threading.Event()

  def progress():
    asked.append(None)
    if len(asked) > 6:
      ready.set()
    return len(asked)

  assert next(fetch.ahead((ready.wait() for _ in range(1)), 0.01, lambda: 'late', progress)) is True
  assert len(asked) > 6


# -- The fault table, which `python -m benchmarks.faults` measures.


def test_the_fault_table_is_that_of_its_record_and_each_row_met_what_it_names():
  record = json.loads(faults.RECORD.read_text())
  assert faults.PAGE.read_text() == faults.page(record)
  trials = [faults.Trial(**t) for t in record['trials']]
  of = lambda fault: [t for t in trials if t.fault == fault]
  assert {t.fault for t in trials} == {'SIGKILL', *faults.FAULTS} and all(t.same is True for t in trials)
  assert len(of('SIGKILL')) >= 50 and all(len(of(fault)) >= 3 for fault in faults.FAULTS)
  met = {t.fault: {u.moment.split(':')[0] for u in of(t.fault)} for t in trials}
  for fault in ('SIGTERM', 'SIGINT'):
    assert met[fault] >= {'training', 'a save'}
  for fault in ('bit-flipped checkpoint', 'truncated checkpoint'):
    assert met[fault] == {'parameters', 'optimizer state', 'metadata'}
  says = {'at a checkpoint': 'the checkpoint of step', 'at the log': logs.FILE, "at TensorBoard's log": '/tensorboard/'}
  for where, broken in says.items():
    assert all(broken in t.said.split(': No space')[0] for t in of(f'full disk, {where}'))
