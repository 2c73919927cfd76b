"""Plans: the work of a program read from HLO, and the command on virtual devices."""

import json
import os
import re
import subprocess
import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest
from small import small

from dl.commands import plan
from dl.config import Experiment
from dl.errors import ConfigError
from dl.models.mlp import MLP
from dl.parallel import datasheet, meshes
from dl.planning import hlo, plans
from dl.training import flops, steps
from dl.training.assemble import assemble


def test_products_and_loops_of_one_device_are_those_of_the_jaxpr():
  def function(x, w, kernel, image):
    x, _ = jax.lax.scan(lambda x, _: (jnp.tanh(x @ w), None), x, None, length=5)
    y = jax.lax.conv_general_dilated(image, kernel, (2, 2), 'SAME', dimension_numbers=('NHWC', 'HWIO', 'NHWC'))
    return (x**2).sum() + (y**2).sum()

  shapes = [(8, 16), (16, 16), (3, 3, 4, 6), (2, 10, 10, 4)]
  arguments = [jax.ShapeDtypeStruct(s, jnp.float32) for s in shapes]
  gradient = jax.grad(function, (0, 1, 2))
  program = hlo.read(jax.jit(gradient).lower(*arguments).as_text('hlo'))
  assert program.flops == sum(flops.count(gradient, *arguments).values()) > 0
  assert not program.collectives


def test_products_run_at_the_rate_of_their_operands():
  def function(a, b, wide):  # bfloat16 summed in float32; float32 x bfloat16; both in float32; times of a loop
    narrow = jnp.einsum('ij,jk->ik', a, b, preferred_element_type=jnp.float32)
    loop, _ = jax.lax.scan(lambda x, _: (x @ wide, None), narrow, None, length=2)
    return narrow, wide @ b, loop

  shape = lambda dtype: jax.ShapeDtypeStruct((32, 32), dtype)
  lowered = jax.jit(function).lower(shape(jnp.bfloat16), shape(jnp.bfloat16), shape(jnp.float32))
  program = hlo.read(lowered.as_text('hlo'))
  one, device = 2 * 32**3, datasheet.device('h100')
  assert sorted((p.precision, p.times * p.flops) for p in program.products) == [
    ('bfloat16', one), ('float32', one), ('float32', 2 * one),
  ]  # fmt: skip
  assert program.share('float32') == 0.75 and program.share('bfloat16') == 0.25
  planned = plans.StepPlan(1, {'data': 1}, 1, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, program, 4.0 * one, {}, 0.0)
  assert planned.times(device)['products'] == pytest.approx(one / device.bfloat16 + 3 * one / device.float32)
  assert {p.precision for p in hlo.read(PARTITIONED).products} == {'bfloat16'}


def test_a_language_model_in_bfloat16_has_no_product_in_float32():
  parts = assemble(small('gpt', 'precision=bfloat16'))
  functions = steps.compiled(parts, meshes.make_mesh({'data': 1}, jax.devices()[:1]))
  program = hlo.read(functions.train.lower(*functions.like, parts.batch).as_text('hlo'))
  assert program.flops > 0 and program.share('float32') == 0


