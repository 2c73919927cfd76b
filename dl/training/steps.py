"""The compiled steps: training with its running sums, and evaluation over a whole set."""

import collections
import dataclasses
import itertools
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Int

from dl.contract import metrics
from dl.contract.state import State
from dl.contract.task import Metrics, Task
from dl.data.pipeline import Pipeline, prefetch
from dl.parallel import meshes, strategy
from dl.store.checkpoint import abstract
from dl.training import seeds
from dl.training.assemble import Parts, to_float


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
    evaluate: (state, batch, index) -> metrics of one evaluation batch.
    finite: tree -> whether every number in it is finite.
    like: shapes and shardings of the (state, sums), to restore into.
    note: what is not split as the config asks, if anything.
  """

  init: Callable[[Mapping[str, Array]], State]
  new_sums: Callable[[], Sums]
  train: Callable[[State, Sums, Any], tuple[State, Sums, Array]]
  train_fused: Callable[[State, Sums, Any], tuple[State, Sums, Array]]
  evaluate: Callable[[State, Any, Any], Metrics]
  finite: Callable[[Any], Array]
  like: tuple[State, Sums]
  note: str | None


def compiled(parts: Parts, mesh: Mesh) -> Compiled:
  """The functions of a run on a mesh; raises ConfigError for rules which do not fit, or rows it cannot share."""
  if parts.batch:
    meshes.check_batch(parts.config['data']['batch_size'], mesh, 'config.data.batch_size')
  for key, rows in parts.task.shared.items():
    meshes.check_batch(rows, mesh, f'config.task.{key}')
  whole = meshes.replicated(mesh)
  rule, seed, count = (parts.config[key] for key in ('sharding', 'seed', 'seeds'))
  families = strategy.families(parts.task.model)
  shardings = strategy.state_shardings(rule, mesh, parts.state, families)
  train = strategy.split_activations(make_train_step(parts), mesh, 2, rule)
  train = strategy.onto_devices(train, rule, shardings)
  evaluate = strategy.split_activations(make_eval_step(parts.task, seed, count), mesh, 1, rule)
  new_sums = lambda: zero_sums(parts)
  jit_train = lambda f: jax.jit(f, donate_argnums=(0, 1), out_shardings=(shardings, whole, whole))
  sums = jax.eval_shape(new_sums)
  found = Compiled(
    init=jax.jit(parts.init, out_shardings=shardings, compiler_options=_for_once(mesh)),
    new_sums=jax.jit(new_sums, out_shardings=whole),
    train=jit_train(train),
    train_fused=jit_train(fuse(train, parts.config['steps_per_call'])),
    evaluate=jax.jit(evaluate, out_shardings=whole),
    finite=jax.jit(all_finite, out_shardings=whole),
    note=strategy.left_whole(rule, mesh, parts.state, families),
    like=(abstract(seeds.shapes(parts.state, count), shardings), abstract(sums, jax.tree.map(lambda _: whole, sums))),
  )
  if 'sequence' in strategy.strategy(rule, mesh):  # whether it splits anything is known once the model is traced
    jax.eval_shape(found.train, *found.like, parts.batch)
  return found


def _for_once(mesh: Mesh) -> dict[str, Any]:
  """Compiler options for what runs once: random initializers take CPUs longer to optimize than to run."""
  return {'xla_backend_optimization_level': 0} if mesh.devices.flat[0].platform == 'cpu' else {}


def make_train_step(parts: Parts) -> Callable[[State, Sums, Any], tuple[State, Sums, Array]]:
  """One training step: augmentation, the task's step and the sums; a pure function, meant to be jitted.

  The third result is a flag to wait for: the others are donated to the next step. With several seeds, all but the
  batch have a leading axis of them.
  """
  task, chains, count = parts.task, parts.optimizer.chains, parts.config['seeds']
  augment = parts.pipeline.augment if parts.pipeline is not None else None

  def train_step(seed: Any, state: State, sums: Sums, batch: Any) -> tuple[State, Sums, Array]:
    key = jax.random.fold_in(jax.random.key(seed), state.step)
    step_key, augment_key = jax.random.split(key)
    batch = to_float(batch)
    if augment is not None:
      batch = augment(augment_key, batch)
    new, found = task.step(state, batch, step_key, chains)
    found = _of_seeds(found, count)
    finite = all_finite(found)
    bad_step = jnp.where((sums.bad_step < 0) & ~finite, new.step, sums.bad_step)
    return new, Sums(metrics.add(sums.metrics, found), bad_step), finite

  return seeds.over(train_step, parts.config['seed'], count, (0, 0, 1))


def _of_seeds(found: Metrics, count: int | None) -> Metrics:
  """Marks metrics which have an axis of seeds."""
  return found if count is None else {k: metrics.BySeed(m) for k, m in found.items()}


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
  key, count = jax.random.key(0), parts.config['seeds']
  found = jax.eval_shape(
    lambda s, b: parts.task.step(s, to_float(b), key, parts.optimizer.chains)[1], parts.state, parts.batch
  )
  found = seeds.shapes(_of_seeds(found, count), count)
  bad_step = jnp.full([] if count is None else [count], -1, jnp.int32)
  return Sums(jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), found), bad_step)


def make_eval_step(task: Task, seed: int, count: int | None = None) -> Callable[[State, Any, Any], Metrics]:
  """Metrics of one evaluation batch, with the averaged parameters where there are any; meant to be jitted.

  With `count` seeds, the state and the metrics have a leading axis of them, and the batch is the same for all.
  """

  def eval_step(seed: Any, state: State, batch: Any, index: Any) -> Metrics:
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), 2**31 - 1), index)
    return _of_seeds(task.evaluate(state.averaged(), to_float(batch), key), count)

  return seeds.over(eval_step, seed, count, (0, None, None))


def evaluate(eval_step: Callable, state: State, pipeline: Pipeline | None, mesh: Mesh) -> dict[str, Any]:
  """The metrics of a whole set, exactly: each example counts once, whatever the batch size and the devices.

  Args:
    eval_step: a jitted `make_eval_step`.
    state: the training state.
    pipeline: the evaluation data; None calls the task once with an empty batch.
    mesh: where batches are split.
  """
  place = lambda batch: meshes.place(batch, meshes.batch_sharding(mesh))
  batches = map(place, [{}]) if pipeline is None else prefetch(pipeline.iterate(0), place, pipeline.prefetch)
  throttle, parts = bounded(8), []
  for index, batch in enumerate(batches):
    parts.append(eval_step(state, batch, jnp.int32(index)))
    throttle(parts[-1])
  return metrics.compute(metrics.total(jax.device_get(parts)))


def findings(task: Task, state: State, pipeline: Pipeline | None, mesh: Mesh, seed: int) -> dict[str, Any]:
  """Artifacts of a whole evaluation set (`Task.findings`); none for a task which examines nothing."""
  if pipeline is None:
    return {}
  place = lambda batch: meshes.place(batch, meshes.batch_sharding(mesh))

  def examine(state, batch, index):
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), 2**31 - 3), index)
    found = task.examine(state, to_float(batch), key)
    return found and found | {'mask': batch['mask']}

  if not jax.eval_shape(examine, state, jax.tree.map(jnp.asarray, pipeline[0]), jnp.int32(0)):
    return {}
  compiled, found, real = jax.jit(examine, out_shardings=meshes.replicated(mesh)), [], []
  for index, batch in enumerate(prefetch(pipeline.iterate(0), place, pipeline.prefetch)):
    of_batch = jax.device_get(compiled(state, batch, jnp.int32(index)))
    real.append(of_batch.pop('mask') > 0)
    found.append({k: v[real[-1]] for k, v in of_batch.items()})
  examined = {k: np.concatenate([f[k] for f in found]) for k in found[0]}
  place = np.flatnonzero(np.concatenate(real))  # in the set: an example that was skipped leaves a gap
  files = getattr(pipeline.source, 'paths', None)
  if files is not None and len(files) == len(pipeline.source):
    examined['file'] = np.asarray([str(files[i]) for i in place])
  return task.findings(examined | {'index': place}, lambda chosen: pipeline.examples(place[chosen]))


QUEUE_BYTES = 2**26
"""How much memory the batches of dispatched steps may take, which is little beside any model's activations."""

