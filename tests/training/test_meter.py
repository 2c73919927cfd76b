"""Throughput, waiting, memory and utilization, of steps whose times are known."""

import itertools

import jax
import numpy as np
import pytest
from small import small

from dl import config
from dl.contract.info import Info
from dl.parallel import datasheet, meshes
from dl.store import logs
from dl.training import assemble, meter


@pytest.fixture
def made(monkeypatch):
  """A function from a kind and a device of the data sheet to its meter and parts."""

  def make(kind, device=None):
    monkeypatch.setattr(datasheet, 'of_kind', lambda kind: device and datasheet.device(device))
    parts = assemble.assemble(small(kind))
    return meter.Meter(parts, meshes.make_mesh({'data': 1}, jax.devices()[:1])), parts

  return make


def test_rates_are_those_of_the_steps(made):
  counting, _ = made('digits')
  found = counting.numbers(steps=20, seconds=4.0)
  assert found['steps_per_second'] == 5 and found['step_seconds'] == 0.2
  assert found['examples_per_second'] == 5 * 32
  assert found['data_wait'] == 0 and 0.05 < found['memory_gb'] < 100
  assert found.keys() < set(logs.MACHINE) and not {'mfu', 'tokens_per_second'} & found.keys()


class Words:
  """Token ids in a column of another name."""

  vectorized = True
  kinds = {'words': 'tokens'}
  info = Info(vocab_size=7)

  def __len__(self):
    return 8

  def __getitem__(self, index):
    return {'words': np.asarray(index)[..., None] % 7 * np.ones(5, np.int32), 'label': np.asarray(index) % 2}


def test_tokens_are_counted_by_their_kind():
  words = config.resolve(
    dict(
      task=dict(name='classify.Classify'),
      model=dict(name='mlp.MLP', hidden=(), num_outputs=2),
      data=dict(name=f'{__name__}.Words', batch_size=4),
      optim=dict(sgd=dict(name='sgd', learning_rate=0.1)),
      train_for=1,
    )
  )
  counting = meter.Meter(assemble.assemble(words), meshes.make_mesh({'data': 1}, jax.devices()[:1]))
  assert counting.numbers(steps=20, seconds=4.0)['tokens_per_second'] == 5 * 4 * 4


def test_waiting_and_what_is_aside(made, clock):
  counting, _ = made('digits')
  slow = (clock.advance(0.02) or i for i in itertools.count())
  batches = counting.waiting(slow)
  assert [next(batches) for _ in range(5)] == [0, 1, 2, 3, 4]
  with counting:
    clock.advance(0.1)
  found = counting.numbers(steps=5, seconds=0.3)
  assert found['step_seconds'] * 5 == pytest.approx(0.2)
  assert found['data_wait'] == pytest.approx(0.1 / 0.2)
  assert counting.numbers(steps=5, seconds=0.3)['data_wait'] == 0


def test_the_end_of_the_batches_is_theirs(made):
  counting, _ = made('digits')
  assert list(counting.waiting(iter([1, 2]))) == [1, 2]


def test_utilization_is_of_the_models_own_work(made):
  counting, parts = made('gpt', 'h100')
  found = counting.numbers(steps=10, seconds=2.0)
  assert found['tokens_per_second'] == 5 * 8 * 32
  work = meter.model_flops(parts)
  # six FLOPs a weight and token, but for embeddings, and attention over 32 positions
  tokens, width, length, vocabulary = 8 * 32, 32, 32, 256
  assert work == pytest.approx(6 * tokens * (12 * width**2 + vocabulary * width + 2 * length * width), rel=0.01)
  assert found['mfu'] == pytest.approx(5 * work / datasheet.device('h100').float32)


@pytest.mark.parametrize(
  ('kind', 'name'),
  [
    ('NVIDIA H200', 'h200'), ('NVIDIA H100 80GB HBM3', 'h100'), ('NVIDIA A100-SXM4-80GB', 'a100'),
    ('TPU v5 lite', 'tpu-v5e'), ('TPU v5p', 'tpu-v5p'), ('TPU v6 lite', 'tpu-v6e'), ('cpu', None),
  ],
)  # fmt: skip
def test_devices_are_known_by_what_jax_calls_them(kind, name):
  assert datasheet.of_kind(kind) == (name and datasheet.device(name))