PARTITIONED = """HloModule jit_f, num_partitions=8

%cond (p: (s32[], bf16[4,8])) -> pred[] {
  %p = (s32[], bf16[4,8]{1,0}) parameter(0)
  %i = s32[] get-tuple-element(%p), index=0
  %n = s32[] constant(12)
  ROOT %lt = pred[] compare(%i, %n), direction=LT
}

%body (q: (s32[], bf16[4,8])) -> (s32[], bf16[4,8]) {
  %q = (s32[], bf16[4,8]{1,0}) parameter(0)
  %x = bf16[4,8]{1,0} get-tuple-element(%q), index=1
  %w = bf16[8,8]{1,0} all-gather(%x), channel_id=1, replica_groups=mesh['a'=2,'b'=4] {'a','b'}, dimensions={0}
  %y = bf16[4,8]{1,0} dot(%x, %w), lhs_contracting_dims={1}, rhs_contracting_dims={0}
  ROOT %t = (s32[], bf16[4,8]{1,0}) tuple(%q, %y)
}

ENTRY %main (a: bf16[4,8]) -> f32[1,8] {
  %a = bf16[4,8]{1,0} parameter(0)
  %loop = (s32[], bf16[4,8]{1,0}) while(%a), condition=%cond, body=%body
  %g = f32[8,8]{1,0} convert(%a)
  %r = f32[8,8]{1,0} all-reduce(%g), channel_id=2, replica_groups=[2,4]<=[8], to_apply=%add
  %s = f32[1,8]{1,0} dynamic-slice(%r, %a), dynamic_slice_sizes={1,8}
  %k = f32[8,8]{1,0} all-reduce(%g), channel_id=3, replica_groups={{0,1},{2,3}}, to_apply=%add
  ROOT %u = f32[8,8]{1,0} add(%k, %k)
}
"""


def test_communication_is_counted_as_often_as_it_happens():
  program = hlo.read(PARTITIONED)
  found = {(c.kind, c.times, c.group): c.moved for c in program.collectives}
  assert found == {
    ('all-gather', 12, 8): 128 * 7 / 8,
    ('reduce-scatter', 1, 4): 256 * 3 / 4,  # only a slice of the sum is used
    ('all-reduce', 1, 2): 256 * 2 * 1 / 2,
  }
  assert program.flops == 12 * 2 * 4 * 8 * 8


def test_what_cannot_be_read_is_told():
  assert hlo.read(PARTITIONED).unread == ()
  program = hlo.read(PARTITIONED.replace('constant(12)', 'parameter(0)').replace('={{0,1},{2,3}}', '={}'))
  assert program.unread == ('loop',) and program.flops == 2 * 4 * 8 * 8
  assert {c.group for c in program.collectives if c.kind == 'all-reduce'} == {8}


GROUPS = {  # in XLA's notations, of 16 devices -> (who takes part with device 0, how many groups)
  'replica_groups={}, to_apply=%add': (tuple(range(16)), 1),
  'replica_groups={{0,8},{1,9}}, to_apply=%add': ((0, 8), 2),
  'replica_groups=[2,8]<=[16], dimensions={0}': (tuple(range(8)), 2),
  'replica_groups=[8,2]<=[2,8]T(1,0), dimensions={0}': ((0, 8), 8),
  'replica_groups=[8,2]<=[2,4,2]T(0,2,1), to_apply=%add': ((0, 2), 8),
  "replica_groups=mesh['a'=2,'b'=8] {'a'}, to_apply=%add": ((0, 8), 8),
  "replica_groups=mesh['a'=2,'b'=8] {'b'}, to_apply=%add": (tuple(range(8)), 2),
  "replica_groups=mesh['a'=2,'b'=1,'c'=8] {'a','c'}, to_apply=%add": (tuple(range(16)), 1),
  "replica_groups=mesh['a'=8,'b'=2], device_ids=([2,8]T(1,0)) {'a'}, to_apply=%add": (tuple(range(8)), 2),
  "replica_groups=mesh['a'=8,'b'=2], device_ids=([2,8]T(1,0)) {'b'}, to_apply=%add": ((0, 8), 8),
  "replica_groups=mesh['a'=8,'b'=2] {'a':(2)2}, to_apply=%add": ((0, 4), 8),
  "replica_groups=mesh['a'=8,'b'=2] {'a':(1)2,'b'}, to_apply=%add": ((0, 1, 8, 9), 4),
  'replica_groups=@mesh<a=2,b=8> {a}, to_apply=%add': ((0, 8), 8),
  'source_target_pairs={{0,8},{8,0},{3,3}}': ((0, 8), 2),
}


@pytest.mark.parametrize('text', GROUPS)
def test_who_communicates_is_read_in_every_notation(text):
  groups = hlo._groups(f', channel_id=1, {text}', 16)
  assert (next(tuple(sorted(g)) for g in groups if 0 in g), len(groups)) == GROUPS[text]


