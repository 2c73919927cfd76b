"""The notebooks run from top to bottom."""

import os
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parents[1]


@pytest.mark.slow
@pytest.mark.filterwarnings('ignore::DeprecationWarning')  # Jupyter's own
@pytest.mark.parametrize('path', sorted((ROOT / 'colabs').glob('*.ipynb')), ids=lambda p: p.stem)
def test_notebook(path, monkeypatch):
  nbformat = pytest.importorskip('nbformat')
  nbclient = pytest.importorskip('nbclient')
  monkeypatch.setenv('PYTHONPATH', os.pathsep.join([str(ROOT), os.environ.get('PYTHONPATH', '')]))
  monkeypatch.setenv('JAX_PLATFORMS', 'cpu')
  notebook = nbformat.read(path, as_version=4)
  nbclient.NotebookClient(notebook, timeout=300, resources={'metadata': {'path': str(path.parent)}}).execute()
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
