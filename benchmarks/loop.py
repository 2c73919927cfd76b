"""What the loop costs: python -m benchmarks.loop

Side by side in one process, in turns, so that a noisy machine disturbs both alike:
  * steps per second of `dl.loop.train` over those of a bare hand-written jitted loop (LeNet-5, 28x28, batch 64);
and, with --start, as fresh processes:
  * seconds from the command to the first step, and to the end of the digits run, beside `benchmarks/plain_flax.py`.
"""

import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import app, flags

from benchmarks.images import RandomImages
from dl import config as configs
from dl import logs, loop

flags.DEFINE_integer('steps', 1000, 'Steps a measurement.')
flags.DEFINE_integer('rounds', 5, 'Measurements of each side.')
flags.DEFINE_string('model', 'lenet', "'lenet' or 'mlp'.")
flags.DEFINE_integer('steps_per_call', 1, 'Steps which dl fuses into one call.')
flags.DEFINE_boolean('start', False, 'Measure the start and the digits run as fresh processes too.')

ROOT = pathlib.Path(__file__).parents[1]
BATCH = 64
MODELS = {
  'lenet': dict(name='lenet.LeNet5', num_classes=10),
  'mlp': dict(name='mlp.MLP', hidden=(512, 512), num_outputs=10),
}


def experiment(steps: int) -> dict:
  """The measured config."""
  return configs.resolve(
    dict(
      task=dict(name='classify.Classify'),
      model=MODELS[flags.FLAGS.model],
      data=dict(name='benchmarks.images.RandomImages', batch_size=BATCH),
      optim=dict(adam=dict(name='adam', learning_rate=1e-3)),
      train_for=steps,
      log_every=max(steps // 10, 1),
      checkpoint_every=steps,
      steps_per_call=flags.FLAGS.steps_per_call,
    )
  )


def bare(steps: int) -> float:
  """Steps per second of a hand-written loop, without the compilation."""
  from dl import build

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
  began = None
  for i in range(steps + 1):
    index = order[np.arange(i * BATCH, (i + 1) * BATCH) % len(order)]
    params, opt, value = step(params, opt, images[index], labels[index])
    if i == 0:
      jax.block_until_ready(value)
      began = time.perf_counter()
  jax.block_until_ready(value)
  return steps / (time.perf_counter() - began)


def ours(steps: int) -> float:
  """Steps per second of the loop, from its own log, without the first tenth (which holds the compilation)."""
  with tempfile.TemporaryDirectory() as directory:
    loop.train(experiment(steps), pathlib.Path(directory) / 'run', show_progress=False)
    lines = [r for r in logs.read(pathlib.Path(directory) / 'run') if r['split'] == 'train']
  return (lines[-1]['step'] - lines[0]['step']) / (lines[-1]['seconds'] - lines[0]['seconds'])


def timed(command: Sequence[str]) -> float:
  """Seconds of a fresh process."""
  began = time.perf_counter()
  subprocess.run([sys.executable, *command], cwd=ROOT, env=os.environ, capture_output=True, check=True)
  return time.perf_counter() - began


def start() -> None:
  """Prints the seconds of whole processes: one step, and the digits run."""
  config = '--config=experiments/vision/digits_lenet.py'
  for label, steps in (('one step', 1), ('the whole digits run', None)):
    theirs, mine = [], []
    for _ in range(3):
      with tempfile.TemporaryDirectory() as directory:
        short = [f'--config.train_for={steps}', '--config.eval={}', '--config.keep={}'] if steps else []
        command = ['-m', 'dl.train', config, f'--workdir={directory}/run', '--noprogress', *short]
        mine.append(timed(command))
      theirs.append(timed(['benchmarks/plain_flax.py', f'--steps={steps or 898}']))
    a, b = statistics.median(mine), statistics.median(theirs)
    print(f'{label}: dl {a:.1f} s, plain Flax script {b:.1f} s, ratio {a / b:.2f}', flush=True)


def main(_: Sequence[str]) -> None:
  """Prints the measurements and their ratios."""
  FLAGS = flags.FLAGS
  pairs = []
  for i in range(FLAGS.rounds):
    a, b = ours(FLAGS.steps), bare(FLAGS.steps)
    pairs.append((a, b))
    print(f'round {i + 1}: dl {a:.1f} steps/s, bare loop {b:.1f} steps/s, ratio {a / b:.3f}', flush=True)
  ratio = statistics.median(a / b for a, b in pairs)
  print(f'{FLAGS.model}, batch {BATCH}, {FLAGS.steps_per_call} steps a call: median ratio dl / bare loop {ratio:.3f}')
  if FLAGS.start:
    start()


if __name__ == '__main__':
  app.run(main)
