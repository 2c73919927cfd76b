"""dl: one functional JAX/Flax codebase for all of deep learning."""

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
  from dl.state import State
  from dl.task import Task

__version__ = '0.1.0'


def load(
  workdir: str | os.PathLike, step: int | str | None = None, averaged: bool = True, seed: int | None = None
) -> tuple['Task', 'State']:
  """(task, state) of a run, without its data set: see `dl.restore.load`."""
  from dl import restore

  return restore.load(workdir, step, averaged, seed)


def run(config: Any, workdir: str | os.PathLike, **options: Any) -> Any:
  """Trains a config (a ConfigDict, or resolved plain data) in a work directory: see `dl.loop.train`."""
  from dl import config as configs
  from dl import loop

  return loop.train(configs.resolve(config), workdir, **options)
