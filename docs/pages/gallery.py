"""The gallery: what was recorded of each experiment, and the report of one run of it, where its files are at hand."""

import ast
import contextlib
import dataclasses
import itertools
import json
import pathlib
import statistics
from collections.abc import Sequence
from typing import Any

from benchmarks import record
from dl.report import page as report_page
from dl.report import runs
from pages import links

PAGE = 'gallery/index.md'
EXCERPT = 8  # lines of a text that a run has written
INTRO = """---
hide: [toc]
---

# Experiments

What `python -m benchmarks.record` measured, from [`experiments/results.json`](../../experiments/results.json): the mean
of the seeds and the value of each. A report is that of one run of seed 0, whose page says when and on what it ran; on
another machine, or with a later commit, its last digits may differ from those of the record.
"""


def page() -> str:
  """All experiments as Markdown, a part a family, a card an experiment."""
  records = json.loads(record.RESULTS.read_text(encoding='utf-8'))
  parts = [INTRO]
  for family, names in itertools.groupby(record.EXPERIMENTS, lambda name: name.partition('/')[0]):
    cards = ''.join(_card(name, [r for r in records if r['experiment'] == name]) for name in names)
    parts.append(f'## {family}\n\n<div class="grid" markdown>\n\n{cards}</div>\n')
  return '\n'.join(parts)


def reports() -> dict[str, str]:
  """Address -> the page of a run, made by the code of today; it names folders of the repository, not of a machine."""
  with contextlib.chdir(record.ROOT):
    folders = {name: path.relative_to(record.ROOT) for name, path in _kept().items()}
    stored = {name: runs.load([folder])[0] for name, folder in folders.items()}
  return {_report(name): report_page.render([_without_copies(run)], 'index.html') for name, run in stored.items()}


def _without_copies(run: runs.StoredRun) -> runs.StoredRun:
  """A run without the name of its folder of copies, which is not kept here: the config is in the repository."""
  return dataclasses.replace(run, facts={key: value for key, value in run.facts.items() if key != 'own'})


def _kept() -> dict[str, pathlib.Path]:
  """Experiment -> the files of the run which is shown, where they are at hand."""
  folders = {name: record.GALLERY / record.shown(name) for name in record.EXPERIMENTS}
  return {name: folder for name, folder in folders.items() if folder.is_dir()}


def _report(name: str) -> str:
  return f'gallery/{record.shown(name)}.html'


def _card(name: str, rows: Sequence[dict[str, Any]]) -> str:
  file = name.partition(':')[0]
  title, config = name.partition('/')[2], f'../../experiments/{file}.py'
  lines = [f'### [{title}]({config})', _subject(file)]
  for m in record.measured(name, rows) if rows else ():
    compared = f'; {m.compared}' if m.compared else ''
    lines.append(f'**{m.mean}** {m.metric} ({m.each}{compared})')
  if rows:
    seconds = statistics.median(r['seconds'] for r in rows)
    lines.append(f'{rows[0]["parameters"]:,} parameters, {seconds:.0f} s on {rows[0]["machine"]}, {rows[0]["date"]}')
  else:
    lines.append('Not yet run.')
  if folder := _kept().get(name):
    picture = min(folder.glob('artifacts/*.png'), key=_liveliness, default=None)
    words = f'{picture.stem.partition("_")[2].replace("_", " ")} of {title}' if picture else ''
    shown = f'![{words}](runs/{folder.name}/artifacts/{picture.name})' if picture else ''
    if text := min(folder.glob('artifacts/*.txt'), default=None):
      lines.append(links.fenced('\n'.join(text.read_text(encoding='utf-8').splitlines()[:EXCERPT]), 'text'))
    lines.append(f'<a href="{folder.name}.html">{shown}Its report</a>')
  elif rows:
    lines.append('Only the numbers of these runs were kept, so there is no report.')
  return '<div class="card" markdown>\n\n' + '\n\n'.join(lines) + '\n\n</div>\n\n'


def _liveliness(picture: pathlib.Path) -> tuple[bool, str]:
  """What pictures are sorted by: a confusion matrix, which looks alike for all good classifiers, comes last."""
  return picture.stem.endswith('confusion'), picture.name


def _subject(file: str) -> str:
  """The first paragraph of a config's docstring."""
  doc = ast.get_docstring(ast.parse((record.ROOT / 'experiments' / f'{file}.py').read_text(encoding='utf-8')))
  return ' '.join(doc.partition('\n\n')[0].split())
