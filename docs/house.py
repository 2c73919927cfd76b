"""python docs/house.py

Draws the house: docs/house.svg, a row a layer, a box a package, an arrow where one imports another; and counts them,
for docs/architecture.md too. `tests/test_architecture.py` checks the same layers, and that picture and page are of
this code.
"""

import ast
import html
import pathlib
import re
import textwrap

ROOT = pathlib.Path(__file__).parents[1]
PICTURE = ROOT / 'docs' / 'house.svg'
PAGE = ROOT / 'docs' / 'architecture.md'

LAYERS = (
  ('errors',),
  ('config', 'contract', 'show'),
  ('data', 'decoding', 'envs', 'losses', 'nn', 'optim', 'parallel'),
  ('evaluators', 'models', 'store', 'tasks'),
  ('report',),
  ('training',),
  ('export', 'planning', 'sweeps'),
  ('commands',),
)
"""Packages from the lowest layer to the highest; each imports those of lower layers alone, and its own modules."""

LAYER = {package: number for number, packages in enumerate(LAYERS) for package in packages}

WIDTH, HEIGHT, GAP, ROW = 152, 84, 14, 132


def files() -> list[pathlib.Path]:
  """Every Python file of dl."""
  return sorted((ROOT / 'dl').rglob('*.py'))


def imports(path: pathlib.Path) -> list[str]:
  """Every name that a file imports, wherever in the file, as 'module.name'."""
  names = []
  for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
    if isinstance(node, ast.Import):
      names += [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
      names += ['.' * node.level + f'{node.module}.{alias.name}' for alias in node.names]
  return names


def package(path: pathlib.Path) -> str:
  """The package of a file: a key of `LAYER`, '__init__', or 'face' for what only starts a command."""
  relative = path.relative_to(ROOT / 'dl')
  if relative.name == '__main__.py' or 'faces' in relative.parts:
    return 'face'
  name = relative.parts[0].removesuffix('.py')
  return name if name in LAYER or name == '__init__' or len(relative.parts) > 1 else 'face'


def arrows() -> set[tuple[str, str]]:
  """(package, a package that it imports)."""
  pairs = {(package(path), name.split('.')[1]) for path in files() for name in imports(path) if name.startswith('dl.')}
  return {(one, other) for one, other in pairs if one in LAYER and other in LAYER and one != other}


def says(name: str) -> str:
  """The first sentence of a package's docstring."""
  path = ROOT / 'dl' / name
  path = path / '__init__.py' if path.is_dir() else path.with_suffix('.py')
  return ast.get_docstring(ast.parse(path.read_text(encoding='utf-8'))).split('\n')[0].rstrip('.;')


def counts() -> dict[str, int]:
  """How large the house is."""
  return {
    'modules in the root': len(list((ROOT / 'dl').glob('*.py'))),
    'packages': len(LAYER),
    'layers': len(LAYERS),
    'arrows': len(arrows()),
    'files': len(files()),
    'lines': sum(len(path.read_text(encoding='utf-8').splitlines()) for path in files()),
  }


def page() -> str:
  """The page of the architecture, with the figures of now."""
  now = ', '.join(f'{counts()[what]:,} {what}' for what in ('modules in the root', 'packages', 'layers', 'arrows'))
  return re.sub(r'(?<=it has )[^.]*', now, PAGE.read_text(encoding='utf-8'), count=1)


def place(name: str) -> tuple[float, float]:
  """The corner of a package's box: the highest layer stands at the top, each row in the middle."""
  row = next(layer for layer in LAYERS if name in layer)
  widest = max(len(layer) for layer in LAYERS)
  x = (widest - len(row)) * (WIDTH + GAP) / 2 + row.index(name) * (WIDTH + GAP)
  return GAP + x, GAP + (len(LAYERS) - 1 - LAYER[name]) * ROW


def draw() -> str:
  """The picture."""
  width = GAP + max(len(layer) for layer in LAYERS) * (WIDTH + GAP)
  height = (len(LAYERS) - 1) * ROW + HEIGHT + 2 * GAP
  parts = [
    f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="10">',
    f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
  ]
  for one, other in sorted(arrows()):
    (x1, y1), (x2, y2) = place(one), place(other)
    x1, x2, y1 = x1 + WIDTH / 2, x2 + WIDTH / 2, y1 + HEIGHT
    bend = (y2 - y1) / 2
    path = f'M{x1:g} {y1:g}C{x1:g} {y1 + bend:g} {x2:g} {y2 - bend:g} {x2:g} {y2:g}'
    parts.append(f'<path d="{path}" fill="none" stroke="#8aa" stroke-opacity="0.45"/>')
  for name in LAYER:
    x, y = place(name)
    text = ''.join(
      f'<text x="{x + 8:g}" y="{y + 32 + 12 * i:g}" fill="#345">{html.escape(line)}</text>'
      for i, line in enumerate(textwrap.wrap(says(name), 28))
    )
    parts += [
      f'<rect x="{x:g}" y="{y:g}" width="{WIDTH}" height="{HEIGHT}" rx="6" fill="#eef4fb" stroke="#47a"/>',
      f'<text x="{x + 8:g}" y="{y + 16:g}" font-weight="bold" font-size="13">{name}</text>',
      text,
    ]
  return '\n'.join([*parts, '</svg>\n'])


if __name__ == '__main__':
  PICTURE.write_text(draw(), encoding='utf-8')
  PAGE.write_text(page(), encoding='utf-8')
  print(', '.join(f'{number:,} {what}' for what, number in counts().items()))
