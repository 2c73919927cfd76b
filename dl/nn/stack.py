"""A stack of like blocks: unrolled or scanned, with activations kept or computed again."""

from collections.abc import Callable
from typing import Any, Literal

import flax.linen as nn
import jax

Remat = Literal['none', 'dots', 'full']
"""What the backward pass computes again: nothing; all but products of activations and weights; all of each block."""

_POLICIES = {'dots': jax.checkpoint_policies.dots_with_no_batch_dims_saveable, 'full': None}


def memory_savings(remat: Remat) -> dict[str, Remat]:
  """What `memory_savings` of a network with an argument `remat` says: the value with which it keeps least."""
  return {} if remat == 'full' else {'remat': 'full'}


def unstacked(path: tuple[str, ...], number: int) -> list[tuple[str, ...]]:
  """What a parameter of a scanned block would be called in block `number` of the same ones unrolled: the candidates."""
  return [(*path[:i], f'{key[:-1]}_{number}', *path[i + 1 :]) for i, key in enumerate(path) if key.endswith('s')]


def rematerialized(block: type[nn.Module], how: Remat) -> type[nn.Module]:
  """A class of blocks, called as `block(x, train)`, whose activations are kept or computed again."""
  return block if how == 'none' else nn.remat(block, policy=_POLICIES[how], static_argnums=(2,))


def stack(
  make: Callable[[str, int], nn.Module],
  count: int,
  x: Any,
  *arguments: Any,
  scan: bool = False,
  remat: Remat = 'none',
  prefix: str = 'block',
) -> Any:
  """Applies `count` blocks one after another, each to what the one before it gave; for use in a compact method.

  Unrolled, the blocks are called block_0, block_1, ...; scanned, there is one module, blocks, whose parameters have a
  leading dimension of `count`: a deep network then compiles as fast as a shallow one. Rematerialization (Training Deep
  Nets with Sublinear Memory Cost, arXiv 1604.06174) trades time for memory, and changes no result.

  Args:
    make: (name, number) -> a block; called as `block(x, *arguments)`, it returns what the next one takes. Scanned
      blocks are all like number 0.
    count: number of blocks.
    x: what the first one takes.
    *arguments: further arguments, the same for each block.
    scan: whether to scan.
    remat: 'none' keeps all activations for the backward pass; 'dots' keeps the products with weights, and 'full'
      the inputs of the blocks alone.
    prefix: of the names.
  """

  def body(block: nn.Module, x: Any, _: None) -> tuple[Any, None]:
    return block(x, *arguments), None

  if remat != 'none':
    body = nn.remat(body, policy=_POLICIES[remat], prevent_cse=not scan)
  if not scan:
    for i in range(count):
      x, _ = body(make(f'{prefix}_{i}', i), x, None)
    return x
  axes, rngs = {'params': 0, 'batch_stats': 0, 'cache': 0}, {'params': True, 'dropout': True}
  return nn.scan(body, variable_axes=axes, split_rngs=rngs, length=count)(make(f'{prefix}s', 0), x, None)[0]
