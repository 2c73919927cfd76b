"""From a resolved config to the parts of a run, by shapes alone: everything is checked and nothing is compiled."""

import contextlib
import dataclasses
import inspect
import pathlib
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax.errors import FlaxError

from dl import optim
from dl.config import Experiment, build
from dl.config.duration import to_steps
from dl.contract import keys
from dl.contract.info import SAID_BY_TASKS, Info, to_float
from dl.contract.state import State
from dl.contract.task import Task
from dl.data import agreement
from dl.data.make import make as make_pipeline
from dl.data.pipeline import Pipeline
from dl.data.source import find_kind
from dl.errors import ConfigError, first_line, own_words
from dl.parallel import meshes
from dl.training import adapters, entries, promises, seeds


@dataclasses.dataclass(frozen=True)
class Parts:
  """The parts of a run.

  Attributes:
    experiment: the config.
    task: the learning problem, with its model.
    optimizer: one chain a player.
    batch: shapes of one global training batch; empty for a task without data.
    state: shapes of the state, of one seed.
    total_steps: length of the training.
    steps_per_epoch: None for a task without data.
    pipeline: the training data; None where there is none, or where the parts come from a work directory.
    limits: what batches are held to beside what the data states: `Task.limits`.
  """

  experiment: Experiment
  task: Task
  optimizer: optim.Optimizer
  batch: dict[str, jax.ShapeDtypeStruct]
  state: State
  total_steps: int
  steps_per_epoch: float | None
  pipeline: Pipeline | None
  limits: Mapping[str, Any]

  def init(self, given: Mapping[str, Any] | None = None) -> State:
    """The initial state, a pure function of the seed and of given arrays (path -> array); meant to be jitted."""
    init = lambda seed: initial_state(self.task, self.optimizer.chains, seed, self.batch, given)
    return seeds.over(init, self.experiment.seed, self.experiment.seeds, ())()

  def steps(self, key: str) -> int | None:
    """The duration under a top-level config key, in steps; None where it is None.

    Durations which are rounded anyway become multiples of `steps_per_call`.
    """
    value = getattr(self.experiment, key)
    if value is None:
      return None
    steps = self.duration(value, f'config.{key}')
    if steps < 1:
      raise ConfigError(f'config.{key}: must be at least one step, got {value!r}')
    fused = self.experiment.steps_per_call
    if isinstance(value, int) or 'step' in value:
      if steps < fused:
        raise ConfigError(
          f'config.{key}: {steps} steps is less than steps_per_call, {fused}, so no steps could be fused; '
          f'take a multiple of {fused}'
        )
      return steps
    return max(round(steps / fused), 1) * fused  # an epoch or a percentage is rounded anyway

  def duration(self, value: str | int, where: str) -> int:
    """A duration in steps of this run."""
    return to_steps(
      value,
      where,
      steps_per_epoch=self.steps_per_epoch,
      examples_per_step=_examples_per_step(self.task, self.experiment),
      total_steps=self.total_steps,
    )

  @property
  def examples_per_step(self) -> int | None:
    """Examples, or environment steps, that a training step uses, where that is known."""
    return _examples_per_step(self.task, self.experiment)

  @property
  def by_row(self) -> tuple[str, ...]:
    """Keys of `State.extra` that are split as a batch is; with several seeds, whose axis comes first, none."""
    return self.task.by_row if self.experiment.seeds is None else ()

  @property
  def note(self) -> str | None:
    """What is not as the config may promise, if anything."""
    return None if getattr(self.task, 'frozen_statistics', False) else self.optimizer.note(self.state.extra)

  def held(self, pipelines: Mapping[str, Pipeline | None]) -> dict[str, Pipeline | None]:
    """Evaluations whose batches are held to what those of the training are; warns of classes that it lacks.

    Raises:
      ConfigError: an evaluation of other classes, features or words.
    """
    for name, pipeline in pipelines.items():
      where = f'config.eval.{name}'
      try:
        learned = self.pipeline and self.pipeline.source
        said = pipeline and agreement.check(self.task.info, learned, pipeline.source)
      except ConfigError as e:
        raise ConfigError(f'{where}: {e}') from e
      if said and jax.process_index() == 0:
        print(f'warning: {where}: {said}', file=sys.stderr)
    return {name: pipeline and pipeline.expecting(self.limits) for name, pipeline in pipelines.items()}

  def record(self) -> dict[str, Any]:
    """What `run.json` keeps so that the parts can be assembled again without the data."""
    return {
      'info': self.task.info.to_json(),
      'batch': {k: [list(v.shape), v.dtype.name] for k, v in self.batch.items()},
      'steps_per_epoch': self.steps_per_epoch,
    }


