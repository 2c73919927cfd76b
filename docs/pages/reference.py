"""The reference: a page a package of dl, with what its modules and their docstrings say."""

import html
import pkgutil
import re

import dl
from benchmarks import models
from dl.config import citations
from pages import commands

_PACKAGES = (
  'contract', 'config', 'tasks', 'models', 'nn', 'losses', 'optim', 'data', 'data.sources', 'data.augment',
  'data.tokenizers', 'envs', 'decoding', 'evaluators', 'parallel', 'store', 'training', 'planning', 'sweeps', 'export',
  'report', 'show',
)  # fmt: skip
"""In the order in which a reader meets them."""

PAGES = {commands.PAGE: 'Commands', 'reference/dl.md': 'dl'}
PAGES |= {f'reference/{name}.md': f'dl.{name}' for name in _PACKAGES}
"""Page -> its name."""


def modules(package: str) -> list[str]:
  """The modules right inside of a package."""
  folder = [f'{dl.__path__[0]}/{package.removeprefix("dl.").replace(".", "/")}']
  return [f'{package}.{m.name}' for m in pkgutil.iter_modules(folder) if not m.ispkg]


def page(path: str) -> str:
  """Markdown in which mkdocstrings reads a package and its modules; of commands, what --help says."""
  if path == commands.PAGE:
    return commands.page()
  package = PAGES[path]
  if package == 'dl':
    return '# dl\n\n' + _read('dl', 'dl.errors')
  return f'# {package}\n\n' + _read(package, *modules(package))


def _read(package: str, *modules: str) -> str:
  here = f'::: {package}\n    options: {{show_root_heading: false, show_root_toc_entry: false}}\n'
  return '\n'.join([here, *(f'::: {module}\n' for module in modules)])


def with_papers(page: str) -> str:
  """HTML in which a docstring's line `Cite: key, key` names the papers, with links."""
  return re.sub(r'\bCite: ([\w-]+(?:,\s*[\w-]+)*)(?=\s*</p>)', _papers, page)


def _papers(match: re.Match) -> str:
  text = html.escape(models.papers(citations.cited(match[0])))
  text = re.sub(r'\[([^\]]*)\]\(([^)]*)\)', r'<a href="\2">\1</a>', text)
  return 'After: ' + re.sub(r'`([^`]*)`', r'<code>\1</code>', text)
