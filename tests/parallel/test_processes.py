"""Runs of several processes: brought up, stopped, and ended by the loss of one."""

import contextlib
import os
import pathlib
import signal
import socket
import subprocess
import sys
import threading
import time
import types

import numpy as np
import pytest

from dl.errors import ConfigError
from dl.parallel import meshes, supervisor
from dl.store import logs
from dl.store import workdir as workdirs

ROOT = pathlib.Path(__file__).parents[2]
TINY = [
  '--config=experiments/vision/digits_mlp.py', '--config.train_for=100000', '--config.checkpoint_every=20 steps',
  '--config.log_every=10 steps', '--config.model.hidden=(16,)', '--config.data.batch_size=32', '--noprogress',
]  # fmt: skip


def port() -> int:
  with socket.create_server(('localhost', 0)) as free:
    return free.getsockname()[1]


def start(environment, *commands, **variables):
  flags = '--xla_force_host_platform_device_count=2 --xla_backend_optimization_level=0'
  env = environment | {'XLA_FLAGS': flags, 'JAX_ENABLE_COMPILATION_CACHE': 'false'}
  return [
    subprocess.Popen(
      [sys.executable, '-m', 'dl.train', *command],
      cwd=ROOT, env=env | more, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )
    for command, more in zip(commands, variables.get('each', [{}] * len(commands)), strict=True)
  ]  # fmt: skip


def end(processes, patience=600):
  """Exit codes and outputs; none is left behind."""
  deadline = time.monotonic() + patience
  while any(p.poll() is None for p in processes) and time.monotonic() < deadline:
    time.sleep(0.05)
  for p in processes:
    p.kill()
  outputs = [p.communicate()[0] for p in processes]
  return [p.returncode for p in processes], outputs


def pair(environment, workdir):
  common = [*TINY, f'--workdir={workdir}', '--distributed', f'--coordinator=localhost:{port()}', '--processes=2']
  return start(environment, *([*common, f'--process={i}'] for i in range(2)))


def saved(workdir) -> int:
  steps = [int(p.name) for p in (workdir / 'checkpoints').glob('*') if p.name.isdecimal()]
  return max(steps, default=0)


def wait_for_save(workdir, processes):
  before = saved(workdir)
  while saved(workdir) <= before:
    assert all(p.poll() is None for p in processes), [p.communicate()[0] for p in processes if p.poll() is not None]
    time.sleep(0.05)


def child_of(process) -> int:
  return int(pathlib.Path(f'/proc/{process.pid}/task/{process.pid}/children').read_text().split()[0])


@pytest.mark.thorough
@pytest.mark.skipif(not pathlib.Path('/proc/self/task').exists(), reason='finds children in /proc')
def test_a_lost_process_ends_the_run_and_a_restart_resumes(environment, tmp_path):
  workdir = tmp_path / 'run'
  first = pair(environment, workdir)
  wait_for_save(workdir, first)
  os.kill(child_of(first[1]), signal.SIGKILL)
  codes, outputs = end(first)
  assert codes == [75, 75], outputs
  host = socket.gethostname()
  line = f'error: lost process 1 on {host} was killed by SIGKILL; the same command continues from the last checkpoint'
  assert line in outputs[0].splitlines()
  assert 'Traceback' not in outputs[0]

  step = saved(workdir)
  second = pair(environment, workdir)
  wait_for_save(workdir, second)
  second[0].send_signal(signal.SIGTERM)  # which stops both at the same step, with a checkpoint
  codes, outputs = end(second)
  assert codes == [75, 75], outputs
  assert saved(workdir) > step
  assert f'interrupted at step {saved(workdir)}' in outputs[0]
  run = workdirs.read_run(workdir)
  assert (run['status'], run['step']) == ('interrupted', saved(workdir))
  assert [s['devices']['processes'] for s in run['sessions']] == [2, 2]
  steps = [r['step'] for r in logs.read(workdir) if r['split'] == 'train']
  assert steps == sorted(set(steps)) and 0 <= saved(workdir) - steps[-1] < 10


CLUSTERS = {
  'slurm': (
    lambda job: {'SLURM_JOB_ID': str(job), 'SLURM_STEP_NODELIST': 'localhost', 'SLURM_NTASKS': '2'},
    lambda i: {'SLURM_PROCID': str(i), 'SLURM_LOCALID': str(i)},
  ),
  'open mpi': (
    lambda job: {'OMPI_MCA_orte_hnp_uri': f'{job << 16}.0;tcp://127.0.0.1:1', 'OMPI_COMM_WORLD_SIZE': '2'},
    lambda i: {'OMPI_COMM_WORLD_RANK': str(i), 'OMPI_COMM_WORLD_LOCAL_RANK': str(i)},
  ),
}


