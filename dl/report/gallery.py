"""The artifacts on the report page: images, texts and tables, the runs side by side."""

import base64
import csv
import io
import math
import pathlib
import re
from collections.abc import Collection, Sequence
from typing import NamedTuple

from dl.report.markup import escape, swatch, title
from dl.report.runs import StoredRun, split_order
from dl.show.words import number, tick

_EARLIER = 5  # earlier images shown beside the latest one
_TEXT = 20_000  # characters shown of a text
_ROWS = 100  # rows shown of a table
_LAYOUTS = {'png': '', 'csv': ' tables'}
_SHOWS = {
  'confusion': 'the confusion matrix, a row a true class, a column a predicted one',
  'mistakes_picture': 'the mistakes with the largest losses, each below its true and its predicted class',
  'masks': 'examples in rows: the image, its true classes, its predicted ones',
  'predicted': 'predicted values over true ones, with the line on which they are equal',
  'residuals': 'errors over predicted values, and how often each occurs',
  'forecasts': 'windows of the series: the look-back, the truth and the forecast',
}
"""What pictures of evaluators show, by the end of their names, for who cannot see them; the tables have the numbers."""


class _Artifact(NamedTuple):
  step: int
  path: pathlib.Path


def gallery(runs: Sequence[StoredRun]) -> str:
  """Each artifact by name, the runs side by side: its latest version, and earlier ones of an image."""
  by_name: dict[tuple[str, str], dict[int, list[_Artifact]]] = {}
  for i, run in enumerate(runs):
    folder = run.path / 'artifacts'
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
      if not path.resolve().is_relative_to(run.path.resolve()):
        continue  # a link to something else of its reader's, which a page would give away
      if match := re.fullmatch(r'(\d+)_(.+)\.(png|txt|csv)', path.name):
        versions = by_name.setdefault((match[2], match[3]), {}).setdefault(i, [])
        versions.append(_Artifact(int(match[1]), path))
  order = {'png': 0, 'txt': 1, 'csv': 2}
  blocks: dict[str, list[str]] = {}
  splits = {split for run in runs for split in run.config.get('eval') or {}}
  for (name, kind), versions in sorted(
    by_name.items(), key=lambda item: (order[item[0][1]], split_order(_split(item[0][0], splits)), item[0][0])
  ):
    for i, files in versions.items():
      blocks.setdefault(f'{kind} {name}' if len(runs) > 1 else kind, []).append(_artifact(i, runs, name, kind, files))
  return ''.join(
    f'<div class="artifacts{_LAYOUTS.get(key.partition(" ")[0], "" if len(figures) > 1 else " one")}">'
    f'{"".join(figures)}</div>'
    for key, figures in blocks.items()
  )


def _split(name: str, splits: Collection[str]) -> str:
  """The evaluation which an artifact is of; '' for one of the task itself."""
  return max((split for split in splits if name.startswith(f'{split}_')), key=len, default='')


def _artifact(i: int, runs: Sequence[StoredRun], name: str, kind: str, files: list[_Artifact]) -> str:
  files = sorted(files)
  last = files[-1]
  of = f'{escape(runs[i].name)} · ' if len(runs) > 1 else ''
  if kind == 'png':
    content = _image(last, name) + _strip(files, name)
  else:
    text = last.path.read_text(encoding='utf-8', errors='replace')
    content = _text(text) if kind == 'txt' else _table(text)
  return (
    f'<figure class="artifact"><figcaption>{swatch(i, runs)}{of}<b>{escape(title(name))}</b> '
    f'<span class="muted">step <span class="at">{last.step:,}</span></span></figcaption>{content}</figure>'
  )


def _image(artifact: _Artifact, name: str) -> str:
  data = base64.b64encode(artifact.path.read_bytes()).decode()
  shows = next((f': {text}' for end, text in _SHOWS.items() if name.endswith(end)), '')
  return f'<img alt="{escape(title(name))} at step {artifact.step}{shows}" src="data:image/png;base64,{data}">'


def _strip(files: list[_Artifact], name: str) -> str:
  """Small images of some steps, evenly chosen, the latest among them; a press shows one large."""
  if len(files) < 2:
    return ''
  stride = (len(files) - 1) / min(len(files) - 1, _EARLIER)
  chosen = [files[round(k * stride)] for k in range(min(len(files) - 1, _EARLIER) + 1)]
  buttons = ''.join(
    f'<button data-at="{a.step:,}" aria-pressed="{str(a is files[-1]).lower()}">'
    f'{_image(a, name)}{tick(a.step)}</button>'
    for a in chosen
  )
  return f'<div class="strip">{buttons}</div>'


def _text(text: str) -> str:
  more = f'\n[{len(text) - _TEXT:,} more characters in the file]' if len(text) > _TEXT else ''
  return f'<pre>{escape(text[:_TEXT] + more)}</pre>'


def _table(text: str) -> str:
  rows = list(csv.reader(io.StringIO(text)))
  if not rows:
    return '<p class="muted">An empty table.</p>'
  header, body = rows[0], rows[1:]
  right = [any(column) and all(not c or _is_number(c) for c in column) for column in zip(*body)]
  kind = lambda j: ' class="n"' if j < len(right) and right[j] else ''
  head = ''.join(f'<th{kind(j)}>{escape(c)}</th>' for j, c in enumerate(header))
  decimal = [any('.' in c and _is_number(c) for c in column) for column in zip(*body)]
  short = lambda j, c: _short(c) if j < len(decimal) and decimal[j] else c
  cells = lambda row: ''.join(f'<td{kind(j)}>{escape(short(j, c))}</td>' for j, c in enumerate(row))
  more = f'<small>{len(body) - _ROWS:,} more rows in the file</small>' if len(body) > _ROWS else ''
  return (
    f'<div class="scroll tall"><table><thead><tr>{head}</tr></thead>'
    f'<tbody>{"".join(f"<tr>{cells(row)}</tr>" for row in body[:_ROWS])}</tbody></table></div>{more}'
  )


def _is_number(text: str) -> bool:
  return re.fullmatch(r'[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?', text.strip(), re.IGNORECASE) is not None


def _short(text: str) -> str:
  """A number of a column with decimals as people read it; other text as it is."""
  return number(float(text)) if _is_number(text) and math.isfinite(float(text)) else text
