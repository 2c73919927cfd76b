"""What a run was given to start from: arrays, and where they are from, for `run.json` and in a line."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from dl.training.assemble import Parts, state_path


class Given(dict[str, np.ndarray]):
  """Arrays by their path in the state of a run.

  Attributes:
    step: of the run that they are from; None if from no run.
    unused: names of what was there too and was not taken.
  """

  step: int | None = None
  unused: tuple[str, ...] = ()


def summary(given: Mapping[str, np.ndarray], parts: Parts) -> dict[str, Any]:
  """What `run.json` keeps of what a run started from: which variables it was given, and which are fresh."""
  state = {'params': parts.state.params, 'extra': parts.state.extra}
  mine = [state_path(path) for path, _ in jax.tree_util.tree_leaves_with_path(state)]
  facts = {
    'step': getattr(given, 'step', None),
    'loaded': len(given),
    'values': int(sum(np.size(value) for value in given.values())),
    'fresh': [path for path in mine if path not in given],
    'unused': list(getattr(given, 'unused', ())),
  }
  return {key: value for key, value in facts.items() if value not in (None, [])}


def said(spec: Mapping[str, Any], facts: Mapping[str, Any]) -> str:
  """A summary in a line."""
  step = f', step {facts["step"]:,}' if 'step' in facts else ''
  few = lambda names: ', '.join(names[:4]) + (f' and {len(names) - 4} more' if len(names) > 4 else '')
  short = lambda path: path.removeprefix('params/').removeprefix('extra/').removeprefix('model/')
  fresh = f'; fresh: {few([short(p) for p in facts["fresh"]])}' if 'fresh' in facts else ''
  unused = f'; not used: {few(facts["unused"])}' if 'unused' in facts else ''
  return f'starts from {spec.get("path")}{step}: {facts["loaded"]} arrays, {facts["values"]:,} values{fresh}{unused}'
