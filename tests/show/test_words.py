"""Numbers, sizes and times in words."""

import pathlib
import re

from dl.show import words

DL = pathlib.Path(words.__file__).parents[1]
OTHERS = {
  'config/bounds.py': {',g'},  # a peer
  'parallel/supervisor.py': {'.0f'},  # seconds which are a constant
  'report/chart.py': {'.1f'},  # coordinates
  'report/curves.py': {'.6g'},  # data of a chart
  'report/results.py': {'.1f'},  # the length of a bar
  'report/scatter.py': {'.1f'},  # coordinates
  'sweeps/launch.py': {'.3f'},  # an environment variable
  'sweeps/sweeping.py': {'.4g'},  # the value of a key
}
"""Formats of numbers that nobody reads as text, or that cannot come from here."""


def test_no_other_file_formats_numbers_for_people():
  formatted = re.compile(r'\{[^{}]*:[+>\d]*([.,]\d*[gf%])\}')
  sources = {path.relative_to(DL).as_posix(): path.read_text(encoding='utf-8') for path in DL.rglob('*.py')}
  formats = {file: set(formatted.findall(text)) for file, text in sources.items()}
  assert {file: kinds for file, kinds in formats.items() if kinds and file != 'show/words.py'} == OTHERS


def test_numbers():
  assert words.numbers({'loss': 0.31, 'steps': 20, 'by_class': [1.0], 'rate': 1e-5}) == [
    'loss 0.3100', 'steps 20', 'rate 1e-05',
  ]  # fmt: skip
  assert [words.number(v) for v in (9937.25, 12820.4, 142499.6, 1.5e7)] == ['9,937', '12,820', '142,500', '1.5e+07']
  assert [words.difference(v) for v in (0.01234, -12820.4)] == ['+0.01234', '-12,820']
  assert words.number(0.5) + words.spread(0.01234) == '0.5000 ± 0.012'
  assert [words.percent(0.2251), words.percent(0.995, 0)] == ['22.5%', '100%']
  assert [words.rate(v, 'steps') for v in (9.876, 1234.5)] == ['9.88 steps/s', '1,234 steps/s']


def test_counts_which_need_not_be_whole():
  assert [words.tenths(v) for v in (22.4531, 8.0, 0.0, 1234.56)] == ['22.5', '8', '0', '1,234.6']
  assert words.rounded(0.123456, 3) == 0.123
  assert [str(words.rounded(v, 5)) for v in (10582.3, 3.0, float('inf'))] == ['10582', '3.0', 'inf']


def test_amounts_have_three_digits_and_a_prefix():
  assert [words.size(v) for v in (12, 1500, 4e9, 1.234e15)] == ['12 B', '1.5 kB', '4 GB', '1.23 PB']
  assert [words.amount(v) for v in (0, 999, 4.1e9)] == ['0', '999', '4.1 G']
  assert words.amount(2.5e12, 'FLOP') == '2.5 TFLOP'


def test_times():
  assert [words.seconds(v) for v in (0.0351, 1, 12.34)] == ['35.1 ms', '1 s', '12.3 s']
  assert [words.duration(v) for v in (5, 3661, 90061)] == ['0:00:05', '1:01:01', '1d 1:01:01']
