"""How training scales: python -m benchmarks.scaling [--write]

Measured on virtual devices of this machine: the time of a step on n devices with n times the batch, over n times that
of a step on one (weak scaling; the devices share the machine's cores, so n of them have n times as much to do). What is
above 1 is what splitting costs: copies in place of communication, smaller products, and cores which wait.

On paper, by the plan: the same work for each device on ever more devices (weak scaling), the bytes that each sends in a
step, and the share of communication in its time, by the data sheet of an H100. --write puts both into docs/scaling.md.
"""

import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from typing import Any

from absl import app, flags

from dl.commands import cli

flags.DEFINE_string('worker', None, 'For its own use: what to do, and on how many devices.')
flags.DEFINE_boolean('write', False, 'Put the tables into docs/scaling.md.')
flags.DEFINE_enum('only', None, ['measured', 'planned'], 'Make this table alone.')

ROOT = pathlib.Path(__file__).parents[1]
PAGE = ROOT / 'docs' / 'scaling.md'
GPT = [
  'model.layers=4', 'model.width=256', 'model.heads=8', 'model.length=256', 'model.vocab_size=4096', 'data.length=256',
  'data.vocab_size=4096', 'precision=float32', 'train_for=1000',
]  # fmt: skip
RESNET = [
  "model={'name': 'resnet.ResNet', 'num_classes': 10, 'blocks': (1, 1, 1), 'width': 32, 'stem': 'cifar'}",
  'train_for=1000',
]  # fmt: skip
MEASURED = {  # name -> (config below experiments/, overrides, examples of a device, mesh of n devices)
  'GPT, data': ('scale/gpt.py:124m', [*GPT, 'sharding=replicated'], 2, lambda n: {'data': n}),
  'GPT, fsdp': ('scale/gpt.py:124m', [*GPT, 'sharding=fsdp'], 2, lambda n: {'data': n}),
  'GPT, tensor': ('scale/gpt.py:124m', [*GPT, 'sharding=tensor'], 2, lambda n: {'data': 1, 'model': n}),
  'GPT, tensor+sequence': (
    'scale/gpt.py:124m', [*GPT, 'sharding=tensor+sequence'], 2, lambda n: {'data': 1, 'model': n},
  ),
  'ResNet, data': ('vision/digits_lenet.py', [*RESNET, 'sharding=replicated'], 16, lambda n: {'data': n}),
}  # fmt: skip
IMAGES = dict(specs=['image=224x224x3:uint8', 'label=int32'], classes=1000)
PLANNED = {  # name -> (config, overrides, examples of a device, what stands in for the data)
  'GPT-2 124M, data': ('scale/gpt.py:124m', [], 16, None),
  'GPT-2 124M, fsdp': ('scale/gpt.py:124m', ['sharding=fsdp'], 16, None),
  'GPT 7.5B, fsdp': ('scale/gpt.py:8b', [], 1, None),
  'ViT-L/16, fsdp': (
    'vision/imagenet_vit_s16.py', ["model={'name': 'vit.ViT_L16', 'num_classes': 1000}", 'sharding=fsdp',
    'precision=bfloat16'], 64, IMAGES,
  ),
  'ResNet-50, data': ('vision/imagenet_resnet50.py', ['precision=bfloat16'], 128, IMAGES),
}  # fmt: skip
DEVICES = {'measured': (1, 2, 4, 8), 'planned': (8, 64, 256)}


def measure(count: int) -> Iterator[dict[str, Any]]:
  """Seconds of a step on `count` devices."""
  import jax

  from dl import config as configs
  from dl.parallel import meshes
  from dl.training import steps
  from dl.training.assemble import assemble

  for name, (path, overrides, rows, mesh_of) in MEASURED.items():
    more = [f'mesh={mesh_of(count)}', f'data.batch_size={rows * count}']
    parts = assemble(configs.load(str(ROOT / 'experiments' / path), [*overrides, *more]))
    mesh = meshes.make_mesh(parts.experiment.mesh, jax.devices())
    functions = steps.compiled(parts, mesh)
    batch = jax.device_put(parts.pipeline[0], meshes.batch_sharding(mesh))
    state, sums, times = functions.init({}), functions.new_sums(), []
    for _ in range(12):
      began = time.perf_counter()
      state, sums, done = functions.train(state, sums, batch)
      jax.block_until_ready(done)
      times.append(time.perf_counter() - began)
    yield {'name': name, 'devices': count, 'seconds': statistics.median(times[2:])}  # the first compiles
    print(f'{name} on {count}: {statistics.median(times[2:]):.3g} s', file=sys.stderr, flush=True)


