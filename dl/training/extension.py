"""A run that goes on for longer than its config said: `--extend`, which is checked, recorded and said."""

import pathlib
from typing import Any

import numpy as np

from dl import optim
from dl.errors import ConfigError
from dl.show.words import number
from dl.store import workdir
from dl.store.checkpoint import finished
from dl.training.prepare import Prepared

_LOOKS = 9  # steps at which learning rates are looked at


def record(directory: pathlib.Path, run: Prepared) -> dict[str, Any] | None:
  """What `run.json` keeps of an extension of the run in a directory; None where that is under way already.

  Raises:
    ConfigError: there is no run, it stopped early, or it is not to be longer than it was.
  """
  if not (directory / workdir.RUN).exists():
    raise ConfigError(f'--extend: {directory} holds no run that has begun; leave it out')
  before, facts = workdir.read_config(directory), workdir.read_run(directory)
  if stopped := facts.get('stopped_early'):
    raise ConfigError(f'--extend: the run stopped early ({stopped}), so more steps would change nothing')
  longer, old, new = run.experiment.train_for, facts.get('total_steps', 0), run.schedule.total
  if before.train_for == longer and facts.get('status') != 'complete':
    return None
  if new <= old:
    raise ConfigError(
      f'--extend: the run is of {old:,} steps already, and config.train_for, {longer!r}, is {new:,}: set a longer one'
    )
  at = max(finished(directory / 'checkpoints'), default=0)
  return {'at_step': at, 'from': before.train_for, 'to': longer, 'from_steps': old, 'to_steps': new}


def note(directory: pathlib.Path, run: Prepared, step: int) -> str:
  """What changes for a run which is extended at a step: the learning rates, before by its former length and after."""
  parts, total = run.parts, run.schedule.total
  before = workdir.read_run(directory)['extended'][-1]['from_steps']
  length = optim.Length(before, parts.steps_per_epoch, parts.examples_per_step)
  old = optim.make(parts.experiment.optim, parts.state.params, length, parts.task.updates_per_step).rates(step)
  new = parts.optimizer.rates
  changes = ''.join(
    f'; {name} {number(old[name])} at step {step:,} of {before:,}, {number(rate)} at step {step + 1:,} of {total:,}'
    for name, rate in new(step + 1).items()
  )
  ahead = [rate for at in np.linspace(step + 1, total, _LOOKS).astype(int) for rate in new(int(at)).values()]
  ended = '; from here on every learning rate is 0, so that nothing more is learned' if not any(ahead) and ahead else ''
  measured = (
    f'; {", ".join(run.of_best)} will be measured once more, of the best checkpoint then' if run.of_best else ''
  )
  return (
    f'extended to {total:,} steps, which schedules in shares of the run, or without a length, are now of'
    f'{changes}{ended}{measured}'
  )
