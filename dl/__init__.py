"""dl: one functional JAX/Flax codebase for all of deep learning."""

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
  from dl.contract.state import State
  from dl.contract.task import Task

__version__ = '0.1.0'

# `python -m dl.inspect`: in this folder, a module of that name would hide Python's own from `python dl/train.py`.
__path__.append(os.path.join(__path__[0], 'commands', 'faces'))


def load(
  workdir: str | os.PathLike,
  step: int | str | None = None,
  averaged: bool = True,
  seed: int | None = None,
  resize: bool = False,
) -> tuple['Task', 'State']:
  """(task, state) of a run, without its data set: see `dl.training.restore.load`."""
  from dl.training import restore

  return restore.load(workdir, step, averaged, seed, resize)


def run(config: Any, workdir: str | os.PathLike, **options: Any) -> Any:
  """Trains a config (a ConfigDict, an Experiment or plain data) in a work directory: see `dl.training.loop.train`."""
  from dl import config as configs
  from dl.training import loop

  return loop.train(configs.resolve(config), workdir, **options)
