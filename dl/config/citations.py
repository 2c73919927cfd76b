"""The BibTeX of what an experiment builds on: this codebase, the papers that its config names (`cite`, and a
`Cite: key, key` line of its docstring), its model, task, data and optimizer, and the libraries that run them. A class
says what to cite by such a line in its docstring, or its module's.
"""

import ast
import importlib
import importlib.metadata
import inspect
import pathlib
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import dl
from dl.config.build import resolve
from dl.config.experiment import Experiment
from dl.errors import ConfigError, nearest

_CITE = re.compile(r'\bCite:\s*([\w-]+(?:\s*,\s*[\w-]+)*)')
_ENTRY = re.compile(r'^@\w+\{\s*([^,\s]+)\s*,', re.MULTILINE)

_CODEBASE = 'dl2026'
_LIBRARIES = {'jax2018github': 'jax', 'flax2020github': 'flax', 'deepmind2020jax': None}  # key -> whose version to add

# Packages where the names in a part of a config live: first those of the part itself, then of what lies inside it.
_PACKAGES = {
  'task': ('dl.tasks', 'dl.losses', 'dl.envs'),
  'model': ('dl.models', 'dl.nn'),
  'data': ('dl.data.sources', 'dl.data.augment', 'dl.data.transforms'),
}

_OPTIMIZERS = {
  'accumulate': (),
  'adabelief': ('zhuang2020adabelief',),
  'adadelta': ('zeiler2012adadelta',),
  'adafactor': ('shazeer2018adafactor',),
  'adagrad': ('duchi2011adaptive',),
  'adam': ('kingma2015adam',),
  'adamax': ('kingma2015adam',),
  'adamaxw': ('kingma2015adam', 'loshchilov2019decoupled'),
  'adamw': ('kingma2015adam', 'loshchilov2019decoupled'),
  'adan': ('xie2022adan',),
  'adaptive_grad_clip': ('brock2021high',),
  'add_noise': ('neelakantan2015adding',),
  'amsgrad': ('reddi2018convergence',),
  'centralize': ('yong2020gradient',),
  'clip_by_global_norm': ('pascanu2013difficulty',),
  'cosine_decay_schedule': ('loshchilov2017sgdr',),
  'cosine_onecycle_schedule': ('smith2017super',),
  'dadapt_adamw': ('defazio2023learning',),
  'fromage': ('bernstein2020distance',),
  'lamb': ('you2020large',),
  'lars': ('you2017large',),
  'lbfgs': ('liu1989limited',),
  'linear_onecycle_schedule': ('smith2017super',),
  'lion': ('chen2023symbolic',),
  'lookahead': ('zhang2019lookahead',),
  'muon': ('jordan2024muon',),
  'nadam': ('dozat2016incorporating',),
  'nadamw': ('dozat2016incorporating', 'loshchilov2019decoupled'),
  'noisy_sgd': ('neelakantan2015adding',),
  'novograd': ('ginsburg2019stochastic',),
  'optimistic_adam': ('daskalakis2018training',),
  'optimistic_adam_v2': ('daskalakis2018training',),
  'params_average': ('polyak1992acceleration',),
  'params_ema': ('polyak1992acceleration',),
  'polyak_sgd': ('loizou2021stochastic',),
  'prodigy': ('mishchenko2023prodigy',),
  'radam': ('liu2020variance',),
  'rmsprop': ('tieleman2012rmsprop',),
  'rprop': ('riedmiller1993direct',),
  'sam': ('foret2021sharpness',),
  'schedule_free': ('defazio2024road',),
  'sgd': ('robbins1951stochastic',),
  'sgdr_schedule': ('loshchilov2017sgdr',),
  'sign_sgd': ('bernstein2018signsgd',),
  'signum': ('bernstein2018signsgd',),
  'sm3': ('anil2019memory',),
  'sophia': ('liu2023sophia',),
  'warmup_constant_schedule': ('goyal2017accurate',),
  'warmup_cosine_decay_schedule': ('goyal2017accurate', 'loshchilov2017sgdr'),
  'yogi': ('zaheer2018adaptive',),
}

