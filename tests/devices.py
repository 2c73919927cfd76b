"""Trains the same configs on many devices, for `test_devices.py` to compare with one.

python tests/devices.py FOLDER CASE...                    on 8 virtual devices of this process
python tests/devices.py FOLDER PROCESS COUNT PORT CASE...  on those of COUNT processes, of which this is one
"""

import dataclasses
import json
import pathlib
import sys
import time
from typing import Any

import jax
import numpy as np
from small import interrupted, small

from dl.commands import cli
from dl.errors import ConfigError
from dl.evaluators.mistakes import Mistakes
from dl.parallel import meshes, processes, weights
from dl.training import assemble, evaluation, loop, restore

MLP = [
  "model={'name': 'mlp.MLP', 'hidden': (256, 16), 'num_outputs': 10, 'batch_norm': True}",
  "optim={'adam': {'name': 'adamw', 'learning_rate': 3e-3}, 'ema': {'name': 'params_ema', 'decay': 0.9}}",
  'train_for=8', 'log_every=2', 'eval_every=4', 'checkpoint_every=100',
]  # fmt: skip
RESNET = [
  "model={'name': 'resnet.ResNet', 'num_classes': 10, 'blocks': (1, 1), 'width': 8, 'stem': 'cifar'}",
  "optim={'sgd': {'name': 'sgd', 'learning_rate': 0.01, 'momentum': 0.9}}",
  'train_for=4', 'log_every=1', 'eval_every=4', 'checkpoint_every=100',
]  # fmt: skip
GPT = ['train_for=4', 'log_every=2', 'eval_every=4', 'model.width=64', 'task.sample_length=2']
MOE = [*GPT, 'model.scan=True', 'data.batch_size=16', 'model.experts=4', 'model.remat=dots']
KINDS = {
  'mlp': ('digits', MLP),
  'resnet': ('digits', RESNET),
  'gan': ('gan', ['train_for=3', 'log_every=1', 'eval_every=3', 'eval.test.batch_size=40']),
  'ppo': ('ppo', ['train_for=3', 'log_every=1', 'model.features=(16, 16)', 'task.num_envs=8']),
  'gpt': ('gpt', GPT),
  'moe': ('gpt', MOE),
}
TWO = "mesh={'data': 4, 'model': 2}"
RULES = {
  'mlp': "sharding=[['dense_0/kernel', [None, 'model']], ['.*', []]]",
  'gpt': "sharding=[['up/kernel', [None, ['data', 'model']]], 'tensor']",
}

# name -> overrides; each is compared with the run of its kind, the first word, on one device.
CASES = {
  'mlp': [],
  'mlp_fsdp': ['sharding=fsdp+offload'],
  'mlp_rules': [TWO, RULES['mlp']],
  'resnet': [],
  'resnet_fsdp': ['sharding=fsdp'],
  'resnet_zero1': ['sharding=zero1'],
  'resnet_tensor': [TWO, 'sharding=tensor+fsdp'],
  'gan': [],
  'gan_fsdp': ['sharding=fsdp'],
  'gan_tensor': [TWO, 'sharding=tensor+zero1'],
  'ppo': [],
  'ppo_fsdp': ['sharding=fsdp'],
  'ppo_tensor': [TWO, 'sharding=tensor+zero1'],
  'gpt': [],
  'gpt_fsdp': ['sharding=fsdp'],
  'gpt_offload': ['sharding=zero1+offload'],
  'gpt_tensor': [TWO, 'sharding=tensor+sequence+fsdp'],
  'gpt_sequence': ["mesh={'data': 4, 'sequence': 2}", 'sharding=sequence+fsdp'],
  'gpt_rules': [TWO, RULES['gpt']],
  'moe_expert': ["mesh={'data': 2, 'expert': 2, 'model': 2}", 'sharding=expert+tensor+fsdp'],
}
SOME = ('mlp_fsdp',)
"""What 8 devices do in every run of the tests; with --thorough, they do all above, and two processes those below."""
MANY_PROCESSES = (
  'resnet_fsdp', 'resnet_tensor', 'gan_fsdp', 'gan_tensor', 'ppo_fsdp', 'ppo_tensor', 'gpt', 'gpt_fsdp', 'gpt_offload',
  'gpt_tensor', 'gpt_sequence', 'moe_expert',
)  # fmt: skip


def config(name, *overrides):
  """The config of a case."""
  kind, first = KINDS[name.split('_')[0]]
  return small(kind, *first, *CASES.get(name, []), *overrides)


def train(name, folder, seconds):
  """Trains a case in its folder; all but the smallest arrays are split, if it is not about which ones are."""
  began = time.perf_counter()
  weights.MIN_SHARDED_SIZE = 2**14 if name.startswith('mlp') else 2**6
  result = loop.train(config(name), folder / name, show_progress=False)
  seconds[name] = time.perf_counter() - began
  return result


