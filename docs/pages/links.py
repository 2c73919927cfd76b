"""Links of the pages to files of the repository, which become pages of the site that show these files."""

import json
import pathlib
import posixpath
import re
from collections.abc import Callable, Mapping
from typing import Any

from pages import ROOT

HOME = 'index.md'
"""The page which is README.md."""

_LINK = re.compile(r'(?<=\]\()(?!https?:|mailto:|#)([^)\s#]+)(?=[)#])')
_PICTURE = re.compile(r'!\[([^\]]*)\]\(https?:[^)]*\)')  # a badge, which a page of the site would ask a server for
_LANGUAGES = {'.py': 'python', '.json': 'json', '.yml': 'yaml', '.toml': 'toml', '.cff': 'yaml', '.bib': 'bibtex'}


def home() -> str:
  """README.md, whose folded tables are Markdown in HTML."""
  return (ROOT / 'README.md').read_text(encoding='utf-8').replace('<details>', '<details markdown="1">')


def outside(markdown: str, uri: str) -> set[str]:
  """The files outside of docs/, as paths from the root of the repository, to which a page links."""
  found = {_target(match[1], uri) for match in _LINK.finditer(markdown)}
  return {path for path in found if not path.startswith('docs/') and path != 'README.md' and (ROOT / path).is_file()}


def inside(markdown: str, uri: str, folders: Mapping[str, str]) -> str:
  """A page whose links stay in the site; `folders` says which page is about a folder of the repository."""

  def moved(match: re.Match) -> str:
    path = _target(match[1], uri)
    page = HOME if path == 'README.md' else folders.get(path) or shown_at(path)
    page = path.removeprefix('docs/') if path.startswith('docs/') else page
    return posixpath.relpath(page, posixpath.dirname(uri) or '.')

  return _LINK.sub(moved, markdown)


def _target(link: str, uri: str) -> str:
  """What a link of a page means, from the root of the repository."""
  folder = '' if uri == HOME else posixpath.join('docs', posixpath.dirname(uri))
  return posixpath.normpath(posixpath.join(folder, link))


def shown_at(path: str) -> str:
  """Where the site shows a file of the repository."""
  return f'source/{path}.md'


def shown(path: str) -> str:
  """The page of a file: a notebook as it looks when it has run, all else as text."""
  text = (ROOT / path).read_text(encoding='utf-8')
  suffix = pathlib.Path(path).suffix
  body = notebook(json.loads(text)) if suffix == '.ipynb' else fenced(text, _LANGUAGES.get(suffix, 'text'))
  return f'---\ntitle: {path}\nsearch: {{exclude: true}}\n---\n\n`{path}`\n\n{body}\n'


def fenced(text: str, language: str) -> str:
  """Text as a block of code."""
  return f'````{language}\n{text.rstrip()}\n````\n'


def notebook(content: Mapping[str, Any]) -> str:
  """A notebook as Markdown: its words, its code, and what came out, pictures too."""
  return '\n'.join(_CELLS[cell['cell_type']](cell) for cell in content['cells'])


def _code(cell: Mapping[str, Any]) -> str:
  outputs = [_output(output) for output in cell['outputs']]
  return '\n'.join([fenced(''.join(cell['source']), 'python'), *outputs])


def _output(output: Mapping[str, Any]) -> str:
  data = output.get('data', {})
  if 'image/png' in data:
    png = ''.join(''.join(data['image/png']).split())
    return f'<img alt="what the code above draws" src="data:image/png;base64,{png}">\n'
  return fenced(''.join(data.get('text/plain', output.get('text', ''))), 'text')


_CELLS: dict[str, Callable[[Mapping[str, Any]], str]] = {
  'markdown': lambda cell: _PICTURE.sub(r'\1', ''.join(cell['source'])) + '\n',
  'code': _code,
}
