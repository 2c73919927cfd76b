"""The same config on 1 and on 8 virtual devices, and on 2 processes of 4: the same losses, exact evaluations."""

import json
import pathlib
import socket
import subprocess
import sys

import jax
import numpy as np
import pytest
from devices import CASES, MANY_PROCESSES, SOME, config
from small import records

import dl
from dl.commands import evaluate
from dl.data.parts import part
from dl.data.sources.sklearn import Digits
from dl.training import loop

THOROUGH = pytest.mark.thorough
SCRIPT = str(pathlib.Path(__file__).parents[1] / 'devices.py')


@pytest.fixture(scope='module')
def many(tmp_path_factory, environment, request):
  """The folder which the process with 8 devices left, and what it found."""
  folder = tmp_path_factory.mktemp('many')
  _run(environment, 8, [folder, *(CASES if request.config.getoption('thorough') else SOME)])
  return folder, json.loads((folder / 'found.json').read_text())


@pytest.fixture(scope='module')
def processes(many, environment):
  """The same for 2 processes of 4 devices each."""
  with socket.create_server(('localhost', 0)) as free:
    port = free.getsockname()[1]
  folder = many[0]
  (folder / 'processes').mkdir()
  _run(environment, 4, *([folder, i, 2, port, *MANY_PROCESSES] for i in range(2)))
  return folder / 'processes', json.loads((folder / 'processes' / 'found.json').read_text())


def _run(environment, devices, *arguments):
  """Runs the script once for each list of arguments, all at once."""
  flags = f'--xla_force_host_platform_device_count={devices} --xla_backend_optimization_level=0'  # compiles faster
  flags = f'{flags} {environment["XLA_FLAGS"]}'
  children = [
    subprocess.Popen(
      [sys.executable, SCRIPT, *map(str, a)],
      env=environment | {'XLA_FLAGS': flags}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )
    for a in arguments
  ]  # fmt: skip
  try:
    outputs = [child.communicate()[0] for child in children]
  finally:
    for child in children:
      child.kill()
  for child, output in zip(children, outputs, strict=True):
    assert child.returncode == 0, output[-5000:]


@pytest.fixture(scope='module')
def one(tmp_path_factory):
  """A function from a case to the work directory of its kind's run on one device."""
  folder, done = tmp_path_factory.mktemp('one'), {}

  def train(name):
    kind = name.split('_')[0]
    if kind not in done:
      done[kind] = loop.train(config(kind, "mesh={'data': -1}"), folder / kind, show_progress=False)
    return folder / kind

  return train


@pytest.mark.parametrize('name', [case if case in SOME else pytest.param(case, marks=THOROUGH) for case in CASES])
def test_eight_devices_train_as_one(many, one, name):
  folder, found = many
  assert found['devices'] == 8 and jax.device_count() == 1
  _assert_same_numbers(one(name), folder / name)


@THOROUGH
@pytest.mark.parametrize('name', MANY_PROCESSES)
def test_two_processes_train_as_one(processes, one, name):
  folder, found = processes
  assert (found['processes'], found['devices']) == (2, 8)
  _assert_same_numbers(one(name), folder / name)


def _assert_same_numbers(one, other):
  a, b = records(one), records(other)
  assert [sorted(r) for r in a] == [sorted(r) for r in b] and len(a) >= 3
  for x, y in zip(a, b, strict=True):
    for key in x.keys() - {'split', 'class_accuracy'}:
      discrete = 'accuracy' in key or key in ('clip_fraction', 'return', 'episode_length')
      tolerance = dict(atol=0.02) if discrete else dict(rtol=2e-3, atol=2e-4)
      np.testing.assert_allclose(x[key], y[key], **tolerance, err_msg=f'{key} of {x["split"]} at step {x["step"]}')


def test_arrays_are_really_split(many):
  shards = {case: {k: v[:2] for k, v in found.items()} for case, found in many[1]['shards'].items()}
  mlp = shards['mlp_fsdp']
  assert mlp['params/model/dense_0/kernel'] == [[64, 256], [64, 32]]  # 16,384 numbers
  assert mlp['params/model/dense_1/kernel'] == [[256, 16], [256, 16]]  # too small to split
  moments = [v for k, v in mlp.items() if k.startswith('opt/') and k.endswith('dense_0/kernel')]
  assert moments == [[[64, 256], [64, 32]]] * 3  # two moments and the average


