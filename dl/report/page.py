"""The report page: runs as one HTML text which opens offline, with its styles, script and images inside."""

import base64
import datetime
import hashlib
import json
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from dl.report.curves import curves
from dl.report.gallery import gallery
from dl.report.markup import escape, plain, swatch
from dl.report.results import by_class, config_differences, results
from dl.report.runs import StoredRun
from dl.show.words import duration, number, tenths

_BADGES = {'complete': 'good', 'failed': 'bad'}  # the colour of a status; others have a neutral one


def render(runs: Sequence[StoredRun], home: str | None = None) -> str:
  """The page of one run, or of several to compare.

  Nothing in it refers to anything outside it, but for `home`, the address of a page of many such, if there is one.
  """
  title = runs[0].name if len(runs) == 1 else f'{len(runs)} runs: ' + ', '.join(run.name for run in runs)
  body = [
    f'<p><a href="{escape(home)}">← all experiments</a></p>' if home else '',
    f'<h1>{escape(title)}</h1>',
    f'<p class="muted">{escape(_subject(runs))}</p>',
    f'<div class="states">{"".join(_state(i, runs) for i in range(len(runs)))}</div>',
    section('Results', results(runs)),
    section('Curves', curves(runs)),
    section('By class', by_class(runs)),
    section('Artifacts', gallery(runs)),
    section('What differs between the configs', config_differences(runs)),
    section('The run' if len(runs) == 1 else 'The runs', _cards(runs)),
    section('Config', _configs(runs)),
    '<footer>Made by <code>python -m dl.report</code>.</footer>',
  ]
  return document(title, ''.join(body))


def document(title: str, body: str) -> str:
  """A whole page with its styles and script inside, from its title (text) and its body (HTML)."""
  here = pathlib.Path(__file__)
  css = here.with_name('style.css').read_text(encoding='utf-8')
  js = here.with_name('script.js').read_text(encoding='utf-8')
  # Whatever a config or an artifact holds, the page runs its own script alone and asks no server for anything.
  digest = base64.b64encode(hashlib.sha256(js.encode()).digest()).decode()
  policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
  return (
    '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
    f'<meta http-equiv="Content-Security-Policy" content="{escape(policy)}">'
    '<meta name="viewport" content="width=device-width, initial-scale=1">'
    f'<title>{escape(title)}</title><style>{css}</style></head>\n'
    f'<body><main>\n{body}</main>\n<script>{js}</script></body></html>\n'
  )


def section(title: str, content: str) -> str:
  """A part of a page below a heading; nothing where there is no content."""
  return f'<section><h2>{escape(title)}</h2>{content}</section>\n' if content else ''


def _subject(runs: Sequence[StoredRun]) -> str:
  """What was trained on what: 'classify.Classify · lenet.LeNet5 · sklearn.Digits', for what the runs share."""
  parts = []
  for key in ('task', 'model', 'data'):
    names = dict.fromkeys(_names(run.config.get(key)) for run in runs)
    parts.append(' / '.join(name for name in names if name))
  return ' · '.join(part for part in parts if part)


def _names(spec: Any) -> str:
  """The name in a spec, or the names of a dict of specs (the players of a GAN)."""
  if not isinstance(spec, Mapping):
    return ''
  if isinstance(spec.get('name'), str):
    return spec['name']
  return ' + '.join(s['name'] for s in spec.values() if isinstance(s, Mapping) and isinstance(s.get('name'), str))


def _speed(records: Sequence[Mapping[str, Any]]) -> str:
  """Steps a second from the first training log, which the compilation comes before, to the last."""
  logs = [r for r in records if r['split'] == 'train' and isinstance(r.get('seconds'), int | float)]
  if not logs or logs[-1]['seconds'] <= logs[0]['seconds']:
    return ''
  return f'{number((logs[-1]["step"] - logs[0]["step"]) / (logs[-1]["seconds"] - logs[0]["seconds"]))} steps/s'


def _state(i: int, runs: Sequence[StoredRun]) -> str:
  """One line on a run: how it is, how far, and how long that took."""
  run, total = runs[i], runs[i].facts.get('total_steps')
  steps = f'{run.step:,}' + (f' of {total:,}' if isinstance(total, int) and total != run.step else '') + ' steps'
  parts = [steps]
  parts += [f'{tenths(run.step / run.steps_per_epoch)} epochs'] if run.steps_per_epoch else []
  parts += [duration(run.seconds)] if run.seconds is not None else []
  parts += [f'{run.facts["parameters"]:,} parameters'] if 'parameters' in run.facts else []
  badge = f'<span class="badge {_BADGES.get(run.status, "")}">{escape(run.status)}</span>'
  name = f'{swatch(i, runs)}<b>{escape(run.name)}</b> ' if len(runs) > 1 else ''
  return f'<p>{name}{badge} <span class="muted">{escape(" · ".join(parts))}</span></p>'


def _cards(runs: Sequence[StoredRun]) -> str:
  return f'<div class="cards">{"".join(_card(i, runs) for i in range(len(runs)))}</div>'


