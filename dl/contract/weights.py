r"""What a network says of its own weights: how a mesh splits them, how other libraries name them, and which of them fit
a network of another size.

All are attributes of its class, which subclasses inherit:

    class MyNet(nn.Module):
      sharding_rules: ClassVar[Rules] = (*outputs('up'), *inputs('down'))
      layouts: ClassVar[Layouts] = {'timm': [(r'blocks\.(\d+)\.fc1\.(.*)', r'block_\1.up.\2')]}
    exports: ClassVar[Exports] = {'huggingface': lambda model: Foreign(config={...}, shapes={...})}
      resampling: ClassVar[Resampling] = {'(^|/)positions$': lambda value, shape: resize(value, shape)}
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import numpy as np

from dl.errors import ConfigError

Rules = tuple[tuple[str, tuple[str | None, ...]], ...]
"""(regex of a parameter's path, the mesh axis 'model' or 'expert' or None of each of its last dimensions) pairs.

The first regex that is found in a path counts. The pairs are Megatron-LM's (arXiv 1909.08053): a layer that widens is
split by its outputs, the next one by its inputs, so that a sum over devices is due once for both. Tables of embeddings
are split by their rows.
"""

Tensors = dict[str, np.ndarray]
"""Arrays by their names in a file."""

Table = Sequence[tuple[str, str | None]]
"""(regex of a tensor's whole name, its name here) pairs; see `rename`."""

Layout = Table | Callable[[Tensors, nn.Module], Tensors]
"""From the tensors of another library to those that PyTorch's own layers would have under the names here."""

Layouts = Mapping[str, Layout]
"""By the name of the library."""


class Foreign(NamedTuple):
  """A network as another library has it.

  Attributes:
    config: what the library is told of it, as plain data: `config.json` of Hugging Face.
    shapes: of its tensors, by their names there; those that are others again are left out. The layout of the same name
      makes all of the network of them.
  """

  config: dict[str, Any]
  shapes: dict[str, tuple[int, ...]]


Exports = Mapping[str, Callable[[nn.Module], Foreign]]
"""By the name of the library; ConfigError of a network which that does not have (`only`)."""

Resampling = Mapping[str, Callable[[np.ndarray, tuple[int, ...]], np.ndarray]]
"""regex of a parameter's path -> (stored value, shape that is needed) -> the value for it, or ValueError.

A parameter which no regex is found in has to have the shape that is needed.
"""


def outputs(layer: str) -> Rules:
  """A layer of which each device has some outputs, and the norm behind it, if `layer` names one."""
  return ((rf'(^|/){layer}/kernel$', (None, 'model')), (rf'(^|/){layer}/(bias|scale)$', ('model',)))


def inputs(layer: str) -> Rules:
  """A layer of which each device has some inputs; all have its bias."""
  return ((rf'(^|/){layer}/kernel$', ('model', None)),)


def rename(tensors: Mapping[str, np.ndarray], table: Table) -> Tensors:
  """The tensors under the names of a table, each by the first regex that is its whole name; others keep theirs.

  A replacement which ends in '#0', '#1', ... is a part of a tensor whose parts are concatenated along the first axis;
  one of None drops the tensor.
  """
  result: Tensors = {}
  parts: dict[str, dict[int, np.ndarray]] = {}
  for name, value in tensors.items():
    for pattern, replacement in table:
      if match := re.fullmatch(pattern, name):
        name = None if replacement is None else match.expand(replacement)
        break
    if name is None:
      continue
    whole, _, index = name.partition('#')
    if index:
      parts.setdefault(whole, {})[int(index)] = value
    else:
      result[name] = value
  return result | {name: np.concatenate([p[i] for i in sorted(p)]) for name, p in parts.items()}


def only(model: nn.Module, library: str, **values: Any) -> None:
  """Raises ConfigError where an attribute of a model is another than the one that a library has it with."""
  for name, value in values.items():
    if (found := getattr(model, name)) != value:
      raise ConfigError(f'{library} has no {type(model).__name__} with {name}={found!r}, but with {value!r} alone')


def share_embedding(tensors: Tensors, tied: bool) -> Tensors:
  """Tensors of a model whose last layer is its embedding (`tied`), or has weights of its own, which files may lack.

  Tied, the last layer is left out where it is the embedding again; otherwise one that there is not is the embedding.
  """
  token = tensors.get('token.weight')
  if token is None:
    return tensors
  if not tied:
    return {'out.weight': token, **tensors}
  if np.array_equal(tensors.get('out.weight', token), token):
    return {name: value for name, value in tensors.items() if name != 'out.weight'}
  return tensors


def resampled(model: nn.Module | None, path: str, value: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
  """A stored value in the shape that a network needs, where its class says how (`resampling`); else as it is.

  Raises:
    ValueError: the class says how, and it cannot be done.
  """
  if value.shape == shape:
    return value
  for pattern, function in getattr(model, 'resampling', {}).items():
    if re.search(pattern, path):
      return np.asarray(function(value, shape))
  return value
