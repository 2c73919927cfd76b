"""Ranges of numbers by their names, and what does not fit the memory."""

import importlib
import inspect
import math
import pkgutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dl import optim
from dl.config import bounds, build
from dl.data.make import make
from dl.errors import ConfigError
from dl.parallel import meshes
from dl.training import memory

PACKAGES = (
  'dl.models',
  'dl.tasks',
  'dl.envs',
  'dl.nn',
  'dl.data.sources',
  'dl.data.augment',
  'dl.losses',
  'dl.optim.stages',
  'dl.training.policy',
)


def callables():
  """Everything that a config can name here, and in optax."""
  for package in PACKAGES:
    found = importlib.import_module(package)
    inside = pkgutil.iter_modules(getattr(found, '__path__', []))
    for module in [found, *(importlib.import_module(f'{package}.{m.name}') for m in inside)]:
      yield from (
        v for n, v in vars(module).items() if callable(v) and not n.startswith('_') and not inspect.ismodule(v)
      )
  for module in (optax, optax.contrib, optax.schedules):
    yield from (v for v in vars(module).values() if inspect.isfunction(v))


def test_every_default_is_in_the_range_of_its_name():
  seen = 0
  for target in callables():
    try:
      parameters = inspect.signature(target).parameters.values()
    except (ValueError, TypeError):
      continue
    given = {p.name: p.default for p in parameters if isinstance(p.default, int | float | tuple)}
    for name, value in given.items():
      seen += 1
      if (target.__module__ or '').startswith('dl.models'):
        assert bounds.problem(name, value) is None, (target, name)
      else:  # a function's own default passes, whatever it is
        with_default = {p.name: 1.0 for p in parameters if p.default is p.empty} | {name: value}
        try:
          build.check_arguments(target, with_default, 'x')
        except ConfigError as e:
          assert f'x.{name}: must' not in str(e), (target, name)
  assert seen > 900


@pytest.mark.parametrize(
  ('name', 'good', 'bad'),
  [
    ('learning_rate', [0.0, 1e-3, 30.0], [-1e-3, math.nan, math.inf, True]),
    ('dropout', [0.0, 0.5], [1.0, 2, -0.1]),
    ('probability', [0.0, 1.0], [1.1, -1]),
    ('b2', [0.0, 0.999], [1.0, -0.1]),
    ('features', [1, (8, 16), ((3,), (4, 5)), ()], [0, (8, 0), ((3,), (4, -5)), 2**31]),
    ('layers', [1, 10_000], [0, 10_001]),
    ('seed', [0, 2**32 - 1], [-1, 2**32]),
    ('step_size', [-1.0, 1e-3], [math.nan]),
    ('max_norm', [1e-6, 1e30], [0, -1.0]),
    ('of_no_range', [-1, 1e30, True], [math.nan, math.inf]),
    ('width', ['wide', None, {'name': 'x'}, len], []),
  ],
)
def test_ranges(name, good, bad):
  assert [bounds.problem(name, v) for v in good] == [None] * len(good)
  assert all('must be' in bounds.problem(name, v) for v in bad)


def adam(**arguments):
  params = {'model': {'w': jax.ShapeDtypeStruct((3,), jnp.float32)}}
  return optim.make({'adam': {'name': 'adam'} | arguments}, params, optim.Length(100))


def test_the_values_of_a_schedule_have_the_range_of_what_follows_it():
  warm = dict(name='warmup_cosine_decay_schedule', peak_value=1e-3, warmup='5%')
  assert adam(learning_rate=warm).rates(50)
  for bad in (warm | dict(peak_value=-1e-3), warm | dict(end_value=-1.0), dict(name='constant_schedule', value=-1.0)):
    with pytest.raises(ConfigError, match=r'config\.optim\.adam\.learning_rate\.\w+: must be at least 0, got -'):
      adam(learning_rate=bad)
  with pytest.raises(ConfigError, match=r'config\.optim\.adam\.learning_rate: must be at least 0, got -1'):
    adam(learning_rate=[['w', -1.0]])
  negated = dict(name='constant_schedule', value=-1e-3)  # as optax's own chains have it
  optim.make(
    {'adam': {'name': 'scale_by_adam'}, 'rate': {'name': 'scale_by_schedule', 'step_size_fn': negated}},
    {'model': {'w': jax.ShapeDtypeStruct((3,), jnp.float32)}}, optim.Length(100),
  )  # fmt: skip


def test_hints_that_can_be_read_are_checked_though_others_cannot():
  with pytest.raises(ConfigError, match=r'config\.optim\.adam\.nesterov: expected bool'):
    optim.make(
      {'adam': {'name': 'adamw', 'learning_rate': 1e-3, 'nesterov': 'yes'}},
      {'model': {'w': jax.ShapeDtypeStruct((3,), jnp.float32)}}, optim.Length(100),
    )  # fmt: skip


def test_a_batch_beyond_the_memory_is_refused():
  spec = dict(name='synthetic.Images', size=32, num_classes=2, count=4, batch_size=2**31 - 1)
  with pytest.raises(ConfigError, match=r'config\.data\.batch_size: a batch of 2,147,483,647 takes 6,6\d\d\.\d GB'):
    make(spec, split='train').check_memory()
  make(spec | dict(batch_size=8), split='train').check_memory()


def test_a_state_beyond_the_memory_is_refused():
  mesh = meshes.make_mesh({'data': 1}, jax.devices()[:1])
  like = lambda *shape: {'w': jax.ShapeDtypeStruct(shape, np.float32, sharding=meshes.replicated(mesh))}
  memory.check_state(like(1000, 1000), mesh.local_devices)
  with pytest.raises(ConfigError, match=r'config\.model: .* takes 4,000\.0 GB of a device which has .*dl\.plan'):
    memory.check_state(like(10**6, 10**6), mesh.local_devices)
