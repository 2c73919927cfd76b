"""All that is decided about a run before the disk is touched: its parts, when it does what, and its compiled steps."""

import dataclasses
import functools
from collections.abc import Callable, Mapping

import numpy as np
from jax.sharding import Mesh

from dl.config import Experiment
from dl.contract.evaluator import Evaluator
from dl.data import fingerprint
from dl.data.fingerprint import Fingerprint
from dl.data.pipeline import Pipeline
from dl.parallel import meshes
from dl.training import entries, evaluation, evaluators, memory, policy, schedule, start, steps
from dl.training.assemble import Parts, assemble, make_eval_pipelines


@dataclasses.dataclass(frozen=True)
class RunPlan:
  """What a run does, wherever it runs.

  Attributes:
    parts: what it is made of.
    evals: evaluation name -> its data; None for one without.
    evaluators: evaluation name -> what measures there.
    schedule: when it logs, evaluates, saves and stops.
    of_best: evaluations which are measured once, of the best checkpoint at the end.
  """

  parts: Parts
  evals: Mapping[str, Pipeline | None]
  evaluators: Mapping[str, Evaluator]
  schedule: schedule.Schedule
  of_best: tuple[str, ...]

  @property
  def experiment(self) -> Experiment:
    """The config."""
    return self.parts.experiment

  def times(self) -> dict[str, tuple[str, str]]:
    """'train' or the name of an evaluation -> its first and last time, where its source says when examples were."""
    pipelines = {'train': self.parts.pipeline, **self.evals}
    return {name: span for name, p in pipelines.items() if (span := getattr(p and p.source, 'span', None))}


@dataclasses.dataclass(frozen=True)
class Prepared(RunPlan):
  """A run on devices that are here, of which nothing is compiled yet.

  Attributes:
    mesh: the devices.
    functions: the steps of training, each compiled at its first call.
    measures: evaluation name -> the step of an evaluation, likewise.
    fingerprints: those of the data, by 'train' or the name of the evaluation; raises StuckError. Read once.
    given: the arrays that the run starts from, where `config.init_from` names any; raises ConfigError. Read once.
  """

  mesh: Mesh
  functions: steps.Compiled
  measures: Mapping[str, Callable]
  fingerprints: Callable[[], dict[str, Fingerprint]]
  given: Callable[[], dict[str, np.ndarray]]


def plan(experiment: Experiment) -> RunPlan:
  """What a run does, checked by shapes; raises ConfigError for anything wrong with the config or its data."""
  parts = assemble(experiment)
  evals, opinions = parts.held(make_eval_pipelines(experiment)), evaluators.make(parts)
  of_best = tuple(name for name in experiment.eval if entries.read(experiment, name).of_best)
  policy.check_of_best(of_best, experiment)
  made = schedule.make(parts, evaluation.numbers(parts, evals, opinions))
  return RunPlan(parts, evals, opinions, made, of_best)


def prepare(experiment: Experiment) -> Prepared:
  """A run, checked by shapes and for the devices which are here; writes and compiles nothing.

  Raises:
    ConfigError: anything wrong with the config or its data, or what these devices cannot share or hold.
  """
  mesh = meshes.make_mesh(experiment.mesh)
  planned = plan(experiment)
  functions = steps.compiled(planned.parts, mesh)
  measures = evaluation.compiled(planned.parts, mesh, planned.evaluators)
  meshes.check_evals(planned.evals, mesh)
  memory.check_state(functions.like, mesh.local_devices)
  given = functools.cache(lambda: start.load(experiment.init_from, planned.parts))
  pipelines = {'train': planned.parts.pipeline, **planned.evals}
  fingerprints = functools.cache(lambda: {name: fingerprint.of(p) for name, p in pipelines.items() if p is not None})
  return Prepared(
    **vars(planned), mesh=mesh, functions=functions, measures=measures, fingerprints=fingerprints, given=given
  )