def shards(tree):
  """Path -> [shape, shape of the part on the first device, kind of memory] of each array."""
  return {
    jax.tree_util.keystr(path, simple=True, separator='/'): [
      list(x.shape), list(x.addressable_shards[0].data.shape), x.sharding.memory_kind,
    ]
    for path, x in jax.tree_util.tree_leaves_with_path(tree)
  }  # fmt: skip


def on_many_devices(folder: pathlib.Path, *names: str) -> None:
  """What happens on 8 devices; leaves work directories and `found.json`. `names`: the cases to train."""
  found = {
    'devices': jax.device_count(),
    'shards': {},
    'evaluations': {},
    'mistakes': {},
    'restored': {},
    'seconds': {},
  }
  for name in names:
    result = train(name, folder, found['seconds'])
    found['shards'][name] = shards({'params': result.state.params, 'opt': result.state.opt})
    if name in ('mlp_fsdp', 'gpt_tensor'):
      np.savez(folder / f'{name}.npz', *map(np.asarray, jax.tree.leaves(result.state)))

  if len(names) == len(CASES):
    _evaluate_and_restore(folder, found)
  try:
    loop.train(config('mlp', 'data.batch_size=60'), folder / 'refused', show_progress=False)
  except ConfigError as e:
    found['refused'] = str(e)
  (folder / 'found.json').write_text(json.dumps(found))


def _evaluate_and_restore(folder: pathlib.Path, found: dict[str, Any]) -> None:
  """A run that is cut, and evaluations and states of complete ones on other numbers of devices."""
  weights.MIN_SHARDED_SIZE = 2**14
  with interrupted(5):
    found['cut'] = loop.train(config('mlp_fsdp'), folder / 'cut', show_progress=False).step

  for count in (1, 2, 8):
    mesh = meshes.make_mesh({'data': -1}, jax.devices()[:count])
    for batch_size in (56, 1000):
      parts, state = restore.load_parts(folder / 'mlp_fsdp', mesh=mesh)
      spec = dataclasses.replace(parts.experiment, data=parts.experiment.data | {'batch_size': batch_size})
      step = jax.jit(evaluation.make_eval_step(parts.task, 0), out_shardings=meshes.replicated(mesh))
      pipeline = assemble.make_eval_pipelines(spec)['test']
      found['evaluations'][f'{count}/{batch_size}'] = evaluation.evaluate(step, state, pipeline, mesh)
      other = evaluation.compiled(parts, mesh, {'test': Mistakes()})['test']  # a second opinion
      found['mistakes'][f'{count}/{batch_size}'] = evaluation.evaluate(other, state, pipeline, mesh)
  for sizes in ({'data': 4, 'model': 1}, {'data': 2, 'model': 2}):
    mesh = meshes.make_mesh(sizes, jax.devices()[:4])
    found['restored'][str(sizes)] = is_as_saved(folder, 'gpt_tensor', mesh)


def is_as_saved(folder: pathlib.Path, name: str, mesh: jax.sharding.Mesh) -> bool:
  """Whether a checkpoint restores on a mesh bit for bit."""
  _, state = restore.load_parts(folder / name, mesh=mesh)
  assert len(jax.tree.leaves(state.params)[0].sharding.device_set) == mesh.size
  with np.load(folder / f'{name}.npz') as saved:
    leaves = jax.tree.leaves(processes.gathered(state, mesh))
    assert len(saved.files) == len(leaves)
    return all(np.array_equal(saved[name], leaf) for name, leaf in zip(saved.files, leaves, strict=True))


def on_many_processes(folder: pathlib.Path, process: int, count: int, port: int, *names: str) -> None:
  """The same on several processes; `folder` is what the 8 devices left, and gets a folder of its own."""
  processes.start(f'localhost:{port}', count, process)
  found = {'processes': jax.process_count(), 'devices': jax.device_count(), 'seconds': {}}
  for name in names:
    train(name, folder / 'processes', found['seconds'])
  mesh = meshes.make_mesh({'data': 4, 'model': 2})
  found['restored'] = is_as_saved(folder, 'gpt_tensor', mesh)
  if processes.is_first():
    (folder / 'processes' / 'found.json').write_text(json.dumps(found))


if __name__ == '__main__':
  cli.enough_threads()
  if sys.argv[2].isdecimal():
    on_many_processes(pathlib.Path(sys.argv[1]), *map(int, sys.argv[2:5]), *sys.argv[5:])
  else:
    on_many_devices(pathlib.Path(sys.argv[1]), *sys.argv[2:])
