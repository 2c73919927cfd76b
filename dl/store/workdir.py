"""The work directory of a run: whose it is, what `config.json` and `run.json` say, and how to read them back."""

import contextlib
import fcntl
import hashlib
import importlib.metadata
import json
import os
import pathlib
import platform
import shlex
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any

import jax

from dl.config import Experiment, differences, resolve
from dl.errors import ConfigError, TrainingError, first_line, nearest
from dl.parallel import processes
from dl.store import atomic, provenance, records
from dl.store.checkpoint import intact

CONFIG = 'config.json'
RUN = 'run.json'
TOKENIZER = 'tokenizer.json'
LOCK = '.lock'
VISIBLE = 20.0
"""Seconds in which a file of one host is seen by the others: network file systems remember what was not there."""

FREE_TO_CHANGE = ('mesh', 'sharding', 'expect', 'baselines', 'cite')
"""Config keys which say where a run computes or what is claimed of it, not what it does: a resume may change them."""

_PACKAGES = ('jax', 'jaxlib', 'flax', 'optax', 'orbax-checkpoint', 'grain', 'tensorflow-datasets', 'numpy')


def check(workdir: pathlib.Path, experiment: Experiment, extend: bool = False) -> None:
  """Raises ConfigError unless the directory is free, or holds a run of this very config; writes nothing.

  With `extend`, `train_for` may differ.
  """
  try:
    names = {path.name for path in workdir.iterdir()}
  except FileNotFoundError:
    names = set()
  except NotADirectoryError as e:
    raise ConfigError(f'--workdir: {workdir} is not a directory') from e
  except (OSError, ValueError) as e:  # a name that is too long, a directory that may not be read
    raise ConfigError(f'--workdir: {str(workdir)[:200]} cannot be used: {getattr(e, "strerror", e)}') from e
  if CONFIG in names:
    changed = differences(read_config(workdir), experiment)
    free = (*FREE_TO_CHANGE, 'train_for') if extend else FREE_TO_CHANGE
    changed = {k: v for k, v in changed.items() if k.split('.')[0] not in free}
    if changed.keys() == {'train_for'}:
      a, b = changed['train_for']
      raise ConfigError(f'--workdir: {workdir} holds a run with train_for {a!r}, now {b!r}; --extend makes it longer')
    if changed:
      shown = ', '.join(f'{k} ({a!r}, now {b!r})' for k, (a, b) in list(changed.items())[:3])
      more = f' and {len(changed) - 3} more' if len(changed) > 3 else ''
      raise ConfigError(
        f'--workdir: {workdir} holds a run of another config: {shown}{more}; choose another directory, or delete it'
      )
  elif any(pathlib.Path(name).suffix != atomic.SUFFIX for name in names - {LOCK}):
    raise ConfigError(f'--workdir: {workdir} is not empty and holds no run; choose another directory')


@contextlib.contextmanager
def locked(workdir: pathlib.Path) -> Iterator[None]:
  """Creates the directory; within the context no other process may lock it.

  The lock is one of the operating system, which ends with its process, however that ends.

  Raises:
    ConfigError: a directory that cannot be written to, or that another process has locked.
  """
  try:
    workdir.mkdir(parents=True, exist_ok=True)
    lock = (workdir / LOCK).open('a+')
  except OSError as e:
    raise ConfigError(f'--workdir: cannot write to {workdir}: {e.strerror}') from e
  with lock:
    try:
      fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as e:
      lock.seek(0)
      raise ConfigError(
        f'--workdir: {workdir} is in use by {lock.read().strip() or "another process"}; '
        f'wait for it, stop it, or choose another directory'
      ) from e
    try:
      lock.truncate(0)
      lock.write(f'process {os.getpid()} on {platform.node()}\n')
      lock.flush()
    except OSError as e:
      raise ConfigError(f'--workdir: cannot write to {workdir}: {e.strerror}') from e
    yield


