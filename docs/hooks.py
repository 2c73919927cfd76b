"""What `mkdocs build` adds to the pages of docs/, from the code and the records, so that none of it can go stale.

The home page is README.md; `reference`, `lists` and `gallery` make pages of the code and of the recorded runs; and a
file of the repository to which a page links is shown as a page of its own (`links`).
"""

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from pages import gallery, links, lists, reference, tables


def on_config(config: MkDocsConfig) -> MkDocsConfig:
  """Puts the generated pages where mkdocs.yml names their folders."""
  folders = {'lists/': lists.PAGES, 'reference/': reference.PAGES}
  for part in config.nav:
    for title, place in part.items():
      if isinstance(place, str) and place in folders:
        part[title] = [{name: path} for path, name in folders[place].items()]
  return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
  """Adds the pages that no file holds."""
  pages = {path: lists.page(path) for path in lists.PAGES}
  pages |= {path: reference.page(path) for path in reference.PAGES}
  pages |= {links.HOME: links.home(), gallery.PAGE: gallery.page()}
  written = {file.src_uri: file.content_string for file in files.documentation_pages()}
  for path in sorted(set().union(*(links.outside(text, uri) for uri, text in (written | pages).items()))):
    pages[links.shown_at(path)] = links.shown(path)
  for uri, content in (pages | gallery.reports()).items():
    files.append(File.generated(config, uri, content=content))
  return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
  """Links to files outside of docs/ go to the pages that show them."""
  return links.inside(markdown, page.file.src_uri, lists.FOLDERS)


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
  """Cells of tables say what column they are of, and the reference names papers."""
  html = tables.labelled(html)
  return reference.with_papers(html) if page.file.src_uri in reference.PAGES else html
