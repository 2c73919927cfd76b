"""python -m dl.train --config=experiments/vision/digits_lenet.py --workdir=/tmp/digits

Trains a config. The same command again continues an interrupted run, bit for bit.
Exit codes: 0 complete, 1 the training failed, 2 a mistake in the command or the config, 75 interrupted (run it again).
"""

import pathlib
from collections.abc import Sequence

from absl import flags

from dl.commands import cli
from dl.errors import RESUME


def define_flags() -> None:
  """The flags of the command: not defined on import, so that a program may import several commands."""
  cli.define_config()
  cli.define_distributed()
  flags.DEFINE_string('workdir', None, 'Work directory: everything about the run goes here; made if needed.')
  flags.DEFINE_boolean('progress', True, 'Show progress on stderr.')
  flags.DEFINE_boolean('extend', False, 'Go on with a run for longer than it was to: config.train_for is greater now.')
  flags.DEFINE_string('profile', None, 'FIRST:LAST: steps to trace into profile/, for Perfetto or TensorBoard.')


def main(argv: Sequence[str]) -> int:
  """Trains; returns the exit code."""
  cli.no_more(argv)
  FLAGS = flags.FLAGS
  code = cli.join()
  if code is not None:
    return code
  from dl import config  # after the flags are parsed, so that --help is fast
  from dl.parallel.processes import is_first
  from dl.training import loop, overview

  experiment = config.load(cli.required('config'), FLAGS.override)
  workdir = pathlib.Path(cli.required('workdir'))
  result = loop.train(
    experiment,
    workdir,
    show_progress=FLAGS.progress,
    profile=FLAGS.profile,
    extend=FLAGS.extend,
    config_file=config.file_of(FLAGS.config),
  )
  if is_first():
    why = f', stopped early ({result.stopped_early})' if result.stopped_early else ''
    print(*overview.after(result.metrics, result.best, result.of_best), sep='\n')
    print(f'{result.status} at step {result.step}{why}: {FLAGS.workdir}')
    if result.status == 'complete':
      print(*overview.where(workdir, result.task, bool(result.of_best and result.best)), sep='\n')
    else:
      print('the same command goes on from here')
  return 0 if result.status == 'complete' else RESUME
