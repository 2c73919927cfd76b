"""Folders as Hugging Face's libraries have them: `from_pretrained(folder)` of transformers reads what is written here.

Nothing says twice how tensors are named and laid out. A layout (`dl.contract.weights`) makes the network's variables of
tensors; run over tensors which hold their own numbers, 0, 1, 2, ..., it shows which number goes where, and so the way
back.
"""

import json
import pathlib
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from jaxtyping import PyTree
from safetensors.numpy import save as to_bytes

from dl.contract.info import Info
from dl.contract.weights import Foreign
from dl.data.tokenizers import subwords
from dl.errors import ConfigError
from dl.nn import lora
from dl.store import atomic
from dl.training import start

LAYOUT = 'huggingface'
WEIGHTS, CONFIG, TOKENIZER, TOKENIZER_CONFIG = FILES = (
  'model.safetensors', 'config.json', 'tokenizer.json', 'tokenizer_config.json'
)  # fmt: skip


def save(model: nn.Module, params: PyTree, info: Info, folder: pathlib.Path) -> list[pathlib.Path]:
  """Writes a network's weights, its config and, where the data has one, its tokenizer; gives the files.

  Adapters (`dl.nn.lora`) are merged into the weights.

  Args:
    model: a network whose class has an export 'huggingface'.
    params: its parameters.
    info: facts of its data.
    folder: where they go; it is made if needed.

  Raises:
    ConfigError: a network which Hugging Face has not, or a folder that holds one already.
  """
  model, params = lora.plain(model), lora.merged(model, params)
  foreign = describe(model)
  if there := [name for name in FILES if (folder / name).exists()]:
    raise ConfigError(f'--output: {folder} holds a {there[0]} already; name another folder')
  config = dict(foreign.config, dtype='float32')
  names = info.class_names
  if names is not None and len(names) == len(config.get('id2label', ())):
    config |= {'id2label': {str(i): name for i, name in enumerate(names)}}
  if 'id2label' in config:
    config['label2id'] = {name: int(i) for i, name in config['id2label'].items()}
  content: dict[str, str | bytes] = {
    WEIGHTS: to_bytes(tensors(model, params), metadata={'format': 'pt'}),
    CONFIG: _json(config),
  }
  if info.tokenizer is not None:
    known = {'tokenizer_class': 'PreTrainedTokenizerFast', **subwords.roles(info.tokenizer)}
    length = getattr(model, 'length', None)
    known |= {} if length is None else {'model_max_length': length}
    content |= {TOKENIZER: info.tokenizer, TOKENIZER_CONFIG: _json(known)}
  folder.mkdir(parents=True, exist_ok=True)
  for name, value in content.items():
    atomic.write(folder / name, value)
  return [folder / name for name in content]


def describe(model: nn.Module) -> Foreign:
  """The network as Hugging Face has it; raises ConfigError for one that it has not."""
  exports = getattr(model, 'exports', {})
  if LAYOUT not in exports:
    raise ConfigError(f'{type(model).__name__} has no layout of Hugging Face to be written in')
  return exports[LAYOUT](model)


def tensors(model: nn.Module, params: PyTree) -> dict[str, np.ndarray]:
  """A network's parameters under the names and in the shapes of Hugging Face: what its layout makes them of."""
  shapes = describe(model).shapes
  ends = np.cumsum([int(np.prod(shape)) for shape in shapes.values()])
  kind = np.int32 if ends[-1] < 2**31 else np.int64
  numbers = {
    name: np.arange(end - int(np.prod(shape)), end, dtype=kind).reshape(shape)
    for (name, shape), end in zip(shapes.items(), ends, strict=True)
  }
  like = jax.tree.map(lambda x: np.broadcast_to(kind(0), x.shape), params)
  places = start.convert(numbers, {'params': like}, model=model, layout=LAYOUT, where='--layout')['params']
  flat, written = np.empty(ends[-1], np.float32), np.zeros(ends[-1], bool)
  for place, values in zip(jax.tree.leaves(places), jax.tree.leaves(params), strict=True):
    flat[place], written[place] = np.asarray(values, np.float32), True
  if not written.all():
    missing = [name for name, number in numbers.items() if not written[number].all()]
    raise ConfigError(f'--layout: {type(model).__name__} has no values of {", ".join(missing)}')
  return {name: flat[number] for name, number in numbers.items()}


def _json(value: Any) -> str:
  return json.dumps(value, indent=2, ensure_ascii=False) + '\n'
