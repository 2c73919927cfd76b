"""Many seeds as one program: everything that training changes has a leading axis of seeds, and a batch its second.

A run of `seeds=n` is the runs of seed, seed + 1, ..., seed + n - 1: each has its own parameters, data order,
augmentation and dropout, and all share the evaluation data. `keep.best` ranks checkpoints by the mean over seeds, and
a loss that is not finite ends all of them. Where `seeds` is None there is no such axis.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree

from dl.config import Experiment
from dl.contract.metrics import BySeed
from dl.contract.task import Metrics
from dl.errors import ConfigError


def check(experiment: Experiment) -> None:
  """Raises ConfigError for seeds which cannot be, or not with the rest of the config."""
  count = experiment.seeds
  if count is None:
    return
  if experiment.seed + count > 2**31:
    raise ConfigError(f'config.seeds: the last seed is {experiment.seed + count - 1}, more than 32 bits hold')
  if experiment.early_stop is not None:
    raise ConfigError('config.seeds: seeds in one program stop together; leave early_stop out, or seeds, see dl.sweep')
  if experiment.sharding != 'replicated':
    raise ConfigError("config.seeds: seeds in one program need sharding='replicated'; leave seeds out, see dl.sweep")


def over(function: Callable, seed: int, count: int | None, in_axes: Sequence[Any]) -> Callable:
  """`function(seed, *arguments)` of one seed, or mapped over `count` seeds and those axes of the arguments."""
  if count is None:
    return functools.partial(function, seed)
  numbers = np.arange(seed, seed + count, dtype=np.uint32)
  return functools.partial(jax.vmap(function, in_axes=(0, *in_axes)), numbers)


def shapes(tree: PyTree, count: int | None) -> PyTree:
  """The shapes of one seed as those of all."""
  if count is None:
    return tree
  return jax.tree.map(lambda x: jax.ShapeDtypeStruct((count, *x.shape), x.dtype), tree)


def one(tree: PyTree, count: int | None, index: int = 0) -> PyTree:
  """What belongs to one of the seeds."""
  if count is None:
    return tree
  return jax.jit(lambda tree: jax.tree.map(lambda x: x[index], tree))(tree)  # one program, not one for each array


def batches(pipeline: Any, start: int, seed: int, count: int | None) -> Iterator[dict[str, np.ndarray]]:
  """The training batches from a step on, [b, ...], or [b, seeds, ...] with each seed's own order."""
  if count is None:
    return pipeline.iterate(start)
  orders = [pipeline.reseeded(s).iterate(start) for s in range(seed, seed + count)]
  return ({k: np.stack([batch[k] for batch in step], axis=1) for k in step[0]} for step in zip(*orders))


def marked(metrics: Metrics, count: int | None) -> Metrics:
  """Marks metrics which have an axis of seeds."""
  return metrics if count is None else {k: BySeed(m) for k, m in metrics.items()}
