"""The cache of compiled code: used without being asked for, and sound after a kill."""

import os
import pathlib
import signal
import subprocess
import sys

import pytest

from dl.commands import compilation

COMPILE = """
from dl.commands import compilation
compilation.use_cache()
import jax, jax.numpy as jnp
def f(x):
  for i in range(40):
    x = jnp.sin(x @ x) + jnp.cumsum(x, i % 2)
  return x
jax.jit(f)(jnp.ones((8, 8))).block_until_ready()
print(jax.config.jax_compilation_cache_dir)
"""
KILLED = """
import os, pathlib, signal, time
from dl.commands import compilation
compilation.use_cache()
time.sleep(0.05)
pathlib.Path(os.environ[compilation.FOLDER], 'half-cache').write_bytes(b'half an entry')
os.kill(os.getpid(), signal.SIGKILL)
"""


def run(code: str, home: pathlib.Path, **more: str) -> subprocess.CompletedProcess:
  env = {k: v for k, v in os.environ.items() if not k.startswith('JAX_')}
  env |= {
    'JAX_PLATFORMS': 'cpu',
    'XDG_CACHE_HOME': str(home),
    'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',
    **more,
  }
  return subprocess.run([sys.executable, '-c', code], env=env, capture_output=True, text=True, check=False)


def entries(home: pathlib.Path) -> set[str]:
  return {p.name for p in home.glob('dl/compiled-*/*-cache')}


def test_code_is_kept_and_found_again(tmp_path):
  first = run(COMPILE, tmp_path)  # quick code too: on a fast machine this takes less than what is worth keeping
  assert first.returncode == 0, first.stderr
  assert first.stdout.startswith(str(tmp_path / 'dl' / 'compiled-'))
  kept = {p: p.stat().st_mtime_ns for p in tmp_path.glob('dl/compiled-*/*-cache')}
  assert any('jit_f-' in p.name for p in kept)
  assert run(COMPILE, tmp_path, JAX_LOG_COMPILES='1').stderr.count('Persistent compilation cache hit') >= 1
  assert kept == {p: p.stat().st_mtime_ns for p in tmp_path.glob('dl/compiled-*/*-cache')}
  assert not list(tmp_path.glob('dl/compiled-*/.running-*'))


@pytest.mark.thorough
def test_what_a_killed_process_may_have_torn_is_removed(tmp_path):
  assert run(COMPILE, tmp_path).returncode == 0
  whole = entries(tmp_path)
  assert run(KILLED, tmp_path).returncode == -signal.SIGKILL
  assert entries(tmp_path) == whole | {'half-cache'}
  assert run(COMPILE, tmp_path).returncode == 0
  assert entries(tmp_path) == whole


@pytest.mark.parametrize(
  'named', [{'JAX_COMPILATION_CACHE_DIR': 'elsewhere'}, {'JAX_ENABLE_COMPILATION_CACHE': 'false'}]
)
def test_variables_of_jax_come_first(named, tmp_path, monkeypatch):
  for name in ('JAX_COMPILATION_CACHE_DIR', 'JAX_ENABLE_COMPILATION_CACHE'):
    monkeypatch.delenv(name, raising=False)
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
  for name, value in named.items():
    monkeypatch.setenv(name, value)
  compilation.use_cache()
  assert not list(tmp_path.iterdir())


def test_the_oldest_entries_go_first(tmp_path, monkeypatch):
  for i in range(4):
    path = tmp_path / f'{i}-cache'
    path.write_bytes(b'x' * 100)
    os.utime(path, (i, i))
  monkeypatch.setattr(compilation, 'MOST_BYTES', 250)
  compilation._trim(tmp_path)
  assert sorted(p.name for p in tmp_path.iterdir()) == ['2-cache', '3-cache']


@pytest.mark.thorough
def test_a_folder_that_cannot_be_written_to_is_no_error(tmp_path):
  (tmp_path / 'file').write_text('')
  done = run(COMPILE, tmp_path / 'file')
  assert done.returncode == 0 and 'compiled code is not kept' in done.stderr
