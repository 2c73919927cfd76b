"""The random streams of a run, by their names: keys are pure functions of the seed and of the place in the run.

A stream is a number folded into the run's key. Steps fold in their own, from 0 on, so other streams count down from
the largest that a step can be. `dl.data.order` and host transforms draw from NumPy, by the seed and the step.
What has a seed of its own (samples, judged ones) begins with the same key as a run of that seed, whose parameters are
drawn from it: runs of before did so, and their numbers stay.
"""

from typing import Any

import jax
from jaxtyping import Array

EVALUATION = 2**31 - 1
"""Evaluation batches, by their index."""

ARTIFACTS = 2**31 - 2
"""What people would rather look at; the same at each step, so that pictures can be compared."""

FINDINGS = 2**31 - 3
"""The examination of evaluation batches at the end, by their index."""


def parameters(seed: Any) -> Array:
  """Of a run's initial parameters, and of whatever else its state begins with."""
  return jax.random.key(seed)


def step(seed: Any, done: Any) -> tuple[Array, Array]:
  """(of the task, of the augmentation) in the training step which begins when so many are done."""
  task, augmentation = jax.random.split(jax.random.fold_in(jax.random.key(seed), done))
  return task, augmentation


def evaluation(seed: Any, index: Any) -> Array:
  """Of an evaluation batch."""
  return jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), EVALUATION), index)


def artifacts(seed: Any) -> Array:
  """Of the artifacts of a state."""
  return jax.random.fold_in(jax.random.key(seed), ARTIFACTS)


def findings(seed: Any, index: Any) -> Array:
  """Of the examination of an evaluation batch."""
  return jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), FINDINGS), index)


def samples(seed: Any) -> Array:
  """Of samples that a user asks for, with a seed of the user's own."""
  return jax.random.key(seed)


def judged(seed: Any) -> tuple[Array, Array]:
  """(of samples that another run judges, of what it predicts of them), with a seed of the evaluator's own."""
  of_samples, of_predictions = jax.random.split(jax.random.key(seed))
  return of_samples, of_predictions


def prediction() -> Array:
  """Of predictions, which have no seed."""
  return jax.random.key(0)


def shape() -> jax.ShapeDtypeStruct:
  """The shape of a key, for what is traced by shapes alone."""
  return jax.eval_shape(lambda: jax.random.key(0))
