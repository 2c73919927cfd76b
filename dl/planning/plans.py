"""What a step will cost on devices that are not here: compiled for as many virtual ones, and read."""

import dataclasses
import inspect
import math
import os
import pathlib
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import optax
from jaxtyping import PyTree

from dl.config import Experiment
from dl.errors import ConfigError
from dl.parallel import meshes
from dl.parallel.datasheet import Device
from dl.planning import hlo
from dl.training import steps
from dl.training.assemble import assemble
from dl.training.meter import model_flops

IN_ORDER = {'xla_cpu_scheduler_type': 'CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED'}
"""Compiler options for CPUs: operations in the order which needs the least memory, as accelerators have them."""

RINGS = ('all-reduce', 'all-gather', 'reduce-scatter')
"""Communication which is passed on from neighbor to neighbor."""


@dataclasses.dataclass(frozen=True)
class StepPlan:
  """What one device holds and does in a training step.

  Attributes:
    devices: how many there are.
    mesh: their axes.
    total_parameters: numbers of the model, over all devices.
    parameters: bytes of them on one device.
    optimizer: bytes of its state.
    host: bytes of its state which lie in the host's memory between steps; the peak has them as well, since a step
      brings them back.
    other: bytes of batch statistics and the like, of the sums of metrics, and of the batch.
    temporary: bytes of activations, gradients and gathered weights, at most.
    peak: bytes at most at one time.
    widened: whether bfloat16 counts as float32 in the last two, as CPUs compute it.
    program: products and communication.
    model_flops: of one step over all devices, three times a forward pass: nothing that is computed twice counts.
    savings: arguments with which the model would keep fewer activations, the least costly first, as its own
      `memory_savings` says.
    seconds: how long the compilation took.
    note: what is not split as asked, if anything.
  """

  devices: int
  mesh: dict[str, int]
  total_parameters: int
  parameters: float
  optimizer: float
  host: float
  other: float
  temporary: float
  peak: float
  program: hlo.Program
  model_flops: float
  savings: dict[str, Any]
  seconds: float
  widened: bool = False
  note: str | None = None

  @property
  def state(self) -> float:
    """Bytes of parameters and of the optimizer's state on one device, as it updates them."""
    return self.parameters + self.optimizer + self.host

  def times(self, device: Device) -> dict[str, float]:
    """Seconds of a step by the data sheet.

    'products' are their operations alone, each at the rate of its operands. 'computing' takes each product as long as
    its operations or its reading and writing take, whichever is more, with elementwise operations fused into them, and
    the state to be read and written once. 'communicating' is by rings, see `speed`. 'host' is the way of offloaded
    states from the host and back, 0 where the data sheet has no rate for it. The step takes 'hidden' where these three
    overlap altogether, 'exposed' where they do not.
    """
    each = self.program.products
    products = [(p.times, p.flops / device.rate(p.precision), p.bytes / device.bandwidth) for p in each]
    computing = sum(times * max(work, traffic) for times, work, traffic in products)
    computing += 2 * self.state / device.bandwidth
    communicating = sum(c.times * c.moved / speed(c, device) for c in self.program.collectives)
    host = 2 * self.host / device.host if device.host else 0.0
    return {
      'products': sum(times * work for times, work, _ in products),
      'computing': computing,
      'communicating': communicating,
      'host': host,
      'hidden': max(computing, communicating, host),
      'exposed': computing + communicating + host,
    }

  def utilization(self, device: Device, precision: str) -> tuple[float, float]:
    """Model FLOP utilization, of the rate at a config's precision: communication exposed, and hidden."""
    step, useful = self.times(device), self.model_flops / self.devices / device.rate(precision)
    return useful / step['exposed'], useful / step['hidden']


def speed(collective: hlo.Collective, device: Device) -> float:
  """Bytes/s at which a device sends.

  Within a node that is the rate of its links. A ring through several nodes enters and leaves each of them once, and the
  devices that a group has there share that traffic, each over its own part of the network; what is sent to others than
  neighbors goes at the rate of one such part.
  """
  if not collective.crosses(device.node):
    return device.link
  rings = collective.neighbors(device.node) if collective.kind in RINGS else 1
  return min(device.link, rings * device.network)