QUEUE_SECONDS = 0.3
"""How far the host may run ahead of the device: a signal or an error is noticed that much later."""


def queue_depth(batch: Any) -> int:
  """How many steps may be under way at most, given the (shapes of the) batch of one."""
  size = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(batch))
  return min(max(QUEUE_BYTES // max(size, 1), 4), 64)


def bounded(depth: int) -> Callable[[Any], None]:
  """A function to call with a result of each dispatched step, which keeps the host from running too far ahead.

  It lets up to `depth` steps be under way (fewer, but 4, where they take longer than `QUEUE_SECONDS`), and then waits
  for half of them: so batches do not pile up in the device's memory, and the host, which on a CPU takes its time from
  the device, wakes once in many steps.
  """
  waiting: collections.deque = collections.deque()
  limit, since = 4, time.monotonic()

  def push(result: Any) -> None:
    nonlocal limit, since
    waiting.append(result)
    if len(waiting) < limit:
      return
    half = (len(waiting) + 1) // 2
    jax.block_until_ready([waiting.popleft() for _ in range(half)][-1])
    now = time.monotonic()
    limit = min(max(int(QUEUE_SECONDS * half / max(now - since, 1e-9)), 4), depth)
    since = now

  return push


def device_batches(parts: Parts, mesh: Mesh, start: int, lengths: Iterator[int]) -> Iterator[tuple[int, Any]]:
  """(number of steps, batch on the devices) of each compiled call from a step on; a batch of several is stacked."""
  batches = itertools.repeat({})
  if parts.pipeline is not None:
    batches = seeds.batches(parts.pipeline, start, parts.config['seed'], parts.config['seeds'])
  one, many = (meshes.batch_sharding(mesh, leading) for leading in (0, 1))

  def place(host: list[Any]) -> tuple[int, Any]:
    if len(host) == 1:
      return 1, meshes.place(host[0], one)
    return len(host), meshes.place(jax.tree.map(lambda *x: np.stack(x), *host), many)

  calls = ([next(batches) for _ in range(length)] for length in lengths)
  return prefetch(calls, place, size=1 if parts.pipeline is None else parts.pipeline.prefetch)
