"""The site of docs/: it is built without a warning, asks no server for anything, and its lists are of the code."""

import html.parser
import importlib.util
import json
import os
import pathlib
import re
import subprocess
import sys

import pytest
from pages import commands, gallery, links, lists, reference, tables
from references import families

from benchmarks import record
from dl import config
from dl.config import build
from dl.contract.task import Task
from dl.report import runs

ROOT = pathlib.Path(__file__).parents[1]
LOADS = {
  'script': 'src',
  'img': 'src',
  'iframe': 'src',
  'source': 'src',
  'video': 'src',
  'object': 'data',
  'use': 'href',
}
LOADED_LINKS = {'stylesheet', 'icon', 'preload', 'prefetch', 'preconnect', 'dns-prefetch', 'modulepreload', 'manifest'}


NUMBERS_ALONE = {
  'vision/fashion_cnn', 'vision/fashion_resnet20', 'vision/mnist_cnn', 'vision/vnc_unet',
  *(f'vision/transfer_mnist_to_digits:{stage}' for stage in ('pretrain', 'finetune', 'scratch')),
}  # fmt: skip
"""Experiments that were recorded before the files which a report is made of were kept."""


class Loads(html.parser.HTMLParser):
  """Collects the addresses that a page loads by itself, before anything is clicked."""

  def __init__(self, page):
    super().__init__()
    self.found = re.findall(r'url\(\s*["\']?([^"\')]+)|@import\s+["\']([^"\']+)', page)
    self.found = [a or b for a, b in self.found]
    self.feed(page)

  def handle_starttag(self, tag, attrs):
    attrs = dict(attrs)
    if tag == 'link' and LOADED_LINKS.intersection((attrs.get('rel') or '').split()):
      self.found.append(attrs.get('href', ''))
    self.found += [attrs[name] for name in (LOADS.get(tag),) if attrs.get(name)]


def elsewhere(addresses):
  return [a for a in addresses if re.match(r'(\w+:)?//', a)]


def test_a_load_from_elsewhere_is_found():
  page = '<link rel="stylesheet" href="//x.org/a.css"><a href="https://x.org"></a><script src="https://x.org/b.js">'
  page += '</script><style>@import "https://x.org/c.css"; a { background: url(http://x.org/d.png) }</style>'
  assert len(elsewhere(Loads(page).found)) == 4
  assert not elsewhere(Loads('<img src="a.png"><script src="../b.js"></script><a href="https://x.org">').found)


@pytest.mark.thorough
def test_the_site_is_built_without_a_warning_and_loads_nothing_from_elsewhere(tmp_path):
  if importlib.util.find_spec('mkdocs') is None:
    pytest.skip("needs mkdocs: pip install -e '.[docs]'")
  command = [pathlib.Path(sys.executable).with_name('mkdocs'), 'build', '--strict', f'--site-dir={tmp_path}']
  environment = os.environ | {'JAX_PLATFORMS': 'cpu', 'NO_MKDOCS_2_WARNING': '1'}
  environment.pop('PYTHONPATH', None)
  done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
  assert done.returncode == 0, done.stderr
  pages = {str(path.relative_to(tmp_path)): path.read_text() for path in tmp_path.rglob('*.html')}
  assert (tmp_path / 'search' / 'search_index.js').exists()  # with which the search works from a disk
  styles = [path.read_text() for path in tmp_path.rglob('*.css')]
  assert len(pages) > 60 and styles
  for name, text in pages.items():
    assert not elsewhere(Loads(text).found), name
    assert 'class="mermaid"' not in text, f'{name}: the theme would load a script for it'
  assert not elsewhere(a for text in styles for a in Loads(f'<style>{text}</style>').found)
  assert 'id="dl.contract.task.Task"' in pages['reference/contract.html']
  assert 'get_config' in pages['source/experiments/vision/digits_lenet.py.html']
  assert {'gallery/digits_lenet_seed0.html', 'lists/models.html', 'tutorials/finetune.html'} <= set(pages)


def test_the_lists_are_whole():
  """All that a package offers to configs stands in a list, but for what others are made of."""
  made_of = {'network.Network', 'supervised.Supervised', 'make', 'affine', 'shift'}
  pages = {path: lists.page(path) for path in lists.PAGES}
  everything = '\n'.join(pages.values())
  networks = {row.spec['name'] for family in families() for row in family.networks}
  assert len(networks) > 30 and all(f'[`{name}`]' in everything for name in networks)
  for package in {each.package for each in lists.LISTS.values()} - {'dl.models'}:
    missing = {name for name in build.known_names(package) if f'[`{name}`]' not in everything} - made_of
    assert not {
      name for name in missing if build.makes(build.resolve(name, package, ''), Task) or package != 'dl.tasks'
    }
  assert '`efficientnet.MBConv`' not in everything and '`resnet.Block`' not in everything
  assert '`smoothing=0.0`' not in pages['lists/models.md'] and '`label_smoothing=0.0`' in pages['lists/tasks.md']
  assert '`params_ema`' in pages['lists/stages.md'] and '`inverse_time_decay`' not in pages['lists/stages.md']