def make(experiment: Experiment, record: Mapping[str, Any] | None, devices: int) -> StepPlan:
  """Plans the training step of a config.

  Args:
    experiment: a config.
    record: `Parts.record()`, in place of the data set; None to look at the data.
    devices: how many to compile for; there must be as many virtual ones.

  Raises:
    ConfigError: anything in the config that cannot be used, or that the devices cannot share.
  """
  began = time.perf_counter()
  if experiment.seeds is not None:
    raise ConfigError('config.seeds: a plan is of one seed; leave seeds out')
  parts = assemble(experiment, record)
  model = parts.task.model
  mesh = meshes.make_mesh(experiment.mesh, jax.devices()[:devices])
  if mesh.size < devices:
    raise ConfigError(
      f'config.mesh: {dict(mesh.shape)} takes {mesh.size} of {devices} devices; -1 is what others leave'
    )
  functions = steps.compiled(parts, mesh)
  split = meshes.batch_sharding(mesh)
  batch = {k: jax.ShapeDtypeStruct(v.shape, v.dtype, sharding=split) for k, v in parts.batch.items()}
  state, sums = functions.like
  lowered = functions.train.lower(state, sums, batch)
  memory, program = _compile(lowered, devices)
  held = {
    'parameters': bytes_of_device(state.params),
    'optimizer': bytes_of_device(state.opt) - bytes_of_device(state.opt, 'pinned_host'),
    'host': bytes_of_device(state.opt, 'pinned_host'),
    'other': bytes_of_device((state.step, state.extra, sums, batch)),
  }
  return StepPlan(
    devices=devices,
    mesh=dict(mesh.shape),
    total_parameters=sum(x.size for x in jax.tree.leaves(parts.state.params)),
    **held,
    temporary=memory.temporary,
    peak=memory.held + memory.temporary,
    program=program,
    model_flops=model_flops(parts),
    savings=model.memory_savings() if hasattr(model, 'memory_savings') else {},
    seconds=time.perf_counter() - began,
    widened=memory.widened,
    note=functions.note,
  )


def fit(
  experiment: Experiment, record: Callable[[Experiment], Any], plan: StepPlan, memory: float
) -> Iterator[tuple[str, Experiment, StepPlan]]:
  """(what is changed, the experiment, its plan) of settings which take less memory, until one fits.

  The least intrusive come first, and each keeps those before it. The batch, last, is halved as often as its share of
  the memory says. Where the state alone takes more than there is, only what makes it smaller is tried: 'offload' does
  not, since a step brings all of it back.

  Args:
    experiment: a config.
    record: experiment -> what `make` takes in place of the data.
    plan: its plan, which does not fit.
    memory: bytes of a device.
  """
  now, said = experiment, []

  def attempt(text: str, **keys: Any) -> tuple[str, Experiment, StepPlan]:
    nonlocal now
    now = dataclasses.replace(now, **keys)
    said.append(text)
    return ', '.join(said), now, make(now, record(now), plan.devices)

  ways = math.prod(plan.mesh.get(axis, 1) for axis in meshes.BATCH_AXES)

  def changes() -> Iterator[tuple[str, dict[str, Any]]]:
    if ways > 1 and (rule := _with_fsdp(now.sharding)) != now.sharding:
      yield f'sharding={rule}', dict(sharding=rule)
    narrow, large = _narrow_moments(now.optim), plan.state > memory
    moments = [("mu_dtype='bfloat16'", dict(optim=narrow))] if narrow != now.optim else []
    yield from moments if large else []
    if plan.state > memory:
      return
    if now.precision == 'float32':
      yield 'precision=bfloat16', dict(precision='bfloat16')
    for name, value in plan.savings.items():
      yield f'model.{name}={value}', dict(model=now.model | {name: value})
    yield from moments if not large and plan.state > memory / 8 else []

  for change, keys in changes():
    before = now
    text, changed, smaller = attempt(change, **keys)
    if smaller.peak >= plan.peak:  # of no use here
      now = before
      said.pop()
      continue
    plan = smaller
    yield text, changed, plan
    if plan.peak <= memory:
      return
  rows = now.data['batch_size'] if now.data else 1
  while memory < plan.peak and plan.state <= memory and rows % (2 * ways) == 0:
    before = rows
    while rows % (2 * ways) == 0 and (rows == before or plan.peak - plan.temporary * (1 - rows / before) > memory):
      rows //= 2
    said[:] = [s for s in said if not s.startswith('data.batch_size')]
    text, changed, plan = attempt(f'data.batch_size={rows}', data=now.data | {'batch_size': rows})
    yield text, changed, plan


def more(
  experiment: Experiment, record: Callable[[Experiment], Any], plan: StepPlan, memory: float
) -> Iterator[tuple[str, Experiment, StepPlan]]:
  """What `fit` finds under 'fsdp' on ever more devices, the best of each number, until one fits.

  The numbers are powers of two, up to the batch and to how many virtual devices there are. Arguments: those of `fit`.
  """
  rows = experiment.data['batch_size'] if experiment.data else 1
  count = 1 << plan.devices.bit_length()
  while count <= jax.device_count() and rows % count == 0:
    changed = dataclasses.replace(experiment, sharding='fsdp', mesh={'data': count})
    text, wider = f'sharding=fsdp on {count} devices', make(changed, record(changed), count)
    best = text, changed, wider
    if wider.peak > memory:
      tried = [(f'{text}, {extra}', *rest) for extra, *rest in fit(changed, record, wider, memory)]
      best = min([best, *tried], key=lambda one: one[2].peak)
    yield best
    if best[2].peak <= memory:
      return
    count *= 2


