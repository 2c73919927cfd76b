"""The notebooks: their code names what there is, and runs from top to bottom."""

import ast
import importlib
import json
import os
import pathlib
import types

import pytest

ROOT = pathlib.Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / 'colabs').glob('*.ipynb'))


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


@pytest.mark.thorough
@pytest.mark.filterwarnings('ignore::DeprecationWarning')  # Jupyter's own
@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda p: p.stem)
def test_notebook(path, monkeypatch):
  nbformat = pytest.importorskip('nbformat')
  nbclient = pytest.importorskip('nbclient')
  monkeypatch.setenv('PYTHONPATH', os.pathsep.join([str(ROOT), os.environ.get('PYTHONPATH', '')]))
  monkeypatch.setenv('JAX_PLATFORMS', 'cpu')
  notebook = nbformat.read(path, as_version=4)
  nbclient.NotebookClient(notebook, timeout=None, resources={'metadata': {'path': str(path.parent)}}).execute()
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
