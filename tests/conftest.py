"""What all tests share: tiers, an order, a cache of compiled code, and small runs that are trained once a session.

Tiers, from the cheapest; a new test belongs in the first that can hold it:

1. Rules of the code (`test_architecture.py`, `test_docs.py`, `test_untrusted.py`): one test over all files, never a
   case a file.
2. Units, beside the file that they are about: no training and one compilation at most; shapes by `jax.eval_shape`.
3. The contract by table (`test_contract.py`): a family adds its smallest run to `small.SMALL` and gets resuming,
   loading, evaluating, predicting, sampling, fused steps, seeds, the stop at NaN and bfloat16. What is special to it
   reads the same runs, `runs(kind)`: one is trained a session, whichever worker wants it first.
4. Parity by table (`references.py`): a network adds a row and is counted and compared; its own file keeps what is
   special to it.
5. Thorough, `@pytest.mark.thorough`: learning to a number, every strategy, real kills, several processes, all
   notebooks, the long fuzz, whole networks where a small one is compared as well. The plain command skips them;
   `--thorough` runs them, and nothing else. Of each the plain command keeps one small case.

A test depends on no clock: it waits for what must happen, as long as it takes, and never sleeps until it should have.
"""

import contextlib
import fcntl
import functools
import gc
import hashlib
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

os.environ.setdefault('JAX_PLATFORMS', 'cpu')  # before JAX is imported

import faces
import jax
import pytest
from jax._src import lru_cache
from jax._src.interpreters import mlir
from small import small

ROOT = pathlib.Path(__file__).parents[1]

SHARED = pytest.StashKey[pathlib.Path]()
LONG = (
  'test_loop', 'test_fuzz', 'test_faults', 'test_contract', 'test_parity', 'test_commands', 'test_plan', 'test_devices',
  'test_sweep', 'test_processes', 'test_resume', 'test_colabs', 'test_howto',
)  # fmt: skip
"""The longest files, which come first."""
QUICK = '--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1'
"""XLA's older code generator, which takes half the time for the many small programs of tests, each in one piece."""
AS_USERS = ('planning',)
"""Folders of tests which are about optimized code."""
TABLES = ('test_contract', 'test_parity')
"""Files whose rows may go to several workers; the tests of any other file stay together, with what they share."""


def pytest_addoption(parser: pytest.Parser) -> None:
  parser.addoption('--fuzz', type=int, default=25, help='mistakes to try in each config, with --thorough')
  parser.addoption('--thorough', action='store_true', help='the thorough tests, which are skipped otherwise, alone')


# -- The order, and who runs what.


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
  """The longest files come first, so that of several workers none ends long after the others."""
  items.sort(key=lambda item: LONG.index(item.path.stem) if item.path.stem in LONG else len(LONG))
  thorough = [item for item in items if item.get_closest_marker('thorough')]
  if config.getoption('thorough'):
    config.hook.pytest_deselected(items=[item for item in items if item not in thorough])
    items[:] = thorough
  else:
    for item in thorough:
      item.add_marker(pytest.mark.skip(reason='with --thorough'))


def pytest_collection_finish(session: pytest.Session) -> None:
  """What is imported by now stays, so that the garbage collector need not look at it again: a tenth of the time."""
  gc.collect()
  gc.freeze()
  gc.set_threshold(100_000, 50, 100)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
  """Whole files, in the order of `LONG`, and rows of tables."""
  from xdist.scheduler import LoadFileScheduling

  class Files(LoadFileScheduling):
    def _split_scope(self, nodeid: str) -> str:
      file, _, test = nodeid.partition('::')
      return f'{file}{test.partition("[")[2]}' if pathlib.Path(file).stem in TABLES else file

  config.option.loadscopereorder = False
  return Files(config, log)


# -- The folder which all workers share: compiled code, and trained runs.


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
  node.workerinput['shared'] = str(node.config.stash[SHARED])


def pytest_configure(config: pytest.Config) -> None:
  """Tests which compile the same code share it, on all workers."""
  signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell ignores for what it starts with '&'
  given = getattr(config, 'workerinput', {}).get('shared')
  config.stash[SHARED] = pathlib.Path(given or tempfile.mkdtemp(prefix='dl_tests_'))
  for name, value in cache_settings(config.stash[SHARED] / 'compiled').items():
    jax.config.update(name, value)
  jax.config.update('jax_disable_most_optimizations', not config.getoption('thorough'))
  if not config.getoption('thorough') and given is None and known(QUICK):
    os.environ['XLA_FLAGS'] = f'{os.environ.get("XLA_FLAGS", "")} {QUICK}'.strip()  # which the workers inherit
  lru_cache.LRUCache.put = put
  mlir.make_ir_context = functools.cache(mlir.make_ir_context)  # a new one for each program takes 4 ms
  os.environ['XDG_CACHE_HOME'] = str(own(config) / 'home')  # of commands which are killed, and not the user's


