"""python -m dl.sweep --config=experiments/vision/digits_mlp.py --workdir=/tmp/sweep --parallel=2 \\
    --grid optim.adam.weight_decay=0,0.01,0.1 --grid seed=0,1,2

Runs a config many times with other values: all combinations of the --grid keys, --samples draws of the --random ones,
each entry of a --file; together they are multiplied. --config.a.b=value goes for all runs.

The same command again skips what is complete and resumes what is not; other values are added to the sweep. It ends
with a table, sweep.csv and the page sweep.html, which --report makes at any time. --slurm prints a batch script
instead: python -m dl.sweep ... --slurm > sweep.sh; sbatch sweep.sh
Exit codes: 0 all complete, 1 a run failed, 2 a mistake in the command or the config, 75 interrupted (run it again).
"""

import dataclasses
import os
import pathlib
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from absl import flags

from dl.commands import cli
from dl.errors import FAILURE, RESUME, ConfigError

if TYPE_CHECKING:
  from dl.sweeps import sweeping


def define_flags() -> None:
  """The flags of the command: not defined on import, so that a program may import several commands."""
  cli.define_config()
  flags.DEFINE_string('workdir', None, 'Directory of the sweep: each run gets a directory in it, named by its values.')
  flags.DEFINE_multi_string('grid', [], 'KEY=VALUE,VALUE,..., in which brackets and quotes hold commas')
  flags.DEFINE_multi_string(
    'random', [], 'KEY=DISTRIBUTION: uniform(a,b), log_uniform(a,b), int_uniform(a,b) or choice(a,b,...)'
  )
  flags.DEFINE_integer('samples', None, 'How many points to draw from the --random keys.', lower_bound=1)
  flags.DEFINE_integer('sample_seed', 0, 'Seed of those draws.', lower_bound=0)
  flags.DEFINE_string('file', None, 'FILE.json, a list of {key: value}, or FILE.py with get_sweep() which returns one.')
  flags.DEFINE_integer('parallel', None, 'Runs at once: 1 if not given, and as many as SLURM likes.', lower_bound=1)
  flags.DEFINE_multi_string('metric', [], "Metrics of the report, 'test/accuracy'; the first one ranks the runs")
  flags.DEFINE_boolean('vectorize_seeds', False, 'Train seeds which follow one another as one vectorized program.')
  flags.DEFINE_boolean('report', False, 'Only write the report on what there is.')
  flags.DEFINE_boolean('slurm', False, 'Print a SLURM batch script instead of running anything.')
  flags.DEFINE_integer('index', None, 'Run this one entry of sweep.json, as a task of the batch script.', lower_bound=0)


def main(argv: Sequence[str]) -> int:
  """Runs or reports a sweep; returns the exit code."""
  cli.no_more(argv)
  FLAGS = flags.FLAGS
  import jax  # after the flags are parsed, so that --help is fast

  jax.config.update('jax_platforms', 'cpu')  # of this process alone: the devices are for the runs
  from dl.store import workdir as workdirs
  from dl.sweeps import launch, sweeping

  workdir = pathlib.Path(cli.required('workdir'))
  given = [
    name for name, on in (('index', FLAGS.index is not None), ('report', FLAGS.report), ('slurm', FLAGS.slurm)) if on
  ]
  if len(given) > 1:
    raise ConfigError(f'--{given[0]} and --{given[1]}: choose one')
  before = sweeping.content(workdir)
  sweep, runs = _sweep(workdir)
  if FLAGS.index is not None:
    if FLAGS.index >= len(sweep.runs):
      raise ConfigError(f'--index: the sweep has {len(sweep.runs)} runs, 0 to {len(sweep.runs) - 1}')
    arguments = launch.command(workdir, sweep, sweep.runs[FLAGS.index])
    sys.stdout.flush()
    os.execv(arguments[0], arguments)  # signals and the exit code are then the run's own
  if FLAGS.report:
    _report(workdir, sweep, FLAGS.metric)
    return 0
  launch.check([run for run in runs if launch.status(workdir / run.name) != 'complete'], FLAGS.metric)
  with workdirs.locked(workdir):
    if sweeping.content(workdir) != before:
      raise ConfigError(f'--workdir: another command changed the sweep of {workdir} meanwhile; run this one again')
    sweeping.write(workdir, sweep)
    if FLAGS.slurm:
      script = launch.slurm(workdir, sweep, runs, FLAGS.parallel)
      (workdir / launch.LOGS).mkdir(exist_ok=True)
      print(script, end='')
      return 0
    return _execute(workdir, sweep, runs)


