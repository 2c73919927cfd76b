"""A run that is killed and restarted ends exactly like one that never was: four kinds of learning."""

import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from dl.store import logs
from dl.store import workdir as workdirs
from dl.training import restore

pytestmark = pytest.mark.thorough

ROOT = pathlib.Path(__file__).parents[1]

KINDS = {
  'classify': ('vision/digits_lenet.py', ['train_for=900 steps']),
  'lm': (
    'text/stdlib_gpt.py',
    ['train_for=300 steps', 'model.layers=1', 'model.width=32', 'model.heads=2', 'model.length=32', 'data.length=32',
     'data.batch_size=8'],
  ),
  'gan': ('generative/digits_gan.py', ['train_for=300 steps']),
  'ppo': ('rl/cartpole_ppo.py', ['train_for=150 steps', 'task.num_envs=4', 'task.eval_episodes=4']),
}  # fmt: skip
EVERY = ['log_every=7', 'checkpoint_every=20', 'eval_every=60', 'early_stop=None']
TIMES = logs.MACHINE


def command(kind: str, workdir: pathlib.Path) -> list[str]:
  path, overrides = KINDS[kind]
  overrides = [f'--config.{o}' for o in overrides + EVERY]
  return [sys.executable, '-m', 'dl.train', f'--config=experiments/{path}', f'--workdir={workdir}', *overrides]


def start(kind: str, workdir: pathlib.Path) -> subprocess.Popen:
  env = os.environ | {'JAX_PLATFORMS': 'cpu', 'XLA_FLAGS': ''}
  return subprocess.Popen(command(kind, workdir), cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def checkpoints(workdir: pathlib.Path) -> set[int]:
  return {int(p.name) for p in (workdir / 'checkpoints').glob('*') if p.name.isdecimal()}


def numbers(workdir: pathlib.Path) -> list[dict]:
  return [{k: v for k, v in r.items() if k not in TIMES} for r in logs.read(workdir)]


@pytest.mark.parametrize('kind', KINDS)
def test_killed_three_times_equals_uninterrupted(kind, tmp_path):
  rng = random.Random(kind)
  whole, killed = tmp_path / 'whole', tmp_path / 'killed'
  process = start(kind, whole)
  out, _ = process.communicate()
  assert process.returncode == 0, out.decode()

  for inside_a_save in (False, True, False):
    process, before = start(kind, killed), max(checkpoints(killed), default=0)
    while process.poll() is None and max(checkpoints(killed), default=0) <= before:
      time.sleep(0.005)
    while process.poll() is None and inside_a_save and not any((killed / 'checkpoints').glob('*-tmp*')):
      time.sleep(0.001)
    time.sleep(0 if inside_a_save else rng.uniform(0, 0.15))
    assert process.poll() is None, f'it ended before it could be killed: {process.communicate()[0].decode()}'
    process.send_signal(signal.SIGKILL)
    process.communicate()
  process = start(kind, killed)
  out, _ = process.communicate()
  assert process.returncode == 0, out.decode()
  assert b'resuming at step' in out

  parts, a = restore.load_parts(whole)
  _, b = restore.load_parts(killed)
  assert int(a.step) == parts.total_steps
  same = jax.tree.map(lambda x, y: np.array_equal(_data(x), _data(y)), a, b)
  assert all(jax.tree.leaves(same))
  assert len(jax.tree.leaves(a.opt)) > 3
  assert numbers(whole) == numbers(killed)
  assert len(numbers(whole)) > 10
  assert workdirs.read_run(killed)['status'] == 'complete'


def _data(x):
  return np.asarray(jax.random.key_data(x) if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key) else x)


def test_sigterm_saves_and_says_resume_me(tmp_path):
  process = start('classify', tmp_path / 'run')
  while process.poll() is None and not logs.read(tmp_path / 'run'):
    time.sleep(0.01)
  process.send_signal(signal.SIGTERM)
  out, _ = process.communicate()
  assert process.returncode == 75, out.decode()
  step = max(checkpoints(tmp_path / 'run'))
  run = workdirs.read_run(tmp_path / 'run')
  assert run['status'] == 'interrupted' and run['step'] == step < 900
