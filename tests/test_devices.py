"""The same config on 1 and on 8 virtual devices: the same losses, exact evaluations, checkpoints that move.

Run as a script, this file is the process with 8 devices: `python tests/test_devices.py FOLDER` trains there.
"""

import json
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest
from small import interrupted, records, small

import dl
from dl import assemble, evaluate, loop, restore, sharding, steps
from dl.data.sklearn import Digits
from dl.errors import ConfigError

MLP = [
  "model={'name': 'mlp.MLP', 'hidden': (256, 16), 'num_outputs': 10, 'batch_norm': True}",
  "optim={'adam': {'name': 'adamw', 'learning_rate': 3e-3}, 'ema': {'name': 'params_ema', 'decay': 0.9}}",
  'train_for=8', 'log_every=2', 'eval_every=4', 'checkpoint_every=100',
]  # fmt: skip
GPT = ['train_for=4', 'log_every=2', 'eval_every=4', 'model.width=64']
RULES = {
  'mlp': "sharding=[['dense_0/kernel', [None, 'model']], ['.*', []]]",
  'gpt': "sharding=[['up/kernel', [None, 'model']], ['down/kernel', ['model', None]], ['token', ['data']], ['.*', []]]",
}
TWO_AXES = "mesh={'data': 4, 'model': 2}"

# name -> (kind, overrides); each is compared with its kind's run on one device.
CASES = {
  'mlp': ('digits', MLP),
  'mlp_fsdp': ('digits', [*MLP, 'sharding=fsdp']),
  'mlp_rules': ('digits', [*MLP, TWO_AXES, RULES['mlp']]),
  'gan': ('gan', ['train_for=3', 'log_every=1', 'eval_every=3', 'eval.test.batch_size=40']),
  'ppo': ('ppo', ['train_for=3', 'log_every=1']),
  'gpt_fsdp': ('gpt', [*GPT, 'sharding=fsdp']),
  'gpt_rules': ('gpt', [*GPT, TWO_AXES, RULES['gpt']]),
}


def config(name, *overrides):
  kind, first = CASES[name]
  return small(kind, *first, *overrides)


def shards(tree):
  """Path -> [shape, shape of the part on the first device] of each array."""
  return {
    jax.tree_util.keystr(path, simple=True, separator='/'): [list(x.shape), list(x.addressable_shards[0].data.shape)]
    for path, x in jax.tree_util.tree_leaves_with_path(tree)
  }


def on_many_devices(folder: pathlib.Path) -> None:
  """What happens on 8 devices; leaves work directories and `found.json`."""
  found = {'devices': jax.device_count(), 'shards': {}, 'evaluations': {}}
  for name in CASES:
    result = loop.train(config(name), folder / name, show_progress=False)
    found['shards'][name] = shards({'params': result.state.params, 'opt': result.state.opt})
    if name == 'mlp_fsdp':
      np.savez(folder / 'fsdp.npz', *map(np.asarray, jax.tree.leaves(result.state)))

  with interrupted(5):
    found['cut'] = loop.train(config('mlp_fsdp'), folder / 'cut', show_progress=False).step

  for count in (1, 2, 8):
    mesh = sharding.make_mesh({'data': -1}, jax.devices()[:count])
    for batch_size in (56, 1000):
      parts, state = restore.load_parts(folder / 'mlp_fsdp', mesh=mesh)
      spec = parts.config | {'data': parts.config['data'] | {'batch_size': batch_size}}
      step = jax.jit(steps.make_eval_step(parts.task, 0), out_shardings=sharding.replicated(mesh))
      pipeline = assemble.make_eval_pipelines(spec)['test']
      found['evaluations'][f'{count}/{batch_size}'] = steps.evaluate(step, state, pipeline, mesh)

  try:
    loop.train(config('mlp', 'data.batch_size=60'), folder / 'refused', show_progress=False)
  except ConfigError as e:
    found['refused'] = str(e)
  (folder / 'found.json').write_text(json.dumps(found))


@pytest.fixture(scope='module')
def many(tmp_path_factory, environment):
  """The folder which the process with 8 devices left, and what it found."""
  folder = tmp_path_factory.mktemp('many')
  flags = '--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0'  # which compiles faster
  done = subprocess.run(
    [sys.executable, __file__, str(folder)],
    env=environment | {'XLA_FLAGS': flags}, capture_output=True, text=True, check=False,
  )  # fmt: skip
  assert done.returncode == 0, done.stderr
  return folder, json.loads((folder / 'found.json').read_text())


@pytest.fixture(scope='module')
def one(tmp_path_factory):
  """A function from a case to the work directory of its run on one device, where all shardings are the same."""
  folder, done = tmp_path_factory.mktemp('one'), {}

  def train(name):
    kind = name.split('_')[0]
    if kind not in done:
      done[kind] = loop.train(
        config(name, "mesh={'data': -1}", 'sharding=replicated'), folder / kind, show_progress=False
      )
    return folder / kind

  return train