# Arguments which switch a method on, by any value that is not zero, none or false.
_ARGUMENTS = {
  'batch_norm': ('ioffe2015batch',),
  'dropout': ('srivastava2014dropout',),
  'gradient_penalty': ('gulrajani2017improved',),
  'label_smoothing': ('szegedy2016rethinking',),
  'layer_norm': ('ba2016layer',),
  'rope': ('su2024roformer',),
  'spectral_norm': ('miyato2018spectral',),
  'stochastic_depth': ('huang2016deep',),
  'tie_embeddings': ('press2017using',),
}

# Values which name a method, whatever the argument is called.
_VALUES = {
  'elu': ('clevert2016fast',),
  'focal': ('lin2017focal',),
  'gelu': ('hendrycks2016gaussian',),
  'huber': ('huber1964robust',),
  'least_squares': ('mao2017least',),
  'relu': ('nair2010rectified',),
  'selu': ('klambauer2017self',),
  'silu': ('ramachandran2017searching',),
  'swish': ('ramachandran2017searching',),
  'wasserstein': ('arjovsky2017wasserstein',),
  **dict.fromkeys(('glorot_normal', 'glorot_uniform', 'xavier_normal', 'xavier_uniform'), ('glorot2010understanding',)),
  **dict.fromkeys(('he_normal', 'he_uniform', 'kaiming_normal', 'kaiming_uniform'), ('he2015delving',)),
  'orthogonal': ('saxe2014exact',),
}

# Data sets by name, whichever source reads them.
_DATA = {
  'breast_cancer': ('street1993nuclear',),
  'cifar10': ('krizhevsky2009learning',),
  'cifar100': ('krizhevsky2009learning',),
  'diabetes': ('efron2004least',),
  'digits': ('alpaydin1998optical',),
  'fashion_mnist': ('xiao2017fashion',),
  'iris': ('fisher1936iris',),
  'mnist': ('lecun2010mnist',),
  'wine': ('aeberhard1992wine',),
}
_SOURCES = {'sklearn': ('pedregosa2011scikit',), 'tfds': ('tfds',)}


def entries() -> dict[str, str]:
  """Key -> BibTeX entry of `references.bib`, in its order."""
  text = pathlib.Path(__file__).with_name('references.bib').read_text(encoding='utf-8')
  by_key = {}
  for match in _ENTRY.finditer(text):
    depth, end = 0, match.start()
    for end in range(match.start(), len(text)):
      depth += {'{': 1, '}': -1}.get(text[end], 0)
      if text[end] == '}' and depth == 0:
        break
    by_key[match[1]] = text[match.start() : end + 1]
  return by_key


def keys(experiment: Experiment, docstring: str = '') -> list[str]:
  """What an experiment should cite: BibTeX keys, each once, in a stable order.

  Args:
    experiment: a config (`dl.config.load`).
    docstring: of the config file.

  Raises:
    ConfigError: a name in the config which does not exist.
  """
  collected = [_CODEBASE, *experiment.cite, *cited(docstring)]
  for part in ('model', 'task', 'data'):
    spec = getattr(experiment, part) or {}
    players = {part: spec} if 'name' in spec or part != 'model' else {f'{part}.{k}': s for k, s in spec.items()}
    for where, player in players.items():
      if isinstance(player, Mapping) and 'name' in player:
        collected += _of_object(resolve(player['name'], _PACKAGES[part][0], f'config.{where}'))
        collected += _of_object(resolve('lora.LoRA', 'dl.nn', where)) if player.get('lora') else ()
    collected += [key for name, value in _items(spec) for key in _of_item(name, value, part)]
  for name, entry in experiment.eval.items():
    by = entry.get('by') if isinstance(entry, Mapping) else None
    by = by.get('name') if isinstance(by, Mapping) else by
    if by is not None:
      collected += _of_object(resolve(by, 'dl.evaluators', f'config.eval.{name}.by'))
  for name, value in _items(experiment.optim):
    if name == 'name' and isinstance(value, str):
      collected += _OPTIMIZERS.get(value.rpartition('.')[2], ())
    elif name == 'momentum' and value:
      collected += ['polyak1964some', 'sutskever2013importance']
    elif name == 'nesterov' and value:
      collected += ['nesterov1983method', 'sutskever2013importance']
  return list(dict.fromkeys([*collected, *_LIBRARIES]))