def _card(i: int, runs: Sequence[StoredRun]) -> str:
  run = runs[i]
  facts = run.facts
  shown = {
    'Seed': facts.get('seed', run.config.get('seed')),
    'Devices': _devices(facts.get('devices', {})),
    'Speed': _speed(run.records),
    'Started': _time(facts.get('started', '')),
    'Commit': _commit(str(facts.get('commit') or '')),
  }
  versions = ', '.join(f'{k} {v}' for k, v in facts.get('versions', {}).items() if v)
  wide = {
    'Stopped early': facts.get('stopped_early'),
    **_provenance(facts),
    'Versions': versions,
    'Directory': run.path,
  }
  items = [f'<div><dt>{k}</dt><dd>{escape(v)}</dd></div>' for k, v in shown.items() if v not in (None, '')]
  items += [f'<div class="wide"><dt>{k}</dt><dd>{escape(v)}</dd></div>' for k, v in wide.items() if v not in (None, '')]
  if 'command' in facts:
    items.append(f'<div class="wide"><dt>Command</dt><dd><code>{escape(facts["command"])}</code></dd></div>')
  head = f'<header><h3>{swatch(i, runs)}{escape(run.name)}</h3></header>' if len(runs) > 1 else ''
  return f'<article class="card">{head}<dl>{"".join(items)}</dl></article>'


def _provenance(facts: Mapping[str, Any]) -> dict[str, str]:
  """Where a run is from: the user's own code, what it was given, parts cut by time, and how it was extended."""
  own, given = facts.get('own') or {}, facts.get('init_from') or {}
  data = facts.get('data') or {}
  times = data.get('times') if isinstance(data, Mapping) else None
  commits = [f'{root}: {_commit(str(commit))}' for root, commit in (own.get('repositories') or {}).items()]
  extended = [
    f'at step {e["at_step"]:,} from {e["from"]} to {e["to"]}' for e in facts.get('extended') or () if 'at_step' in e
  ]
  started = []
  if given:
    started = [f'step {given["step"]:,}'] if 'step' in given else []
    started += [f'{given.get("loaded", 0):,} arrays, {given.get("values", 0):,} values']
    started += [f'fresh: {", ".join(given["fresh"])}'] if given.get('fresh') else []
    started += [f'not used: {", ".join(given["unused"])}'] if given.get('unused') else []
  return {
    'Own code': '; '.join([*commits, *([own['code']] if 'code' in own else [])]),
    'Started from': '; '.join(started),
    'Parts in time': ', '.join(f'{part} {first} to {last}' for part, (first, last) in (times or {}).items()),
    'Extended': '; '.join(extended),
  }


def _commit(text: str) -> str:
  """A commit in its first ten digits."""
  return re.sub(r'\b([0-9a-f]{10})[0-9a-f]{30}\b', r'\1', text)


def _devices(value: Mapping[str, Any]) -> str:
  """'8 x NVIDIA H200' or 'cpu, 2 cores', from `run.json`."""
  count, processes = value.get('count', 1), value.get('processes', 1)
  text = str(value.get('kind', value.get('platform', '')))
  text = (f'{count} x ' if count != 1 else '') + text + (f' in {processes} processes' if processes != 1 else '')
  cores = value.get('cpus') if value.get('platform') == 'cpu' else None
  return text + (f', {cores} core{"" if cores == 1 else "s"}' if cores else '')


def _time(value: str) -> str:
  """An ISO time in words; what is none stays as it is."""
  try:
    moment = datetime.datetime.fromisoformat(value)
  except ValueError:
    return value
  return moment.strftime('%Y-%m-%d %H:%M') + (f' {moment.tzname()}' if moment.tzinfo else '')


def _configs(runs: Sequence[StoredRun]) -> str:
  parts = []
  for i, run in enumerate(runs):
    facts = json.dumps(run.facts, indent=2, ensure_ascii=False)
    parts.append(
      f'<details><summary>{swatch(i, runs)}{escape(run.name)}: config</summary>'
      f'<pre>{escape(_indented(run.config))}</pre></details>'
      f'<details><summary>{swatch(i, runs)}{escape(run.name)}: run.json</summary><pre>{escape(facts)}</pre></details>'
    )
  return ''.join(parts)


def _indented(value: Mapping[str, Any], depth: int = 0) -> str:
  """Nested plain data as indented 'key: value' lines."""
  lines = []
  for key, child in value.items():
    space = '  ' * depth
    if isinstance(child, Mapping) and child:
      lines += [f'{space}{key}:', _indented(child, depth + 1)]
    elif isinstance(child, list) and any(isinstance(c, Mapping) for c in child):
      lines.append(f'{space}{key}:')
      for item in child:
        text = _indented(item, depth + 2) if isinstance(item, Mapping) else '  ' * (depth + 2) + plain(item)
        lines.append('  ' * (depth + 1) + '- ' + text.removeprefix('  ' * (depth + 2)))
    else:
      lines.append(f'{space}{key}: {plain(child)}')
  return '\n'.join(lines)
