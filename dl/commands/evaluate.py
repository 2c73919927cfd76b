"""python -m dl.evaluate --workdir=/tmp/digits [--step=best] [--eval=test]

Evaluates a checkpoint on the sets of its config; prints one JSON object an evaluation. Any evaluator can be asked in
place of the config's, with its arguments:

  --by=mistakes.Mistakes --by.shown=50 --output=/tmp/look    pictures and tables go to /tmp/look/artifacts
  --by=judge.Judge --by.classifier=/tmp/digits_lenet         each class's share of a generative model's samples

--classifier=/tmp/digits_lenet --samples=1000 --seed=0 is short for the latter.
"""

import dataclasses
import json
import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import jax
from absl import flags

from dl.commands import cli
from dl.config import Experiment, build
from dl.errors import ConfigError


def define_flags() -> None:
  """The flags of the command: not defined on import, so that a program may import several commands."""
  flags.DEFINE_string('workdir', None, 'Work directory of a run.')
  cli.define_distributed()
  flags.DEFINE_string(
    'step', None, "Checkpoint to use: a step, or 'best'; the newest if not given, but for evaluations of='best'."
  )
  flags.DEFINE_multi_string('eval', [], 'Which evaluation of the config; all if not given')
  flags.DEFINE_integer('batch_size', None, "Evaluation batch size, if not the config's.", lower_bound=1)
  flags.DEFINE_string('classifier', None, "Work directory of a classifier which judges the model's samples.")
  flags.DEFINE_integer('samples', 1000, 'Number of samples the classifier judges.', lower_bound=1)
  flags.DEFINE_integer('seed', 0, 'Seed of those samples.')
  flags.DEFINE_string('by', None, "Evaluator to ask, as a config's `by`; --by.a=value gives it an argument.")
  flags.DEFINE_multi_string('argument', [], 'a=value; --by.a=value is short for --argument=a=value')
  flags.DEFINE_string('output', None, 'Folder, made if needed, for pictures and tables of what --by finds.')


def evaluate(
  workdir: pathlib.Path,
  step: int | str | None = None,
  names: Sequence[str] = (),
  batch_size: int | None = None,
  by: Mapping[str, Any] | None = None,
  output: pathlib.Path | None = None,
  where: str = '--by',
) -> dict[str, dict[str, Any]]:
  """Evaluation name -> `step` and numbers, for a checkpoint of a run, on all the devices there are.

  Args:
    workdir: the work directory.
    step: a step, or 'best'; None for the newest, and for the best where the config says `of='best'`.
    names: which evaluations; none are all.
    batch_size: in place of the config's.
    by: `name` and arguments of an evaluator in place of the config's; one without data is its only evaluation, and
      called as it is.
    output: folder for the artifacts of `by`, whose paths are printed on stderr.
    where: what `by` is called in error lines.

  Raises:
    ConfigError: no such run, checkpoint, evaluation or evaluator, or an output that cannot be written.
  """
  from dl.parallel import meshes
  from dl.store import artifacts, skipped
  from dl.store import workdir as workdirs
  from dl.training import evaluation, evaluators, restore, seeds
  from dl.training.assemble import make_eval_pipelines

  experiment = workdirs.read_config(workdir)
  if step is None and (once := _of_best(experiment, names)):
    rest = [name for name in names or experiment.eval if name not in once]
    ask = lambda some, step: evaluate(workdir, step, some, batch_size, by, output, where)
    return (ask(rest, None) if rest else {}) | ask(once, 'best')
  if by is not None:
    experiment = _asked(experiment, names, by, where)
    names = list(experiment.eval)
  if batch_size is not None and experiment.data is not None:
    experiment = _in_batches(experiment, batch_size)
  pipelines = make_eval_pipelines(experiment, list(names) or None)
  mesh = meshes.make_mesh(meshes.fitting(experiment.mesh, jax.device_count()))
  meshes.check_evals(pipelines, mesh)
  parts, state = restore.load_parts(workdir, step, mesh=mesh)
  parts = dataclasses.replace(parts, experiment=experiment)
  pipelines = parts.held(pipelines)
  if by is None:
    opinions = evaluators.make(parts, list(pipelines))
  else:
    opinions = dict.fromkeys(pipelines, evaluators.build_one(by, where, parts.task))
  evaluation.numbers(parts, pipelines, opinions, 'config.eval.{}' if by is None else where)
  steps = evaluation.compiled(parts, mesh, opinions)
  measured = {name: evaluation.evaluate(steps[name], state, pipeline, mesh) for name, pipeline in pipelines.items()}
  if output is not None:
    one = seeds.one(state.averaged().replace(opt={}), experiment.seeds)
    for name, pipeline in pipelines.items():
      looked_at = evaluation.findings(opinions[name], parts.task, one, pipeline, mesh, experiment.seed)
      if jax.process_index() == 0:
        if not looked_at:
          print(f'note: {by["name"]} shows nothing of {name}, so nothing is written to {output}', file=sys.stderr)
          continue
        with cli.writing(output):
          paths = artifacts.write(output, int(one.step), {f'{name}_{k}': v for k, v in looked_at.items()})
        print(*paths, sep='\n', file=sys.stderr)
  for name, pipeline in pipelines.items():
    if pipeline is not None and pipeline.skipped:
      print(skipped.summary(name, pipeline), file=sys.stderr)
  made_by = int(state.step.ravel()[0])  # several seeds have one step
  return {name: {'step': made_by} | values for name, values in measured.items()}