@pytest.mark.slow
@pytest.mark.parametrize('name', CASES)
def test_eight_devices_train_as_one(many, one, name):
  folder, found = many
  assert found['devices'] == 8 and jax.device_count() == 1
  a, b = records(one(name)), records(folder / name)
  assert [sorted(r) for r in a] == [sorted(r) for r in b] and len(a) >= 3
  for x, y in zip(a, b, strict=True):
    for key in x.keys() - {'split', 'class_accuracy'}:
      discrete = 'accuracy' in key or key in ('clip_fraction', 'return', 'episode_length')
      tolerance = dict(atol=0.02) if discrete else dict(rtol=2e-3, atol=2e-4)
      np.testing.assert_allclose(x[key], y[key], **tolerance, err_msg=f'{key} of {x["split"]} at step {x["step"]}')


def test_arrays_are_really_split(many):
  shards = many[1]['shards']
  assert all(whole == part for name in ('mlp', 'gan', 'ppo') for whole, part in shards[name].values())
  mlp = shards['mlp_fsdp']
  assert mlp['params/model/dense_0/kernel'] == [[64, 256], [64, 32]]  # 16,384 numbers
  assert mlp['params/model/dense_1/kernel'] == [[256, 16], [256, 16]]  # too small to split
  moments = [v for k, v in mlp.items() if k.startswith('opt/') and k.endswith('dense_0/kernel')]
  assert moments == [[[64, 256], [64, 32]]] * 3  # two moments and the average
  rules = shards['mlp_rules']
  assert {tuple(part) for k, (_, part) in rules.items() if k.endswith('dense_0/kernel')} == {(64, 128)}
  assert {tuple(part) for k, (_, part) in rules.items() if k.endswith('dense_1/kernel')} == {(256, 16)}
  gpt = {k.removeprefix('params/model/'): part for k, (_, part) in shards['gpt_rules'].items()}
  assert gpt['block_0/up/kernel'] == [64, 128] and gpt['block_0/down/kernel'] == [128, 64]
  assert gpt['token/embedding'] == [64, 64] and gpt['block_0/norm_0/scale'] == [64]
  gpt = {k.removeprefix('params/model/'): part for k, (_, part) in shards['gpt_fsdp'].items()}
  assert gpt['block_0/up/kernel'] == [64, 32] and gpt['token/embedding'] == [32, 64]


def test_evaluation_is_exact_on_any_number_of_devices(many):
  folder, found = many
  task, state = dl.load(folder / 'mlp_fsdp')
  test = Digits('test').columns
  probability = np.asarray(task.predict(state, test['image'], jax.random.key(0))['probability'], np.float64)
  nats = -np.log(probability)
  smoothing = config('mlp')['task']['label_smoothing']
  loss = (1 - smoothing) * nats[np.arange(360), test['label']] + smoothing * nats.mean(1)
  lines = found['evaluations'] | {'recorded': records(folder / 'mlp_fsdp', 'test')[-1]}
  assert len(lines) == 7
  for line in lines.values():
    np.testing.assert_allclose(line['accuracy'], (probability.argmax(1) == test['label']).mean(), rtol=1e-12)
    np.testing.assert_allclose(line['loss'], loss.mean(), rtol=1e-5)


def test_a_checkpoint_of_eight_devices_restores_on_one_bit_for_bit(many):
  folder, _ = many
  _, state = dl.load(folder / 'mlp_fsdp', averaged=False)
  leaves = jax.tree.leaves(state)
  with np.load(folder / 'fsdp.npz') as saved:
    assert len(saved.files) == len(leaves)
    for name, leaf in zip(saved.files, leaves, strict=True):
      assert len(leaf.sharding.device_set) == 1
      np.testing.assert_array_equal(saved[name], leaf)
  # Its mesh of 4 x 2 does not fit here, and evaluation does without.
  line = evaluate.evaluate(folder / 'mlp_rules')['test']
  np.testing.assert_allclose(line['loss'], records(folder / 'mlp_rules', 'test')[-1]['loss'], rtol=1e-5)


def test_a_run_begun_on_eight_devices_continues_on_one(many, one):
  folder, found = many
  assert found['cut'] == 5
  result = loop.train(config('mlp'), folder / 'cut', show_progress=False)
  assert (result.status, result.step) == ('complete', 8)
  for a, b in zip(records(one('mlp')), records(folder / 'cut'), strict=True):
    np.testing.assert_allclose(a['loss'], b['loss'], rtol=1e-3, err_msg=str(a))


def test_a_batch_that_the_devices_cannot_share_is_one_line(many):
  folder, found = many
  assert found['refused'] == 'config.data.batch_size: a batch of 60 cannot be shared by 8 devices; try 56'
  assert not (folder / 'refused').exists()


if __name__ == '__main__':
  on_many_devices(pathlib.Path(sys.argv[1]))
