"""The compiled steps of a run: training with its running sums."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Int

from dl.contract import keys, metrics
from dl.contract.info import to_float
from dl.contract.state import State
from dl.contract.task import Metrics
from dl.parallel import activations, meshes, strategy, weights
from dl.store.checkpoint import abstract
from dl.training import seeds
from dl.training.assemble import Parts


@flax.struct.dataclass
class Sums:
  """What training adds up on the device between two logs.

  Attributes:
    metrics: the sums of the training metrics.
    bad_step: the first step whose metrics were not finite; -1 if there was none.
  """

  metrics: Metrics
  bad_step: Int[Array, '']


@dataclasses.dataclass(frozen=True)
class Compiled:
  """The functions of a run, jitted for its mesh; each is compiled at its first call.

  Attributes:
    init: arrays by path, in place of fresh ones -> the initial state.
    new_sums: () -> sums of no steps.
    train: (state, sums, batch) -> (state, sums, a flag to wait for): one step; the first two are donated.
    train_fused: the same for `steps_per_call` steps, whose batches are stacked.
    finite: tree -> whether every number in it is finite.
    like: shapes and shardings of the (state, sums), to restore into.
    note: what is not split as the config asks, or not as it may promise, if anything.
  """

  init: Callable[[Mapping[str, Array]], State]
  new_sums: Callable[[], Sums]
  train: Callable[[State, Sums, Any], tuple[State, Sums, Array]]
  train_fused: Callable[[State, Sums, Any], tuple[State, Sums, Array]]
  finite: Callable[[Any], Array]
  like: tuple[State, Sums]
  note: str | None


def compiled(parts: Parts, mesh: Mesh) -> Compiled:
  """The functions of a run on a mesh; raises ConfigError for rules which do not fit, or rows it cannot share."""
  if parts.batch:
    meshes.check_batch(parts.experiment.data['batch_size'], mesh, 'config.data.batch_size')
  for key, rows in parts.task.shared.items():
    meshes.check_batch(rows, mesh, f'config.task.{key}')
  whole = meshes.replicated(mesh)
  rule, count = parts.experiment.sharding, parts.experiment.seeds
  shardings = weights.state_shardings(rule, mesh, parts.state, parts.task.model, parts.by_row)
  train = activations.split(make_train_step(parts), mesh, 2, rule)
  train = weights.onto_devices(train, rule, shardings)
  new_sums = lambda: zero_sums(parts)
  jit_train = lambda f: jax.jit(f, donate_argnums=(0, 1), out_shardings=(shardings, whole, whole))
  sums = jax.eval_shape(new_sums)
  functions = Compiled(
    init=jax.jit(parts.init, out_shardings=shardings, compiler_options=_for_once(mesh)),
    new_sums=jax.jit(new_sums, out_shardings=whole),
    train=jit_train(train),
    train_fused=jit_train(fuse(train, parts.experiment.steps_per_call)),
    finite=jax.jit(all_finite, out_shardings=whole),
    note='; '.join(filter(None, (weights.left_whole(rule, mesh, parts.state, parts.task.model), parts.note))) or None,
    like=(abstract(seeds.shapes(parts.state, count), shardings), abstract(sums, jax.tree.map(lambda _: whole, sums))),
  )
  if 'sequence' in strategy.strategy(rule, mesh):  # whether it splits anything is known once the model is traced
    jax.eval_shape(functions.train, *functions.like, parts.batch)
  return functions


def _for_once(mesh: Mesh) -> dict[str, Any]:
  """Compiler options for what runs once: random initializers take CPUs longer to optimize than to run."""
  return {'xla_backend_optimization_level': 0} if mesh.devices.flat[0].platform == 'cpu' else {}


def make_train_step(parts: Parts) -> Callable[[State, Sums, Any], tuple[State, Sums, Array]]:
  """One training step: augmentation, the task's step and the sums; a pure function, meant to be jitted.

  The third result is a flag to wait for: the others are donated to the next step. With several seeds, all but the
  batch have a leading axis of them.
  """
  task, chains, count = parts.task, parts.optimizer.chains, parts.experiment.seeds
  augment = parts.pipeline.augment if parts.pipeline is not None else None

  def train_step(seed: Any, state: State, sums: Sums, batch: Any) -> tuple[State, Sums, Array]:
    step_key, augment_key = keys.step(seed, state.step)
    batch = to_float(batch, task.info)
    if augment is not None:
      batch = augment(augment_key, batch)
    new, measured = task.step(state, batch, step_key, chains)
    measured = seeds.marked(measured, count)
    finite = all_finite(measured)
    bad_step = jnp.where((sums.bad_step < 0) & ~finite, new.step, sums.bad_step)
    return new, Sums(metrics.add(sums.metrics, measured), bad_step), finite

  return seeds.over(train_step, parts.experiment.seed, count, (0, 0, 1))


def all_finite(tree: Any) -> Bool[Array, '']:
  """Whether every number in a tree of arrays is finite."""
  return jnp.all(jnp.asarray([jnp.all(jnp.isfinite(x)) for x in jax.tree.leaves(tree)], bool))


def fuse(train_step: Callable, length: int) -> Callable:
  """`length` steps as one call: the batches carry a leading dimension of steps."""

  def fused(state: State, sums: Sums, batches: Any) -> tuple[State, Sums, Array]:
    def body(carry, batch):
      state, sums, finite = train_step(*carry, batch)
      return (state, sums), finite

    (state, sums), finite = jax.lax.scan(body, (state, sums), batches, length=length)
    return state, sums, finite.all()

  return fused


def zero_sums(parts: Parts) -> Sums:
  """Sums of no steps; meant to be jitted."""
  count = parts.experiment.seeds
  measured = jax.eval_shape(
    lambda s, b, k: parts.task.step(s, to_float(b, parts.task.info), k, parts.optimizer.chains)[1],
    parts.state,
    parts.batch,
    keys.shape(),
  )
  measured = seeds.shapes(seeds.marked(measured, count), count)
  bad_step = jnp.full([] if count is None else [count], -1, jnp.int32)
  return Sums(jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), measured), bad_step)