def assemble(experiment: Experiment, record: Mapping[str, Any] | None = None) -> Parts:
  """Builds and checks every part of a run.

  Args:
    experiment: a config, as `dl.config.load` returns it.
    record: `Parts.record()` of an earlier run; then the data set is not touched.

  Raises:
    ConfigError: anything in the config that cannot be used.
  """
  seeds.check(experiment)
  pipeline, batch, steps_per_epoch, info = None, {}, None, Info()
  if record is not None:
    with reading_record():
      batch = {k: jax.ShapeDtypeStruct(tuple(map(int, s)), jnp.dtype(d)) for k, (s, d) in record['batch'].items()}
      info, steps_per_epoch = Info.from_json(record['info'], find_kind), record['steps_per_epoch']
    if 'features' in batch:  # of data that say nothing of themselves, what they were
      info = info.completed({'feature_count': batch['features'].shape[-1]})
    if info.table is None and 'delimiter' in (experiment.data or {}):  # a run of before it was recorded
      info = dataclasses.replace(info, table=(('delimiter', experiment.data['delimiter']),))
  elif experiment.data is not None:
    pipeline = make_pipeline(
      experiment.data,
      split=None,
      seed=experiment.seed,
      train=True,
      facts=_facts(experiment),
      **_share(experiment),
    )
    pipeline.check_memory()
    for key, alone in (('steps_per_call', 1), ('seeds', None)) if pipeline.buckets is not None else ():
      if getattr(experiment, key) != alone:
        raise ConfigError(f'config.{key}: batches of buckets differ in shape and cannot be stacked; leave it out')
    rows = experiment.data['batch_size']
    batch = {k: jax.ShapeDtypeStruct((rows, *v.shape[1:]), v.dtype) for k, v in pipeline.example().items()}
    info, steps_per_epoch = pipeline.info, pipeline.steps_per_epoch
  info = dataclasses.replace(info, columns=tuple(name for name in batch if name != 'mask') or None)
  task = _build_task(experiment, info)
  if task.needs_data and not batch:
    raise ConfigError(f'config.data: {experiment.task["name"]} learns from data; name a source, such as sklearn.Digits')
  if not task.needs_data and experiment.data is not None:
    raise ConfigError(f'config.data: {experiment.task["name"]} makes its own data; leave data out')
  examples = _examples_per_step(task, experiment)
  total = to_steps(
    experiment.train_for, 'config.train_for', steps_per_epoch=steps_per_epoch, examples_per_step=examples
  )
  if total < 1:
    raise ConfigError('config.train_for: must be at least one step')
  float_batch = jax.eval_shape(lambda b: to_float(b, info), batch)
  key = keys.shape()
  params = _params(task, key, float_batch)
  limits = task.limits(float_batch)
  if pipeline is not None:
    pipeline = pipeline.expecting(limits)
  length = optim.Length(total, steps_per_epoch, examples)
  optimizer = optim.make(experiment.optim, params, length, task.updates_per_step, adapters.frozen(task, params))
  state = abstractly(lambda: initial_state(task, optimizer.chains, experiment.seed, float_batch))
  _check_step(task, optimizer.chains, state, float_batch, key)
  return Parts(experiment, task, optimizer, batch, state, total, steps_per_epoch, pipeline, limits)


@contextlib.contextmanager
def reading_record() -> Iterator[None]:
  """Makes one line of what goes wrong inside with a record of `run.json` that this code has not written so."""
  try:
    yield
  except (TypeError, ValueError, AttributeError, LookupError) as e:
    raise ConfigError(f'run.json: what it says about the data is damaged: {first_line(e)}') from e


def _params(task: Task, key: Any, batch: Mapping[str, Any]) -> dict[str, Any]:
  """Shapes of the initial parameters of a task which has nothing against the batch."""
  check = lambda: abstractly(lambda: task.check(batch))
  try:
    made = abstractly(task.init, key, batch)
  except ConfigError:
    check()  # says better what does not fit
    raise
  params, _ = promises.initial(task, made)  # before the check, which may use what `init` gives
  check()
  return params


def _check_step(task: Task, chains: Mapping[str, Any], state: State, batch: Mapping[str, Any], key: Any) -> None:
  """Raises ConfigError for a task whose step fails on these shapes, or does not keep what it promises."""
  try:
    made = abstractly(lambda s, b, k: task.step(s, b, k, chains), state, batch, key, where='config.task')
  except ConfigError:
    if type(task).step is Task.step:  # of a loss of other structure, JAX speaks of trees
      loss = lambda s, b, k: task.loss(s.params, s.extra, b, k, True)
      promises.loss(task, abstractly(loss, state, batch, key, where='config.task'))
    raise
  promises.step(task, state, made)


def initial_state(
  task: Task, chains: Mapping[str, Any], seed: int, batch: Mapping[str, Any], given: Mapping[str, Any] | None = None
) -> State:
  """Step 0: fresh parameters and optimizer states. Shapes alone of `batch` matter; one row is enough.

  Args:
    task: the learning problem.
    chains: player -> optimizer.
    seed: of the parameters.
    batch: arrays or shapes of a batch.
    given: arrays in place of fresh ones, by their path in (params, extra): 'params/model/conv1/kernel'.
  """
  rows = {k: jnp.zeros((1, *v.shape[1:]), v.dtype) for k, v in batch.items()}
  params, extra = task.init(keys.parameters(seed), to_float(rows, task.info))
  if given:
    fresh = {'params': params, 'extra': extra}
    chosen = jax.tree_util.tree_map_with_path(lambda path, x: given.get(state_path(path), x), fresh)
    params, extra = chosen['params'], chosen['extra']
  opt = {player: chains[player].init(params[player]) for player in params}
  return State(step=jnp.zeros([], jnp.int32), params=params, opt=opt, extra=extra)


