"""A trained model from its work directory, without the data set."""

import dataclasses
import os
import pathlib

import jax

from dl.contract.info import Info
from dl.contract.state import State
from dl.contract.task import Task
from dl.errors import ConfigError
from dl.parallel import weights
from dl.store import workdir as workdirs
from dl.store.checkpoint import Checkpoints, abstract
from dl.training import seeds
from dl.training.assemble import Parts, assemble
from dl.training.policy import mode_of_run


def load(
  workdir: str | os.PathLike,
  step: int | str | None = None,
  averaged: bool = True,
  seed: int | None = None,
  resize: bool = False,
) -> tuple[Task, State]:
  """The task and state of a run; the data set is not needed, nor the devices which it was trained on.

  Args:
    workdir: the work directory of a run.
    step: which checkpoint: a step, 'best', or None for the newest.
    averaged: whether the parameters are their averages, where the optimizer keeps some (`params_ema`, say).
    seed: which one of a run of several `seeds`; its first by default.
    resize: whether `task.predict` resizes images of another size than those it has learned from.

  Returns:
    (task, state): `task.predict(state, inputs, key)` takes raw inputs.

  Raises:
    ConfigError: not a work directory, no such checkpoint, code which no longer fits the config, or nothing to resize.
  """
  parts, state = load_parts(workdir, step)
  first, count = parts.experiment.seed, parts.experiment.seeds
  seed = first if seed is None else seed
  if seed not in range(first, first + (count or 1)):
    last = f' to {first + count - 1}' if count else ''
    raise ConfigError(f'{workdir}: has no seed {seed}; its seed is {first}{last}')
  state = seeds.one(state, count, seed - first)
  task = parts.task
  if resize:
    if not hasattr(task, 'resize') or task.info.image_size is None:
      raise ConfigError(f'{workdir}: resize=True is for images, and the task of this run reads none')
    task = dataclasses.replace(task, resize=True)
  return task, state.averaged() if averaged else state


def load_parts(
  workdir: str | os.PathLike, step: int | str | None = None, mesh: jax.sharding.Mesh | None = None
) -> tuple[Parts, State]:
  """The assembled run and its state, on a mesh as the config says, or (None) on the first device."""
  workdir = pathlib.Path(workdir)
  facts = workdirs.read_run(workdir)
  parts = assemble(workdirs.read_config(workdir), facts['data'])
  if mesh is None:
    here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    shardings = jax.tree.map(lambda _: here, parts.state)
  else:
    rule = parts.experiment.sharding
    shardings = weights.state_shardings(rule, mesh, parts.state, parts.task.model, parts.by_row)
  state = seeds.shapes(parts.state, parts.experiment.seeds)
  mode = mode_of_run(parts.experiment, facts)
  with Checkpoints(workdir / 'checkpoints', mode=mode, read_only=True) as saved:
    chosen = saved.find(step, f'{workdir}/checkpoints')
    return parts, saved.restore(chosen, {'state': abstract(state, shardings)})['state']


def input_column(workdir: str | os.PathLike, info: Info) -> str:
  """The column which a run's model reads: 'image', 'features', 'tokens'; raises ConfigError where there is no data."""
  if info.input is not None:
    return info.input
  raise ConfigError(f'{workdir}: the task of this run reads no files; call its predict from Python, see dl.load')