def plan(count: int) -> Iterator[dict[str, Any]]:
  """What the plan says of a step on `count` H100s."""
  from dl import config as configs
  from dl.commands.plan import record
  from dl.parallel import datasheet
  from dl.planning import plans

  device = datasheet.device('h100')
  for name, (path, overrides, rows, stand_in) in PLANNED.items():
    batch = f'data.batch_size={rows * count}'
    experiment = configs.load(str(ROOT / 'experiments' / path), [*overrides, batch, f"mesh={{'data': {count}}}"])
    given = record(**stand_in, rows=rows * count, steps_per_epoch=1000.0) if stand_in else None
    found = plans.make(experiment, given, count)
    times = found.times(device)
    low, high = found.utilization(device, experiment.precision)
    print(f'{name} on {count}: {found.seconds:.0f} s', file=sys.stderr, flush=True)
    yield {
      'name': name, 'devices': count, 'state': found.parameters + found.optimizer, 'peak': found.peak,
      'sent': sum(c.times * c.moved for c in found.program.collectives), 'computing': times['computing'],
      'communicating': times['communicating'], 'low': low, 'high': high, 'seconds': found.seconds,
    }  # fmt: skip


def worker(kind: str, count: int) -> list[dict[str, Any]]:
  """What a fresh process with so many virtual devices finds."""
  flag = f'--xla_force_host_platform_device_count={count}'
  env = os.environ | {'JAX_PLATFORMS': 'cpu', 'XLA_FLAGS': flag, 'JAX_ENABLE_COMPILATION_CACHE': 'false'}
  env |= {'TF_CPP_MIN_LOG_LEVEL': '3'}  # XLA for CPUs gives up on code in bfloat16, as a plan expects
  with tempfile.TemporaryFile('w+') as out:
    command = [sys.executable, '-m', 'benchmarks.scaling', f'--worker={kind}:{count}']
    subprocess.run(command, cwd=ROOT, env=env, stdout=out, check=True)
    out.seek(0)
    return [json.loads(line) for line in out.read().splitlines() if line.startswith('{')]


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
  """A Markdown table."""
  return '\n'.join('| ' + ' | '.join(row) + ' |' for row in [head, ['---'] * len(head), *rows])


def main(_: Sequence[str]) -> None:
  """Prints the tables."""
  FLAGS = flags.FLAGS
  if FLAGS.worker:
    cli.enough_threads()
    kind, count = FLAGS.worker.split(':')
    for line in {'measured': measure, 'planned': plan}[kind](int(count)):
      print(json.dumps(line), flush=True)
    return
  from dl.show.words import seconds, size

  kinds = [FLAGS.only] if FLAGS.only else list(DEVICES)
  found = {kind: [line for n in DEVICES[kind] for line in worker(kind, n)] for kind in kinds}
  lines = lambda kind, name: [r for r in found.get(kind, []) if r['name'] == name]
  measured = []
  for name in MEASURED if 'measured' in found else ():
    one, *more = lines('measured', name)
    over = [f'{r["seconds"] / one["seconds"] / r["devices"]:.2f}' for r in more]
    measured.append([name, f'{1000 * one["seconds"]:.3g} ms', *over])
  planned = [
    [
      r['name'], f'{r["devices"]}', size(r['state']), size(r['peak']), size(r['sent']), seconds(r['computing']),
      seconds(r['communicating']), f'{r["communicating"] / (r["computing"] + r["communicating"]):.0%}',
      f'{r["low"]:.0%} to {r["high"]:.0%}', f'{r["seconds"]:.0f} s',
    ]
    for name in PLANNED for r in lines('planned', name)
  ]  # fmt: skip
  over = [f'on {n}, over {n} x that' for n in DEVICES['measured'][1:]]
  tables = {
    'measured': table(['time of a step', 'on one', *over], measured),
    'planned': table(
      ['on H100s', 'devices', 'parameters and moments', 'peak', 'sent', 'computing', 'communicating', 'share', 'MFU',
       'planned in'],
      planned,
    ),
  }  # fmt: skip
  tables = {name: tables[name] for name in kinds}
  print('\n\n'.join(tables.values()))
  if FLAGS.write:
    text = PAGE.read_text()
    for name, content in tables.items():
      text = re.sub(
        rf'(<!-- {name} -->\n).*?(<!-- end -->)', lambda m, c=content: m[1] + c + '\n' + m[2], text, flags=re.S
      )
    PAGE.write_text(text)


if __name__ == '__main__':
  app.run(main)