def test_groups_in_another_notation_are_told():
  for wrong in ('replica_groups=ring(4), to_apply', "replica_groups=mesh['a'=8] {'z'}, to_apply", 'to_apply'):
    program = hlo.read(PARTITIONED.replace('replica_groups={{0,1},{2,3}}, to_apply', wrong))
    assert program.ungrouped == ('k',)
    assert [c.group for c in program.collectives if c.kind == 'all-reduce'] == [8]
    assert hlo.read(PARTITIONED).ungrouped == ()


def test_what_leaves_a_node_takes_the_network():
  device = datasheet.device('h100')
  speed = lambda kind, *groups: plans.speed(hlo.Collective(kind, 1, 1.0, groups), device)
  assert speed('all-reduce', tuple(range(8)), tuple(range(8, 16))) == device.link
  assert speed('all-reduce', tuple(range(0, 64, 8)), tuple(range(1, 64, 8))) == device.network
  assert speed('all-gather', (0, 1, 8, 9)) == 2 * device.network  # two devices of each node share its traffic
  assert speed('all-gather', tuple(range(64))) == 8 * device.network
  assert speed('all-gather', tuple(range(9))) == device.network  # where fewest are
  assert speed('all-to-all', tuple(range(64))) == device.network
  assert speed('collective-permute', (0, 1), (1, 2)) == device.link
  assert speed('collective-permute', (0, 1), (7, 8)) == device.network
  within = plan.totals(
    [hlo.Collective('all-reduce', 2, 8.0, ((0, 8),)), hlo.Collective('all-reduce', 1, 8.0, ((0, 1),))]
  )
  assert within == {('all-reduce', 2, ''): (3, 24.0)}


def test_a_step_takes_what_is_slower():
  device = datasheet.device('h100')
  program = hlo.Program(
    (
      hlo.Collective('all-gather', 2, 450e9, (tuple(range(8)),)),
      hlo.Collective('all-reduce', 1, 50e9, (tuple(range(0, 128, 8)),)),
    ),
    (hlo.Product(3, 989e12, 1.0, 'bfloat16'), hlo.Product(1, 1.0, 3.35e12, 'bfloat16')),
  )
  found = plans.StepPlan(16, {'data': 16}, 1, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, program, 16 * 989e12, {}, 0.0)
  times = found.times(device)
  assert times['computing'] == pytest.approx(3 + 1)
  assert times['communicating'] == pytest.approx(2 * 7 / 8 + 2 * 15 / 16)
  assert times['hidden'] == pytest.approx(4) and times['exposed'] == pytest.approx(4 + 1.75 + 1.875)
  assert found.utilization(device, 'bfloat16') == pytest.approx((1 / 7.625, 1 / 4))


def test_offloaded_states_take_the_way_to_the_host():
  empty = hlo.Program((), ())
  found = plans.StepPlan(1, {'data': 1}, 1, 0.0, 0.0, 64e9, 0.0, 0.0, 64e9, empty, 1.0, {}, 0.0)
  times = found.times(datasheet.device('h100'))
  assert times['host'] == pytest.approx(2) and times['exposed'] == pytest.approx(2 + 2 * 64e9 / 3.35e12)
  assert times['hidden'] == pytest.approx(2)
  assert found.times(datasheet.device('tpu-v5p'))['host'] == 0  # no rate is published


def chain(dtype):
  def loss(weights, x):
    for w in weights:
      x = jax.nn.gelu(x @ w.astype(dtype))
    return (x.astype(jnp.float32) ** 2).sum()

  weights = [jax.ShapeDtypeStruct((256, 256), jnp.float32)] * 4
  return jax.jit(jax.grad(loss)).lower(weights, jax.ShapeDtypeStruct((8192, 256), dtype))


def test_activations_in_bfloat16_take_half(tmp_path):
  whole = plans._memory(chain(jnp.float32), tmp_path)
  files = list(tmp_path.glob('*buffer-assignment.txt'))
  assert len(files) == 1 and plans.buffers(files[0].read_text()) == whole  # what is read where code is missing
  (half,) = [plans._memory(chain(jnp.bfloat16), tmp_path / 'bfloat16')]
  assert not half.widened and half.temporary == pytest.approx(whole.temporary / 2, rel=0.02)


