"""What became of the examples that could not be read: `skipped.jsonl` and a line at the end of a run."""

import contextlib
import json
import os
import pathlib
import sys
from collections.abc import Mapping
from typing import Any, Self

import jax

from dl.store import records

FILE = 'skipped.jsonl'


class Skipped:
  """Appends each example that the pipelines of a run skip, once, to `skipped.jsonl` of its work directory.

  A line is `{"split": "train", "index": 17, "reason": "..."}`, with the place in the user's own source, of which the
  split may be a part. Of several processes each has a file of its own.
  """

  def __init__(self, workdir: str | os.PathLike, pipelines: Mapping[str, Any]):
    """Reads which are there; a line that a kill tore is written again.

    Args:
      workdir: the work directory.
      pipelines: 'train' or an evaluation's name -> pipeline, or None for a task without data.
    """
    process = jax.process_index()
    self._path = pathlib.Path(workdir) / (f'skipped_{process}.jsonl' if process else FILE)
    self._pipelines = {split: p for split, p in pipelines.items() if p is not None}
    self._written = {(r['split'], r['index']) for r in _read(self._path)}

  def write(self) -> None:
    """Appends those which are new."""
    of = lambda p: sorted((int(p.places(i)), why) for i, why in [*p.skipped.items()])
    skipped = {(split, i): why for split, p in self._pipelines.items() for i, why in of(p)}
    new = {key: why for key, why in skipped.items() if key not in self._written}
    if not new:
      return
    lines = [json.dumps({'split': split, 'index': i, 'reason': why}) for (split, i), why in new.items()]
    text = '\n'.join([*self._torn(), *lines, ''])
    with self._path.open('a', encoding='utf-8') as file:
      file.write(text)
    self._written |= new.keys()

  def _torn(self) -> list[str]:
    """What the next line comes after, where a kill left the last one without an end."""
    content = self._path.read_bytes() if self._path.exists() else b''
    return [''] if content and not content.endswith(b'\n') else []

  def __enter__(self) -> Self:
    return self

  def __exit__(self, kind: type | None, *_: object) -> None:
    with contextlib.suppress(() if kind is None else OSError):  # the error that is under way matters more
      self.write()
    for split, pipeline in self._pipelines.items():
      if pipeline.skipped:
        print(f'{summary(split, pipeline)}; see {self._path}', file=sys.stderr, flush=True)


def summary(split: str, pipeline: Any) -> str:
  """One line on the examples of a pipeline that were skipped: how many, and why the first."""
  count, first = len(pipeline.skipped), min(pipeline.skipped.items())[1]
  many = '1 example' if count == 1 else f'{count:,} examples'
  what = 'replaced by others' if pipeline.train else 'left out'
  return f'warning: {many} of {split!r} could not be read and {"was" if count == 1 else "were"} {what}: {first}'


def _read(path: pathlib.Path) -> list[dict[str, Any]]:
  return [record for record, _ in records.lines(path) if record and record.keys() >= {'split', 'index'}]
