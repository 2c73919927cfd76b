"""Lists of what a config can name, made from the code: what each part is, and which arguments it takes."""

import ast
import dataclasses
import inspect
import sys
import typing
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import optax

from dl.config import build
from dl.config.hints import type_hints
from dl.contract.evaluator import Evaluator
from dl.contract.task import Task


@dataclasses.dataclass(frozen=True)
class List:
  """One page.

  Attributes:
    title: its heading.
    package: where the names are.
    intro: how a config names such a part, in Markdown.
    belongs: whether something that the package offers is in the list.
    given: arguments which do not come from a config.
  """

  title: str
  package: str
  intro: str
  belongs: Callable[[Any], bool] = inspect.isfunction
  given: Sequence[str] = ()


def _whole(target: Any) -> bool:
  """Whether a network is one by itself, and not a part that others of its file are made of."""
  if not build.makes(target, nn.Module):
    return False
  lines = []
  for node in ast.parse(inspect.getsource(sys.modules[target.__module__])).body:
    if isinstance(node, ast.ClassDef) and node.name != target.__name__:
      lines += node.body
    elif isinstance(node, ast.Assign | ast.AnnAssign) and node.value:
      lines.append(node.value)
  return not any(isinstance(n, ast.Name) and n.id == target.__name__ for line in lines for n in ast.walk(line))


def _ready(target: Any) -> bool:
  """Whether a class is a task by itself, and not the beginning of others."""
  return build.makes(target, Task) and not any(c.__module__.startswith('dl.tasks') for c in target.__subclasses__())


def _returns(target: Any, kind: Any) -> bool:
  return inspect.isfunction(target) and typing.get_type_hints(target).get('return') == kind


LISTS = {
  'tasks': List(
    'Tasks', 'dl.tasks',
    "A config's `task=dict(name='classify.Classify', label_smoothing=0.1)`. "
    '[One of your own](../tutorials/task.md) is a class.',
    _ready, ('model', 'info'),
  ),
  'models': List(
    'Models', 'dl.models',
    "A config's `model=dict(name='resnet.ResNet18', num_classes=10)`. "
    '[The table of networks](../models.md) compares those for images and series with their references. '
    '[One of your own](../tutorials/model.md) is a Linen module.',
    _whole, ('parent', 'name'),
  ),
  'sources': List(
    'Sources of data', 'dl.data.sources',
    "A config's `data=dict(name='sklearn.Digits', batch_size=64)`, with the source's own "
    "arguments beside the pipeline's. "
    '[One of your own](../tutorials/data.md) is a class with a length and examples.',
    inspect.isclass, ('self',),
  ),
  'augmentations': List(
    'Augmentations', 'dl.data.augment',
    "A list in a config's data: `augment=[dict(name='random_shift', pixels=1)]`. They run in the compiled training "
    'step, in order, and each example has its own draw. One of your own is a function '
    '`(key, batch, **arguments) -> batch`, by its dotted path.',
    lambda f: list(inspect.signature(f).parameters)[:2] == ['key', 'batch'], ('key', 'batch'),
  ),
  'transforms': List(
    'Transforms', 'dl.data.transforms',
    "A list in a config's data: `transform=[dict(name='random_resized_crop', size=(224, 224))]`: what must be done "
    'to an example before it fits a batch. One of your own is a function '
    '`(example, generator, **arguments) -> example`.',
    lambda f: list(inspect.signature(f).parameters)[:2] == ['example', 'generator'], ('example', 'generator'),
  ),
  'losses': List(
    'Losses', 'dl.losses',
    "A config's `task=dict(..., criterion='focal')`, or `criterion=dict(name='focal', gamma=1.0)`. "
    'Any function of `optax.losses` is one too, by its name, and any of your own, `(outputs, targets) -> [batch]`, by '
    'its dotted path.',
    given=('outputs', 'targets', 'labels'),
  ),
  'stages': List(
    'Stages of an optimizer', 'dl.optim.stages',
    "What optax has not. A config's `optim=dict(adam=dict(name='adamw', learning_rate=1e-3), "
    "ema=dict(name='params_ema', decay=0.999))` names stages, in order; any transformation "
    'of optax or `optax.contrib` is one, by its own name.',
    lambda f: _returns(f, optax.GradientTransformation), ('inner',),
  ),
  'schedules': List(
    'Schedules', 'dl.optim.stages',
    "In place of a number of a stage: `learning_rate=dict(name='inverse_time_decay', init_value=0.1, ...)`; any "
    'schedule of optax is one, by its own name, and any takes a `warmup` as well.',
    lambda f: not _returns(f, optax.GradientTransformation),
  ),
  'evaluators': List(
    'Evaluators', 'dl.evaluators',
    "An evaluation of a config, `eval=dict(look=dict(by='mistakes.Mistakes', split='test'))`, or of a run that is "
    'there, `python -m dl.evaluate --workdir=RUN --by=mistakes.Mistakes`. '
    '[One of your own](../tutorials/evaluator.md) is a class.',
    lambda c: build.makes(c, Evaluator),
  ),
}  # fmt: skip

PAGES = {f'lists/{name}.md': each.title for name, each in LISTS.items()}
"""Page -> its name."""

FOLDERS = {each.package.replace('.', '/'): f'lists/{name}.md' for name, each in LISTS.items()}
"""Folder of the code -> the page which lists what is in it."""


def page(path: str) -> str:
  """One list as Markdown: a row a name, in the order of the files."""
  this = LISTS[path.removeprefix('lists/').removesuffix('.md')]
  parts = {name: build.resolve(name, this.package, 'docs') for name in build.known_names(this.package)}
  rows = [_row(name, part, this) for name, part in parts.items() if this.belongs(part)]
  return '\n'.join(
    [
      f'---\nhide: [toc]\n---\n\n# {this.title}\n\n{this.intro}\n',
      '| name | what it is | arguments |',
      '|---|---|---|',
      *rows,
      '',
    ]
  )


def _row(name: str, part: Any, this: List) -> str:
  full = f'{part.__module__}.{part.__qualname__}'
  return f'| [`{name}`][{full}] | {_cell(_summary(part))} | {_cell(_arguments(part, this.given))} |'


def _summary(part: Any) -> str:
  """The first paragraph of a docstring, in one line."""
  return ' '.join((inspect.getdoc(part) or '').partition('\n\n')[0].split())


def _arguments(part: Any, given: Sequence[str]) -> str:
  """`a`, `b=1`; of a size of a family of models, the family, which takes the same."""
  family = type_hints(part).get('return')
  if inspect.isfunction(part) and inspect.isclass(family) and issubclass(family, nn.Module):
    return f'those of `{family.__name__}`'
  own = [p for p in inspect.signature(part).parameters.values() if p.name not in given]
  return ', '.join(f'`{p.name}`' if p.default is p.empty else f'`{p.name}={_value(p.default)}`' for p in own)


def _value(default: Any) -> str:
  if dataclasses.is_dataclass(default) and not isinstance(default, type):
    return f'{type(default).__name__}(...)'
  return getattr(default, '__name__', repr(default))


def _cell(text: str) -> str:
  return text.replace('|', '\\|')