def pytest_unconfigure(config: pytest.Config) -> None:
  if not hasattr(config, 'workerinput'):
    shutil.rmtree(config.stash[SHARED], ignore_errors=True)


def known(flags: str) -> bool:
  """Whether this version of XLA takes these flags; of one that it does not know, it ends the process."""
  check = [sys.executable, '-c', 'import jax; jax.devices()']
  return subprocess.run(check, env=os.environ | {'XLA_FLAGS': flags}, capture_output=True).returncode == 0


def own(config: pytest.Config) -> pathlib.Path:
  """The part of the shared folder which is this process's alone."""
  return config.stash[SHARED] / f'process_{os.getpid()}'


def put(self: lru_cache.LRUCache, key: str, value: bytes) -> None:
  """In place of JAX's own, which writes in place: a worker may read an entry while another one writes it."""
  entry = pathlib.Path(str(self.path)) / f'{key}-cache'
  if not entry.exists():
    with tempfile.NamedTemporaryFile(dir=entry.parent, delete=False) as part:
      part.write(value)
    os.replace(part.name, entry)


def cache_settings(folder: pathlib.Path) -> dict[str, Any]:
  return {
    'jax_compilation_cache_dir': str(folder),
    'jax_persistent_cache_min_compile_time_secs': 0.0,
    'jax_persistent_cache_min_entry_size_bytes': -1,
  }


@pytest.fixture(scope='session')
def environment(request: pytest.FixtureRequest) -> dict[str, str]:
  """Environment variables for a subprocess (one that is not killed): this code, CPU, what was compiled until now."""
  cache = {k.upper(): str(v) for k, v in cache_settings(own(request.config) / 'compiled').items()}
  quick = {'JAX_DISABLE_MOST_OPTIMIZATIONS': str(jax.config.read('jax_disable_most_optimizations'))}
  quick['XLA_FLAGS'] = QUICK if QUICK in os.environ.get('XLA_FLAGS', '') else ''
  return os.environ | cache | quick | {'PYTHONPATH': str(ROOT), 'JAX_PLATFORMS': 'cpu'}


@pytest.fixture(autouse=True)
def compiled_until_now(request: pytest.FixtureRequest) -> None:
  """Subprocesses get links to whole entries, and write theirs to a folder of their own."""
  if 'environment' in request.fixturenames:
    folder = own(request.config) / 'compiled'
    folder.mkdir(parents=True, exist_ok=True)
    for entry in (request.config.stash[SHARED] / 'compiled').glob('*-cache'):
      if not (folder / entry.name).exists():
        (folder / entry.name).hardlink_to(entry)


@contextlib.contextmanager
def locked(path: pathlib.Path) -> Iterator[None]:
  """One process at a time."""
  path.parent.mkdir(parents=True, exist_ok=True)
  with path.open('w') as file:
    fcntl.flock(file, fcntl.LOCK_EX)
    yield


@pytest.fixture(scope='session')
def runs(request: pytest.FixtureRequest) -> Callable[..., pathlib.Path]:
  """A function from a kind (and overrides) to the work directory of its complete run, which no test may change."""
  from dl.training import loop

  def trained(kind: str, *overrides: str) -> pathlib.Path:
    name = kind + (f'_{hashlib.sha256(repr(overrides).encode()).hexdigest()[:8]}' if overrides else '')
    workdir = request.config.stash[SHARED] / 'runs' / name
    done = workdir.with_name(f'{name}.done')
    with locked(workdir.with_name(f'{name}.lock')):
      if not done.exists():
        shutil.rmtree(workdir, ignore_errors=True)  # of a worker which failed
        loop.train(small(kind, *overrides), workdir, show_progress=False)
        done.touch()
    return workdir

  return trained


@pytest.fixture(autouse=True)
def quick_compilation(request: pytest.FixtureRequest) -> Iterator[None]:
  """Compiles as users do what is thorough or about compiled code; all else with few optimizations, in half the time."""
  quick = jax.config.read('jax_disable_most_optimizations')
  jax.config.update('jax_disable_most_optimizations', quick and request.path.parent.name not in AS_USERS)
  yield
  jax.config.update('jax_disable_most_optimizations', quick)


class Clock:
  """A clock that stands still."""

  def __init__(self):
    self.now = 1000.0

  def __call__(self) -> float:
    return self.now

  def advance(self, seconds: float) -> None:
    self.now += seconds


@pytest.fixture
def clock(monkeypatch) -> Clock:
  """In place of the clocks that durations are measured by, so that a busy machine changes none."""
  made = Clock()
  for name in ('monotonic', 'perf_counter'):
    monkeypatch.setattr(time, name, made)
  return made


@pytest.fixture
def command(capsys):
  """Runs `python -m MODULE ARGUMENTS` in this process: (exit code, stdout, stderr)."""

  def run(module, *arguments):
    capsys.readouterr()
    with pytest.raises(SystemExit) as e:
      faces.run(module, *arguments)
    out, err = capsys.readouterr()
    return e.value.code or 0, out, err

  return run
