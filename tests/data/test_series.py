"""Long series as windows: which steps are in them, borders in time, statistics, and gaps."""

import datetime
import json
import pathlib

import numpy as np
import pytest

from dl.contract.info import Info
from dl.contract.kinds import SERIES
from dl.data import dates, statistics
from dl.data.make import make
from dl.data.reading import read_inputs
from dl.data.sources.series import Csv, Windows
from dl.errors import ConfigError

ETT = pathlib.Path(__file__).parents[2] / '../shared/data/ett/ETTh1.csv'
START = datetime.datetime(2024, 1, 1)
HOURS = [START + datetime.timedelta(hours=i) for i in range(50)]


def write(path, times=HOURS, header='date,load,price', rows=lambda i: (i, 10 * i)):
  lines = [','.join(map(str, (t, *rows(i)))) for i, t in enumerate(times)]
  path.write_text('\n'.join([header, *lines]) + '\n')
  return str(path)


def csv(path, split='train', **options):
  return Csv(path, **dict(length=4, horizon=3, split=split, time='date', validation=10, test=10) | options)


def test_a_window_is_a_look_back_and_the_steps_right_after_it():
  values = np.arange(40, dtype=np.float32).reshape(20, 2)
  source = Windows(values, 4, 3, (0, 20), 2, [1], Info())
  assert len(source) == 7
  batch = source[np.arange(7)]
  assert batch['series'].shape == (7, 4, 2) and batch['target'].shape == (7, 3, 1)
  for i in range(7):
    np.testing.assert_array_equal(batch['series'][i], values[2 * i : 2 * i + 4])
    np.testing.assert_array_equal(batch['target'][i], values[2 * i + 4 : 2 * i + 7, 1:])
    for name, rows in source[i].items():
      np.testing.assert_array_equal(rows, batch[name][i])
  with pytest.raises(IndexError):
    source[7]


def test_parts_are_cut_in_time_and_may_look_back_over_the_border(tmp_path):
  path = write(tmp_path / 'a.csv')
  parts = {split: csv(path, split) for split in ('train', 'validation', 'test', 'all')}
  assert [len(p) for p in parts.values()] == [24, 8, 8, 44]
  forecast = {split: p[np.arange(len(p))]['target'][..., 0] for split, p in parts.items()}
  for split, (first, last) in dict(train=(4, 29), validation=(30, 39), test=(40, 49), all=(4, 49)).items():
    assert (forecast[split].min(), forecast[split].max()) == (first, last)
    assert parts[split].span == (str(HOURS[first]).replace(' ', 'T'), str(HOURS[last]).replace(' ', 'T'))
    assert parts[split].info == parts['train'].info
  assert parts['validation'][0]['series'][:, 0].tolist() == [26, 27, 28, 29]
  assert parts['test'].paths[0] == f'{path}, row 42'
  np.testing.assert_allclose(parts['test'].info.mean, [14.5, 145])
  np.testing.assert_allclose(parts['test'].info.std, np.arange(30).std() * np.array([1, 10]))
  assert len(csv(path, train=20)) == 14 and csv(path, 'test', train=20)[0]['target'][0, 0] == 30
  assert len(csv(path, 'test', validation=0.1, test=0.2)) == 8


