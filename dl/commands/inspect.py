"""python -m dl.inspect --config=experiments/vision/digits_lenet.py [--output=looks]

Before training: prints the model as a table (layer, output of one example, parameters, FLOPs forwards), and writes
pictures of an augmented training batch and of the learning rate. Exit code 2: a mistake in the command or the config.
"""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from absl import flags

from dl.commands import cli


def define_flags() -> None:
  """The flags of the command: not defined on import, so that a program may import several commands."""
  cli.define_config()
  flags.DEFINE_integer('depth', 2, 'How deep to look into the model; 0 is its totals.', lower_bound=0)
  flags.DEFINE_string('output', 'inspect', 'Folder for the pictures; made if needed.')
  flags.DEFINE_integer('images', 64, 'Images of the batch to show.', lower_bound=1)


def learning_rates(parts: Any, points: int = 200) -> dict[str, tuple[list[int], list[float]]]:
  """Name -> (steps, learning rates in them)."""
  steps = sorted({round(1 + (parts.total_steps - 1) * i / (points - 1)) for i in range(points)})
  rates = [parts.optimizer.rates(step) for step in steps]
  return {name: (steps, [r[name] for r in rates]) for name in parts.optimizer.learning_rates}


def augmented_batch(parts: Any, step: int = 0) -> Mapping[str, Any]:
  """The training batch of a step, as the model sees it: augmented, images in [0, 1]."""
  import jax

  from dl.contract.info import to_float
  from dl.training import keys

  batch = to_float(parts.pipeline[step], parts.task.info)
  if parts.pipeline.augment is None:
    return batch
  _, key = keys.step(parts.experiment.seed, step)
  return jax.jit(parts.pipeline.augment)(key, batch)


def write_pictures(parts: Any, folder: pathlib.Path, images: int) -> list[pathlib.Path]:
  """Writes the pictures that the run has; their paths."""
  from dl.show import pictures
  from dl.store import atomic

  drawn = {}
  rates = learning_rates(parts)
  if rates:
    drawn['learning_rate'] = pictures.curves(rates, x='step', y='learning rate')
  if 'image' in parts.batch:
    import numpy as np

    shown = np.asarray(augmented_batch(parts)['image'])[:images]
    drawn['batch'] = pictures.grid(shown[..., : 3 if shown.shape[-1] >= 3 else 1])
  folder.mkdir(parents=True, exist_ok=True)
  for name, picture in drawn.items():
    atomic.write(folder / f'{name}.png', pictures.png(picture))
  return [folder / f'{name}.png' for name in drawn]


def main(argv: Sequence[str]) -> None:
  """Prints the table and writes the pictures."""
  cli.no_more(argv)
  FLAGS = flags.FLAGS
  from dl import config
  from dl.training import inspection
  from dl.training.assemble import assemble

  parts = assemble(config.load(cli.required('config'), FLAGS.override))
  print(inspection.table(inspection.rows(parts), FLAGS.depth))
  print(f'\n{parts.total_steps:,} steps', end='')
  if parts.steps_per_epoch:
    print(
      f' of {parts.experiment.data["batch_size"]:,} examples, {parts.total_steps / parts.steps_per_epoch:.3g} epochs'
    )
  else:
    print()
  for path in write_pictures(parts, pathlib.Path(FLAGS.output), FLAGS.images):
    print(path)
