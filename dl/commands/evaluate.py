"""python -m dl.evaluate --workdir=/tmp/digits [--step=best] [--eval=test]

Evaluates a checkpoint on the sets of its config; prints one JSON object an evaluation. A generative model can be
judged by a classifier: --classifier=/tmp/digits_lenet prints each class's share of the samples and the confidence.
"""

import json
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

import jax
from absl import flags

from dl.commands import cli
from dl.errors import ConfigError


def define_flags() -> None:
  """The flags of the command: not defined on import, so that a program may import several commands."""
  flags.DEFINE_string('workdir', None, 'Work directory of a run.')
  cli.define_distributed()
  flags.DEFINE_string('step', None, "Checkpoint to use: a step, or 'best'; the newest if not given.")
  flags.DEFINE_multi_string('eval', [], 'Which evaluation of the config; all if not given.')
  flags.DEFINE_integer('batch_size', None, "Evaluation batch size, if not the config's.", lower_bound=1)
  flags.DEFINE_string('classifier', None, "Work directory of a classifier which judges the model's samples.")
  flags.DEFINE_integer('samples', 1000, 'Number of samples the classifier judges.', lower_bound=1)
  flags.DEFINE_integer('seed', 0, 'Seed of those samples.')


def evaluate(
  workdir: pathlib.Path, step: int | str | None = None, names: Sequence[str] = (), batch_size: int | None = None
) -> dict[str, dict[str, Any]]:
  """Evaluation name -> numbers, for a checkpoint of a run, on all the devices there are.

  Raises:
    ConfigError: no such run, checkpoint or evaluation.
  """
  from dl.parallel import meshes
  from dl.store import skipped
  from dl.store import workdir as workdirs
  from dl.training import evaluation, restore
  from dl.training.assemble import make_eval_pipelines

  experiment = workdirs.read_config(workdir)
  if batch_size is not None and experiment.data is not None:
    experiment.data['batch_size'] = batch_size
    for spec in experiment.eval.values():
      spec.pop('batch_size', None)
  pipelines = make_eval_pipelines(experiment, list(names) or None)
  mesh = meshes.make_mesh(meshes.fitting(experiment.mesh, jax.device_count()))
  meshes.check_evals(pipelines, mesh)
  parts, state = restore.load_parts(workdir, step, mesh=mesh)
  eval_step = evaluation.make_eval_step(parts.task, experiment.seed, experiment.seeds)
  eval_step = jax.jit(eval_step, out_shardings=meshes.replicated(mesh))
  found = {name: evaluation.evaluate(eval_step, state, pipeline, mesh) for name, pipeline in pipelines.items()}
  for name, pipeline in pipelines.items():
    if pipeline is not None and pipeline.skipped:
      print(skipped.summary(name, pipeline), file=sys.stderr)
  return found


def judge(
  workdir: pathlib.Path, classifier: pathlib.Path, count: int, seed: int = 0, step: int | str | None = None
) -> dict[str, Any]:
  """What a trained classifier sees in samples of a generative model.

  Returns:
    shares: fraction of the samples in each class; confidence: mean probability of the class chosen.

  Raises:
    ConfigError: no such run, a model without samples, or one which does not classify such images.
  """
  import numpy as np

  from dl.contract.kinds import IMAGE
  from dl.training import keys, restore

  judging, judging_state = restore.load(classifier)
  if judging.info.kind(restore.input_column(classifier, judging.info)) is not IMAGE:
    raise ConfigError(f'--classifier: {classifier} does not read images')
  task, state = restore.load(workdir, step)
  key, judge_key = jax.random.split(keys.samples(seed))
  try:
    samples = task.sample(state, key, count)
    shape, wanted = np.shape(samples)[1:], (*(judging.info.image_size or ()), judging.info.channels)
    if len(wanted) == 3 and shape != wanted:
      raise ConfigError(f'--classifier: {classifier} reads images of shape {wanted}, the samples have {shape}')
    seen = judging.predict(judging_state, samples, judge_key)
  except NotImplementedError as e:
    raise ConfigError(str(e)) from e
  probability = np.asarray(seen['probability'], np.float64)
  shares = np.bincount(np.asarray(seen['label']), minlength=probability.shape[1]) / count
  return {'samples': count, 'shares': shares.round(4).tolist(), 'confidence': float(probability.max(1).mean())}


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
  if FLAGS.classifier:
    print(json.dumps(judge(workdir, pathlib.Path(FLAGS.classifier), FLAGS.samples, FLAGS.seed, step)))
    return 0
  for name, values in evaluate(workdir, step, FLAGS.eval, FLAGS.batch_size).items():
    if jax.process_index() == 0:
      print(json.dumps({'split': name} | values))
  return 0
