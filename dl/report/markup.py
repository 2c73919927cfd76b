"""Small pieces of HTML that the parts of the report page share."""

import html
import json
from collections.abc import Sequence
from typing import Any

from dl.report.runs import MISSING, StoredRun

COLOURS = 8
"""Colours in `style.css`; run or split i has the colour `c{i % COLOURS}`."""


def escape(value: Any) -> str:
  """Any value as text which HTML shows as it is, in an element or in a quoted attribute."""
  return html.escape(str(value))


def swatch(i: int, runs: Sequence[StoredRun]) -> str:
  """The colour of run i, where there are runs to tell apart."""
  return f'<i class="swatch c{i % COLOURS}"></i>' if len(runs) > 1 else ''


def title(metric: str) -> str:
  """A metric's or artifact's name in words."""
  return metric.replace('_', ' ')


def plain(value: Any) -> str:
  """A config value as people write it; unescaped."""
  return repr(value) if value is MISSING else json.dumps(value, ensure_ascii=False)
