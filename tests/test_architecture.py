"""The import rules of the architecture: downwards only, and each outside library in its one place."""

import ast
import pathlib
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]

# A package imports packages of lower layers alone, and its own modules: not its peers.
LAYERS = (
  ('errors',),
  ('config', 'contract', 'show'),
  ('data', 'decoding', 'envs', 'losses', 'nn', 'optim', 'parallel'),
  ('evaluators', 'models', 'store', 'tasks'),
  ('report',),
  ('training',),
  ('planning', 'sweeps'),
  ('commands',),
)
LAYER = {name: number for number, names in enumerate(LAYERS) for name in names}
TOP = len(LAYERS)  # faces of the commands

ONLY_IN = {
  'tensorflow_datasets': ('data',),
  'grain': ('data',),
  'PIL': ('data', 'show'),
  'orbax': ('store',),
  'tensorboard': ('store',),
}

# What knows no file and no mesh, and of the other packages of its layer or below only these.
PURE = {
  'models': ('config', 'contract', 'errors', 'nn'),
  'nn': ('config', 'contract', 'errors'),
  'losses': ('config', 'contract', 'errors'),
  'tasks': ('config', 'contract', 'decoding', 'envs', 'errors', 'losses', 'nn', 'show', 'data.tokenizers'),
}

COMMANDS = ('cite', 'evaluate', 'plan', 'predict', 'sample', 'sweep', 'train')
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
  """The package of a file; its own name in the root, and 'face' for what only starts a command."""
  relative = path.relative_to(ROOT / 'dl')
  if relative.name == '__main__.py' or 'faces' in relative.parts:
    return 'face'
  return relative.parts[0].removesuffix('.py')


def test_the_root_holds_packages_errors_and_faces():
  assert len(FILES) > 100
  assert {part(path) for path in FILES} - {'face', '__init__'} - set(COMMANDS) == set(LAYER)
  root = {path.name.removesuffix('.py') for path in (ROOT / 'dl').iterdir() if path.suffix == '.py' or path.is_dir()}
  assert not root & sys.stdlib_module_names, 'python dl/train.py would take it for the one of Python'
  for path in (ROOT / 'dl').glob('*.py'):
    if path.stem in COMMANDS:
      assert len(path.read_text().splitlines()) < 10, f'{path} is more than a face'


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
      assert LAYER.get(theirs, TOP) < LAYER.get(mine, TOP), f'{path} imports {name}, which lies not below it'
      allowed = PURE.get(mine, LAYER)
      assert theirs in allowed or '.'.join(rest[:2]) in allowed, f'{path}: {mine} knows no dl.{theirs}'
    if top in ONLY_IN:
      assert mine in ONLY_IN[top], f'{path}: {top} belongs in dl/{ONLY_IN[top]}'


@pytest.mark.parametrize('path', FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_deprecated_or_forbidden_names(path):
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.Attribute):
      assert node.attr not in ('pmap', 'xmap'), f'{path}:{node.lineno}: {node.attr}'
  assert not [n for n in imports(path) if n.split('.')[0] in ('pickle', 'clu', 'metrax', 'tensorflow')]
