from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import pytest

from dl.config import build, citations
from dl.errors import ConfigError
from dl.models.variants import size_of


class Net(nn.Module):
  """A net.

  Cite: huang2016deep
  """

  num_classes: int
  width: int = 8
  pool: tuple[int, ...] | None = None
  dtype: Any = jnp.float32


@size_of(Net, width=16)
def Net16() -> Net:
  """A net of width 16."""


def make(**options):
  return build.build({'name': f'{__name__}.Net16', **options}, 'dl.models', 'config.model')


def test_a_size_is_its_family_with_other_defaults(monkeypatch):
  monkeypatch.setattr(build, 'resolve', lambda name, package, where: Net16)
  assert make(num_classes=3) == Net16(3) == Net(3, width=16)
  assert make(num_classes=3, width=4, pool=[1, 2]) == Net(3, 4, (1, 2))
  assert hash(make(num_classes=3)) == hash(Net(3, 16))
  for options, line in (
    ({'num_classes': 3, 'widht': 4}, "Net16 takes no argument 'widht'; did you mean 'width'"),
    ({'num_classes': 'three'}, 'config.model.num_classes: expected int'),
    ({}, "Net16 needs an argument 'num_classes'"),
  ):
    with pytest.raises(ConfigError, match=line):
      make(**options)


def test_it_is_named_and_documented():
  assert Net16.__name__ == 'Net16' and Net16.__module__ == __name__
  assert Net16.__doc__.startswith('A net of width 16.\n\nA net.')
  assert citations._of_object(Net16) == ['huang2016deep']
  with pytest.raises(TypeError, match='Net has no depth'):
    size_of(Net, depth=3)
