"""What the loop costs: python -m benchmarks.loop

Side by side in one process, in turns of few steps, so that a noisy machine disturbs both alike:
  * steps per second of `dl.training.loop.train` over a bare hand-written jitted loop's (LeNet-5, 28x28, batch 64);
and, with --start, as fresh processes:
  * seconds from the command to the first step, and to the end of the digits run, beside `benchmarks/plain_flax.py`.
"""

import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import app, flags, logging

from benchmarks.synthetic import RandomImages
from dl import config as configs
from dl.training import loop

flags.DEFINE_integer('steps', 50, 'Steps of a turn.')
flags.DEFINE_integer('turns', 60, 'Measured turns of each side.')
flags.DEFINE_string('model', 'lenet', "'lenet' or 'mlp'.")
flags.DEFINE_integer('steps_per_call', 1, 'Steps which dl fuses into one call.')
flags.DEFINE_boolean('start', False, 'Measure the start and the digits run as fresh processes too.')

ROOT = pathlib.Path(__file__).parents[1]
BATCH = 64
LOG_EVERY = 100
MODELS = {
  'lenet': dict(name='lenet.LeNet5', num_classes=10),
  'mlp': dict(name='mlp.MLP', hidden=(512, 512), num_outputs=10),
}


class Turns:
  """Two loops in two threads of one process, which take turns of equally many steps."""

  def __init__(self, steps: int, turns: int):
    """Each loop has `turns` measured turns of `steps` steps, one before them and one after, for the start and end."""
    self.seconds = {'dl': [], 'bare': []}
    self.total = steps * (turns + 2)
    self._steps, self._done = steps, {'dl': 0, 'bare': 0}
    self._mine = {'dl': threading.Semaphore(1), 'bare': threading.Semaphore(0)}

  def step(self, side: str) -> None:
    """To be called by a loop before each of its steps: passes the turn on when it is over."""
    if self._done[side] % self._steps == 0:
      if self._done[side]:
        self.end(side)
      self._mine[side].acquire()
      self._began = time.perf_counter()
    self._done[side] += 1

  def end(self, side: str) -> None:
    """Ends the turn of a loop, once the device has done what it was given."""
    jax.block_until_ready(jax.live_arrays())
    self.seconds[side].append(time.perf_counter() - self._began)
    self._mine['bare' if side == 'dl' else 'dl'].release()

  def ratios(self) -> list[float]:
    """Seconds of the bare loop over those of dl, turn by turn."""
    return [b / a for a, b in list(zip(self.seconds['dl'], self.seconds['bare'], strict=True))[1:-1]]


def experiment(steps: int) -> configs.Experiment:
  """The measured config."""
  return configs.resolve(
    dict(
      task=dict(name='classify.Classify'),
      model=MODELS[flags.FLAGS.model],
      data=dict(name='benchmarks.synthetic.RandomImages', batch_size=BATCH),
      optim=dict(adam=dict(name='adam', learning_rate=1e-3)),
      train_for=steps,
      log_every=LOG_EVERY,
      checkpoint_every=steps,
      steps_per_call=flags.FLAGS.steps_per_call,
    )
  )


def bare(turns: Turns) -> None:
  """A hand-written loop."""
  from dl.config import build

  source = RandomImages('train')
  images, labels = source.columns['image'], source.columns['label']
  model = build.build(MODELS[flags.FLAGS.model], 'dl.models', 'model')
  optim = optax.adam(1e-3)
  params = model.init(jax.random.key(0), jnp.zeros((1, 28, 28, 1)), train=False)
  opt = optim.init(params)

  def step(params, opt, image, label):
    def loss(p):
      logits = model.apply(p, image.astype(jnp.float32) / 255, train=True)
      return optax.softmax_cross_entropy_with_integer_labels(logits, label).mean()

    value, grads = jax.value_and_grad(loss)(params)
    updates, opt = optim.update(grads, opt, params)
    return optax.apply_updates(params, updates), opt, value

  step = jax.jit(step, donate_argnums=(0, 1))
  order = np.random.default_rng(0).permutation(len(images))
  for i in range(turns.total):
    turns.step('bare')
    index = order[np.arange(i * BATCH, (i + 1) * BATCH) % len(order)]
    params, opt, _ = step(params, opt, images[index], labels[index])
  turns.end('bare')


