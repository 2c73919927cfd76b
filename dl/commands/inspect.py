"""python -m dl.inspect --config=experiments/vision/digits_lenet.py [--output=looks]

Before training: prints the model as a table (layer, output of one example, parameters, FLOPs forwards), and writes
pictures of an augmented training batch and of the learning rate. Exit code 2: a mistake in the command or the config.
"""

import pathlib
from collections.abc import Sequence

from absl import flags

from dl.commands import cli


def define_flags() -> None:
  """The flags of the command: not defined on import, so that a program may import several commands."""
  cli.define_config()
  flags.DEFINE_integer('depth', 2, 'How deep to look into the model; 0 is its totals.', lower_bound=0)
  flags.DEFINE_string('output', 'inspect', 'Folder for the pictures; made if needed.')
  flags.DEFINE_integer('images', 64, 'Images of the batch to show.', lower_bound=1)


def main(argv: Sequence[str]) -> None:
  """Prints the table and writes the pictures."""
  cli.no_more(argv)
  FLAGS = flags.FLAGS
  from dl import config
  from dl.training import inspection, overview
  from dl.training.assemble import assemble

  folder = pathlib.Path(FLAGS.output)
  cli.check_folder(folder)
  parts = assemble(config.load(cli.required('config'), FLAGS.override))
  print(inspection.table(inspection.rows(parts), FLAGS.depth))
  batch = f', of {parts.experiment.data["batch_size"]:,} examples each' if parts.steps_per_epoch else ''
  print(f'\n{overview.length(parts)}{batch}')
  with cli.writing(folder):
    paths = inspection.write_pictures(parts, folder, FLAGS.images)
  for path in paths:
    print(path)
