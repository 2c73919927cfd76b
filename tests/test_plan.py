"""Plans: the work of a program read from HLO, and the command on virtual devices."""

import json
import os
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest

from dl import datasheet, flops, hlo, plan, planning
from dl.errors import ConfigError


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


def test_a_step_takes_what_is_slower():
  device = datasheet.device('h100')
  program = hlo.Program(
    (hlo.Collective('all-gather', 2, 450e9, 8), hlo.Collective('all-reduce', 1, 50e9, 16)),
    (hlo.Product(3, 989e12, 1.0), hlo.Product(1, 1.0, 3.35e12)),
  )
  found = planning.Plan(16, {'data': 16}, 1, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, program, 16 * 989e12, {}, 0.0)
  times = found.times(device, 'bfloat16')
  assert times['computing'] == pytest.approx(3 + 1)
  assert times['communicating'] == pytest.approx(2 * 7 / 8 + 2 * 15 / 16)
  assert times['hidden'] == pytest.approx(4) and times['exposed'] == pytest.approx(4 + 1.75 + 1.875)
  assert found.utilization(device, 'bfloat16') == pytest.approx((1 / 7.625, 1 / 4))


GPT = [
  '--config=experiments/scale/gpt.py',
  *(f'--config.model.{k}={v}' for k, v in dict(layers=4, width=128, heads=4, vocab_size=512, length=128).items()),
  '--config.data.length=128', '--config.data.vocab_size=512', '--config.data.batch_size=64',
]  # fmt: skip


def command(*arguments):
  environment = {k: v for k, v in os.environ.items() if k != 'XLA_FLAGS'}
  line = [sys.executable, '-m', 'dl.plan', *arguments]
  return subprocess.run(line, capture_output=True, text=True, env=environment, timeout=300)


def number(text, label):
  value, unit = re.search(rf'^  {label} +([\d.]+) (\w+)', text, re.M).groups()
  return float(value) * {'k': 1e3, 'M': 1e6, 'G': 1e9}[unit[0]]


def test_the_command_plans_a_gpt_on_eight_devices():
  done = command(*GPT, '--devices=8', '--device=h100', '--config.sharding=fsdp')
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


def test_what_does_not_fit_is_followed_by_what_does():
  done = command(*GPT, '--device=tpu-v5e', '--batch=tokens=129:int32', '--config.data.batch_size=1048576')
  assert done.returncode == 1, done.stderr
  lines = [line for line in done.stdout.splitlines() if line.startswith('with ')]
  assert lines[0].startswith('with model.remat=full: ') and lines[0].endswith('does not fit')
  assert re.match(r'with model.remat=full, data.batch_size=\d+: .* fits$', lines[-1])
  assert 2 <= len(lines) <= 4 and done.stdout.count('one device holds') == 2


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
  done = command(*GPT, '--devices=3')
  assert done.returncode == 2 and done.stderr.count('\n') == 1
  assert 'a batch of 64 cannot be shared by 3 devices' in done.stderr


SHARES = """
import json, jax
from dl import config, planning, sharding, steps
from dl.assemble import assemble
found = {}
for size in ('124m', '8b'):
  spec = config.load(f'experiments/scale/gpt.py:{size}', ['sharding=fsdp', 'data.batch_size=256'])
  parts = assemble(spec)
  for n in (1, 2, 4, 8, 16, 32, 64, 128, 256):
    state, _ = steps.compiled(parts, sharding.make_mesh({'data': n}, jax.devices()[:n])).like
    found[f'{size} {n}'] = planning.bytes_of_device((state.params, state.opt))
print(json.dumps(found))
"""


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
