"""The tables of the report page: final and best values, values by class, and what differs between configs."""

from collections.abc import Mapping, Sequence

from dl.contract.metrics import BY_SEED
from dl.report.markup import escape, plain, swatch, title
from dl.report.runs import StoredRun, differences, rows
from dl.show.words import difference, number, numbers


def results(runs: Sequence[StoredRun]) -> str:
  """A row a metric, a column a run: the final value, the best one, and how it compares with what the config claims."""
  keys = rows(runs)
  if not keys:
    return '<p class="muted">No metrics yet.</p>'
  final, best = [run.final() for run in runs], [run.best() for run in runs]
  head = '<th>Split</th><th>Metric</th>' + ''.join(
    f'<th class="n">{swatch(i, runs)}{escape(run.name if len(runs) > 1 else "Final value")}</th>'
    for i, run in enumerate(runs)
  )
  body = []
  for split, metric in keys:
    key = (split, metric)
    winners = _winners([f[key].value if key in f else None for f in final], runs[0].mode(split, metric))
    cells = ''.join(
      f'<td class="n">{_result(run, key, final[i], best[i], i in winners)}</td>' for i, run in enumerate(runs)
    )
    body.append(f'<tr><th>{escape(split)}</th><td>{escape(title(metric))}</td>{cells}</tr>')
  notes = ''.join(f'<p>{swatch(i, runs)}{text}</p>' for i, run in enumerate(runs) if (text := _of_best(run)))
  return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{"".join(body)}</tbody></table></div>{notes}'


def _of_best(run: StoredRun) -> str:
  """What the run says of its best checkpoint, and of other evaluations at that step."""
  best = run.facts.get('best')
  if not isinstance(best, Mapping) or not isinstance(best.get('metrics'), Mapping):
    return ''
  split = str(best['metric']).partition('/')[0]
  others = [
    f'{escape(name)} {", ".join(map(escape, numbers(values)))}'
    for name, values in best['metrics'].items()
    if name != split
  ]
  there = f'; there {"; ".join(others)}' if others else ''
  fair = '' if run.chooses(split) else ' (chosen by the test part itself, so no fair result)'
  return f'Best {escape(best["metric"])}: <b>{number(best["value"])}</b> at step {best["step"]:,}{fair}{there}'


def _result(run: StoredRun, key: tuple[str, str], final: Mapping, best: Mapping, wins: bool) -> str:
  if key not in final:
    return ''
  last = final[key]
  parts = [f'<span{" class=win" if wins else ""}>{number(last.value)}</span>']
  entry = (run.config.get('eval') or {}).get(key[0])
  if isinstance(entry, Mapping) and entry.get('of') == 'best':
    parts.append(f'<small>of the best checkpoint, step {last.step:,}</small>')
  if key in best and best[key].step != last.step and run.chooses(key[0]):
    parts.append(f'<small>best {number(best[key].value)} at {best[key].step:,}</small>')
  if claim := run.expected(*key):
    value, tolerance = claim
    mode, measured = run.mode(*key), last.value
    met = measured is not None and (
      abs(measured - value) <= tolerance + 1e-12
      or (mode == 'max' and measured > value)
      or (mode == 'min' and measured < value)
    )
    verdict = '<b class="met">met</b>' if met else '<b class="missed">not met</b>'
    if not met and run.changed:  # another run than the one which the claim is of
      verdict = f'of the config without --config.{escape(", --config.".join(run.changed))}'
    parts.append(f'<small>expected {number(value)} ± {tolerance:g}: {verdict}</small>')
  for method, value in run.baselines(*key).items():
    margin = '' if last.value is None else f': {difference(last.value - value)}'
    parts.append(f'<small>{escape(method)} {number(value)}{margin}</small>')
  return ''.join(parts)


def _winners(values: Sequence[float | None], mode: str | None) -> set[int]:
  """Indices of the best values, where runs are compared and differ."""
  finite = [v for v in values if v is not None]
  if mode is None or len(values) < 2 or len(set(values)) < 2 or not finite:
    return set()
  top = (min if mode == 'min' else max)(finite)
  return {i for i, v in enumerate(values) if v == top}


def by_class(runs: Sequence[StoredRun]) -> str:
  """One table for each metric which is a list; rows are classes or seeds, of which a list has a number each."""
  by_metric: dict[tuple[str, int], list[tuple[int, str, int, list]]] = {}
  for i, run in enumerate(runs):
    for (split, metric), (step, values) in run.lists().items():
      if values and all(v is None or isinstance(v, int | float) for v in values):
        by_metric.setdefault((metric, len(values)), []).append((i, split, step, values))
  tables = []
  for (metric, size), columns in by_metric.items():
    first = runs[columns[0][0]]
    seeds = [f'seed {first.config.get("seed", 0) + i}' for i in range(size)]
    names = seeds if metric.endswith(BY_SEED) else _class_names(first, size)
    head = ''.join(
      f'<th class="n">{swatch(i, runs)}{escape(runs[i].name + " · " if len(runs) > 1 else "")}{escape(split)}'
      f'<br><small>step {step:,}</small></th>'
      for i, split, step, _ in columns
    )
    body = ''.join(
      f'<tr><th>{escape(name)}</th>{"".join(_bar(values[row]) for *_, values in columns)}</tr>'
      for row, name in enumerate(names)
    )
    tables.append(
      f'<div class="scroll tall"><table><thead><tr><th>{escape(title(metric))}</th>{head}</tr></thead>'
      f'<tbody>{body}</tbody></table></div>'
    )
  return ''.join(tables)


def _bar(value: float | None) -> str:
  """A cell whose background shows a number in [0, 1] as a bar."""
  if value is not None and 0 <= value <= 1:
    return f'<td class="n bar" style="--v:{100 * value:.1f}%">{number(value)}</td>'
  return f'<td class="n">{"" if value is None else number(value)}</td>'


def _class_names(run: StoredRun, size: int) -> list[str]:
  info = run.facts.get('data')
  info = info.get('info', info) if isinstance(info, Mapping) else {}
  names = info.get('class_names') if isinstance(info, Mapping) else None
  return [str(n) for n in names] if isinstance(names, list) and len(names) == size else [str(i) for i in range(size)]


def config_differences(runs: Sequence[StoredRun]) -> str:
  """A row for each config key whose values differ; empty for a single run."""
  if len(runs) < 2:
    return ''
  changed = differences(runs)
  if not changed:
    return '<p class="muted">Nothing: the configs are equal.</p>'
  head = ''.join(f'<th>{swatch(i, runs)}{escape(run.name)}</th>' for i, run in enumerate(runs))
  body = ''.join(
    f'<tr><th class="mono">{escape(key)}</th>'
    + ''.join(f'<td><code>{escape(plain(value))}</code></td>' for value in values)
    + '</tr>'
    for key, values in changed.items()
  )
  return f'<div class="scroll"><table><thead><tr><th>Key</th>{head}</tr></thead><tbody>{body}</tbody></table></div>'
