"""The rules of the architecture: layers, and each outside library in its one place."""

import ast
import pathlib
import re
import runpy
import sys

ROOT = pathlib.Path(__file__).parents[1]
HOUSE = runpy.run_path(str(ROOT / 'docs' / 'house.py'))
LAYER, FILES = HOUSE['LAYER'], HOUSE['files']()
IMPORTS = {path: HOUSE['imports'](path) for path in FILES}
COMMANDS = {'cite', 'evaluate', 'plan', 'predict', 'sample', 'sweep', 'train'}

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
  'evaluators': ('config', 'contract', 'decoding', 'errors', 'losses', 'nn', 'show'),
}


def test_the_root_holds_packages_errors_and_faces():
  assert len(FILES) > 150
  assert {HOUSE['package'](path) for path in FILES} == {*LAYER, 'face', '__init__'}
  root = {path.stem for path in (ROOT / 'dl').iterdir() if path.suffix == '.py' or (path / '__init__.py').exists()}
  assert root == {*LAYER, *COMMANDS, '__init__', '__main__'}
  assert not root & sys.stdlib_module_names, 'python dl/train.py would take it for the one of Python'
  for command in COMMANDS:
    assert len((ROOT / 'dl' / f'{command}.py').read_text().splitlines()) < 10, f'dl/{command}.py is more than a face'


def test_packages_import_lower_layers_alone():
  wrong = []
  for path in FILES:
    mine = HOUSE['package'](path)
    for name in IMPORTS[path] if mine != '__init__' else ():
      top, *rest = name.split('.')
      if top in ('', 'experiments'):
        wrong.append(f'{path} imports {name}: neither relatively nor experiments')
      if top != 'dl' or not rest or rest[0] == mine:
        continue
      if LAYER.get(rest[0], len(LAYER)) >= LAYER.get(mine, len(LAYER)):
        wrong.append(f'{path} imports {name}, which does not lie below {mine}')
      allowed = PURE.get(mine, LAYER)
      if rest[0] not in allowed and '.'.join(rest[:2]) not in allowed:
        wrong.append(f'{path} imports {name}: {mine} knows no dl.{rest[0]}')
  assert not wrong, '\n'.join(wrong)


def test_outside_libraries_have_their_place():
  wrong = []
  for path in FILES:
    mine = HOUSE['package'](path)
    for top in {name.split('.')[0] for name in IMPORTS[path]}:
      if mine not in ONLY_IN.get(top, (mine,)):
        wrong.append(f'{path}: {top} belongs in dl/{ONLY_IN[top]}')
      if top in ('pickle', 'clu', 'metrax', 'tensorflow'):
        wrong.append(f'{path}: {top} is not used here')
  assert not wrong, '\n'.join(wrong)


def test_no_deprecated_names():
  nodes = [(path, node) for path in FILES for node in ast.walk(ast.parse(path.read_text()))]
  wrong = [(p, n.lineno, n.attr) for p, n in nodes if isinstance(n, ast.Attribute) and n.attr in ('pmap', 'xmap')]
  assert not wrong


def test_layers_know_no_config():
  """They speak in their own words; `dl.tasks.network` puts the path before them."""
  layers = [path for path in FILES if HOUSE['package'](path) in ('models', 'nn', 'decoding')]
  assert len(layers) > 40 and not [path for path in layers if re.search(r'config\.\w+[.:]', _words(path))]


def _words(path: pathlib.Path) -> str:
  """The constant texts of a file which errors are made of."""
  raised = [node.exc for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Raise) and node.exc]
  constants = [node for exc in raised for node in ast.walk(exc) if isinstance(node, ast.Constant)]
  return ' '.join(str(node.value) for node in constants)


def test_the_picture_is_of_this_house():
  assert HOUSE['PICTURE'].read_text(encoding='utf-8') == HOUSE['draw'](), 'run: python docs/house.py'


def test_the_figures_are_of_this_house():
  figures = HOUSE['page']()
  assert f'it has {len([*(ROOT / "dl").glob("*.py")])} modules' in figures
  assert HOUSE['PAGE'].read_text(encoding='utf-8') == figures, 'run: python docs/house.py'
