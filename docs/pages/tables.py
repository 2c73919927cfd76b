"""Tables of the pages, whose cells say what they are of: on a narrow screen they stand below each other."""

import html
import re

_TABLE = re.compile(r'<table>.*?</table>', re.DOTALL)
_ROW = re.compile(r'<tr>.*?</tr>', re.DOTALL)
_HEAD = re.compile(r'<th\b[^>]*>(.*?)</th>', re.DOTALL)
_CELL = re.compile(r'<td\b')
_TAG = re.compile(r'<[^>]*>')


def labelled(page: str) -> str:
  """HTML in which each cell of a table has the head of its column as `data-label`, which `style.css` shows."""
  return _TABLE.sub(_labelled, page)


def _labelled(table: re.Match) -> str:
  heads = [html.escape(html.unescape(_TAG.sub('', head)).strip()) for head in _HEAD.findall(table[0])]

  def row(match: re.Match) -> str:
    labels = iter(heads)
    return _CELL.sub(lambda _: f'<td data-label="{next(labels, "")}"', match[0])

  return _ROW.sub(row, table[0])
