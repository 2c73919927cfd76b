"""Bounds of numbers by annotations, or by their names, and what does not fit the memory."""

import importlib
import inspect
import math
import pkgutil
from collections.abc import Callable
from typing import Annotated, Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dl import optim
from dl.config import bounds, build, hints
from dl.config.bounds import BelowOne, Factor, Number, Range, Share, Size
from dl.data.make import make
from dl.errors import ConfigError
from dl.parallel import meshes
from dl.training import assemble, memory

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
        assert bounds.problem_by_name(name, value) is None, (target, name)
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
  assert [bounds.problem_by_name(name, v) for v in good] == [None] * len(good)
  assert all('must be' in bounds.problem_by_name(name, v) for v in bad)


@pytest.mark.parametrize(
  ('hint', 'good', 'bad'),
  [
    (Size, [1, 2**31 - 1], [0, -1, 2**31]),
    (Size | None, [None, 1], [0]),
    (tuple[Size, ...], [(), (1, 2), [1, 2]], [(1, 0)]),
    (tuple[Size, Share], [(7, 1.0)], [(7, 7), (0, 0.5)]),
    (Size | tuple[Size, Size], [3, [3, 3]], [0, [3, 0]]),
    (tuple[tuple[Size, ...], ...], [[[1], [2, 3]]], [[[1], [2, -3]]]),
    (Annotated[tuple[int, ...], Range(high=5)], [(0, 5)], [(0, 6)]),
    (Annotated[int, Range(low=2), 'of groups'], [2], [1]),
    (Literal['auto'] | BelowOne, ['auto', 0.5], [1.0]),
    (Share | Callable, [len, 0.5], [1.5]),
    (Annotated[int, Range(low=3)] | Annotated[float, Range(high=1)], [3, 0.5], [2, 1.5]),
    (dict[str, Share], [{'a': 0.5}], [{'a': 0.5, 'b': 2}]),
    (Number, [-1e30], [math.nan, math.inf]),
    (int, [0, -1], []),
    (Any, [0, -1, 'text'], []),
  ],
  ids=str,
)
def test_bounds_are_read_wherever_they_stand_in_a_hint(hint, good, bad):
  assert [bounds.problem(v, hint) for v in good] == [None] * len(good)
  assert all('must be' in bounds.problem(v, hint) for v in bad)
  assert bounds.bounded(hint) == bool(bad)
  assert all(hints.matches(v, hint) for v in good)


class Wide(nn.Module):
  """A network whose width is a factor, of a name which is a size elsewhere."""

  width: Factor = 1.0
  stages: tuple[Size, ...] = (1,)
  last: Size | None = None

  @nn.compact
  def __call__(self, x, train=False):
    if x.shape[1] < len(self.stages):
      raise ValueError(f'stages: {len(self.stages)} of them need as many features, got {x.shape[1]}')
    return nn.Dense(7)(x)


class Wider(Wide):
  """Inherits the annotations."""


@pytest.mark.parametrize('name', ['Wide', 'Wider'])
def test_fields_of_a_module_state_their_bounds(name):
  make = lambda **arguments: build.build({'name': f'{__name__}.{name}'} | arguments, 'dl.models', 'config.model')
  built = make(width=0.5, stages=[2, 3])
  assert (built.width, built.stages, built.last) == (0.5, (2, 3), None)
  for arguments, line in (
    (dict(width=0.0), r'width: must be above 0 and at most 10,000, got 0\.0'),
    (dict(stages=[2, 0]), 'stages: must be at least 1, got 0'),
    (dict(last=-1), 'last: must be at least 1, got -1'),
    (dict(stages=3), r'stages: expected tuple\[int, \.\.\.\], got 3 \(int\)'),
    (dict(last='x'), r"last: expected int \| None, got 'x' \(str\)"),
    (dict(width=True), 'width: expected float, got True'),
  ):
    with pytest.raises(ConfigError, match=rf'^config\.model\.{line}'):
      make(**arguments)


def test_an_annotation_wins_over_the_name():
  def stage(width: Factor, learning_rate: Number, depth: int = 1) -> None: ...

  stage.__module__ = 'dl.somewhere'
  build.check_arguments(stage, dict(width=0.5, learning_rate=-1.0), 'x')
  with pytest.raises(ConfigError, match=r'^x\.width: must be above 0'):
    build.check_arguments(stage, dict(width=-0.5, learning_rate=-1.0), 'x')
  with pytest.raises(ConfigError, match=r'^x\.depth: must be from 1 to 10,000, got 0'):  # by its name
    build.check_arguments(stage, dict(width=0.5, learning_rate=-1.0, depth=0), 'x')


def test_words_of_a_layer_follow_the_path_of_the_config():
  wide = Wide(stages=(1, 2, 3))
  with pytest.raises(ConfigError) as error:
    assemble.abstractly(lambda: wide.init(jax.random.key(0), jnp.zeros((4, 2))))
  assert str(error.value) == 'config.model: stages: 3 of them need as many features, got 2'
  with pytest.raises(ConfigError, match=r'^config\.model: does not fit the other parts: .*test_bounds\.py:\d+\)'):
    assemble.abstractly(lambda: jnp.zeros((4, 2)) + jnp.zeros((3, 2)))  # the words of JAX are not enough
  with pytest.raises(ConfigError, match=r'^config\.model: does not fit the other parts: ValueError: .*lanes'):
    assemble.abstractly(lambda: int('lanes'))


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
  spec = dict(name='synthetic.Images', size=32, num_classes=2, count=4, batch_size=4)
  with pytest.raises(ConfigError, match=r'config\.data\.batch_size: a batch of 2,147,483,647 takes 6\.6\d TB'):
    make(spec, split='test', train=False, batch_size=2**31 - 1).check_memory()
  make(spec, split='train').check_memory()


def test_a_state_beyond_the_memory_is_refused():
  mesh = meshes.make_mesh({'data': 1}, jax.devices()[:1])
  like = lambda *shape: {'w': jax.ShapeDtypeStruct(shape, np.float32, sharding=meshes.replicated(mesh))}
  memory.check_state(like(1000, 1000), mesh.local_devices)
  with pytest.raises(ConfigError, match=r'config\.model: .* takes 4 TB of a device which has .*dl\.plan'):
    memory.check_state(like(10**6, 10**6), mesh.local_devices)
