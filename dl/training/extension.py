"""A run that goes on for longer than its config said: `--extend`, which is checked, recorded and said."""

import pathlib
from typing import Any

from dl.errors import ConfigError
from dl.show.words import number
from dl.store import logs, workdir
from dl.store.checkpoint import finished
from dl.training.prepare import Prepared


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
  """What changes for a run which is extended at a step: what schedules are of, and the learning rates."""
  rates = run.parts.optimizer.rates
  names = rates(step)
  last = next((r for r in reversed(logs.read(directory)) if r['split'] == 'train' and names.keys() <= r.keys()), {})
  changes = [
    f'{name} {number(last[name])} at step {last["step"]:,}, {number(value)} at step {step + 1:,}'
    for name, value in rates(step + 1).items()
    if name in last
  ]
  return f'extended to {run.schedule.total:,} steps, which all schedules are now of: {"; ".join(changes) or "none"}'
