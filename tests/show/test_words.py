"""Numbers, sizes and times in words."""

from dl.show import words


def test_amounts_have_three_digits_and_a_prefix():
  assert [words.size(v) for v in (12, 1500, 4e9, 1.234e15)] == ['12 B', '1.5 kB', '4 GB', '1.23 PB']
  assert [words.amount(v) for v in (0, 999, 4.1e9)] == ['0', '999', '4.1 G']
  assert words.amount(2.5e12, 'FLOP') == '2.5 TFLOP'


def test_times():
  assert [words.seconds(v) for v in (0.0351, 1, 12.34)] == ['35.1 ms', '1 s', '12.3 s']
  assert [words.duration(v) for v in (5, 3661, 90061)] == ['0:00:05', '1:01:01', '1d 1:01:01']
