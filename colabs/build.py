"""python colabs/build.py [NOTEBOOK ...]

Writes the beginning of each notebook, a badge and the cell which installs dl, runs it from an empty folder, and
saves what came out, with small pictures. (`tests/test_colabs.py` runs them likewise, and checks that the beginnings are
these.) Without arguments: all of them.
"""

import base64
import io
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
from typing import Any

from PIL import Image

ROOT = pathlib.Path(__file__).parents[1]
REPOSITORY: str | None = None
"""Where the code is published on GitHub, 'OWNER/NAME'. Whoever publishes it, or a fork, sets this and runs this file:
until then there is no badge, and the notebooks install from a clone alone."""

COLOURS, WIDTH = 64, 720
"""Of a saved picture, at most: plots and grids of grey images need no more."""

BADGE = """\
[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]\
(https://colab.research.google.com/github/{repository}/blob/main/colabs/{name}.ipynb)

"""

ABOUT = """\
The first cell installs `dl` where it is missing: from the clone that this notebook lies in{elsewhere}. \
Nothing else of a clone is needed. Files go to a temporary folder."""

INSTALL = """\
import importlib.metadata
import pathlib

try:
  importlib.metadata.version('dl')
except importlib.metadata.PackageNotFoundError:
  clone = [str(p) for p in (pathlib.Path.cwd(), pathlib.Path.cwd().parent) if (p / 'dl/__init__.py').exists()]
  {choice}
  %pip install -q {{source}}"""


def notebooks() -> list[pathlib.Path]:
  """All notebooks."""
  return sorted((ROOT / 'colabs').glob('*.ipynb'))


def head(name: str, repository: str | None = REPOSITORY) -> list[dict[str, Any]]:
  """The cells that a notebook begins with, after its title."""
  badge, elsewhere = '', ''
  choice = "assert clone, 'dl is not installed: open this notebook in the folder colabs/ of a clone of it'\n"
  choice += '  source = clone[0]'
  if repository:
    badge, elsewhere = BADGE.format(repository=repository, name=name), ', or else from GitHub, as on Colab'
    choice = f"source = clone[0] if clone else 'git+https://github.com/{repository}'"
  badge += ABOUT.format(elsewhere=elsewhere)
  code = INSTALL.format(choice=choice)
  return [
    {'cell_type': 'markdown', 'id': 'badge', 'metadata': {}, 'source': badge.splitlines(keepends=True)},
    {'cell_type': 'code', 'id': 'install', 'metadata': {}, 'execution_count': None, 'outputs': [],
     'source': code.splitlines(keepends=True)},
  ]  # fmt: skip


def with_head(content: dict[str, Any], name: str) -> dict[str, Any]:
  """A notebook as JSON: its title, this beginning, and its other cells, numbered so that few lines change."""
  title, *rest = (cell for cell in content['cells'] if cell['id'] not in ('badge', 'install'))
  cells = [title, *head(name), *rest]
  for number, cell in enumerate(cells):
    if cell['id'] not in ('badge', 'install'):
      cell['id'] = f'cell-{number}'
  return content | {'cells': cells}


def install(place: str | os.PathLike) -> None:
  """Installs dl into a folder as pip does, without the rest of a clone and without what it needs."""
  with tempfile.TemporaryDirectory() as clone:
    for name in ('pyproject.toml', 'README.md', 'LICENSE'):
      shutil.copy(ROOT / name, clone)
    shutil.copytree(ROOT / 'dl', f'{clone}/dl', ignore=shutil.ignore_patterns('__pycache__'))
    command = [sys.executable, '-m', 'pip', 'install', '--quiet', '--no-deps', '--no-build-isolation']
    subprocess.run([*command, f'--target={place}', clone], check=True)


def execute(path: pathlib.Path, folder: str | os.PathLike) -> Any:
  """Runs a notebook in a folder, and returns it with its outputs; raises what a cell raises."""
  import nbclient
  import nbformat

  notebook = nbformat.read(path, as_version=4)
  nbclient.NotebookClient(notebook, timeout=None, resources={'metadata': {'path': str(folder)}}).execute()
  return notebook


def saved(outputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
  """Outputs as the repository keeps them: no streams of progress, prints in one piece, and small pictures."""
  kept = []
  for output in outputs:
    printed = output['output_type'] == 'stream'
    if printed and kept and kept[-1]['output_type'] == 'stream' and output['name'] == 'stdout':
      kept[-1]['text'] = ''.join([*kept[-1]['text'], *output['text']])
    elif not printed or output['name'] == 'stdout':
      kept.append(output)
  for output in kept:
    if 'image/png' in output.get('data', {}):
      output['data']['image/png'] = smaller(output['data']['image/png'])
  return kept


def smaller(png: str) -> str:
  """A picture, as base64 of a PNG, of `COLOURS` colours and `WIDTH` pixels."""
  image = Image.open(io.BytesIO(base64.b64decode(png))).convert('RGB')
  if image.width > WIDTH:
    image = image.resize((WIDTH, round(image.height * WIDTH / image.width)), Image.Resampling.LANCZOS)
  buffer = io.BytesIO()
  image.quantize(COLOURS, dither=Image.Dither.NONE).save(buffer, 'PNG', optimize=True)
  return base64.b64encode(buffer.getvalue()).decode()


def main(names: list[str]) -> None:
  """Builds these notebooks, or all."""
  for path in [ROOT / 'colabs' / pathlib.Path(name).name for name in names] or notebooks():
    content = with_head(json.loads(path.read_text(encoding='utf-8')), path.stem)
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + '\n', encoding='utf-8')
    with tempfile.TemporaryDirectory() as place, tempfile.TemporaryDirectory() as folder:
      install(place)
      os.environ['PYTHONPATH'] = place
      done = execute(path, folder)
    for cell, ran in zip(content['cells'], done.cells, strict=True):
      if cell['cell_type'] == 'code':
        cell['outputs'] = saved(json.loads(json.dumps(ran.outputs)))
        cell['execution_count'] = ran.execution_count
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + '\n', encoding='utf-8')
    print(f'{path}: {path.stat().st_size / 1000:,.0f} kB')


if __name__ == '__main__':
  main(sys.argv[1:])
