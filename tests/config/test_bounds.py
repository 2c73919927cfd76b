"""Bounds of numbers, which each part states on its arguments, and what does not fit the memory."""

import importlib
import inspect
import math
import typing
from collections.abc import Callable
from typing import Annotated, Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dl import optim
from dl.config import bounds, build, hints, optax_bounds
from dl.config.bounds import BelowOne, Factor, Number, Range, Share, Size
from dl.config.experiment import Experiment
from dl.data.make import make
from dl.data.parts import part
from dl.errors import ConfigError
from dl.parallel import meshes
from dl.training import assemble, memory

# What the caller adds, and no config says.
GIVEN = (
  'parent', 'name', 'key', 'batch', 'example', 'generator', 'source', 'split', 'timeout', 'model', 'info', 'parts', 'x',
  'logits', 'labels', 'outputs', 'targets', 'weight',
)  # fmt: skip


def parts():
  """Everything of dl that a config can name, with its name."""
  for package in (
    'dl.models', 'dl.nn', 'dl.tasks', 'dl.evaluators', 'dl.envs', 'dl.losses', 'dl.data.sources', 'dl.data.augment',
    'dl.data.augment.maps', 'dl.data.transforms', 'dl.nn.activations', 'dl.optim.stages', 'dl.training.start',
    'dl.training.policy',
  ):  # fmt: skip
    named = {f'{package}.{n}': build.resolve(n, package, 'x') for n in build.known_names(package)}
    yield from ((n, v) for n, v in named.items() if not (isinstance(v, type) and issubclass(v, tuple)))
  yield from (('rules of splits', part), ('config', Experiment))


def parts_of_optax():
  for module in (optax, optax.contrib, optax.schedules, optax.losses):
    yield from (v for v in vars(module).values() if inspect.isfunction(v) and v.__module__.startswith('optax'))


def unbounded(hint):
  """Whether a type hint has numbers of which it does not say what they can be."""
  origin, inner = typing.get_origin(hint), typing.get_args(hint)
  if hint in (int, float):
    return True
  if origin is Annotated and any(isinstance(m, Range) for m in hint.__metadata__):
    return False
  return origin not in (Literal, Callable, typing.ClassVar) and any(map(unbounded, inner))


def test_each_number_of_a_part_states_its_bounds():
  silent, seen = [], 0
  for name, target in parts():
    stated = hints.type_hints(target)
    for p in inspect.signature(target).parameters.values():
      if p.name in GIVEN or p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD):
        continue
      seen += 1
      if p.name not in stated or unbounded(stated[p.name]):
        silent.append(f'{name}({p.name})')
      elif p.default is not p.empty:
        assert bounds.problem(p.default, stated[p.name]) is None, (name, p.name)
  assert silent == []
  assert seen > 600


def test_names_say_something_of_optax_alone():
  assert not [name for name, target in parts() if optax_bounds.annotated(target) != hints.type_hints(target)]

  def stage(width: Factor, learning_rate: Number, b1: float = 0.9, dropout: float = 0.0) -> None: ...

  arguments = dict(width=0.5, learning_rate=-1.0, b1=7.0, dropout=-3.0)
  build.check_arguments(stage, arguments, 'x')
  with pytest.raises(ConfigError, match=r'^x\.width: must be above 0'):
    build.check_arguments(stage, arguments | dict(width=-0.5), 'x')
  with pytest.raises(ConfigError, match=r'^x\.b1: must be at least 0 and below 1, got 7'):
    build.check_arguments(optax.adam, dict(learning_rate=0.1, b1=7.0), 'x')


def test_defaults_of_optax_pass():
  seen = 0
  for function in parts_of_optax():
    parameters = inspect.signature(function).parameters
    required = {n: 1.0 for n, p in parameters.items() if p.default is p.empty}
    for name, p in parameters.items():
      if isinstance(p.default, int | float | tuple):
        seen += 1
        try:
          build.check_arguments(function, required | {name: p.default}, 'x')
        except ConfigError as e:
          assert f'x.{name}: must' not in str(e), (function, name)
  assert seen > 300