def test_activations_are_said_to_be_wide_where_they_are(tmp_path, monkeypatch):
  compile_ = jax.stages.Lowered.compile

  def refuse(self, compiler_options):
    if 'xla_dump_to' in compiler_options:
      raise jax.errors.JaxRuntimeError('INTERNAL: no code for BF16')
    return compile_(self, compiler_options=compiler_options)

  monkeypatch.setattr(jax.stages.Lowered, 'compile', refuse)
  assert plans._memory(chain(jnp.bfloat16), tmp_path).widened


GPT = [
  '--config=experiments/scale/gpt.py',
  *(f'--config.model.{k}={v}' for k, v in dict(layers=4, width=128, heads=4, vocab_size=512, length=128).items()),
  '--config.data.length=128', '--config.data.vocab_size=512', '--config.data.batch_size=64',
]  # fmt: skip


def command(*arguments):
  environment = {k: v for k, v in os.environ.items() if k != 'XLA_FLAGS'}
  line = [sys.executable, '-m', 'dl.plan', *arguments]
  return subprocess.run(line, capture_output=True, text=True, env=environment)


def number(text, label):
  value, unit = re.search(rf'^  {label} +([\d.]+) (\w+)', text, re.M).groups()
  return float(value) * {'k': 1e3, 'M': 1e6, 'G': 1e9}[unit[0]]


def test_the_command_plans_a_gpt_on_eight_devices():
  done = command(*GPT, '--config.model.layers=2', '--devices=8', '--device=h100', '--config.sharding=fsdp')
  assert done.returncode == 0, done.stderr
  text = done.stdout
  parameters = int(re.search(r'([\d,]+) parameters', text)[1].replace(',', ''))
  assert number(text, 'parameters') == pytest.approx(4 * parameters / 8, rel=0.1)  # small ones are not split
  assert number(text, 'optimizer') == pytest.approx(8 * parameters / 8, rel=0.1)
  # Weights are gathered for the forward and for the backward pass, in bfloat16, and gradients are summed once.
  gathered = 2 * 2 * parameters * 7 / 8
  assert number(text, 'all-gather') == pytest.approx(gathered, rel=0.15)
  assert 0.85 < number(text, 'reduce-scatter') / (gathered / 2) < 1.3  # the embeddings' are float32
  assert 'fits' in text and 'model FLOP utilization' in text


@pytest.mark.thorough
def test_links_and_the_network_are_told_apart():
  mesh = "--config.mesh={'data': 2, 'model': 8}"
  wide = ['--config.model.heads=8', '--devices=16', '--device=h100', '--config.sharding=tensor+offload', mesh]
  done = command(*GPT, *wide)
  assert done.returncode == 0, done.stderr
  text = done.stdout
  where = re.findall(r'^  all-reduce .* among (\d+) devices (\w+) ', text, re.M)
  assert {('8', 'within'), ('2', 'between')} <= set(where)  # activations of a layer, and gradients
  assert 'it is not known' not in text
  parameters = number(text, 'parameters')
  gradients = next(line for line in text.splitlines() if 'among 2 devices between nodes' in line)
  assert 0.5 < number(gradients, 'all-reduce') / parameters < 1  # 2 x 1/2 of them: float32, or bfloat16 in products
  offloaded = re.search(r'and ([\d.]+) MB in the host between steps', text)[1]
  took = re.search(r'^  host transfer +([\d.]+) ms   there and back, at 64 GB/s', text, re.M)[1]
  assert float(took) == pytest.approx(2 * float(offloaded) * 1e6 / 64e9 * 1e3, rel=0.01)
  assert f'fits; with the {offloaded} MB of the host, which a step brings back' in text