def test_the_reference_names_the_papers_that_a_docstring_cites():
  shown = reference.with_papers('<p>What.\nCite: goodfellow2014generative, schulman2016high</p>')
  assert shown.startswith('<p>What.\nAfter: Generative Adversarial') and shown.count('<a href="https://arxiv.org/') == 2


def test_the_reference_has_every_package_and_command():
  here = {p.relative_to(ROOT).parent for p in (ROOT / 'dl').rglob('*.py') if p.name != '__init__.py'}
  named = {name for name in reference.PAGES.values() if name.startswith('dl')}
  packages = {str(path).replace('/', '.') for path in here}
  assert packages - named == {'dl.commands', 'dl.commands.faces'}
  assert {path.stem for path in (ROOT / 'dl' / 'commands').glob('*.py')} - {*commands.NAMES} == {
    '__init__', 'allocator', 'cli', 'compilation',
  }  # fmt: skip
  assert 'short for --override=a.b=value; repeat this option' in commands.page() and '.; ' not in commands.page()
  assert '`--workdir`' in commands.page() and '`--slurm`' in commands.page()


def test_the_gallery_shows_complete_runs_which_are_what_their_configs_expect():
  kept = {path.name: path for path in record.GALLERY.iterdir()}
  named = {record.shown(name): name for name in record.EXPERIMENTS}
  recorded = {r['experiment'] for r in json.loads(record.RESULTS.read_text())}
  assert {named[folder] for folder in kept} == recorded - NUMBERS_ALONE
  for run in runs.load([*kept.values()]):
    name = named[run.path.name]
    today = config.load(str(ROOT / record.file_of(name, record.EXPERIMENTS[name][0]))).to_json()
    assert run.status == 'complete', name
    for key in ('task', 'model', 'optim', 'train_for'):  # what a result depends on, beside the data
      assert run.config[key] == json.loads(json.dumps(today[key])), f'{name}: {key}; record it again'
    for metric, (value, tolerance) in today['expect'].items():
      found = run.final()[tuple(metric.split('/'))].value
      assert abs(found - value) <= tolerance, name
  reports = gallery.reports()
  assert set(reports) == {f'gallery/{name}.html' for name in kept} and str(ROOT) not in ''.join(reports.values())
  assert all('href="index.html"' in text and '>Own code<' not in text for text in reports.values())
  text = gallery.page()
  assert text.count('so there is no report') == len(NUMBERS_ALONE) and '_confusion.png' not in ''.join(
    re.findall(r'digits_(?:mlp|lenet|vit)_seed0/artifacts/\S+', text)
  )
  assert all(f'href="{name}.html"' in text for name in kept) and text.count('class="card"') == len(record.EXPERIMENTS)


def test_links_to_the_repository_stay_in_the_site():
  text = (
    '[a](../../dl/tasks/gan.py) [b](../../dl/losses) [c](../scaling.md#x) [d](https://x.org/y) [e](../../README.md)'
  )
  moved = links.inside(text, 'tutorials/task.md', lists.FOLDERS)
  assert re.findall(r'\((.*?)\)', moved) == [
    '../source/dl/tasks/gan.py.md', '../lists/losses.md', '../scaling.md#x', 'https://x.org/y', '../index.md',
  ]  # fmt: skip
  assert links.outside(text, 'tutorials/task.md') == {'dl/tasks/gan.py'}


def test_a_cell_says_what_it_is_of_for_narrow_screens():
  page = '<p>a</p><table>\n<tr>\n<th>name</th>\n<th style="x"><code>a&lt;b</code></th>\n</tr>\n'
  page += '<tr>\n<td>x</td>\n<td style="x">1</td>\n</tr>\n</table>'
  assert '<td data-label="name">x</td>\n<td data-label="a&lt;b" style="x">1</td>' in tables.labelled(page)


def test_a_notebook_is_shown_with_what_came_out():
  cell = {'cell_type': 'code', 'source': ['1 + 1'], 'outputs': [{'data': {'text/plain': ['2']}}]}
  cell['outputs'] += [{'data': {'image/png': 'aGk=\n', 'text/plain': ['<Figure>']}}, {'text': ['printed\n']}]
  shown = links.notebook(
    {'cells': [{'cell_type': 'markdown', 'source': ['# Title\n', '[![A](https://x.org/a.svg)](https://x.org)']}, cell]}
  )
  assert '# Title\n[A](https://x.org)\n' in shown and '1 + 1' in shown and '\n2\n' in shown and 'printed' in shown
  assert 'base64,aGk="' in shown and 'Figure' not in shown
