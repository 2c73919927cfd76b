"""The import rules of the architecture: downwards only, and each outside library in its one place."""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parents[1]

# A module may import those of lower numbers alone: not its peers. One without an entry is an entry point (the top).
LEVELS = {
  'atomic': 0, 'compilation': 0, 'errors': 0, 'flops': 0, 'hlo': 0, 'info': 0, 'layouts': 0, 'metrics': 0,
  'pictures': 0, 'progress': 0, 'ranges': 0, 'rules': 0, 'signals': 0, 'skipped': 0, 'state': 0, 'supervisor': 0,
  'build': 1, 'checksums': 1, 'datasheet': 1, 'distributed': 1, 'duration': 1, 'logs': 1, 'memory': 1, 'mistakes':
  1, 'profiler': 1, 'vocabulary': 1,
  'cli': 2, 'envs': 2, 'losses': 2, 'nn': 2, 'patterns': 2,
  'models': 3,
  'stages': 4, 'task': 4,
  'artifacts': 5, 'checkpoint': 5, 'config': 5, 'data': 5, 'optim': 5, 'seeds': 5, 'sharding': 5, 'tasks': 5,
  'partition': 6, 'policy': 6, 'workdir': 6,
  'assemble': 7, 'sweeping': 7,
  'meter': 8, 'restore': 8, 'steps': 8, 'summary': 8,
  'planning': 9, 'recorder': 9, 'report': 9, 'schedule': 9, 'weights': 9,
  'launch': 10, 'loop': 10,
}  # fmt: skip
TOP = 11

ONLY_IN = {
  'tensorflow_datasets': ('data',),
  'grain': ('data',),
  'PIL': ('data', 'artifacts', 'pictures'),
  'orbax': ('checkpoint',),
  'tensorboard': ('logs',),
}

FOR_TASKS = (
  'build', 'envs', 'errors', 'info', 'losses', 'metrics', 'mistakes', 'models', 'nn', 'pictures', 'state', 'task',
  'vocabulary',
)  # fmt: skip

FILES = sorted((ROOT / 'dl').rglob('*.py'))


def imports(path: pathlib.Path) -> list[str]:
  """Every module that a file imports, wherever in the file."""
  found = []
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.Import):
      found += [a.name for a in node.names]
    elif isinstance(node, ast.ImportFrom):
      assert node.level == 0, f'{path}: relative import'
      found += [f'{node.module}.{a.name}' for a in node.names]
  return found


def part(path: pathlib.Path) -> str:
  relative = path.relative_to(ROOT / 'dl')
  return relative.parts[0].removesuffix('.py')


def test_there_are_files():
  assert len(FILES) > 30
  assert LEVELS.keys() <= {part(path) for path in FILES}


@pytest.mark.parametrize('path', FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_run_downwards(path):
  mine = part(path)
  if mine == '__init__':
    return
  for name in imports(path):
    top, *rest = name.split('.')
    assert top != 'experiments', f'{path} imports experiments'
    if top == 'dl' and rest:
      theirs = rest[0]
      if theirs == mine:
        continue
      assert LEVELS.get(theirs, TOP) < LEVELS.get(mine, TOP), f'{path} imports {name}, which lies not below it'
      if mine in ('models', 'nn', 'envs', 'losses'):
        assert theirs not in ('task', 'tasks', 'data', 'loop'), f'{path}: a model knows no task'
      if mine == 'tasks':
        assert theirs in FOR_TASKS, f'{path}: a task knows no file, mesh or loop, and so no dl.{theirs}'
    if top in ONLY_IN:
      assert mine in ONLY_IN[top], f'{path}: {top} belongs in dl/{ONLY_IN[top]}'


@pytest.mark.parametrize('path', FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_deprecated_or_forbidden_names(path):
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.Attribute):
      assert node.attr not in ('pmap', 'xmap'), f'{path}:{node.lineno}: {node.attr}'
  assert not [n for n in imports(path) if n.split('.')[0] in ('pickle', 'clu', 'metrax', 'tensorflow')]