@pytest.mark.thorough
def test_what_does_not_fit_is_followed_by_what_does():
  done = command(*GPT, '--device=tpu-v5e', '--batch=tokens=129:int32', '--config.data.batch_size=1048576')
  assert done.returncode == 1, done.stderr
  lines = [line for line in done.stdout.splitlines() if line.startswith('with ')]
  assert lines[0].startswith('with model.remat=full: ') and lines[0].endswith('does not fit')
  assert re.match(r'with model.remat=full, data.batch_size=\d+: .* fits$', lines[-1])
  assert 2 <= len(lines) <= 4 and done.stdout.count('one device holds') == 2
  rows = int(re.search(r'batch_size=(\d+)', lines[-1])[1])
  said = r"as many examples, with dict\(name='accumulate', steps=(\d+)\) as the first stage of optim: \S+ GB, fits$"
  (steps,) = re.findall(said, done.stdout, re.M)
  assert int(steps) * rows == 1048576


def test_accumulation_comes_first():
  adam, two = {'name': 'adam'}, {'name': 'accumulate', 'steps': 2}
  found = plans.accumulating({'generator': {'clip': {'name': 'clip'}, 'adam': adam}, 'critic': {'adam': adam}}, 2)
  assert [list(stages) for stages in found.values()] == [['accumulate', 'clip', 'adam'], ['accumulate', 'adam']]
  assert found['critic']['accumulate'] == two
  twice = plans.accumulating(found['critic'], 4)
  assert list(twice.values()) == [two | {'steps': 4}, two, adam]


def nearest(search, monkeypatch, devices, sharding, memory, **model):
  """What a search finds for a model of 12 GB of state and 1 GB of activations for each of 64 examples."""

  def make(experiment, record, count):
    ways = count if 'fsdp' in experiment.sharding else 1
    narrow = experiment.optim['adam'].get('mu_dtype')
    state, rows = (10 if narrow else 12) / ways, experiment.data['batch_size'] / count
    temporary = rows / (4 if experiment.model.get('remat') else 1)
    empty, savings = hlo.Program((), ()), {} if experiment.model else {'remat': 'full'}
    return plans.StepPlan(
      count, {'data': count}, 1, 4 / ways, state - 4 / ways, 0, 0, temporary, state + temporary, empty, 1, savings, 0
    )

  monkeypatch.setattr(plans, 'make', make)
  monkeypatch.setattr(jax, 'device_count', lambda: 16)
  experiment = Experiment(
    task={}, model=model, data={'batch_size': 64}, optim={'adam': {'name': 'adam'}}, train_for=1,
    sharding=sharding, precision='bfloat16',
  )  # fmt: skip
  found = search(experiment, lambda _: None, make(experiment, None, devices), memory)
  return [(text, plan.devices, plan.peak) for text, _, plan in found]


class Patient(MLP):
  """A network with a way of its own to keep less."""

  waits: bool = False

  @nn.nowrap
  def memory_savings(self):
    return {} if self.waits else {'waits': True}


@pytest.mark.parametrize(('name', 'says'), [(f'{__name__}.Patient', {'waits': True}), ('mlp.MLP', {})])
def test_a_network_says_how_it_keeps_less(monkeypatch, name, says):
  monkeypatch.setattr(plans, '_compile', lambda lowered, devices: (plans.Buffers(1.0, 1.0), hlo.Program((), ())))
  model = {'name': name, 'hidden': (4,), 'num_outputs': 10}
  assert plans.make(small('perceptron', f'model={model}'), None, 1).savings == says


def test_the_nearest_setting_that_fits(monkeypatch):
  fit = lambda *arguments: nearest(plans.fit, monkeypatch, *arguments)
  assert fit(4, 'zero1', 20) == [('sharding=fsdp', 4, 3 + 16)]
  assert fit(4, 'zero1', 7) == [('sharding=fsdp', 4, 3 + 16), ('sharding=fsdp, model.remat=full', 4, 3 + 4)]
  moments = "model.remat=full, mu_dtype='bfloat16'"
  assert fit(1, 'replicated', 14) == [
    ('model.remat=full', 1, 12 + 16), (moments, 1, 10 + 16), (f'{moments}, data.batch_size=16', 1, 10 + 4)
  ]  # fmt: skip
  assert fit(1, 'replicated', 9) == [("mu_dtype='bfloat16'", 1, 10 + 64)]  # the state alone: nothing else could help


