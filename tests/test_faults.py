"""What machines do to a run: damaged files, full disks, signals, unreadable data, NaN gradients, odd clocks."""

import contextlib
import errno
import itertools
import json
import os
import pathlib
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from PIL import Image
from small import SMALL, each_call, interrupted, records, small

import dl
from dl import checksums, evaluate, logs, loop, restore
from dl import workdir as workdirs
from dl.checkpoint import Checkpoints
from dl.data.images import Folder
from dl.data.pipeline import Pipeline
from dl.data.sklearn import Digits
from dl.errors import ConfigError, StuckError, TrainingError

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


def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(runs, copied, capfd):
  assert saved(copied) == [20, 40] and all(checksums.exist(copied / f'checkpoints/{s}') for s in (20, 40))
  for damage, says in [(flip, 'its checksum differs'), (halve, 'bytes of'), (os.unlink, 'is missing')]:
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
  halve(large_file(copied, 40))
  with pytest.raises(ConfigError) as e:
    dl.load(copied)
  assert_one_line(e.value, 'checkpoints/40: cannot be restored', 'damaged')


def test_what_killed_writers_leave_is_harmless(runs, tmp_path):
  workdir = tmp_path / 'run'
  with interrupted(25):
    train(small('perceptron'), workdir)
  shutil.copytree(workdir / 'checkpoints/25', workdir / 'checkpoints/30.orbax-checkpoint-tmp')
  halve(next(p for p in (workdir / 'checkpoints/30.orbax-checkpoint-tmp/state').rglob('*') if p.is_file()))
  for name in ('run.json.new', 'config.json.new', 'metrics.jsonl.new', 'report.html.new'):
    (workdir / name).write_text('{"half')
  with open(workdir / 'metrics.jsonl', 'a') as f:
    f.write('{"step": 30, "split": "tr')
  train(small('perceptron'), workdir)
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


def until(condition, seconds=60.0):
  began = time.monotonic()
  while not condition():
    assert time.monotonic() - began < seconds
    time.sleep(0.005)


def test_a_checkpoint_that_cannot_be_written_ends_the_run(runs, tmp_path, capfd):
  """No step is lost on later ones: the failure is noticed at the next line of the log."""
  workdir, limits, calls = tmp_path / 'run', contextlib.ExitStack(), []

  def after(number, _):
    calls.append(number)
    if number == 34:
      until((workdir / 'checkpoints/33').is_dir)
      limits.enter_context(largest_file(30_000))

  with limits, each_call(after), pytest.raises(TrainingError) as e:
    train(small('digits'), workdir)
  assert_one_line(e.value, 'cannot write the checkpoint of step 44', 'File too large', 'the last checkpoint, of step 33')
  assert calls[-1] < 60
  assert 'Traceback' not in capfd.readouterr().err
  assert workdirs.read_run(workdir)['status'] == 'failed'
  assert int(dl.load(workdir)[1].step) == 33
  train(small('digits'), workdir)
  assert_same_run(workdir, runs('digits'))


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


@pytest.mark.parametrize('name', ['run.json', 'report.html', '00000040_test_classes.csv'])
def test_a_file_that_cannot_be_written_ends_the_run(runs, tmp_path, name, monkeypatch):
  """The disk is full for this one file."""
  workdir, replace = tmp_path / 'run', os.replace

  def full(source, to):
    if pathlib.Path(to).name == name:
      raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    replace(source, to)

  with interrupted(25):
    train(small('perceptron'), workdir)
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
