"""Regular expressions over the paths of parameters, such as 'layer1_0/conv1/kernel'."""

import re
from collections.abc import Sequence
from typing import Any

import jax
from jaxtyping import PyTree

from dl.errors import ConfigError, first_line


def paths(params: PyTree) -> list[str]:
  """The path of each leaf, '/'-joined, in the order of `jax.tree.leaves`."""
  return [_path(p) for p, _ in jax.tree_util.tree_leaves_with_path(params)]


def found_in(pattern: str, params: PyTree) -> PyTree:
  """A tree of bools: which parameters the pattern is found in, be it none."""
  return jax.tree_util.tree_map_with_path(lambda p, _: re.search(pattern, _path(p)) is not None, params)


def match(pattern: str, params: PyTree, where: str) -> PyTree:
  """A tree of bools: which parameters the pattern is found in; raises ConfigError if none."""
  compile_pattern(pattern, where)
  mask = found_in(pattern, params)
  if not any(jax.tree.leaves(mask)):
    names = paths(params)
    raise ConfigError(f'{where}: {pattern!r} matches no parameter; parameters: {_some(names)}')
  return mask


def assign(pairs: Sequence[Sequence[Any]], params: PyTree, where: str) -> PyTree:
  """A tree of indices into `pairs`: the first pattern that matches each parameter.

  Raises:
    ConfigError: a parameter that no pattern matches, or a pattern that is the first match of none.
  """
  if not is_pairs(pairs):
    raise ConfigError(f'{where}: expected a list of [pattern, value] pairs, got {pairs!r}')
  regexes = [compile_pattern(p, f'{where}.{i}') for i, (p, _) in enumerate(pairs)]

  def first(path, _):
    for i, regex in enumerate(regexes):
      if regex.search(_path(path)):
        return i
    raise ConfigError(f"{where}: no pattern matches the parameter {_path(path)!r}; end the list with ['.*', value]")

  index = jax.tree_util.tree_map_with_path(first, params)
  for i in set(range(len(pairs))) - set(jax.tree.leaves(index)):
    raise ConfigError(
      f'{where}.{i}: {pairs[i][0]!r} matches no parameter that earlier patterns leave; '
      f'parameters: {_some(paths(params))}'
    )
  return index


def compile_pattern(pattern: Any, where: str) -> re.Pattern:
  """A compiled regular expression; raises ConfigError if it is none."""
  try:
    return re.compile(pattern)
  except (re.error, TypeError) as e:
    raise ConfigError(f'{where}: {pattern!r} is not a regular expression: {first_line(e)}') from e


def is_pairs(value: Any) -> bool:
  """Whether a value is a list of [pattern, value] pairs."""
  return (
    isinstance(value, list | tuple)
    and len(value) > 0
    and all(isinstance(v, list | tuple) and len(v) == 2 and isinstance(v[0], str) for v in value)
  )


def _path(path: Sequence[Any]) -> str:
  return jax.tree_util.keystr(tuple(path), simple=True, separator='/')


def _some(names: Sequence[str], limit: int = 8) -> str:
  return ', '.join(names[:limit]) + (', ...' if len(names) > limit else '')
