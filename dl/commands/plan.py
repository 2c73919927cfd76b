"""python -m dl.plan --config=experiments/scale/gpt.py:8b --devices=256 --device=h100

Before a run is paid for: compiles its training step for as many virtual devices, and prints what one device holds
and does, the expected time of a step by the device's data sheet, whether it fits, and the nearest setting that does.
Nothing is trained, and with --batch no data set is needed: --batch=image=224x224x3:uint8,label=int32 --classes=1000.
Exit codes: 0 it fits (or no --device was given), 1 it does not, 2 a mistake in the command or the config.
"""

import dataclasses
import itertools
import os
import sys
from collections.abc import Sequence
from typing import Any

from absl import flags

from dl.commands import cli
from dl.errors import ConfigError
from dl.show.words import amount, percent, seconds, size

MOST = 1024
"""Devices up to which a plan looks for enough of them."""


def define_flags() -> None:
  """The flags of the command: not defined on import, so that a program may import several commands."""
  cli.define_config()
  flags.DEFINE_integer('devices', 1, 'How many devices.', lower_bound=1)
  flags.DEFINE_string(
    'device',
    None,
    "Whose data sheet: 'h100', 'l4', 'rtx-4090', ... (a wrong name is told all), or FILE.json.",
  )
  flags.DEFINE_list('batch', [], 'Shapes of an example in place of the data set: image=224x224x3:uint8,label=int32.')
  flags.DEFINE_integer('classes', None, 'With --batch: number of classes.', lower_bound=1)
  flags.DEFINE_float('steps_per_epoch', 1000.0, 'With --batch: steps of an epoch.', lower_bound=0)


def virtual_devices(count: int) -> None:
  """Makes JAX see this many CPU devices, and keep quiet; to be called before it is imported."""
  if 'jax' in sys.modules:
    raise RuntimeError('virtual devices must be asked for before jax is imported')
  os.environ['JAX_PLATFORMS'] = 'cpu'
  os.environ['TF_CPP_MIN_LOG_LEVEL'] = '3'  # XLA for CPUs gives up on code in bfloat16, as a plan expects
  os.environ['JAX_ENABLE_COMPILATION_CACHE'] = 'false'  # code from there leaves no program to read
  kept = [f for f in os.environ.get('XLA_FLAGS', '').split() if 'host_platform_device_count' not in f]
  os.environ['XLA_FLAGS'] = ' '.join([*kept, f'--xla_force_host_platform_device_count={count}'])


def record(specs: Sequence[str], classes: int | None, rows: int, steps_per_epoch: float) -> dict[str, Any]:
  """What `assemble` takes in place of a data set.

  Args:
    specs: 'name=28x28x1:uint8' or, for a number an example, 'name=int32'.
    classes: number of classes, if there are any.
    rows: the batch size.
    steps_per_epoch: steps of a pass over the data.
  """
  batch = {'mask': [[rows], 'float32']}
  for spec in specs:
    name, equals, text = spec.partition('=')
    shape, _, dtype = text.rpartition(':')
    sizes = shape.split('x') if shape else []
    if not name or not equals or not all(s.isdecimal() for s in sizes) or dtype not in ('uint8', 'int32', 'float32'):
      raise ConfigError(f'--batch: expected name=HxWxC:dtype or name=dtype, such as label=int32; got {spec!r}')
    batch[name] = [[rows, *map(int, sizes)], dtype]
  info = {'num_classes': classes} if classes else {}
  for name in ('image', 'features'):
    if name in batch and len(batch[name][0]) > 1:
      channels = batch[name][0][-1]
      info |= {'mean': [0.0] * channels, 'std': [1.0] * channels}
  return {'info': info, 'batch': batch, 'steps_per_epoch': steps_per_epoch}


def main(argv: Sequence[str]) -> int:
  """Prints the plan; returns the exit code."""
  cli.no_more(argv)
  FLAGS = flags.FLAGS
  spec = cli.required('config')
  virtual_devices(max(FLAGS.devices, MOST))
  from dl import config as configs
  from dl.parallel import datasheet
  from dl.planning import plans

  experiment = configs.load(spec, FLAGS.override)
  device = datasheet.device(FLAGS.device) if FLAGS.device else None

  def shapes(experiment: configs.Experiment) -> dict[str, Any] | None:
    rows = (experiment.data or {}).get('batch_size')
    return record(FLAGS.batch, FLAGS.classes, rows, FLAGS.steps_per_epoch) if FLAGS.batch and rows else None

  try:
    plan = plans.make(experiment, shapes(experiment), FLAGS.devices)
  except ConfigError as e:
    if FLAGS.batch or 'not prepared' not in str(e):
      raise
    raise ConfigError(f'{e}; or, to plan without the data, give the shapes of an example: --batch, see --help') from e
  print(describe(plan, experiment, device), flush=True)
  if device is None or plan.peak <= device.memory:
    return 0
  print()
  if plan.state > device.memory:
    print(f'parameters and optimizer alone take {size(plan.state)} of each device')
  tried = itertools.chain(*(search(experiment, shapes, plan, device.memory) for search in (plans.fit, plans.more)))
  for text, changed, smaller in tried:
    print(f'with {text}: {size(smaller.peak)}, {_verdict(smaller, device)}', flush=True)
    if smaller.peak <= device.memory:
      print('\n' + describe(smaller, changed, device))
      fewer = experiment.data['batch_size'] // changed.data['batch_size'] if experiment.data else 1
      if fewer > 1:
        summing = dataclasses.replace(changed, optim=plans.accumulating(changed.optim, fewer))
        whole = plans.make(summing, shapes(summing), smaller.devices)
        stage = f"dict(name='accumulate', steps={fewer})"
        print(f'for updates of as many examples, with {stage} as the first stage of optim: ', end='')
        print(f'{size(whole.peak)}, {_verdict(whole, device)}')
      return 1
  print('nothing that was tried fits: weights split over a second axis of the mesh would be next')
  return 1


