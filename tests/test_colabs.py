"""The notebooks: their code names what there is, and runs from top to bottom."""

import ast
import importlib
import importlib.metadata
import json
import pathlib
import re
import runpy
import sys
import types

import pytest

ROOT = pathlib.Path(__file__).parents[1]
BUILD = runpy.run_path(str(ROOT / 'colabs' / 'build.py'))
NOTEBOOKS = BUILD['notebooks']()


def test_what_notebooks_import_is_there():
  """Also what they take from the modules of this code."""
  wrong, count = [], 0
  for path in NOTEBOOKS:
    cells = [c for c in json.loads(path.read_text())['cells'] if c['cell_type'] == 'code']
    code = ''.join(''.join(c['source']) + '\n' for c in cells)
    tree = ast.parse('\n'.join('' if line.lstrip()[:1] in ('!', '%') else line for line in code.splitlines()))
    modules = {}
    for node in ast.walk(tree):
      if isinstance(node, ast.ImportFrom) and node.module.split('.')[0] == 'dl':
        for alias in node.names:
          count += 1
          here = importlib.import_module(node.module)
          if not hasattr(here, alias.name):
            importlib.import_module(f'{node.module}.{alias.name}')
          modules[alias.asname or alias.name] = getattr(here, alias.name)
      elif isinstance(node, ast.Import):
        for alias in node.names:
          count += 1
          modules[alias.asname or alias.name.split('.')[0]] = importlib.import_module(
            alias.name if alias.asname else alias.name.split('.')[0]
          )
    for node in ast.walk(tree):
      if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        module = modules.get(node.value.id)
        if isinstance(module, types.ModuleType) and not hasattr(module, node.attr):
          wrong.append(f'{path.name}: {node.value.id}.{node.attr}')
  assert not wrong and count > 10, wrong


def test_notebooks_begin_alike_and_have_small_outputs():
  """A badge, and a cell which installs dl; both as colabs/build.py writes them, which has run all cells, in order."""
  for path in NOTEBOOKS:
    content = json.loads(path.read_text())
    begins = [{key: cell[key] for key in ('cell_type', 'id', 'source')} for cell in content['cells'][1:3]]
    wanted = [{key: cell[key] for key in ('cell_type', 'id', 'source')} for cell in BUILD['head'](path.stem)]
    assert begins == wanted, f'run: python colabs/build.py {path.name}'
    code = [c for c in content['cells'] if c['cell_type'] == 'code']
    assert [c['execution_count'] for c in code] == [*range(1, len(code) + 1)]
    assert sum('image/png' in o.get('data', {}) for c in code for o in c['outputs']) >= 4
    assert path.stat().st_size < 250_000 and '/tmp/' not in path.read_text()


def test_a_place_on_github_is_a_badge_and_what_is_installed_from_nothing():
  badge, install = (''.join(cell['source']) for cell in BUILD['head']('digits', 'somebody/dl'))
  assert '(https://colab.research.google.com/github/somebody/dl/blob/main/colabs/digits.ipynb)' in badge
  assert "else 'git+https://github.com/somebody/dl'" in install
  assert 'github' not in ''.join(''.join(cell['source']) for cell in BUILD['head']('digits', None))


@pytest.mark.parametrize('place', ['nothing', 'clone', 'clone/colabs'])
def test_what_the_install_cell_installs(place, tmp_path, monkeypatch):
  (tmp_path / 'nothing').mkdir()
  for folder in ('dl', 'colabs'):
    (tmp_path / 'clone' / folder).mkdir(parents=True)
  (tmp_path / 'clone/dl/__init__.py').touch()
  monkeypatch.chdir(tmp_path / place)
  code = ''.join(BUILD['head']('digits', 'somebody/dl')[1]['source'])
  asked = re.sub(r'%(pip .*)', r"asked.append(f'\1')", code)
  # A folder dl can be imported from where Python runs, which is not to have it installed.
  missing = [p for p in sys.path if not list(importlib.metadata.distributions(name='dl', path=[p]))]
  monkeypatch.setattr(sys, 'path', [str(tmp_path / place), *missing])
  exec(asked, globals_ := {'asked': []})
  wanted = 'git+https://github.com/somebody/dl' if place == 'nothing' else tmp_path / 'clone'
  assert globals_['asked'] == [f'pip install -q {wanted}']
  (tmp_path / 'site/dl-0.1.0.dist-info').mkdir(parents=True)
  (tmp_path / 'site/dl-0.1.0.dist-info/METADATA').write_text('Metadata-Version: 2.1\nName: dl\nVersion: 0.1.0\n')
  monkeypatch.setattr(sys, 'path', [str(tmp_path / 'site'), *sys.path])
  exec(asked, globals_ := {'asked': []})
  assert globals_['asked'] == []


@pytest.fixture(scope='module')
def installed(tmp_path_factory):
  """A folder with dl as pip installs it, without the rest of a clone."""
  place = tmp_path_factory.mktemp('installed')
  BUILD['install'](place)
  return place


@pytest.mark.thorough
@pytest.mark.filterwarnings('ignore::DeprecationWarning')  # Jupyter's own
@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda p: p.stem)
def test_notebook(path, monkeypatch, tmp_path, installed):
  """From an empty folder, with dl installed and no clone."""
  pytest.importorskip('nbclient')
  monkeypatch.setenv('PYTHONPATH', str(installed))
  monkeypatch.setenv('JAX_PLATFORMS', 'cpu')
  content = json.loads(path.read_text())
  check = f'import dl\nassert dl.__file__ == {str(installed / "dl/__init__.py")!r}, dl.__file__'
  content['cells'].insert(0, {**BUILD['head'](path.stem)[1], 'id': 'check', 'source': [check]})
  (tmp_path / 'empty').mkdir()
  (tmp_path / path.name).write_text(json.dumps(content))
  notebook = BUILD['execute'](tmp_path / path.name, tmp_path / 'empty')
  assert not list((tmp_path / 'empty').iterdir())
  outputs = [o for c in notebook.cells for o in c.get('outputs', ())]
  results = [o['data']['text/plain'] for o in outputs if o.output_type == 'execute_result']
  pictures = [o for o in outputs if 'image/png' in o.get('data', {})]
  if path.stem == 'digits':
    assert len(pictures) == 4
    accuracy = eval(results[-1], {'__builtins__': {}})
    assert accuracy['LeNet-5'] > 0.97 and accuracy['MLP'] > 0.9
  if path.stem == 'finetune':
    assert len(pictures) == 5
    accuracy = eval(results[-1], {'__builtins__': {}})
    assert accuracy['fine-tuned'] > accuracy['from scratch'] + 0.03 and accuracy['linear probe'] > 0.8
  if path.stem == 'characters':
    assert len(pictures) == 5
    nats = eval(results[-1], {'__builtins__': {}})
    assert nats['the model'] < 1.5 < 2.2 < nats['pairs of characters']