def state_path(path: tuple[Any, ...]) -> str:
  """The keys of a leaf of a state, '/'-joined."""
  return jax.tree_util.keystr(path, simple=True, separator='/')


def abstractly(function: Callable, *arguments: Any, where: str = 'config.model') -> Any:
  """`jax.eval_shape`; an error inside becomes a ConfigError: the part's own words, or what went wrong in which line."""
  try:
    return jax.eval_shape(function, *arguments)
  except ConfigError:
    raise
  except (TypeError, ValueError, AttributeError, LookupError, ArithmeticError, NotImplementedError, FlaxError) as e:
    if words := own_words(e) or _of_contract(e):
      raise ConfigError(f'{where}: {words}') from e
    trace = traceback.extract_tb(e.__traceback__)
    frames = [f for f in trace if 'site-packages' not in f.filename]
    if any('optax' in pathlib.Path(f.filename).parts for f in trace):
      where = 'config.optim'
    at = f' ({pathlib.Path(frames[-1].filename).name}:{frames[-1].lineno})' if frames else ''
    raise ConfigError(
      f'{where}: does not fit the other parts: {type(e).__name__}: {first_line(e)}{at}; --debug shows the traceback'
    ) from e


def _of_contract(error: Exception) -> str | None:
  """What is wrong about a method of a user's own part, where the error says so; None otherwise."""
  last = traceback.extract_tb(error.__traceback__)[-1]
  if isinstance(error, NotImplementedError) and last.filename == inspect.getsourcefile(Task):
    return f'the task has no method `{last.name}`, which dl.contract.task.Task describes'
  if isinstance(error, TypeError) and (match := re.fullmatch(r'(\w+)\.(\w+)\(\) takes .*', first_line(error))):
    method = getattr(Task, match[2], None)
    if method is not None and pathlib.Path(last.filename).is_relative_to(pathlib.Path(__file__).parents[1]):
      wanted = ', '.join(name for name in inspect.signature(method).parameters if name != 'self')
      return f'{first_line(error)}; it is called with ({wanted})'
  return None


def _build_task(experiment: Experiment, info: Info) -> Task:
  spec = experiment.model
  if spec is None:
    raise ConfigError("config.model: expected a dict with a 'name', such as dict(name='lenet.LeNet5', num_classes=10)")
  given = {} if experiment.precision == 'float32' else {'dtype': jnp.dtype(experiment.precision)}
  if 'name' in spec:
    model = adapters.build_model(spec, 'config.model', **given)
  else:
    model = {player: adapters.build_model(s, f'config.model.{player}', **given) for player, s in spec.items()}
  if isinstance(experiment.task, Mapping) and 'name' in experiment.task:
    info = info.completed(getattr(build.resolve(experiment.task['name'], 'dl.tasks', 'config.task'), 'says', {}))
  return build.build(experiment.task, 'dl.tasks', 'config.task', Task, model=model, info=info)


def _examples_per_step(task: Task, experiment: Experiment) -> int | None:
  return task.examples_per_step or (experiment.data or {}).get('batch_size')


def make_eval_pipelines(experiment: Experiment, names: Sequence[str] | None = None) -> dict[str, Pipeline | None]:
  """Evaluation name -> its data; None for a task without data, and for an evaluator which makes its own.

  Raises:
    ConfigError: an evaluation that the config does not have, or data which cannot be read.
  """
  result = {}
  for name in list(experiment.eval) if names is None else names:
    entry = entries.read(experiment, name)
    result[name] = None if entry.data is None else _eval_pipeline(experiment, name, entry.data)
  return result


def _eval_pipeline(experiment: Experiment, name: str, changes: Mapping[str, Any]) -> Pipeline:
  base = {k: v for k, v in experiment.data.items() if k != 'augment'}
  base = ({k: base[k] for k in ('batch_size',)} if 'name' in changes else base) | dict(changes)
  pipeline = make_pipeline(
    base,
    split=changes.get('split', name),
    seed=experiment.seed,
    train=False,
    facts=_facts(experiment),
    **_share(experiment),
    where=f'config.eval.{name}',
    own_data='name' in changes,
  )
  pipeline.check_memory()
  return pipeline


def _facts(experiment: Experiment) -> dict[str, int]:
  """What the config says of the data outside of `data`."""
  return {name: value for name in SAID_BY_TASKS if isinstance(value := experiment.task.get(name), int)}


def _share(experiment: Experiment) -> dict[str, int]:
  """Which part of each batch this process reads."""
  if jax.process_count() == 1:
    return {}
  mesh = meshes.make_mesh(meshes.fitting(experiment.mesh, jax.device_count()))
  index, count = meshes.share(mesh, jax.process_index())
  return dict(process_index=index, process_count=count)