def holder(workdir: pathlib.Path) -> str | None:
  """Which process has locked a directory; None if it is free."""
  try:
    with (workdir / LOCK).open() as lock:
      fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
  except BlockingIOError:
    return (workdir / LOCK).read_text().strip() or 'another process'
  except OSError:  # there is none, or nobody may look
    pass
  return None


@contextlib.contextmanager
def claim(workdir: pathlib.Path, experiment: Experiment, extension: Mapping[str, Any] | None = None) -> Iterator[None]:
  """Locks the directory of a run (`locked`) and writes `config.json` into it; before that, an extension of the run."""
  with locked(workdir):
    try:
      if extension is not None:
        earlier = read_run(workdir).get('extended', [])
        if earlier[-1:] != [dict(extension)]:  # else it was killed before it could write the config
          update_run(workdir, extended=[*earlier, dict(extension)])
      if not (workdir / CONFIG).exists() or read_config(workdir) != experiment:
        atomic.write(workdir / CONFIG, json.dumps(experiment.to_json(), indent=2) + '\n')
    except OSError as e:
      raise ConfigError(f'--workdir: cannot write to {workdir}: {e.strerror}') from e
    yield


def check_same(experiment: Experiment) -> None:
  """Raises ConfigError unless every process has the config of the first one; to be called by all."""
  mine = {k: hashlib.sha256(json.dumps(v).encode()).hexdigest()[:16] for k, v in experiment.to_json().items()}
  theirs = processes.of_first(mine)
  keys = sorted(k for k in mine.keys() | theirs.keys() if mine.get(k) != theirs.get(k))
  if keys:
    raise ConfigError(
      f'config.{keys[0]}: process {jax.process_index()} on {platform.node()} has another value than process 0; '
      'all processes of a run take the same config'
    )


def check_shared(workdir: pathlib.Path) -> None:
  """Raises ConfigError unless every process sees what the first one has claimed; to be called by all."""
  lock = workdir / LOCK
  wanted = processes.of_first({'claim': lock.read_text() if processes.is_first() else ''})['claim']
  deadline = time.monotonic() + VISIBLE
  while not (lock.exists() and lock.read_text() == wanted):
    if time.monotonic() > deadline:
      raise ConfigError(
        f'--workdir: {workdir} of process {jax.process_index()} on {platform.node()} is not that of process 0; '
        'name a directory which all processes share'
      )
    time.sleep(0.2)


@contextlib.contextmanager
def writing(workdir: pathlib.Path) -> Iterator[None]:
  """Within the context, a file of the run which cannot be written (a full disk, say) is one line, a TrainingError."""
  try:
    yield
  except OSError as e:
    what = e.filename or workdir
    raise TrainingError(f'cannot write {what}: {e.strerror or e}; {intact(workdir / "checkpoints")}') from e


def read_config(workdir: pathlib.Path) -> Experiment:
  """The config of a run, with today's defaults for keys which are newer than it."""
  return resolve(_read(workdir, CONFIG))


def read_run(workdir: pathlib.Path) -> dict[str, Any]:
  """`run.json` of a run, with its tokenizer, if it has one, which is a file of its own.

  Raises:
    ConfigError: there is no such file, or it is damaged, or the tokenizer is another than the run began with.
  """
  facts = _read(workdir, RUN)
  data = facts.get('data')
  info = data.get('info') if isinstance(data, dict) else None
  if isinstance(info, dict) and isinstance(info.get('tokenizer'), dict):
    path = workdir / TOKENIZER
    try:
      text = path.read_text(encoding='utf-8')
    except (OSError, UnicodeDecodeError) as e:
      raise ConfigError(f'{path} cannot be read: {first_line(e)}') from e
    if _sha256(text) != info['tokenizer'].get('sha256'):
      raise ConfigError(f'{path} is not the tokenizer that this run began with')
    info['tokenizer'] = text
  return facts


def is_complete(workdir: pathlib.Path) -> bool:
  """Whether a run has ended well: all that it leaves is there, not just its last checkpoint."""
  return (workdir / RUN).exists() and read_run(workdir).get('status') == 'complete'