def ours(turns: Turns) -> None:
  """The same by `dl.training.loop.train`; it reads its batches a few steps ahead, in each turn alike."""
  RandomImages.on_read = lambda: turns.step('dl')
  with tempfile.TemporaryDirectory() as directory:
    loop.train(experiment(turns.total), pathlib.Path(directory) / 'run', show_progress=False)
  turns.end('dl')


def processes(workdir: pathlib.Path) -> dict[str, list[str]]:
  """The commands which train LeNet-5 on digits: dl without and with compiled code that was kept, and a plain script."""
  ours = ['-m', 'dl.train', '--config=experiments/vision/digits_lenet.py', '--noprogress']
  return {
    'dl, cold': [*ours, f'--workdir={workdir / "cold"}'],
    'dl, warm': [*ours, f'--workdir={workdir / "warm"}'],
    'plain': ['benchmarks/plain_flax.py', '--steps=898'],
  }


def seconds(
  command: Sequence[str], output: pathlib.Path, first_step: Callable[[], bool], cache: pathlib.Path
) -> tuple[float, float]:
  """Seconds of a fresh process to its first step, which `first_step()` tells of, and to its end."""
  began, stepped = time.perf_counter(), None
  with output.open('wb') as out:
    process = subprocess.Popen(
      [sys.executable, *command],
      cwd=ROOT, stdout=out, stderr=subprocess.STDOUT, env=os.environ | {'XDG_CACHE_HOME': str(cache)},
    )  # fmt: skip
  while process.poll() is None:
    if stepped is None and first_step():
      stepped = time.perf_counter() - began
    time.sleep(0.01)
  ended = time.perf_counter() - began
  if process.returncode or stepped is None:
    sys.exit(output.read_text())
  return stepped, ended


def start(rounds: int) -> None:
  """Prints the seconds of whole processes."""
  found = {}
  for _ in range(rounds):
    with tempfile.TemporaryDirectory() as folder:
      folder = pathlib.Path(folder)
      for side, command in processes(folder).items():
        output, metrics = folder / 'output', folder / side.removeprefix('dl, ') / 'metrics.jsonl'
        logged = lambda file=metrics: file.exists() and file.stat().st_size > 0
        printed = lambda file=output: b'first step' in file.read_bytes()
        times = seconds(command, output, printed if side == 'plain' else logged, folder / 'cache')
        found.setdefault(side, []).append(times)
  for i, label in enumerate(('to the first step (dl: to the log of its first nine)', 'to the end of the digits run')):
    medians = {side: statistics.median(times[i] for times in found[side]) for side in found}
    each = ', '.join(f'{side} {t:.2f} ({t / medians["plain"]:.2f})' for side, t in medians.items())
    print(f'seconds {label}, and over those of the plain Flax script: {each}')


def main(_: Sequence[str]) -> None:
  """Prints the measurements and their ratios."""
  FLAGS = flags.FLAGS
  logging.set_verbosity(logging.WARNING)  # Orbax logs every detail of a save
  turns = Turns(FLAGS.steps, FLAGS.turns)
  other = threading.Thread(target=bare, args=(turns,))
  other.start()
  ours(turns)
  other.join()
  mine, theirs = (FLAGS.steps / statistics.median(turns.seconds[side][1:-1]) for side in ('dl', 'bare'))
  low, ratio, high = statistics.quantiles(turns.ratios(), n=4)
  print(f'{FLAGS.model}, batch {BATCH}, {FLAGS.steps_per_call} steps a call, a log every {LOG_EVERY} steps')
  print(
    f'dl {mine:.1f} steps/s, bare loop {theirs:.1f} steps/s (medians of {FLAGS.turns} turns of {FLAGS.steps} steps)'
  )
  print(f'ratio dl / bare loop: median {ratio:.3f}, quartiles {low:.3f} to {high:.3f}')
  if FLAGS.start:
    start(rounds=3)


if __name__ == '__main__':
  app.run(main)