def _of_best(experiment: Experiment, names: Sequence[str]) -> list[str]:
  """Those of the evaluations which are of the best checkpoint."""
  from dl.training import entries

  return [
    name for name in names or experiment.eval if name in experiment.eval and entries.read(experiment, name).of_best
  ]


def _in_batches(experiment: Experiment, size: int) -> Experiment:
  """The experiment whose batches, of all its evaluations, are of another size."""
  from dl.training import entries

  own = lambda name: 'batch_size' in (entries.read(experiment, name).data or ())
  without = lambda spec: {k: v for k, v in spec.items() if k != 'batch_size'}
  evaluations = {name: without(spec) if own(name) else spec for name, spec in experiment.eval.items()}
  return dataclasses.replace(experiment, data={**experiment.data, 'batch_size': size}, eval=evaluations)


def _asked(experiment: Experiment, names: Sequence[str], by: Mapping[str, Any], where: str) -> Experiment:
  """The experiment whose evaluations are those chosen, by another evaluator."""
  from dl.training import entries

  target = entries.evaluator_class(by['name'], where)
  build.check_arguments(target, {k: v for k, v in by.items() if k != 'name'}, where)
  if not target.needs_data:
    if names:
      raise ConfigError(f'--eval: {by["name"]} makes its own examples, and measures no set')
    return dataclasses.replace(experiment, eval={by['name']: {'by': dict(by)}})
  read = {name: entries.read(experiment, name) for name in names or experiment.eval}
  with_data = {name: {**entry.data, 'by': dict(by)} for name, entry in read.items() if entry.data is not None}
  if not with_data:
    raise ConfigError(f'{where}: {by["name"]} measures batches of data, and there is no evaluation which has some')
  return dataclasses.replace(experiment, eval=with_data)


def judge(
  workdir: pathlib.Path, classifier: pathlib.Path, count: int, seed: int = 0, step: int | str | None = None
) -> dict[str, Any]:
  """What a trained classifier sees in samples of a generative model (`dl.evaluators.judge`).

  Returns:
    shares: fraction of the samples in each class; confidence: mean probability of the class chosen.

  Raises:
    ConfigError: no such run, a model without samples, or one which does not classify such images.
  """
  by = {'name': 'judge.Judge', 'classifier': str(classifier), 'samples': count, 'seed': seed}
  (seen,) = evaluate(workdir, step, by=by, where='--classifier').values()
  return {'samples': count, 'shares': [round(share, 4) for share in seen['shares']], 'confidence': seen['confidence']}


def main(argv: Sequence[str]) -> int:
  """Prints the numbers as JSON lines; returns the exit code."""
  cli.no_more(argv)
  FLAGS = flags.FLAGS
  if FLAGS.distributed and FLAGS.classifier:
    raise ConfigError('--classifier: samples are judged by one process, without --distributed')
  code = cli.join()
  if code is not None:
    return code
  workdir, step = pathlib.Path(cli.required('workdir')), cli.step(FLAGS.step)
  others = [f for f in ('by', 'argument', 'output', 'eval', 'batch_size') if FLAGS.classifier and FLAGS[f].present]
  others += [f for f in ('samples', 'seed') if not FLAGS.classifier and FLAGS[f].present]
  if others:
    raise ConfigError(
      f'--{others[0]}: ' + ('goes not with --classifier' if FLAGS.classifier else 'is for --classifier')
    )
  if FLAGS.classifier:
    print(json.dumps(judge(workdir, pathlib.Path(FLAGS.classifier), FLAGS.samples, FLAGS.seed, step)))
    return 0
  by, output = _by(FLAGS.by, FLAGS.argument), pathlib.Path(FLAGS.output) if FLAGS.output else None
  if output is not None:
    if by is None:
      raise ConfigError('--output: is for what --by finds')
    cli.check_folder(output / 'artifacts')
  measured = evaluate(workdir, step, FLAGS.eval, FLAGS.batch_size, by, output)
  if jax.process_index() == 0:
    for name, values in measured.items():
      print(json.dumps({'split': name} | ({'by': by['name']} if by else {}) | values))
    if by is not None and output is None and _finds(by['name']):
      print(f'note: --output=FOLDER is needed for pictures and tables of what {by["name"]} finds', file=sys.stderr)
  return 0


def _finds(name: str) -> bool:
  """Whether an evaluator has pictures or tables."""
  from dl.contract.evaluator import Evaluator
  from dl.training import entries

  return entries.evaluator_class(name, '--by').findings is not Evaluator.findings


def _by(name: str | None, arguments: Sequence[str]) -> dict[str, Any] | None:
  """The evaluator that the flags ask for, as data."""
  from dl.training import entries

  if name is None:
    if arguments:
      raise ConfigError(f'--by.{arguments[0].partition("=")[0]}: is for --by, which names an evaluator')
    return None
  return {'name': name} | cli.values(arguments, entries.evaluator_class(name, '--by'))