def describe(plan: Any, experiment: Any, device: Any) -> str:
  """The plan as a text."""
  name = device.name if device else 'device'
  model = experiment.model.get('name', ' and '.join(experiment.model)) if experiment.model else 'no model'
  mesh = ' x '.join(f'{axis} {n}' for axis, n in plan.mesh.items())
  rule = experiment.sharding if isinstance(experiment.sharding, str) else 'rules'
  rows = f', batch {experiment.data["batch_size"]:,}' if experiment.data else ''
  again, wide = plan.program.flops * plan.devices / plan.model_flops, plan.program.share('float32')
  lines = [
    f'{model}, {plan.total_parameters:,} parameters, on {plan.devices} x {name}: mesh {mesh}, {rule}, '
    f'{experiment.precision}{rows}',
    '',
    'one device holds',
    f'  parameters                  {size(plan.parameters):>12}',
    f'  optimizer                   {size(plan.optimizer):>12}'
    + (f'   and {size(plan.host)} in the host between steps' if plan.host else ''),
    f'  batch, statistics, sums     {size(plan.other):>12}',
    f'  activations, gradients      {size(plan.temporary):>12}   at most; compiled for CPUs, without fused kernels'
    + (', bfloat16 counted as float32' if plan.widened else ''),
    f'  peak                        {size(plan.peak):>12}'
    + _fits(plan, device)
    + (f'; with the {size(plan.host)} of the host, which a step brings back' if plan.host else ''),
    '',
    'one device does in a step',
    f'  products                    {amount(plan.program.flops, "FLOP"):>12}   {amount(again)} times what the model '
    'itself takes' + (f', {percent(wide)} of them in float32' if experiment.precision != 'float32' and wide else ''),
  ]
  lines += [
    f'  {kind:28}{size(moved):>12}   in {count:,} calls among {group} devices{where}'
    for (kind, group, where), (count, moved) in totals(plan.program.collectives, device).items()
  ]
  if not plan.program.collectives:
    lines.append('  no communication')
  if plan.program.unread:
    lines.append(f'  {len(plan.program.unread)} loops, of which it is not known how often they run, are counted once')
  if plan.program.ungrouped:
    count = len(plan.program.ungrouped)
    lines.append(f'  {count} calls, of which it is not known who takes part, are counted as among all devices')
  if plan.note:
    lines.append(f'  {plan.note}')
  if device:
    times = plan.times(device)
    low, high = plan.utilization(device, experiment.precision)
    lines += [
      '',
      f'by the data sheet of the {name}, without fused kernels',
      f'  computing                   {seconds(times["computing"]):>12}   of which products alone '
      f'{seconds(times["products"])}; the rest waits for memory',
      f'  communicating               {seconds(times["communicating"]):>12}',
    ]
    if plan.host:
      rate = 'there and back, ' + (f'at {size(device.host)}/s' if device.host else 'at a rate that is not published')
      lines.append(f'  host transfer               {seconds(times["host"]) if device.host else "?":>12}   {rate}')
    lines += [
      f'  a step                      {seconds(times["hidden"]):>12}   to {seconds(times["exposed"])}, '
      f'with communication{" and transfer" if plan.host else ""} hidden or not',
      f'  model FLOP utilization      {percent(high):>12}   to {percent(low)}',
    ]
  return '\n'.join([*lines, f'\nplanned in {seconds(plan.seconds)}'])


def totals(collectives: Sequence[Any], device: Any = None) -> dict[tuple[str, int, str], tuple[int, float]]:
  """(kind, group, where) -> (calls, bytes sent by a device) of a step, the most bytes first.

  `where` is ' within a node' or ' between nodes' of a device's data sheet, and empty without one.
  """
  sums: dict[tuple[str, int, str], tuple[int, float]] = {}
  for c in collectives:
    where = '' if device is None else ' between nodes' if c.crosses(device.node) else ' within a node'
    count, moved = sums.get((c.kind, c.group, where), (0, 0.0))
    sums[c.kind, c.group, where] = (count + c.times, moved + c.times * c.moved)
  return dict(sorted(sums.items(), key=lambda item: -item[1][1]))


def _fits(plan: Any, device: Any) -> str:
  return '' if device is None else f'   of {size(device.memory)}: {_verdict(plan, device)}'


def _verdict(plan: Any, device: Any) -> str:
  return 'fits' if plan.peak <= device.memory else 'does not fit'
