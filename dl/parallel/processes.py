"""Many processes as one run: bringing them up, agreeing to stop, and what only one of them does.

Collectives need every process, so a run of many ends when one is lost; `dl.parallel.supervisor` sees to that.
"""

import faulthandler
import json
import socket
import sys
import time
from collections.abc import Callable

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from dl.errors import ConfigError
from dl.parallel import supervisor

START_SECONDS = 300
"""How long a process waits for the others to start."""

ASK_EVERY = 16
"""Compiled calls between two questions whether a process was told to stop, where calls are short."""

SHORT = 0.1
"""Seconds of a short call: where any process has longer ones, all ask at each."""


def start(coordinator: str | None, processes: int | None, process: int | None) -> None:
  """Brings up `jax.distributed`; to be called before anything asks for a device.

  What is None comes from SLURM, Open MPI, Kubernetes (with the package `kubernetes`) or a Cloud TPU, as JAX finds it.

  Args:
    coordinator: 'host:port' of process 0, the same in all processes.
    processes: number of them.
    process: which one this is, from 0 on.

  Raises:
    ConfigError: no such environment, numbers which cannot be, or processes which did not come.
  """
  given = {'--coordinator': coordinator, '--processes': processes, '--process': process}
  missing = [flag for flag, value in given.items() if value is None]
  if coordinator is not None and not coordinator.rpartition(':')[2].isdecimal():
    raise ConfigError(f'--coordinator: expected host:port, got {coordinator!r}')
  if processes is not None and process is not None and not 0 <= process < processes:
    raise ConfigError(f'--process: {process} is not one of {processes}; the first is 0')
  if coordinator:
    print(f'waiting for {processes or "all"} processes at {coordinator}', file=sys.stderr, flush=True)
  faulthandler.disable()  # the runtime aborts processes whose peers are gone, which is nothing to look into
  try:
    jax.distributed.initialize(coordinator, processes, process, initialization_timeout=START_SECONDS)
  except ValueError as e:
    if not missing:
      raise ConfigError(f'--distributed: {e}') from e
    raise ConfigError(
      f'--distributed: found neither SLURM, Open MPI, Kubernetes nor a TPU, so {" and ".join(missing)} must be given '
      f'({e})'
    ) from e
  except (RuntimeError, KeyError) as e:
    first = str(e).splitlines()[0] if str(e) else type(e).__name__
    raise ConfigError(f'--distributed: the processes did not find one another: {first}') from e
  if supervisor.supervised():
    address = supervisor.address()
    if coordinator:  # which all processes reached
      address['hosts'].insert(0, coordinator.rpartition(':')[0])
    supervisor.introduce(jax.process_index(), of_first(address))


def is_first() -> bool:
  """Whether this process is the one which writes."""
  return jax.process_index() == 0


def barrier(name: str) -> None:
  """Returns when every process has come here."""
  if jax.process_count() > 1:
    multihost_utils.sync_global_devices(name)


def agreement(mesh: Mesh, asked: Callable[[], bool]) -> Callable[[], bool]:
  """A function for each compiled call to ask: whether to stop, which all processes answer alike at the same call.

  With one process it is `asked` itself. With many, what each has been told is added up on the devices, and the sum is
  read when the next question is due: `ASK_EVERY` calls later, so that nobody waits for it, or one long call later.
  """
  if jax.process_count() == 1:
    return asked
  split = NamedSharding(mesh, P(mesh.axis_names))
  total = jax.jit(lambda x: x.sum(0), out_shardings=NamedSharding(mesh, P()))
  mine = sum(d.process_index == jax.process_index() for d in mesh.devices.flat)
  calls, due, pending, stop, since = 0, 0, None, False, time.monotonic()

  def told() -> bool:
    nonlocal calls, due, pending, stop, since
    if calls == due:
      every = 1
      if pending is not None:
        stops, long = jax.device_get(pending)
        stop, every = bool(stops > 0), 1 if long else ASK_EVERY
      now = time.monotonic()
      facts = np.asarray([[asked(), now - since > SHORT * every]] * mine, np.float32)
      pending = total(jax.make_array_from_process_local_data(split, facts))
      due, since = calls + every, now
    calls += 1
    return stop

  return told


def gathered(tree: object, mesh: Mesh) -> object:
  """The arrays of a tree as this process can use them by itself, wherever they lie; a collective."""
  if jax.process_count() == 1:
    return tree
  whole = jax.jit(lambda x: x, out_shardings=NamedSharding(mesh, P()))(tree)
  return jax.tree.map(lambda x: x.addressable_data(0), whole)


def of_first(facts: dict) -> dict:
  """What process 0 calls this with, in every process; a collective."""
  if jax.process_count() == 1:
    return facts
  text = json.dumps(facts).encode()
  size = int(multihost_utils.broadcast_one_to_all(np.int32(len(text))))
  text = np.frombuffer(text[:size].ljust(size), np.uint8)  # theirs may have another length
  return json.loads(bytes(multihost_utils.broadcast_one_to_all(text).astype(np.uint8)))


def hosts() -> list[str]:
  """Names under which other machines may find this one, the likeliest first."""
  names = [socket.gethostname()]
  with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
    try:
      s.connect(('192.0.2.1', 9))  # sends nothing: it asks which of our addresses leads outside
      names.append(s.getsockname()[0])
    except OSError:
      pass
  return names
