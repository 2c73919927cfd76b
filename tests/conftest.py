"""What tests share: a cache of compiled code, and small trained runs, each trained once a session."""

import os
import pathlib
import runpy
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable
from typing import Any

os.environ.setdefault('JAX_PLATFORMS', 'cpu')  # before JAX is imported

import jax
import pytest
from absl import flags
from small import small

ROOT = pathlib.Path(__file__).parents[1]

CACHE = pytest.StashKey[str]()
LONG = ('test_resume', 'test_devices', 'test_loop', 'test_commands', 'test_colabs')


def pytest_addoption(parser: pytest.Parser) -> None:
  parser.addoption('--fuzz', type=int, default=12, help='mistakes to try in each bundled config (tests/test_fuzz.py)')
  parser.addoption('--thorough', action='store_true', help='every sharding strategy on two processes as well')


def pytest_configure(config: pytest.Config) -> None:
  """Tests which compile the same code share it; each process has its own folder, since entries are not locked."""
  signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell ignores for what it starts with '&'
  config.stash[CACHE] = tempfile.mkdtemp(prefix='dl_tests_')
  for name, value in cache_settings(config.stash[CACHE]).items():
    jax.config.update(name, value)
  os.environ['XDG_CACHE_HOME'] = config.stash[CACHE]  # of commands which are killed, and not the user's


def pytest_unconfigure(config: pytest.Config) -> None:
  shutil.rmtree(config.stash[CACHE], ignore_errors=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
  """The longest files come first, so that of several workers none ends long after the others."""
  items.sort(key=lambda item: LONG.index(item.path.stem) if item.path.stem in LONG else len(LONG))


def cache_settings(folder: str) -> dict[str, Any]:
  return {
    'jax_compilation_cache_dir': folder,
    'jax_persistent_cache_min_compile_time_secs': 0.0,
    'jax_persistent_cache_min_entry_size_bytes': -1,
  }


@pytest.fixture(scope='session')
def environment(request: pytest.FixtureRequest) -> dict[str, str]:
  """Environment variables for a subprocess (one that is not killed): this code, CPU, the cache of this process."""
  cache = {k.upper(): str(v) for k, v in cache_settings(request.config.stash[CACHE]).items()}
  return os.environ | cache | {'PYTHONPATH': str(ROOT), 'JAX_PLATFORMS': 'cpu', 'XLA_FLAGS': ''}


@pytest.fixture(scope='session')
def runs(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], pathlib.Path]:
  """A function from a kind to the work directory of its complete run, which no test may change."""
  from dl.training import loop

  done: dict[str, pathlib.Path] = {}

  def trained(kind: str) -> pathlib.Path:
    if kind not in done:
      done[kind] = tmp_path_factory.mktemp('runs') / kind
      loop.train(small(kind), done[kind], show_progress=False)
    return done[kind]

  return trained


@pytest.fixture
def command(monkeypatch, capsys):
  """Runs `python -m MODULE ARGUMENTS` in this process, which saves the start: (exit code, stdout, stderr)."""

  def run(module, *arguments):
    path = ROOT.joinpath(*(['dl', 'commands', 'faces', 'inspect'] if module == 'dl.inspect' else module.split('.')))
    before = set(flags.FLAGS)
    monkeypatch.setattr(sys, 'argv', [str(path), *map(str, arguments)])
    capsys.readouterr()
    try:
      with pytest.raises(SystemExit) as e:
        runpy.run_path(str(path / '__main__.py' if path.is_dir() else path.with_suffix('.py')), run_name='__main__')
    finally:
      flags.FLAGS.unparse_flags()
      for name in set(flags.FLAGS) - before:
        if not flags.FLAGS.find_module_defining_flag(name).startswith('absl'):
          delattr(flags.FLAGS, name)
    out, err = capsys.readouterr()
    return e.value.code or 0, out, err

  return run