def bibtex(chosen: Iterable[str]) -> str:
  """The entries of keys, parted by blank lines; software has the version which is installed.

  Raises:
    ConfigError: a key which `references.bib` does not have.
  """
  known, parts = entries(), []
  for key in dict.fromkeys(chosen):
    if key not in known:
      raise ConfigError(f'no reference has the key {key!r}; {nearest(key, known)}')
    entry = known[key]
    if _LIBRARIES.get(key):
      entry = f'{entry[:-1]}  version = {{{importlib.metadata.version(_LIBRARIES[key])}}},\n}}'
    elif key == _CODEBASE:
      entry = re.sub(r'version = \{[^}]*\}', f'version = {{{dl.__version__}}}', entry)
    parts.append(entry)
  return '\n\n'.join(parts)


def cited(text: str | None) -> list[str]:
  """The keys of `Cite: key, key` lines in a text."""
  return [key for match in _CITE.findall(text or '') for key in re.split(r'\s*,\s*', match)]


def _of_object(target: Any) -> list[str]:
  """The keys that a class or function names in its own docstring, or else its module in its."""
  own = cited(vars(target).get('__doc__') if isinstance(target, type) else inspect.getdoc(target))
  return own or cited(getattr(sys.modules.get(getattr(target, '__module__', '')), '__doc__', None))


def _find(name: str, packages: Iterable[str]) -> Any:
  """The class or function of a name in the first package which has it; None for a text which is no such name."""
  if not re.fullmatch(r'[A-Za-z_]\w*(\.[A-Za-z_]\w*)*', name):
    return None
  for package in packages:
    module, _, attribute = f'{package}.{name}'.rpartition('.')
    try:
      target = getattr(importlib.import_module(module), attribute, None)
    except ImportError:
      continue
    if isinstance(target, type) or inspect.isfunction(target):
      return target
  return None


def _items(node: Any, name: str = '') -> Iterator[tuple[str, Any]]:
  """(name, value) of every leaf; an item of a list has the name of the list."""
  if isinstance(node, Mapping):
    for key, child in node.items():
      yield from _items(child, key)
  elif isinstance(node, list | tuple):
    for child in node:
      yield from _items(child, name)
  else:
    yield name, node


def _of_item(name: str, value: Any, part: str) -> list[str]:
  """The keys of one leaf of a model, task or data spec."""
  cites = list(_ARGUMENTS.get(name, ())) if value else []
  if not isinstance(value, str):
    return cites
  cites += _VALUES.get(value.lower(), ())
  inner = _find(value, _PACKAGES[part])  # a part inside of the part: an environment, an augmentation
  cites += _of_object(inner) if inner else ()
  if part == 'data':
    # 'sklearn.BreastCancer' and 'fashion_mnist:3.0.1' are 'breast_cancer' and 'fashion_mnist'.
    plain = re.sub(r'(?<=[a-z])(?=[A-Z])', '_', value.rpartition('.')[2] if name == 'name' else value).lower()
    cites += _DATA.get(re.split(r'[:/]', plain)[0], ())
    cites += _SOURCES.get(value.partition('.')[0], ()) if name == 'name' else ()
  return cites


def docstring(spec: str) -> str:
  """The docstring of the config file which `FILE[:ARGUMENT]` names."""
  path = pathlib.Path(spec)
  path = path if path.is_file() else pathlib.Path(spec.rpartition(':')[0])
  return ast.get_docstring(ast.parse(path.read_text(encoding='utf-8'))) or ''
