"""What a busy machine costs: python -m benchmarks.busy

Trains an experiment in a process of its own, in turns without and with other trainings beside it, and prints the time
of a step in both, their ratio, and the ratio to expect: that of the cores which the training used alone to its share
of the machine, one of all jobs. What a step computes should not grow: threads which wait by spinning would show there.
"""

import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence

import jax
from absl import app, flags

from dl.config import load
from dl.parallel import meshes
from dl.training import feed, steps
from dl.training.assemble import assemble

CONFIG = flags.DEFINE_string('config', 'experiments/rl/cartpole_ppo.py', 'The experiment.')
OTHERS = flags.DEFINE_integer('others', 4, 'Trainings of the same experiment beside it.', lower_bound=1)
STEPS = flags.DEFINE_integer('steps', 20, 'Calls of the compiled step in a turn.', lower_bound=1)
TURNS = flags.DEFINE_integer('turns', 5, 'Turns without and with the others.', lower_bound=1)
FUSED = flags.DEFINE_integer('steps_per_call', 1, 'Steps which are fused into one call.', lower_bound=1)
SERVE = flags.DEFINE_boolean('serve', False, 'Train as many calls as each line of stdin says (for the processes).')


def serve() -> None:
  """Trains as it is told, and answers with the milliseconds of a step: of the clock and of all cores."""
  fused = FUSED.value
  parts = assemble(load(CONFIG.value, [f'steps_per_call={fused}']))
  mesh = meshes.make_mesh(parts.experiment.mesh)
  functions = steps.compiled(parts, mesh)
  state, sums = functions.init(None), functions.new_sums()
  batches = feed.device_batches(parts, mesh, 0, iter(lambda: fused, 0))
  throttle = feed.bounded(feed.queue_depth(parts.batch))
  step = functions.train if fused == 1 else functions.train_fused

  def run(calls: int) -> None:
    nonlocal state, sums
    for _ in range(calls):
      _, batch = next(batches)
      state, sums, done = step(state, sums, batch)
      throttle(done)
    jax.block_until_ready(done)

  run(3)
  print('ready', flush=True)
  for line in sys.stdin:
    calls, cpu, began = int(line), time.process_time(), time.perf_counter()
    run(calls)
    taken = {'clock': time.perf_counter() - began, 'cores': time.process_time() - cpu}
    print(json.dumps({k: 1e3 * seconds / calls / fused for k, seconds in taken.items()}), flush=True)


def start() -> subprocess.Popen:
  """A process which trains as it is told."""
  command = [sys.executable, '-m', 'benchmarks.busy', '--serve', f'--config={CONFIG.value}']
  process = subprocess.Popen(
    [*command, f'--steps_per_call={FUSED.value}'],
    stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, start_new_session=True,
  )  # fmt: skip
  if process.stdout.readline() != 'ready\n':
    sys.exit(f'{CONFIG.value} does not train: try python -m dl.train --config={CONFIG.value}')
  return process


def ask(process: subprocess.Popen, calls: int) -> None:
  """Has a process train."""
  process.stdin.write(f'{calls}\n')
  process.stdin.flush()


def main(_: Sequence[str]) -> None:
  """Prints the measurements and their ratios."""
  if SERVE.value:
    return serve()
  signal.signal(signal.SIGTERM, lambda *_: sys.exit('stopped'))  # so that the others end, too
  processes: list[subprocess.Popen] = []
  found: Mapping[str, list[dict[str, float]]] = {'alone': [], 'beside': []}
  try:
    processes += (start() for _ in range(1 + OTHERS.value))
    mine, *others = processes
    for other in others:
      ask(other, 10**9)
    for _ in range(TURNS.value):
      for turn, told in (('alone', signal.SIGSTOP), ('beside', signal.SIGCONT)):
        for other in others:
          os.kill(other.pid, told)
        time.sleep(0.2)
        ask(mine, STEPS.value)
        found[turn].append(json.loads(mine.stdout.readline()))
  finally:
    for process in processes:
      process.kill()
  median = {turn: {k: statistics.median(t[k] for t in taken) for k in taken[0]} for turn, taken in found.items()}
  alone, beside = median['alone'], median['beside']
  cores = len(os.sched_getaffinity(0))
  used, share = alone['cores'] / alone['clock'], cores / (1 + len(others))
  print(f'{CONFIG.value}, {FUSED.value} steps a call, {len(others)} others on {cores} cores')
  print(f'a step alone {alone["clock"]:.2f} ms, beside them {beside["clock"]:.2f} ms: ratio', end=' ')
  print(f'{beside["clock"] / alone["clock"]:.2f}, of the share of the machine {max(1.0, used / share):.2f}')
  print(f'of all cores {alone["cores"]:.2f} and {beside["cores"]:.2f} ms: ratio {beside["cores"] / alone["cores"]:.2f}')
  return None


if __name__ == '__main__':
  app.run(main)