def test_channels_targets_and_places_in_the_day(tmp_path):
  path = write(tmp_path / 'a.csv')
  source = csv(path, columns=['price', 1], targets=['load'], dates=['day'])
  assert source.info.feature_names == ('price', 'load', 'date.day_sin', 'date.day_cos')
  assert source.info.fact('targets') == ('load',)
  example = source[0]
  assert example['series'].shape == (4, 4) and example['target'].tolist() == [[4], [5], [6]]
  np.testing.assert_allclose(example['series'][:, 2], np.sin(2 * np.pi * np.arange(4) / 24), atol=1e-6)
  # Months and years differ in length.
  months = [datetime.date(2020 + i // 12, 1 + i % 12, 31 if i == 99 else 1) for i in range(50)]
  assert len(csv(write(tmp_path / 'b.csv', months))) == 24
  assert len(csv(write(tmp_path / 'c.csv', np.arange(50) * 0.1))) == 24


@pytest.mark.parametrize(
  ('times', 'options', 'says'),
  [
    ([*HOURS[:20], *HOURS[22:]], {}, "row 22, column 'date': '2024-01-01 22:00:00' comes 3:00:00 after the row before "
     'it, and others 1:00:00; fill in what is missing, or set irregular=True to count rows as steps'),
    ([*HOURS[:20], *HOURS[19:]], {}, "row 22, column 'date': '2024-01-01 19:00:00' comes 0:00:00 after"),
    (HOURS[::-1], {}, "row 3, column 'date': '2024-01-03 00:00:00' comes -1 day, 23:00:00 after"),
    ([*range(20), *range(21, 51)], {}, "row 22, column 'date': '21' comes 2 after the row before it, and others 1"),
    ([*HOURS[:9], 'later', *HOURS[10:]], {}, "row 11, column 'date': 'later' is no date of ISO 8601"),
    (HOURS, dict(time=None), "row 2, column 'date': '2024-01-01 00:00:00' is a date; set time='date', or leave the"),
    (HOURS, dict(time='data'), "has no column 'data'; did you mean 'date'"),
    (HOURS, dict(columns=['date']), "columns: 'date' is the time; dates= makes channels of it"),
    (HOURS, dict(columns=['load', 'load']), 'columns: expected distinct columns'),
    (HOURS, dict(columns=['load'], targets=['price']), "targets: 'price' is not among the columns"),
    (HOURS, dict(dates=['hour']), 'dates: expected some of days, year, week, day'),
    (HOURS, dict(dates=['day'], time=None, columns=['load']), 'dates: are those of a column; name it'),
    (HOURS, dict(length=28), 'length and horizon: a window takes 31 steps of this part, which has 30'),
    (HOURS, dict(horizon=11, split='test'), 'length and horizon: a window takes 11 steps of this part, which has 10'),
    (HOURS, dict(test=0, split='test'), "split: the 'test' part is empty; set test=0.1, say"),
    (HOURS, dict(train=31), 'of 50 rows there cannot be train 31, validation 10, test 10'),
    (HOURS, dict(validation=40), 'of 50 rows there cannot be validation 40, test 10'),
    (HOURS, dict(test=1.5), 'test: expected a share of the rows'),
    (HOURS, dict(split='tset'), "did you mean 'test'"),
  ],
)  # fmt: skip
def test_mistakes_are_one_line(tmp_path, times, options, says):
  path = write(tmp_path / 'a.csv', times)
  with pytest.raises(ConfigError) as e:
    csv(path, **options)
  assert says in str(e.value) and '\n' not in str(e.value)


@pytest.mark.parametrize('cell', ['', 'nan', 'NA'])
def test_a_missing_value_is_named_by_row_and_column(tmp_path, cell):
  path = write(tmp_path / 'a.csv', rows=lambda i: (i, cell if i == 30 else i))
  with pytest.raises(ConfigError, match=r"a\.csv, row 32, column 'price': "):
    csv(path)


def test_uneven_rows_can_be_steps(tmp_path):
  path = write(tmp_path / 'a.csv', [HOURS[0], *HOURS[2:]])
  assert len(csv(path, irregular=True)) == 23


def test_a_shorter_series_ends_in_nan_and_has_none_before():
  series = np.zeros((3, 5, 2), np.float32)
  series[1, 3:] = np.nan
  assert SERIES.wrong(series, Info()) is None
  np.testing.assert_array_equal(statistics.of_series(series + 1, Info())['mean'], [1, 1])
  for place, value in (((1, 1, 0), np.nan), ((2, 4, 1), np.nan), ((1, 0), np.inf), ((1, slice(None)), np.nan)):
    broken = series.copy()
    broken[place] = value
    row, says = SERIES.wrong(broken, Info())
    assert row == place[0] and says.startswith(f'step {place[1] if place[1] != slice(None) else 0} of the series holds')
  broken = series.copy()
  broken[1, 1] = np.nan  # and real steps after it
  assert SERIES.wrong(broken, Info())[1].startswith('step 1 of the series holds nan')


def test_a_trained_run_reads_the_end_of_other_tables(tmp_path):
  info = csv(write(tmp_path / 'a.csv'), dates=['day']).info
  info = Info.from_json(json.loads(json.dumps(info.to_json())))
  ((name, read),) = read_inputs([write(tmp_path / 'b.csv', HOURS[:9])], info, 'series')
  assert name == [str(tmp_path / 'b.csv')] and read.shape == (1, 4, 4) and read[0, :, 0].tolist() == [5, 6, 7, 8]
  np.testing.assert_allclose(read[0, :, 2], np.sin(2 * np.pi * np.arange(5, 9) / 24), atol=1e-6)
  np.savez(tmp_path / 'c.npz', x=read)
  ((_, again),) = read_inputs([tmp_path / 'c.npz'], info, 'series')
  np.testing.assert_array_equal(again, read)
  np.savez(tmp_path / 'd.npz', x=read[:, 1:])
  for path, says in (
    (write(tmp_path / 'e.csv', HOURS[:3]), 'has 3 rows, and the model reads the last 4'),
    (write(tmp_path / 'f.csv', HOURS[:9:2] + HOURS[9:12]), "row 7, column 'date': .* comes 1:00:00 after"),
    (write(tmp_path / 'g.csv', header='date,load,cost'), "g.csv has no column 'price'"),
    (tmp_path / 'd.npz', r'expected series \[batch, 4, 4\], got the shape \(1, 3, 4\)'),
  ):
    with pytest.raises(ConfigError, match=says):
      list(read_inputs([path], info, 'series'))


def test_even_times():
  assert dates.uneven(np.array([3.0])) is None
  assert dates.uneven(np.array(['2020-01', '2020-04', '2020-07'], 'datetime64[M]').astype('datetime64[D]')) is None
  assert dates.uneven(np.array(['2020-01-01', '2020-02-01', '2020-04-01'], 'datetime64[D]'))[0] == 1


@pytest.mark.skipif(not ETT.exists(), reason='needs ../shared/data')
def test_the_standard_split_of_etth1():
  """12, 4 and 4 months of 30 days; the published test part is incomplete where its last batch is left out."""
  spec = dict(
    name='series.Csv', path=str(ETT), time='date', length=336, horizon=96, train=8640, validation=2880, test=2880,
    batch_size=32,
  )  # fmt: skip
  train, validation, test = (make(spec, split=s, train=s == 'train') for s in ('train', 'validation', 'test'))
  assert [len(p.source) for p in (train, validation, test)] == [8209, 2785, 2785]
  assert test.source.span == ('2017-10-24T00:00:00', '2018-02-20T23:00:00')
  assert sum(int(batch['mask'].sum()) for batch in test) == 2785
  assert train.info.feature_names[-1] == 'OT' and train.info.mean[-1] == pytest.approx(17.12826, abs=1e-4)
  batch = train[3]
  assert batch['series'].shape == (32, 336, 7) and batch['target'].shape == (32, 96, 7)


def test_a_table_without_names_is_read_as_the_runs_own(tmp_path):
  lines = [f'{t};{i},5;{i}' for i, t in enumerate(HOURS)]
  (tmp_path / 'a.csv').write_text('\n'.join(lines))
  options = dict(time=0, targets=[-1], delimiter=';', decimal=',', header=None)
  info = csv(str(tmp_path / 'a.csv'), **options).info
  assert info.feature_names == ('column_1', 'column_2') and info.fact('targets') == ('column_2',)
  ((_, read),) = read_inputs([tmp_path / 'a.csv'], info, 'series')
  assert read[0].tolist() == [[i + 0.5, i] for i in range(46, 50)]
  (tmp_path / 'b.csv').write_text('\n'.join(line.rpartition(';')[0] for line in lines))
  with pytest.raises(ConfigError, match=r'row 1: 2 cells, but there are names for 3 columns$'):
    list(read_inputs([tmp_path / 'b.csv'], info, 'series'))