@pytest.mark.thorough
@pytest.mark.parametrize('cluster', CLUSTERS)
def test_a_cluster_says_who_is_who(environment, tmp_path, cluster):
  all_tasks, task = CLUSTERS[cluster]
  each = [all_tasks(os.getpid() % 4000) | task(i) for i in range(2)]  # the port comes from the number of the job
  command = [*TINY, f'--workdir={tmp_path / "run"}', '--distributed', '--config.train_for=20']
  codes, outputs = end(start(environment, command, command, each=each))
  assert codes == [0, 0], outputs
  assert workdirs.read_run(tmp_path / 'run')['devices'] | {'host': '', 'kind': '', 'cpus': 0} == {
    'platform': 'cpu', 'count': 4, 'processes': 2, 'host': '', 'kind': '', 'cpus': 0,
  }  # fmt: skip
  assert 'complete at step 20' in outputs[0] and 'complete' not in outputs[1]


@pytest.mark.parametrize(
  ('flags', 'message'),
  [
    (['--distributed'], '--distributed: found neither SLURM, Open MPI, Kubernetes nor a TPU'),
    (['--processes=2'], '--processes is for --distributed'),
    *(
      pytest.param(['--distributed', *flags], message, marks=pytest.mark.thorough)
      for flags, message in (
        (['--coordinator=here', '--processes=2', '--process=0'], '--coordinator: expected host:port'),
        (['--coordinator=h:1', '--processes=2', '--process=2'], '--process: 2 is not one of 2'),
      )
    ),
  ],
)
def test_a_mistake_is_one_line(environment, tmp_path, flags, message):
  codes, (output,) = end(start(environment, [*TINY, f'--workdir={tmp_path / "run"}', *flags]))
  assert codes == [2], output
  assert output.startswith(f'error: {message}') and output.count('\n') == 1
  assert not (tmp_path / 'run').exists()


def test_strangers_on_the_line_are_nobody():
  listener, (told, tell) = socket.create_server(('localhost', 0)), os.pipe()
  os.close(tell)
  child = subprocess.Popen([sys.executable, '-c', 'import sys; sys.stdin.read()'], stdin=subprocess.PIPE)
  said = [b'GET / HTTP/1.1\r\n\r\n', b'\xff' * 9000, b'{"lost": "all", "code": 2}\n', b'[]\n', b'{"token": 1}\n', b'']
  said.append(b'[' * 4000 + b'\n')  # deeper than a parser goes
  lines = [socket.create_connection(listener.getsockname()) for _ in said]
  for line, text in zip(lines, said, strict=True):
    line.settimeout(600)
    line.sendall(text)

  def end_the_child():
    """When all who said something have been sent away."""
    with child.stdin:
      for line in (line for line, text in zip(lines, said, strict=True) if text):
        with contextlib.suppress(ConnectionResetError):
          assert line.recv(1) == b''

  ending = threading.Thread(target=end_the_child)
  ending.start()
  try:
    with supervisor._Watch(child, listener, told, 'secret') as watch:
      assert watch.run() == 0
    ending.join()
  finally:
    for line in (*lines, listener):
      line.close()
    os.close(told)


@pytest.mark.thorough
def test_processes_without_a_shared_directory_are_refused(environment, tmp_path):
  flags = ['--distributed', f'--coordinator=localhost:{port()}', '--processes=2']
  codes, outputs = end(
    start(environment, *([*TINY, *flags, f'--workdir={tmp_path / str(i)}', f'--process={i}'] for i in range(2)))
  )
  assert codes == [2, 2], outputs
  assert 'is not that of process 0; name a directory which all processes share' in outputs[1]


ONE_RAISES = """
import jax
from dl.data.sources import sklearn
class Digits(sklearn.Digits):
  def __init__(self):
    if jax.process_index() == 1:
      raise RuntimeError('nobody expected this')
    super().__init__()
"""


@pytest.mark.thorough
def test_an_error_that_nobody_expected_ends_all(environment, tmp_path):
  (tmp_path / 'odd_source.py').write_text(ONE_RAISES)
  environment = environment | {'PYTHONPATH': f'{environment["PYTHONPATH"]}{os.pathsep}{tmp_path}'}
  flags = ['--distributed', f'--coordinator=localhost:{port()}', '--processes=2', f'--workdir={tmp_path / "run"}']
  flags += ["--config.data={'name': 'odd_source.Digits', 'batch_size': 32}"]
  tiny = [flag for flag in TINY if 'data.' not in flag]
  codes, outputs = end(start(environment, *([*tiny, *flags, f'--process={i}'] for i in range(2))))
  assert codes == [1, 1], outputs
  assert 'RuntimeError: nobody expected this' in outputs[1] and 'error: lost process 1 on' in outputs[0]


