"""A run before its training: its model as a table, by shapes alone, and pictures of a batch and the learning rate."""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from dl.contract import keys
from dl.contract.axes import Axes
from dl.contract.info import to_float
from dl.contract.kinds import IMAGE
from dl.show import pictures
from dl.show.words import amount, percent
from dl.store import atomic
from dl.training import flops
from dl.training.assemble import Parts


@dataclasses.dataclass(frozen=True)
class Row:
  """One module of a network, with all that it holds.

  Attributes:
    path: names of the modules from the network's own on.
    kind: class of the module.
    shape: of its output for one example, '28x28x6'; of each, for several.
    parameters: trainable numbers.
    flops: of one example, forwards.
  """

  path: tuple[str, ...]
  kind: str
  shape: str
  parameters: int
  flops: float


def rows(parts: Parts) -> list[Row]:
  """Every module of the run's networks, in the order of their first calls."""
  batch = {k: jax.ShapeDtypeStruct((1, *v.shape[1:]), v.dtype) for k, v in parts.batch.items()}
  calls: dict[tuple[str, ...], list[str]] = {}
  root, examples = [''], {}

  def record(function: Any, arguments: Any, options: Any, context: Any) -> Any:
    if context.method_name != '__call__' or isinstance(context.module, Axes):
      return function(*arguments, **options)
    if not context.module.path:
      root[0] = type(context.module).__name__
    path = (root[0], *context.module.path)
    entry = calls.setdefault(path, [type(context.module).__name__, ''])
    result = function(*arguments, **options)
    if not context.module.path:
      examples[path[0]] = jax.tree.leaves(result)[0].shape[0]  # a task may begin with more than one
    entry[1] = entry[1] or ', '.join('x'.join(map(str, x.shape[1:])) or '1' for x in jax.tree.leaves(result))
    return result

  def initialize(batch: Any) -> Any:
    return parts.task.init(keys.parameters(parts.experiment.seed), to_float(batch, parts.task.info))

  with nn.intercept_methods(record):
    work = flops.count(initialize, batch)
  players = {type(model).__name__: player for player, model in parts.task.players.items()}
  layers = []
  for path, (kind, shape) in calls.items():
    if path[0] not in players:
      continue
    prefix = '/'.join(path)
    done = sum(f for name, f in work.items() if name == prefix or name.startswith(prefix + '/')) / examples[path[0]]
    tree = parts.state.params[players[path[0]]]
    for name in path[1:]:
      tree = tree.get(name, {}) if isinstance(tree, Mapping) else {}
    layers.append(Row(path, kind, shape, sum(x.size for x in jax.tree.leaves(tree)), done))
  return layers


def table(layers: Sequence[Row], depth: int) -> str:
  """The rows down to a depth below each network (0: the networks alone), as a text with aligned columns."""
  totals = {row.path[0]: row for row in layers if len(row.path) == 1}
  whole = sum(row.parameters for row in totals.values())
  work = sum(row.flops for row in totals.values())
  lines = [('layer', 'kind', 'output', 'parameters', 'share', 'FLOPs', 'share')]
  for row in layers:
    if len(row.path) <= depth + 1:
      share = lambda part, total: percent(part / total) if total else ''
      name = '  ' * (len(row.path) - 1) + row.path[-1]
      numbers = (f'{row.parameters:,}', share(row.parameters, whole), amount(row.flops), share(row.flops, work))
      lines.append((name, row.kind, row.shape, *numbers))
  lines.append(('all', '', '', f'{whole:,}', '', amount(work), ''))
  widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
  aligned = lambda line: '  '.join(
    cell.ljust(w) if i < 3 else cell.rjust(w) for i, (cell, w) in enumerate(zip(line, widths, strict=True))
  )
  rule = '-' * len(aligned(lines[0]))
  return '\n'.join(
    [aligned(lines[0]).rstrip(), rule, *(aligned(n).rstrip() for n in lines[1:-1]), rule, aligned(lines[-1])]
  )


def learning_rates(parts: Parts, points: int = 200) -> dict[str, tuple[list[int], list[float]]]:
  """Name -> (steps, learning rates in them)."""
  steps = sorted({round(1 + (parts.total_steps - 1) * i / (points - 1)) for i in range(points)})
  rates = [parts.optimizer.rates(step) for step in steps]
  return {name: (steps, [r[name] for r in rates]) for name in parts.optimizer.learning_rates}


def augmented_batch(parts: Parts, step: int = 0) -> Mapping[str, Any]:
  """The training batch of a step, as the model sees it: augmented, images in [0, 1]."""
  batch = to_float(parts.pipeline[step], parts.task.info)
  if parts.pipeline.augment is None:
    return batch
  _, key = keys.step(parts.experiment.seed, step)
  return jax.jit(parts.pipeline.augment)(key, batch)


def write_pictures(parts: Parts, folder: pathlib.Path, images: int) -> list[pathlib.Path]:
  """Writes the pictures that the run has, of that many images at most; their paths."""
  drawn = {}
  if rates := learning_rates(parts):
    drawn['learning_rate'] = pictures.curves(rates, x='step', y='learning rate')
  columns = parts.task.info.of_kind(IMAGE, parts.batch)
  batch = augmented_batch(parts) if columns else {}
  for column in columns:
    shown = np.asarray(batch[column])[:images]
    name = 'batch' if len(columns) == 1 else f'batch_{column}'
    drawn[name] = pictures.grid(shown[..., : 3 if shown.shape[-1] >= 3 else 1])
  folder.mkdir(parents=True, exist_ok=True)
  for name, picture in drawn.items():
    atomic.write(folder / f'{name}.png', pictures.png(picture))
  return [folder / f'{name}.png' for name in drawn]