def _with_fsdp(rule: Any) -> Any:
  """A config's `sharding`, with parameters split over the axes of the batch too where it leaves that open."""
  if not isinstance(rule, str):
    return [*rule[:-1], _with_fsdp(rule[-1])] if len(rule) and isinstance(rule[-1], str) else rule
  names = [name for name in rule.split('+') if name not in ('replicated', 'zero1', 'fsdp')]
  return rule if 'fsdp' in rule.split('+') else '+'.join([*names, 'fsdp'])


def accumulating(optim: Mapping[str, Any], steps: int) -> dict[str, Any]:
  """A config's `optim` with a first stage, of each player, which makes one update of `steps` batches."""
  if not any('name' in stage for stage in optim.values()):
    return {player: accumulating(stages, steps) for player, stages in optim.items()}
  key = 'accumulate'
  while key in optim:
    key += '_again'
  return {key: {'name': 'accumulate', 'steps': steps}} | dict(optim)


def _narrow_moments(optim: Any) -> Any:
  """A config's `optim` with first moments in bfloat16, in stages of optax which can."""
  if not isinstance(optim, Mapping):
    return optim
  if 'name' not in optim:
    return {key: _narrow_moments(value) for key, value in optim.items()}
  target = getattr(optax, str(optim['name']), None)
  can = inspect.isfunction(target) and 'mu_dtype' in inspect.signature(target).parameters
  return dict(optim) | {'mu_dtype': 'bfloat16'} if can and not optim.get('mu_dtype') else optim


@dataclasses.dataclass(frozen=True)
class Buffers:
  """Memory of a compiled program.

  Attributes:
    held: bytes of what it takes and gives.
    temporary: bytes of the rest.
    widened: whether bfloat16 counts as float32.
  """

  held: float
  temporary: float
  widened: bool = False


def buffers(text: str) -> Buffers:
  """Those of a dump of XLA's buffer assignment."""
  allocations = re.findall(r'^allocation \d+: size (\d+), (.*)$', text, re.M)
  total = lambda *kinds: float(sum(int(size) for size, kind in allocations if any(k in kind for k in kinds)))
  return Buffers(total('parameter', 'maybe-live-out'), total('preallocated-temp'))


def _compile(lowered: Any, devices: int) -> tuple[Buffers, hlo.Program]:
  """(memory, work) of one device."""
  with tempfile.TemporaryDirectory() as folder:
    memory = _memory(lowered, pathlib.Path(folder))
    if devices == 1:
      return memory, hlo.read(lowered.as_text('hlo'))
    files = [p for p in pathlib.Path(folder).iterdir() if 'after_spmd-partitioning' in p.name]
    if len(files) != 1:  # the program after it was partitioned, before CPUs change its types
      raise RuntimeError(f'XLA left no partitioned program: {sorted(os.listdir(folder))[:5]}')
    return memory, hlo.read(files[0].read_text())


def _memory(lowered: Any, folder: pathlib.Path) -> Buffers:
  """The memory of a program as accelerators run it, with bfloat16 in 2 bytes; what XLA dumps stays in the folder.

  The pass that widens bfloat16 for CPUs is left out. Code for what is left of it may not exist: XLA then gives up, but
  after it has assigned the buffers, and they are read from its dump.
  """
  dump = {'xla_dump_to': str(folder), 'xla_dump_hlo_as_text': True, 'xla_dump_hlo_pass_re': 'spmd-partitioning'}
  narrow = {'xla_disable_hlo_passes': 'float-normalization-bf16'}
  try:
    return _analysis(lowered.compile(compiler_options=IN_ORDER | dump | narrow))
  except jax.errors.JaxRuntimeError:
    files = list(folder.glob('*buffer-assignment.txt'))
    if len(files) == 1:
      return buffers(files[0].read_text())
  return dataclasses.replace(_analysis(lowered.compile(compiler_options=IN_ORDER)), widened=True)


def _analysis(compiled: Any) -> Buffers:
  analysis = compiled.memory_analysis()
  held = analysis.argument_size_in_bytes + analysis.output_size_in_bytes - analysis.alias_size_in_bytes
  return Buffers(held, analysis.temp_size_in_bytes)


def bytes_of_device(tree: PyTree, kind: str | None = None) -> float:
  """Bytes of the part of each array which belongs to one device; of those alone in a kind of memory, if given."""
  leaves = [x for x in jax.tree.leaves(tree) if kind in (None, x.sharding.memory_kind)]
  return float(sum(x.dtype.itemsize * math.prod(x.sharding.shard_shape(x.shape)) for x in leaves))