@pytest.mark.parametrize(
  ('function', 'name', 'good', 'bad'),
  [
    (optax.sgd, 'learning_rate', [0.0, 1e-3, 30.0], [-1e-3, math.nan, math.inf, True]),
    (optax.adamw, 'weight_decay', [0, 0.1], [-0.1]),
    (optax.adam, 'b2', [0.0, 0.999], [1.0, -0.1]),
    (optax.adam, 'eps', [0.0], [-1e-8]),
    (optax.clip_by_global_norm, 'max_norm', [1e-6, 1e30], [0, -1.0]),
    (optax.scale, 'step_size', [-1.0, 1e-3], [math.nan]),
    (optax.ema, 'decay', [0.0, 1.0], [1.1]),
    (optax.lookahead, 'sync_period', [1], [0]),
    (optax.add_noise, 'seed', [0, 2**32 - 1], [-1, 2**32]),
    (optax.losses.huber_loss, 'delta', [0.5], [0.0]),
  ],
)
def test_names_in_optax(function, name, good, bad):
  hint = optax_bounds.annotated(function)[name]
  assert [bounds.problem(v, hint) for v in good] == [None] * len(good)
  assert all('must be' in bounds.problem(v, hint) for v in bad)


@pytest.mark.parametrize(
  ('name', 'good', 'bad'),
  [
    ('models.efficientnet.EfficientNet', dict(num_classes=2, width=0.5, depth=0.5), dict(width=0.0, depth=-1.0)),
    ('models.efficientnet.EfficientNet', dict(num_classes=2), dict(num_classes=0, dropout=1.5, head=0, epsilon=-1e-3)),
    ('models.vit.ViT_S16', dict(num_classes=2), dict(patch=0, depth=10_001, heads=-1, mlp_ratio=0.0, grid=[0, 4])),
    ('models.gpt.GPT', dict(experts=0, attention_chunk=0), dict(layers=0, length=2**31, experts=-1, ngrams=[0])),
    ('models.cnn.CNN', dict(features=[[3], [4, 5]], num_classes=2), dict(features=[[3], [4, -5]])),
    ('nn.convolution.ConvNorm', dict(features=8, size=[1, 3], padding=0), dict(size=0, padding=-1, momentum=1.0)),
    ('tasks.ppo.PPO', dict(env='cartpole.CartPole'), dict(num_envs=0, discount=1.01, clip=0.0, value_weight=-1.0)),
    ('tasks.classify.Classify', {}, dict(label_smoothing=1.0, top_k=[0], class_weights=[1.0, -1.0])),
    ('envs.cartpole.CartPole', dict(gravity=-9.8), dict(max_steps=0, force=0.0, interval=-0.1, start=-1.0)),
    ('losses.focal', dict(gamma=0.0), dict(gamma=-1.0, class_weights=[-1.0])),
    ('losses.huber', dict(delta=0.1), dict(delta=0.0)),
    ('data.sources.synthetic.Images', dict(size=8, num_classes=2), dict(size=0, count=-1)),
    ('data.sources.segmentation.Pairs', dict(path='x', tile=8), dict(tile=[8, 0], channels=0)),
    ('data.augment.random_flip', {}, dict(probability=1.5)),
    ('data.augment.random_crop', dict(pad=0), dict(pad=-1)),
    ('data.augment.color_jitter', dict(hue=[-0.5, 0.5]), dict(hue=0.6, brightness=-1.0, probability=-0.1)),
    ('data.augment.random_resized_crop', {}, dict(scale=[0.0, 1.0], ratio=[0.0, 2.0], size=[0, 8])),
    ('data.augment.maps.random_elastic', dict(std=0.0), dict(std=-1.0, grid=0)),
    ('data.transforms.random_resized_crop', dict(size=[8, 8]), dict(central=0.0, size=[8, -8])),
    ('data.parts.part', dict(folds=5, fold=0), dict(folds=0, fold=-1, split_seed=2**32, validation=-1)),
    ('optim.stages.params_ema', dict(decay=0.0), dict(decay=1.0)),
    ('training.policy.Keep', dict(last=1, best=0), dict(last=0, best=-1)),
    ('training.start.run', dict(path='x', step='best'), dict(step=-1)),
    ('nn.activations.hard_shrink', dict(threshold=0.0), dict(threshold=-1.0)),
    (
      'config.experiment.Experiment',
      dict(task={}, optim={}, train_for='1 step'),
      dict(seed=-1, seeds=0, steps_per_call=0),
    ),
  ],
)
def test_parts_refuse_what_they_cannot_be(name, good, bad):
  module, _, attribute = f'dl.{name}'.rpartition('.')
  target = getattr(importlib.import_module(module), attribute)
  build.check_arguments(target, good, 'x', GIVEN)
  for argument, value in bad.items():
    with pytest.raises(ConfigError, match=rf'^x\.{argument}: must be '):
      build.check_arguments(target, good | {argument: value}, 'x', GIVEN)


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
  assert unbounded(hint) == (hint is int)
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
