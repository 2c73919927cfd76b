"""Building by dotted path, checked by signature."""

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal

import jax
import pytest

from dl.config import build
from dl.errors import ConfigError


@dataclasses.dataclass
class Thing:
  """Something to build."""

  width: int
  names: tuple[str, ...] = ()
  mode: Literal['a', 'b'] = 'a'
  rate: float | None = None
  given: Any = None

  def __post_init__(self):
    if self.width < 0:
      raise ValueError('width is negative\nsecond line')


HERE = f'{__name__}.Thing'


def test_builds_a_users_own_class():
  assert build.build(dict(name=HERE, width=3, rate=1), 'dl.models', 'config.model', given=5) == Thing(
    3, rate=1, given=5
  )


@pytest.mark.parametrize(
  ('spec', 'says'),
  [
    (dict(width=3), "a dict with a 'name'"),
    (dict(name=HERE), "needs an argument 'width'"),
    (dict(name=HERE, width='3'), "config.model.width: expected int, got '3' (str)"),
    (dict(name=HERE, width=True), 'expected int'),
    (dict(name=HERE, width=3, wdith=4), "did you mean 'width'"),
    (dict(name=HERE, width=3, names=[1]), 'config.model.names'),
    (dict(name=HERE, width=3, mode='c'), "Literal['a', 'b']"),
    (dict(name=HERE, width=3, given=1), "takes no argument 'given'"),
    (dict(name=HERE, width=-1), 'refused its arguments: width is negative'),
    (dict(name=HERE.replace('Thing', 'Thin'), width=3), "did you mean 'Thing'"),
    (dict(name='lenet.LeNet6'), "did you mean 'LeNet5'"),
    (dict(name='lent.LeNet5'), "'lenet.LeNet5'"),
    (dict(name='no_such_package.Net'), 'nothing is called'),
    (dict(name=3), 'dotted path'),
    ('lenet.LeNet5', "a dict with a 'name'"),
  ],
)
def test_mistakes_are_one_line(spec, says):
  with pytest.raises(ConfigError) as e:
    build.build(
      spec, 'dl.models', 'config.model', **({'given': 1} if isinstance(spec, dict) and 'given' in spec else {})
    )
  assert says in str(e.value) and '\n' not in str(e.value)


def test_matches():
  assert build.matches([1, 2], tuple[int, ...]) and not build.matches([1, 'a'], tuple[int, ...])
  assert build.matches([1, 2], tuple[int, int]) and not build.matches([1], tuple[int, int])
  assert build.matches(None, int | None) and not build.matches(None, int)
  assert build.matches(1, float) and not build.matches(1.0, int)
  assert build.matches(2.0, jax.Array) and not build.matches('fast', jax.Array)


@pytest.mark.parametrize(
  ('value', 'hint', 'expected'),
  [
    ([1, 2], tuple[int, ...], (1, 2)),
    ([1, 'a'], tuple[int, str], (1, 'a')),
    ([[1, 2], [3]], tuple[tuple[int, ...], ...], ((1, 2), (3,))),
    ([2], str | tuple[float, ...] | None, (2,)),
    ([2], Sequence[int], (2,)),
    ([], tuple, ()),
    ([2], list[int], [2]),
    ([2], None, [2]),
    ('ab', str | tuple[str, ...], 'ab'),
  ],
)
def test_lists_of_a_config_become_tuples_where_tuples_are_asked_for(value, hint, expected):
  found = build.to_tuples(value, hint)
  assert found == expected and type(found) is type(expected)


def test_a_module_from_a_saved_config_can_be_hashed():
  hash(build.build({'name': 'mlp.MLP', 'hidden': [3, 4]}, 'dl.models', 'config.model'))


def test_inherited_arguments_are_checked_too():
  with pytest.raises(ConfigError, match=r"model\.num_classes: expected int, got '1'"):
    build.build({'name': 'resnet.ResNet18', 'num_classes': '1'}, 'dl.models', 'model')


def test_the_nearest_names_are_those_a_config_can_use():
  with pytest.raises(ConfigError) as error:
    build.resolve('arrays.npz', 'dl.data.sources', 'data')
  assert 'Npz' in str(error.value) and 'load_npz' not in str(error.value)


@pytest.mark.parametrize(
  ('name', 'line'),
  [
    ('no_such_lab.nets.Wide', "there is no module 'no_such_lab' below dl.models, in "),
    ('mlp.MPL', "did you mean 'MLP'"),
    ('lent.LeNet5', "did you mean 'lenet.LeNet5'"),
    ('flax.linenn.Dense', "did you mean 'flax.linen'"),
  ],
)
def test_a_name_that_there_is_none_of(name, line):
  with pytest.raises(ConfigError) as error:
    build.resolve(name, 'dl.models', 'config.model')
  assert line in str(error.value) and len(str(error.value)) < 300