def test_the_fewest_devices_that_fit(monkeypatch):
  more = lambda *arguments: nearest(plans.more, monkeypatch, *arguments)
  moments = "model.remat=full, mu_dtype='bfloat16'"
  assert more(1, 'replicated', 4) == [
    ("sharding=fsdp on 2 devices, mu_dtype='bfloat16'", 2, 5 + 32),
    (f'sharding=fsdp on 4 devices, {moments}, data.batch_size=16', 4, 2.5 + 1),
  ]  # fmt: skip
  assert [count for _, count, _ in more(3, 'fsdp', 0.1)] == [4, 8, 16]


def test_fsdp_is_added_to_what_is_split_already():
  add = plans._with_fsdp
  assert [add(r) for r in ('replicated', 'zero1', 'fsdp', 'tensor')] == ['fsdp', 'fsdp', 'fsdp', 'tensor+fsdp']
  assert add('zero1+offload') == 'offload+fsdp'
  assert add([['up', ['data']], 'zero1']) == [['up', ['data']], 'fsdp'] and add([['', None]]) == [['', None]]


def test_first_moments_are_made_narrow_where_they_can_be():
  optim = dict(clip=dict(name='clip_by_global_norm', max_norm=1.0), adam=dict(name='adamw', learning_rate=1.0))
  narrow = optim | {'adam': optim['adam'] | {'mu_dtype': 'bfloat16'}}
  assert plans._narrow_moments(optim) == narrow == plans._narrow_moments(narrow)
  assert plans._narrow_moments({'actor': optim, 'critic': optim}) == {'actor': narrow, 'critic': narrow}
  assert plans._narrow_moments(dict(sgd=dict(name='sgd'), mine=dict(name='a.b'))) == dict(
    sgd=dict(name='sgd'), mine=dict(name='a.b')
  )


def test_shapes_stand_in_for_the_data():
  found = plan.record(['image=32x24x3:uint8', 'label=int32'], 10, 64, 100.0)
  assert found['batch'] == {'mask': [[64], 'float32'], 'image': [[64, 32, 24, 3], 'uint8'], 'label': [[64], 'int32']}
  assert found['info'] == {'num_classes': 10, 'mean': [0.0] * 3, 'std': [1.0] * 3}
  for wrong in ('image', 'image=32x', 'image=32x24', 'image=axb:uint8', 'image=32:bytes'):
    with pytest.raises(ConfigError, match='--batch: expected name'):
      plan.record([wrong], None, 1, 1.0)


def test_mistakes_are_one_line():
  with pytest.raises(ConfigError, match="--device: no data sheet of 'h1000'; did you mean 'h100'"):
    datasheet.device('h1000')
  with pytest.raises(ConfigError, match=r'a10, l4, .*tpu-v6e'):  # all of them
    datasheet.device('what')
  for said, known in {'T4': 't4', 'A10': 'a10', 'MI300X': 'mi300x', 'RTX4090': 'rtx-4090', 'rtx 4090': 'rtx-4090',
                      'v4': 'tpu-v4', 'V6e': 'tpu-v6e', 'NVIDIA H200': 'h200'}.items():  # fmt: skip
    assert datasheet.device(said) == datasheet.DEVICES[known]