@THOROUGH
def test_arrays_are_split_by_rules_or_not_at_all(many):
  shards = {case: {k: v[:2] for k, v in found.items()} for case, found in many[1]['shards'].items()}
  assert all(whole == part for name in ('mlp', 'gan', 'ppo') for whole, part in shards[name].values())
  rules = shards['mlp_rules']
  assert {tuple(part) for k, (_, part) in rules.items() if k.endswith('dense_0/kernel')} == {(64, 128)}
  assert {tuple(part) for k, (_, part) in rules.items() if k.endswith('dense_1/kernel')} == {(256, 16)}
  gpt = {k.removeprefix('params/model/'): part for k, (_, part) in shards['gpt_fsdp'].items()}
  assert gpt['block_0/up/kernel'] == [64, 32] and gpt['token/embedding'] == [32, 64]


@THOROUGH
def test_evaluation_is_exact_on_any_number_of_devices(many):
  folder, found = many
  task, state = dl.load(folder / 'mlp_fsdp')
  test = part(Digits(), 'test').columns
  probability = np.asarray(task.predict(state, test['image'], jax.random.key(0))['probability'], np.float64)
  nats = -np.log(probability)
  smoothing = config('mlp').task['label_smoothing']
  loss = (1 - smoothing) * nats[np.arange(360), test['label']] + smoothing * nats.mean(1)
  lines = found['evaluations'] | {'recorded': records(folder / 'mlp_fsdp', 'test')[-1]}
  assert len(lines) == 7
  for line in lines.values():
    np.testing.assert_allclose(line['accuracy'], (probability.argmax(1) == test['label']).mean(), rtol=1e-12)
    np.testing.assert_allclose(line['loss'], loss.mean(), rtol=1e-5)
  assert len(found['mistakes']) == 6
  for line in found['mistakes'].values():
    np.testing.assert_allclose(line['accuracy'], lines['recorded']['accuracy'], rtol=1e-12)
    np.testing.assert_allclose(line['confidence'], probability.max(1).mean(), rtol=1e-5)


def test_a_checkpoint_of_eight_devices_restores_on_one_bit_for_bit(many):
  folder, _ = many
  _, state = dl.load(folder / 'mlp_fsdp', averaged=False)
  leaves = jax.tree.leaves(state)
  with np.load(folder / 'mlp_fsdp.npz') as saved:
    assert len(saved.files) == len(leaves)
    for name, leaf in zip(saved.files, leaves, strict=True):
      assert len(leaf.sharding.device_set) == 1
      np.testing.assert_array_equal(saved[name], leaf)


@THOROUGH
def test_a_run_of_a_mesh_is_evaluated_on_one_device(many):
  folder, _ = many
  # Its mesh of 4 x 2 does not fit here, and evaluation does without.
  line = evaluate.evaluate(folder / 'mlp_rules')['test']
  np.testing.assert_allclose(line['loss'], records(folder / 'mlp_rules', 'test')[-1]['loss'], rtol=1e-5)


@THOROUGH
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


@THOROUGH
def test_strategies_split_what_they_say(many):
  shards = many[1]['shards']
  found = lambda case, name: next(v for k, v in shards[case].items() if k.startswith('params') and k.endswith(name))
  whole = lambda case, name: found(case, name)[0]
  part = lambda case, name: found(case, name)[1]
  moments = lambda case, name: {
    tuple(v[1]) for k, v in shards[case].items() if k.startswith('opt/') and k.endswith(name)
  }
  # blocks of 64 features in 2 heads: 192 of queries, keys and values, 256 hidden
  assert part('gpt_tensor', 'block_0/attention/qkv/kernel') == [16, 96]  # fsdp splits the rest over 4
  assert part('gpt_tensor', 'block_0/attention/out/kernel') == [32, 16]
  assert part('gpt_rules', 'block_0/up/kernel') == [64, 32]
  assert part('gpt_rules', 'block_0/down/kernel') == [128, 64]
  assert part('moe_expert', 'blocks/experts/up')[1] == 2  # of four
  assert part('gan_fsdp', 'generator/conv_0/kernel') != whole('gan_fsdp', 'generator/conv_0/kernel')
  assert part('ppo_fsdp', 'actor_1/kernel') != whole('ppo_fsdp', 'actor_1/kernel')
  assert part('resnet_zero1', 'layer2_0/conv2/kernel') == [3, 3, 16, 16]
  assert moments('resnet_zero1', 'layer2_0/conv2/kernel') == {(3, 3, 2, 16)}
  assert part('resnet_tensor', 'layer2_0/conv1/kernel') == [3, 3, 2, 8]
  kinds = {k: v[2] for k, v in shards['gpt_offload'].items() if v[0]}
  assert {v for k, v in kinds.items() if k.startswith('opt/')} == {'pinned_host'}
  assert {v for k, v in kinds.items() if k.startswith('params/')} == {'device'}


@THOROUGH
def test_a_checkpoint_of_eight_devices_restores_on_four_and_on_two_processes_bit_for_bit(many, processes):
  assert many[1]['restored'] == {"{'data': 4, 'model': 1}": True, "{'data': 2, 'model': 2}": True}
  assert processes[1]['restored'] is True