def watch_process_0(then):
  """How the supervisor of process 0 ends when process 1 has been welcomed, and then `then(its line)`."""
  listener, (told, tell) = socket.create_server(('localhost', 0)), os.pipe()
  os.write(tell, b'{"process": 0, "first": {}}\n')
  os.close(tell)
  child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(1e6)'])
  with listener, socket.create_connection(listener.getsockname()) as line:
    line.sendall(b'{"process": 1, "host": "node7", "token": "secret"}\n')

    def when_welcome():
      assert line.recv(len(supervisor.WELCOME), socket.MSG_WAITALL) == supervisor.WELCOME
      then(line)

    welcomed = threading.Thread(target=when_welcome)
    welcomed.start()
    with supervisor._Watch(child, listener, told, 'secret') as watch:
      code = watch.run()
    welcomed.join()
  os.close(told)
  assert child.poll() == -signal.SIGKILL
  return code


@pytest.mark.parametrize(('breaks', 'why'), [(False, 'has been silent for 30 s'), (True, 'its connection broke')])
def test_a_lost_host_is_named(breaks, why, monkeypatch, capfd):
  """Its clock stands still until a process which says nothing more has been welcomed."""
  now = [0.0]
  monkeypatch.setattr(supervisor, 'time', types.SimpleNamespace(monotonic=lambda: now[0]))
  silent = lambda line: now.__setitem__(0, supervisor.SILENCE + 1)
  assert watch_process_0((lambda line: line.shutdown(socket.SHUT_RDWR)) if breaks else silent) == 75
  (line,) = capfd.readouterr().err.splitlines()
  assert line.startswith('error: lost process 1 on node7') and why in line


@pytest.mark.thorough
def test_processes_of_different_configs_are_refused(environment, tmp_path):
  common = [*TINY, f'--workdir={tmp_path / "run"}', '--distributed', f'--coordinator=localhost:{port()}']
  common += ['--processes=2']
  each = [[*common, '--process=0'], [*common, '--process=1', '--config.seed=4']]
  codes, outputs = end(start(environment, *each))
  assert codes[1] == 2 and codes[0] in (2, 75), outputs
  assert 'config.seed: process 1 on' in outputs[1] and 'has another value than process 0' in outputs[1]
  assert not (tmp_path / 'run').exists()


class Fake:
  """A device of some process."""

  platform, device_kind = 'cpu', 'cpu'

  def __init__(self, process):
    self.process_index = process


@pytest.mark.parametrize(
  ('sizes', 'shares'),
  [
    ({'data': 8}, [(0, 2), (1, 2)]),
    ({'data': 4, 'model': 2}, [(0, 2), (1, 2)]),
    ({'data': 2, 'model': 4}, [(0, 2), (1, 2)]),
    ({'data': 1, 'model': 8}, [(0, 1), (0, 1)]),
    ({'model': 2, 'data': 4}, [(0, 1), (0, 1)]),
    ({'data': 2, 'expert': 4}, [(0, 2), (1, 2)]),
  ],
)
def test_each_process_reads_the_rows_that_its_devices_hold(sizes, shares, monkeypatch):
  names = tuple(sizes)
  devices = np.asarray([Fake(i // 4) for i in range(8)], object).reshape(tuple(sizes.values()))

  class Sharding:
    def devices_indices_map(self, shape):
      rows = shape[0]
      order = [names.index(n) for n in meshes.BATCH_AXES if n in names]
      found = {}
      for place in np.ndindex(devices.shape):
        block = 0
        for axis in order:
          block = block * devices.shape[axis] + place[axis]
        found[devices[place]] = (slice(block, block + 1),) if rows > 1 else (slice(None),)
      return found

  mesh = type('Mesh', (), {'shape': sizes, 'axis_names': names})()
  monkeypatch.setattr(meshes, 'batch_sharding', lambda mesh: Sharding())
  assert [meshes.share(mesh, p) for p in range(2)] == shares


def test_rows_that_cross_processes_unevenly_are_refused(monkeypatch):
  blocks = {Fake(0): (slice(0, 1),), Fake(1): (slice(1, 2),), Fake(2): (slice(1, 3),)}
  fake = type('Sharding', (), {'devices_indices_map': lambda self, shape: blocks})()
  monkeypatch.setattr(meshes, 'batch_sharding', lambda mesh: fake)
  with pytest.raises(ConfigError, match="name 'data' first"):
    meshes.share(type('Mesh', (), {'shape': {'data': 3}})(), 0)
