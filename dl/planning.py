"""What a step will cost on devices that are not here: compiled for as many virtual ones, and read."""

import dataclasses
import math
import os
import pathlib
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
from jaxtyping import PyTree

from dl import hlo, sharding, steps
from dl.assemble import assemble
from dl.datasheet import Device
from dl.errors import ConfigError
from dl.meter import model_flops

CHUNK = 1024
"""Queries which attend at a time, where contexts are long and memory short."""


@dataclasses.dataclass(frozen=True)
class Plan:
  """What one device holds and does in a training step.

  Attributes:
    devices: how many there are.
    mesh: their axes.
    total_parameters: numbers of the model, over all devices.
    parameters: bytes of them on one device.
    optimizer: bytes of its state.
    host: bytes of its state which lie in the host's memory between steps.
    other: bytes of batch statistics and the like, of the sums of metrics, and of the batch.
    temporary: bytes of activations, gradients and gathered weights, at most.
    peak: bytes at most at one time.
    program: products and communication.
    model_flops: of one step over all devices, three times a forward pass: nothing that is computed twice counts.
    savings: arguments of the model which would make it keep fewer activations, the least costly first.
    seconds: how long the compilation took.
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

  def times(self, device: Device, precision: str) -> dict[str, float]:
    """Seconds of a step by the data sheet.

    'products' are their operations alone. 'computing' takes each product as long as its operations or its reading and
    writing take, whichever is more, with elementwise operations fused into them, and the state to be read and written
    once. 'communicating' is by rings, at the rate of the links, or of the network for groups beyond a node. The step
    takes 'hidden' where they overlap altogether, 'exposed' where they do not.
    """
    rate = device.rate(precision)
    computing = sum(p.times * max(p.flops / rate, p.bytes / device.bandwidth) for p in self.program.products)
    computing += 2 * (self.parameters + self.optimizer + self.host) / device.bandwidth
    speed = lambda group: device.link if group <= device.node else device.network
    communicating = sum(c.times * c.moved / speed(c.group) for c in self.program.collectives)
    return {
      'products': self.program.flops / rate,
      'computing': computing,
      'communicating': communicating,
      'hidden': max(computing, communicating),
      'exposed': computing + communicating,
    }

  def utilization(self, device: Device, precision: str) -> tuple[float, float]:
    """Model FLOP utilization where communication is exposed, and where it is hidden."""
    found, useful = self.times(device, precision), self.model_flops / self.devices / device.rate(precision)
    return useful / found['exposed'], useful / found['hidden']


def make(config: Mapping[str, Any], record: Mapping[str, Any] | None, devices: int) -> Plan:
  """Plans the training step of a config.

  Args:
    config: a resolved config.
    record: `Parts.record()`, in place of the data set; None to look at the data.
    devices: how many to compile for; there must be as many virtual ones.

  Raises:
    ConfigError: anything in the config that cannot be used, or that the devices cannot share.
  """
  began = time.perf_counter()
  if config['seeds'] is not None:
    raise ConfigError('config.seeds: a plan is of one seed; leave seeds out')
  parts = assemble(config, record)
  mesh = sharding.make_mesh(config['mesh'], jax.devices()[:devices])
  if parts.batch:
    sharding.check_batch(config['data']['batch_size'], mesh, 'config.data.batch_size')
  functions = steps.compiled(parts, mesh)
  split = sharding.batch_sharding(mesh)
  batch = {k: jax.ShapeDtypeStruct(v.shape, v.dtype, sharding=split) for k, v in parts.batch.items()}
  state, sums = functions.like
  lowered = functions.train.lower(state, sums, batch)
  memory, program = _compile(lowered, devices)
  found = {
    'parameters': bytes_of_device(state.params),
    'optimizer': bytes_of_device(state.opt) - bytes_of_device(state.opt, 'pinned_host'),
    'host': bytes_of_device(state.opt, 'pinned_host'),
    'other': bytes_of_device((state.step, state.extra, sums, batch)),
  }
  arguments, outputs = memory.argument_size_in_bytes, memory.output_size_in_bytes - memory.alias_size_in_bytes
  return Plan(
    devices=devices,
    mesh=dict(mesh.shape),
    total_parameters=sum(x.size for x in jax.tree.leaves(parts.state.params)),
    **found,
    temporary=memory.temp_size_in_bytes,
    peak=arguments + outputs + memory.temp_size_in_bytes,
    program=program,
    model_flops=model_flops(parts),
    savings=_savings(parts.task.model),
    seconds=time.perf_counter() - began,
  )


def fit(
  config: Mapping[str, Any], record: Callable[[Mapping[str, Any]], Any], plan: Plan, memory: float
) -> Iterator[tuple[str, dict[str, Any], Plan]]:
  """(what is changed, the config, its plan) of settings which take less memory, until one fits.

  The least intrusive come first, and each keeps those before it. The batch, last, is halved as often as its share of
  the memory says.

  Args:
    config: a resolved config.
    record: config -> what `make` takes in place of the data.
    plan: its plan, which does not fit.
    memory: bytes of a device.
  """
  now, said = dict(config), []

  def attempt(text: str, **keys: Any) -> tuple[str, dict[str, Any], Plan]:
    now.update(keys)
    said.append(text)
    return ', '.join(said), dict(now), make(now, record(now), plan.devices)

  changes = []
  if plan.devices > 1 and now['sharding'] == 'replicated':
    changes.append(('sharding=fsdp', dict(sharding='fsdp')))
  if now['precision'] == 'float32':
    changes.append(('precision=bfloat16', dict(precision='bfloat16')))
  model = now['model']
  for name, value in plan.savings.items():
    model = model | {name: value}
    changes.append((f'model.{name}={value}', dict(model=model)))
  for text, keys in changes:
    text, changed, plan = attempt(text, **keys)
    yield text, changed, plan
    if plan.peak <= memory:
      return
  rows = now['data']['batch_size'] if now['data'] else 1
  ways = math.prod(plan.mesh.get(axis, 1) for axis in sharding.BATCH_AXES)
  while plan.peak > memory and rows % (2 * ways) == 0:
    before = rows
    while rows % (2 * ways) == 0 and (rows == before or plan.peak - plan.temporary * (1 - rows / before) > memory):
      rows //= 2
    said[:] = [s for s in said if not s.startswith('data.batch_size')]
    text, changed, plan = attempt(f'data.batch_size={rows}', data=now['data'] | {'batch_size': rows})
    yield text, changed, plan


def _compile(lowered: Any, devices: int) -> tuple[Any, hlo.Program]:
  """(memory analysis, work) of one device."""
  if devices == 1:
    return lowered.compile(compiler_options=steps.IN_ORDER).memory_analysis(), hlo.read(lowered.as_text('hlo'))
  with tempfile.TemporaryDirectory() as folder:  # the program after it was partitioned, before CPUs change its types
    options = {'xla_dump_to': folder, 'xla_dump_hlo_as_text': True, 'xla_dump_hlo_pass_re': 'spmd-partitioning'}
    memory = lowered.compile(compiler_options=steps.IN_ORDER | options).memory_analysis()
    files = [p for p in pathlib.Path(folder).iterdir() if 'after_spmd-partitioning' in p.name]
    if len(files) != 1:
      raise RuntimeError(f'XLA left no partitioned program: {sorted(os.listdir(folder))[:5]}')
    return memory, hlo.read(files[0].read_text())


def bytes_of_device(tree: PyTree, kind: str | None = None) -> float:
  """Bytes of the part of each array which belongs to one device; of those alone in a kind of memory, if given."""
  leaves = [x for x in jax.tree.leaves(tree) if kind in (None, x.sharding.memory_kind)]
  return float(sum(x.dtype.itemsize * math.prod(x.sharding.shard_shape(x.shape)) for x in leaves))


def _savings(model: Any) -> dict[str, Any]:
  found = {}
  if getattr(model, 'remat', 'full') != 'full':
    found['remat'] = 'full'
  long = getattr(model, 'length', 0) >= 4 * CHUNK
  if long and not getattr(model, 'attention_chunk', CHUNK) and not getattr(model, 'dropout', 0.0):
    found['attention_chunk'] = CHUNK
  return found