def update_run(workdir: pathlib.Path, **fields: Any) -> None:
  """Sets fields of `run.json`, atomically."""
  path = workdir / RUN
  values = (records.read(path) if path.exists() else {}) | fields
  atomic.write(path, json.dumps(values, indent=2) + '\n')


def begin_session(
  workdir: pathlib.Path, experiment: Experiment, config_file: pathlib.Path | None = None, **facts: Any
) -> None:
  """Says in `run.json` that a run begins or goes on: the fields are of its first session, `sessions` has them all.

  The config file, where it is from one, and modules of the user's own are copied (`dl.store.provenance`).
  """
  own = provenance.own(workdir, experiment, config_file)
  now = session(experiment) | ({'own': own} if own else {})
  first = records.read(workdir / RUN) if (workdir / RUN).exists() else now
  sessions = [*first.get('sessions', []), now]
  facts = _with_tokenizer_apart(workdir, facts)
  update_run(workdir, **(now | first | facts | {'status': 'running', 'sessions': sessions}))


def _with_tokenizer_apart(workdir: pathlib.Path, facts: dict[str, Any]) -> dict[str, Any]:
  """The facts, with the data's tokenizer, thousands of lines, in a file of its own."""
  data = facts.get('data') or {}
  text = data.get('info', {}).get('tokenizer')
  if text is None:
    return facts
  atomic.write(workdir / TOKENIZER, text)
  return facts | {'data': data | {'info': data['info'] | {'tokenizer': {'sha256': _sha256(text)}}}}


def _sha256(text: str) -> str:
  return hashlib.sha256(text.encode()).hexdigest()


def session(experiment: Experiment) -> dict[str, Any]:
  """What `run.json` says of the command, code, versions and devices that a run (or its latest part) used."""
  return {
    'command': ' '.join(map(_quoted, [pathlib.Path(sys.executable).name, *sys.orig_argv[1:]])),
    'commit': provenance.commit_of_this_code(),
    'versions': {'python': platform.python_version()} | {p: _version(p) for p in ('dl', *_PACKAGES)},
    'devices': {
      'platform': jax.default_backend(),
      'kind': jax.devices()[0].device_kind,
      'count': jax.device_count(),
      'processes': jax.process_count(),
      'host': platform.platform(),
      'cpus': len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count(),
    },
    'seed': experiment.seed,
    'started': time.strftime('%Y-%m-%dT%H:%M:%S%z'),
  }


def _quoted(argument: str) -> str:
  """An argument as a shell takes it, and as people write it: text with single quotes in it goes into double ones."""
  plain = "'" in argument and not set(argument) & set('"$`\\!')
  return f'"{argument}"' if plain else shlex.quote(argument)


def _read(workdir: pathlib.Path, name: str) -> dict[str, Any]:
  try:
    return records.read(pathlib.Path(workdir) / name)
  except (FileNotFoundError, NotADirectoryError) as e:
    raise ConfigError(f'{workdir} is not the work directory of a run: it has no {name}{_beside(workdir)}') from e


def _beside(workdir: pathlib.Path) -> str:
  """Runs that somebody may have meant, beside a directory which is none or in it, as the end of an error line."""
  workdir = pathlib.Path(workdir)
  inside = sorted(str(path.parent) for path in workdir.glob(f'*/{CONFIG}'))
  if inside:
    return f'; there are runs in it: {", ".join(inside[:5])}'
  beside = sorted(path.parent.name for path in workdir.parent.glob(f'*/{CONFIG}') if path.parent != workdir)
  hint = nearest(workdir.name, beside)
  hint = hint if hint.startswith('did') else f'beside it there are {", ".join(beside[:5])}'
  return f'; {hint}' if beside else ''


def _version(package: str) -> str | None:
  try:
    return importlib.metadata.version(package)
  except importlib.metadata.PackageNotFoundError:
    return None