def _execute(workdir: pathlib.Path, sweep: 'sweeping.Sweep', runs: Sequence['sweeping.Trial']) -> int:
  """Runs what is not complete and reports; returns the exit code."""
  FLAGS = flags.FLAGS
  from dl.sweeps import launch, page

  said = lambda run: page.summary(workdir, sweep, run, FLAGS.metric)
  outcome = launch.execute(workdir, sweep, runs, FLAGS.parallel or 1, said)
  wrong = None
  try:
    _report(workdir, sweep, FLAGS.metric)
  except ConfigError as e:
    wrong = e
    _report(workdir, sweep, [])  # what was trained is shown, by other metrics
  for name, why in outcome.failed.items():
    print(f'error: {name}: {why}', file=sys.stderr)
  if wrong:
    raise wrong
  return FAILURE if outcome.failed and not outcome.interrupted else RESUME if outcome.interrupted else 0


def _report(workdir: pathlib.Path, sweep: 'sweeping.Sweep', metric: Sequence[str]) -> None:
  from dl.sweeps import page

  print(page.write(workdir, sweep, metric))
  print(f'wrote {workdir / page.PAGE} and {workdir / page.TABLE}', file=sys.stderr)


def _sweep(workdir: pathlib.Path) -> tuple['sweeping.Sweep', list['sweeping.Trial']]:
  """The sweep of the directory with what the flags add to it, and those of its runs which the flags mean."""
  FLAGS = flags.FLAGS
  from dl import config
  from dl.store import workdir as workdirs
  from dl.sweeps import sweeping

  named = lambda *names: [f'--{name}' for name in names if FLAGS[name].value]
  given = named('grid', 'random', 'file')
  more = [*given, *named('vectorize_seeds', 'samples'), *(['--config.KEY'] if FLAGS.override else [])]
  if FLAGS.report:
    if others := [*named('config'), *more, *named('parallel')]:
      raise ConfigError(f'--report: is of the whole sweep of --workdir, as it is; leave out {others[0]}')
    sweep = sweeping.read(workdir)
    return sweep, list(sweep.runs)
  if not FLAGS.config:
    if more:
      raise ConfigError(
        f'--config: is needed with {more[0]}; with --workdir alone, the sweep of that directory goes on'
      )
    sweep = sweeping.read(workdir)
    sweeping.check_base(sweep.base, config.load(sweep.path, sweep.shared))
    return sweep, list(sweep.runs)
  if not given:
    raise ConfigError('nothing is swept: give --grid, --random with --samples, or --file; see --help')
  if bool(FLAGS.random) != (FLAGS.samples is not None):
    raise ConfigError('--random and --samples go together: what to draw from, and how many points')
  parts = [sweeping.from_file(FLAGS.file)] if FLAGS.file else []
  parts.append(sweeping.grid(FLAGS.grid))
  parts += [sweeping.sample(FLAGS.random, FLAGS.samples, FLAGS.sample_seed)] if FLAGS.random else []
  new = sweeping.make(FLAGS.config, FLAGS.override, sweeping.product(*parts))
  if FLAGS.vectorize_seeds and 'seed' not in new.keys:
    raise ConfigError('--vectorize_seeds: no seeds are swept; give --grid seed=0,1,2')
  if (workdir / sweeping.FILE).exists():
    before = sweeping.read(workdir)
  elif workdir.is_dir() and any(p.name != workdirs.LOCK for p in workdir.iterdir()):
    raise ConfigError(f'--workdir: {workdir} is not empty and holds no sweep; choose another directory')
  else:
    before = dataclasses.replace(new, runs=())
  sweep = before.joined(new, FLAGS.vectorize_seeds)
  return sweep, sweep.chosen(new.runs)
