"""Rows which only pad a batch count for nothing: tried on the first batch, since shapes say nothing of it."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from dl.contract import metrics
from dl.contract.evaluator import Evaluator
from dl.contract.state import State
from dl.contract.task import Metrics, Task
from dl.data.pipeline import Pipeline
from dl.errors import ConfigError
from dl.parallel import meshes
from dl.show import words
from dl.training.evaluation import named

TOLERANCE = 1e-5
"""Relative difference of two sums which are equal: both come from one compiled program."""


def check(
  task: Task,
  state: State,
  pipelines: Mapping[str, Pipeline | None],
  opinions: Mapping[str, Evaluator],
  measures: Mapping[str, Callable[[State, Any, Any], Metrics]],
  mesh: Mesh,
) -> None:
  """Tries each evaluation on its first batch with rows that are padding; to be called by all processes.

  Args:
    task: the learning problem.
    state: of the run.
    pipelines: evaluation name -> its data, or None.
    opinions: evaluation name -> its evaluator.
    measures: evaluation name -> its jitted step; one that several share is tried once.
    mesh: where batches are split.

  Raises:
    ConfigError: such a row counts: its content changes a metric, or a batch of them alone is more than nothing.
  """
  tried = []
  for name, pipeline in pipelines.items():
    if pipeline is None or any(measures[name] is other for other in tried):
      continue
    tried.append(measures[name])
    measure = lambda batch, measure=measures[name]: jax.device_get(
      measure(state, meshes.place(batch, meshes.batch_sharding(mesh)), jnp.int32(0))
    )
    who = f'config.eval.{name}: {named(opinions[name], task)}'
    advice = "leave out rows whose batch['mask'] is 0, as Mean.of(values, batch['mask']) does"
    batch = pipeline[0]
    one, other = _with_padding(batch)
    first, second = measure(one), measure(other)
    for metric, sums in first.items():
      if not _same(sums, second[metric]):
        raise ConfigError(
          f'{who} counts rows that only pad a batch in {metric!r}, which is {_number(sums)} with one and '
          f'{_number(second[metric])} with another; {advice}'
        )
    nothing = measure(batch | {'mask': np.zeros_like(batch['mask'])})
    for metric, sums in nothing.items():
      counted = any(np.any(leaf != 0) for leaf in jax.tree.leaves(sums))  # else they may be of rows that are not here
      if counted and _same(sums, first[metric]):
        raise ConfigError(
          f'{who} gives {metric!r} the same sums for any rows, so also for batches of none; weigh it by the mask, as '
          "Mean.of(jnp.full(len(batch['mask']), value), batch['mask']) does"
        )
      if any(np.any(np.nan_to_num(leaf, posinf=0, neginf=0)) for leaf in jax.tree.leaves(sums)):
        raise ConfigError(f'{who} counts rows that only pad a batch in {metric!r}; {advice}')


def _with_padding(batch: Mapping[str, np.ndarray]) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
  """The batch twice with its last row as padding: a copy of its first row, and of the first that is another."""
  columns = {name: np.asarray(values) for name, values in batch.items() if name != 'mask'}
  mask = np.array(batch['mask'])
  differs = np.zeros(len(mask), bool)
  for values in columns.values():
    differs |= (values != values[:1]).reshape(len(mask), -1).any(1)
  mask[-1] = 0
  last = lambda values, row: np.concatenate([values[:-1], values[row : row + 1]])
  return tuple(
    {name: last(v, row) for name, v in columns.items()} | {'mask': mask} for row in (0, int(differs.argmax()))
  )


def _same(a: Any, b: Any) -> bool:
  """Whether two sums are equal, NaN for NaN."""
  close = lambda x, y: np.allclose(x, y, rtol=TOLERANCE, atol=0.0, equal_nan=True)
  return all(map(close, jax.tree.leaves(a), jax.tree.leaves(b)))


def _number(sums: metrics.Metric) -> str:
  value = sums.compute()
  return words.number(value) if isinstance(value, float) else str(value)
