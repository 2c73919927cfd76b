"""Floating-point operations of a function, counted from its jaxpr: nothing is compiled or run."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np


def count(function: Callable, *arguments: Any) -> dict[str, float]:
  """Name stack ('ResNet/layer1_0/conv1') -> FLOPs of the matrix products and convolutions below it.

  A multiplication and an addition are two. Elementwise operations are left out, as they usually are. A loop counts as
  often as it is run; of the branches of a condition the dearest one counts; a loop of unknown length counts once.
  """
  totals: dict[str, float] = {}
  for name, flops in _walk(jax.make_jaxpr(function)(*arguments).jaxpr, ''):
    totals[name] = totals.get(name, 0.0) + flops
  return totals


def _walk(jaxpr: Any, prefix: str) -> Iterator[tuple[str, float]]:
  for eqn in jaxpr.eqns:
    name = '/'.join(n for n in (prefix, str(eqn.source_info.name_stack)) if n)
    kind, params = eqn.primitive.name, eqn.params
    if kind == 'dot_general':
      yield name, _dot(eqn)
    elif kind == 'conv_general_dilated':
      yield name, _convolution(eqn)
    elif kind == 'cond':
      branches = [list(_walk(branch.jaxpr, name)) for branch in params['branches']]
      yield from max(branches, key=lambda work: sum(flops for _, flops in work))
    else:
      times = params['length'] if kind == 'scan' else 1
      for inner in _inner(params):
        yield from ((n, times * flops) for n, flops in _walk(inner, name))


def _inner(params: dict[str, Any]) -> Iterator[Any]:
  """The jaxprs that an equation calls."""
  for value in params.values():
    for part in value if isinstance(value, list | tuple) else [value]:
      part = getattr(part, 'jaxpr', part)
      if hasattr(part, 'eqns'):
        yield part


def _dot(eqn: Any) -> float:
  (contracted, _), _ = eqn.params['dimension_numbers']
  shape = eqn.invars[0].aval.shape
  return 2.0 * float(np.prod(eqn.outvars[0].aval.shape)) * float(np.prod([shape[i] for i in contracted]))


def _convolution(eqn: Any) -> float:
  """Of the dense definition: also where padding makes a factor zero."""
  kernel, spec = eqn.invars[1].aval.shape, eqn.params['dimension_numbers'].rhs_spec
  taps = np.prod([kernel[i] for i in spec[1:]])  # input channels of a group, and space; spec[0] is the output's
  output = float(np.prod(eqn.outvars[0].aval.shape)) / float(np.prod(eqn.params['lhs_dilation']))
  return 2.0 * output * float(taps)