@pytest.mark.parametrize(
  ('kind', 'name'),
  [
    ('NVIDIA A100-SXM4-80GB', 'a100'), ('NVIDIA A10', 'a10'), ('NVIDIA H100 80GB HBM3', 'h100'), ('Tesla T4', 't4'),
    ('Tesla V100-SXM2-32GB', 'v100'), ('NVIDIA L4', 'l4'), ('NVIDIA L40S', 'l40s'), ('NVIDIA L40', None),
    ('NVIDIA GeForce RTX 4090', 'rtx-4090'), ('NVIDIA GeForce RTX 3090', 'rtx-3090'), ('AMD Instinct MI300X', 'mi300x'),
    ('TPU v4', 'tpu-v4'), ('TPU v5 lite', 'tpu-v5e'), ('TPU v5', 'tpu-v5p'), ('TPU v5p', 'tpu-v5p'),
    ('TPU v6 lite', 'tpu-v6e'), ('cpu', None),
  ],
)  # fmt: skip
def test_the_names_which_jax_has_for_devices(kind, name):
  assert datasheet.of_kind(kind) == (name and datasheet.device(name))


def test_a_data_sheet_of_ones_own(tmp_path):
  sheet = dict(name='Mine', bfloat16=2e14, float32=1e14, memory=48e9, bandwidth=1e12, link=3e10, node=4, network=1e9)
  (tmp_path / 'mine.json').write_text(json.dumps(sheet))
  assert datasheet.device(str(tmp_path / 'mine.json')) == datasheet.Device(**sheet)
  for name, content, says in (
    ('none.json', None, 'none.json: cannot be read: No such file'),
    ('bad.json', '{', 'bad.json: cannot be read: '),
    ('list.json', '[]', 'expected an object of name, bfloat16, '),
    ('less.json', json.dumps({'name': 'Mine'}), "Device needs an argument 'bfloat16'"),
    ('more.json', json.dumps(sheet | {'memry': 1}), "takes no argument 'memry'; did you mean 'memory'"),
    ('zero.json', json.dumps(sheet | {'memory': 0}), 'zero.json.memory: must be above 0'),
  ):
    if content is not None:
      (tmp_path / name).write_text(content)
    with pytest.raises(ConfigError) as e:
      datasheet.device(str(tmp_path / name))
    assert str(e.value).startswith(f'--device: {tmp_path}') and says in str(e.value), str(e.value)


@pytest.mark.thorough
def test_a_batch_that_cannot_be_shared_is_one_line():
  done = command(*GPT, '--devices=3')
  assert done.returncode == 2 and done.stderr.count('\n') == 1
  assert 'a batch of 64 cannot be shared by 3 devices' in done.stderr


SHARES = """
import json, jax
from dl import config
from dl.parallel import meshes
from dl.planning import plans
from dl.training import steps
from dl.training.assemble import assemble
found = {}
for size in ('124m', '8b'):
  spec = config.load(f'experiments/scale/gpt.py:{size}', ['sharding=fsdp', 'data.batch_size=256'])
  parts = assemble(spec)
  for n in (1, 2, 4, 8, 16, 32, 64, 128, 256):
    state, _ = steps.compiled(parts, meshes.make_mesh({'data': n}, jax.devices()[:n])).like
    found[f'{size} {n}'] = plans.bytes_of_device((state.params, state.opt))
print(json.dumps(found))
"""


@pytest.mark.thorough
def test_fsdp_divides_parameters_and_moments_by_the_number_of_devices():
  flags = '--xla_force_host_platform_device_count=256'
  environment = os.environ | {'JAX_PLATFORMS': 'cpu', 'XLA_FLAGS': flags}
  out = subprocess.run([sys.executable, '-c', SHARES], capture_output=True, text=True, env=environment, check=True)
  found = json.loads(out.stdout.splitlines()[-1])
  assert found['8b 1'] == pytest.approx(3 * 4 * 7_493_390_336, rel=1e-6)  # float32 parameters, two moments
  for name, size in found.items():
    model, n = name.split()
    share = size * int(n) / found[f'{model} 1']
    assert 1 <= share < (1.12 if model == '124m' else 1.02), f'{name}: {share}'  # small arrays stay whole


@pytest.mark.thorough
def test_environments_are_shared_by_devices():
  plan = lambda n: command('--config=experiments/rl/cartpole_ppo.py', f'--devices={n}')
  one, eight = (number(plan(n).stdout, 'products') for n in (1, 8))
  assert eight == pytest.approx(one / 8, rel=0.01)
