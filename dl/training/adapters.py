"""Adapters (`dl.nn.lora`) in a run: networks that a config gives some, what stays frozen, and files of them alone."""

import json
import pathlib
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from jaxtyping import PyTree
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as to_bytes

from dl.config import build
from dl.config.patterns import compile_pattern, found_in, match, paths
from dl.contract.state import State
from dl.contract.task import Task
from dl.errors import ConfigError, first_line
from dl.nn import lora
from dl.store import atomic

FILE = 'adapters.safetensors'


def build_model(spec: Mapping[str, Any], where: str, **given: Any) -> nn.Module:
  """The network of a config, with adapters where its `lora` asks for them; raises ConfigError for what it cannot be."""
  own = {k: v for k, v in spec.items() if k != 'lora'} if isinstance(spec, Mapping) else spec
  model = build.build(own, 'dl.models', where, nn.Module, **given)
  if own == spec or spec['lora'] is None:
    return model
  if not isinstance(spec['lora'], Mapping):
    raise ConfigError(f"{where}.lora: expected a dict, such as dict(layers='attention/(q|v)$', rank=8)")
  build.check_arguments(lora.LoRA, spec['lora'], f'{where}.lora')
  options = lora.LoRA(**{k: tuple(v) if isinstance(v, list) else v for k, v in spec['lora'].items()})
  for name, pattern in (('layers', options.layers), *((f'trained.{i}', p) for i, p in enumerate(options.trained))):
    compile_pattern(pattern, f'{where}.lora.{name}')
  return lora.adapted(model, options)


def frozen(task: Task, params: Mapping[str, PyTree]) -> dict[str, str]:
  """Player -> a pattern of the parameters which its adapters leave as they are; of players that have some.

  Raises:
    ConfigError: what is to be trained besides is no parameter.
  """
  options = {player: model.lora for player, model in task.players.items() if lora.is_adapted(model)}
  for player, option in options.items():
    where = 'config.model' if not isinstance(task.model, Mapping) else f'config.model.{player}'
    for i, pattern in enumerate(option.trained):
      match(pattern, params[player], f'{where}.lora.trained.{i}')
  return {player: option.frozen for player, option in options.items()}


def trained(model: nn.Module, params: PyTree) -> dict[str, Any]:
  """The parameters that a network with adapters trains, by their paths."""
  fixed = jax.tree.leaves(found_in(model.lora.frozen, params))
  return {
    path: x for path, x, is_fixed in zip(paths(params), jax.tree.leaves(params), fixed, strict=True) if not is_fixed
  }


def merged(task: Task, state: State) -> State:
  """The state of the task's networks without adapters, which gives what they give."""
  return state.replace(params={p: lora.merged(task.players[p], params) for p, params in state.params.items()})


def save(model: nn.Module, params: PyTree, file: pathlib.Path) -> int:
  """Writes what a network with adapters trains, and no more, as .safetensors; gives how many numbers that is.

  Raises:
    ConfigError: a network without adapters.
  """
  if not lora.is_adapted(model):
    raise ConfigError(f'{type(model).__name__} has no adapters; config.model.lora gives it some')
  arrays = {path: np.asarray(x) for path, x in trained(model, params).items()}
  kind = {'scale': model.lora.scale, 'layers': model.lora.layers}
  atomic.write(file, to_bytes(arrays, metadata={'lora': json.dumps(kind)}))
  return sum(x.size for x in arrays.values())


def load(
  path: str, model: nn.Module, params: PyTree, where: str = 'config.init_from.adapters'
) -> dict[str, np.ndarray]:
  """What `save` has written, path -> array, for a network of the same adapters.

  Raises:
    ConfigError: no such file, or adapters which do not fit the network.
  """
  if not lora.is_adapted(model):
    raise ConfigError(f'{where}: {type(model).__name__} has no adapters here; config.model.lora gives it some')
  file = pathlib.Path(path).expanduser()
  file = file / FILE if file.is_dir() else file
  if not file.is_file():
    raise ConfigError(f'{where}: no file {str(file)!r}')
  try:
    with safe_open(file, 'numpy') as opened:
      kind = json.loads((opened.metadata() or {}).get('lora', 'null'))
      arrays = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
  except (SafetensorError, OSError, ValueError) as e:
    raise ConfigError(f'{where}: cannot read {file}: {first_line(e)}') from e
  if not isinstance(kind, dict) or not isinstance(kind.get('scale'), int | float):
    raise ConfigError(f'{where}: {file} is no file of adapters, as dl.export --adapters writes')
  if kind['scale'] != model.lora.scale:
    raise ConfigError(
      f'{where}: their alpha / rank is {kind["scale"]}, and that of config.model.lora {model.lora.scale}'
    )
  mine = trained(model, params)
  wrong = [f'missing {name}' for name in mine if name not in arrays]
  wrong += [f'extra {name}' for name in arrays if name not in mine]
  both = [name for name in mine if name in arrays]
  wrong += [
    f'{name} has shape {arrays[name].shape}, not {mine[name].shape}'
    for name in both
    if arrays[name].shape != mine[name].shape
  ]
  if wrong:
    more = f' and {len(wrong) - 4} more' if len(wrong) > 4 else ''
    raise ConfigError(f'{where}: {file} does not fit config.model.lora: {"; ".join(wrong[:4])}{more}')
  return {name: arrays[name].astype(mine[name].dtype) for name in mine}
