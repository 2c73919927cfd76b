"""Dates in tables: recognized, as features of one's choice, and in the same way for other files."""

import datetime

import numpy as np
import pytest

from dl.contract.info import Info
from dl.data import dates
from dl.data.make import make
from dl.data.reading import read_inputs
from dl.data.sources.tabular import Csv
from dl.errors import ConfigError

N = 60
DAYS = [datetime.datetime(2024, 1, 1) + datetime.timedelta(days=i) for i in range(N)]  # from a Monday on


def write(path, cells, form='%Y-%m-%d'):
  rows = [f'{d.strftime(form)},{i % 7},{i * 0.5}' for i, d in enumerate(cells)]
  path.write_text('\n'.join(['when,x,y', *rows]) + '\n')
  return str(path)


def test_dates_are_days_and_places_in_the_year_the_week_and_the_day():
  noon, midsummer = datetime.datetime(2024, 1, 1, 12), datetime.datetime(2023, 7, 2, 12)
  values, names = dates.as_features([noon, midsummer], dates.PARTS, 'when')
  assert names == ['when.days', *(f'when.{p}_{f}' for p in ('year', 'week', 'day') for f in ('sin', 'cos'))]
  days = (noon - datetime.datetime(1970, 1, 1)).total_seconds() / 86400
  angle = lambda share: (np.sin(2 * np.pi * share), np.cos(2 * np.pi * share))
  np.testing.assert_allclose(values[0], [days, *angle(0.5 / 366), *angle(0.5 / 7), *angle(0.5)], rtol=1e-9, atol=1e-9)
  np.testing.assert_allclose(values[1][1:3], angle(0.5), atol=1e-9)  # the middle of a year of 365 days
  np.testing.assert_allclose(values[1][3:5], angle(6.5 / 7), atol=1e-9)  # on a Sunday


def test_times_with_a_zone_are_sorted_by_the_instant_and_described_by_their_own_clock():
  texts = ['2024-01-01T13:00+02:00', '2024-01-01T12:30+00:00']
  parsed = [datetime.datetime.fromisoformat(t) for t in texts]
  assert dates.instants(parsed).astype(str).tolist() == ['2024-01-01T11:00:00', '2024-01-01T12:30:00']
  values, _ = dates.as_features(parsed, ['day'], 'when')
  np.testing.assert_allclose(np.arctan2(*values.T) % (2 * np.pi) * 24 / (2 * np.pi), [13, 12.5], rtol=1e-6)
  assert dates.instants(DAYS).dtype == 'datetime64[D]'


def test_a_column_of_dates_becomes_features_where_it_is_asked_for(tmp_path):
  path = write(tmp_path / 'a.csv', DAYS)
  whole = Csv(path, 'y', dates=['when'])
  assert whole.info.feature_names[:3] == ('when.days', 'when.year_sin', 'when.year_cos')
  assert whole.info.feature_names[3:] == ('when.week_sin', 'when.week_cos', 'x')  # no date has a time
  hours = Csv(write(tmp_path / 'h.csv', DAYS, '%Y-%m-%d 10:30'), 'y', dates=['when'])
  assert 'when.day_sin' in hours.info.feature_names
  chosen = Csv(path, 'y', dates={'when': ['week']})
  assert chosen.info.feature_names == ('when.week_sin', 'when.week_cos', 'x')
  np.testing.assert_allclose(chosen.columns['features'][:50, 0], chosen.columns['features'][7:57, 0], atol=1e-6)


@pytest.mark.parametrize('form', ['%Y-%m-%d', '%d.%m.%Y', '%m/%d/%Y %H:%M'])
def test_prediction_reads_dates_as_training_did(tmp_path, form):
  path = write(tmp_path / 'a.csv', DAYS, form)
  source = Csv(path, 'y', dates=['when'], date_format=None if form == '%Y-%m-%d' else form)
  info = Info.from_json(source.info.to_json())
  (tmp_path / 'new.csv').write_text(f'x,when\n3,{DAYS[31].strftime(form)}\n')
  ((_, rows),) = read_inputs([tmp_path / 'new.csv'], info, 'features')
  np.testing.assert_array_equal(rows[0], source.columns['features'][31])


@pytest.mark.parametrize(
  ('form', 'options', 'says'),
  [
    ('%Y-%m-%d', {}, r"a.csv, row 2, column 'when': '2024-01-01' is a date; set dates=\['when'\] for features of it"),
    ('%d.%m.%Y', {}, r"is a date; set dates=\['when'\], date_format='%d.%m.%Y' for features"),
    ('%m/%d/%Y', dict(dates=['when']), r"no date of ISO 8601, such as .*; set date_format='%m/%d/%Y'$"),
    ('%Y-%m-%d', dict(dates=['when'], date_format='%d.%m.%Y'), r"'2024-01-01' is no date of '%d.%m.%Y'"),
    ('%Y-%m-%d', dict(dates=['x']), r"column 'x': '0' is no date of ISO 8601"),
    ('%Y-%m-%d', dict(dates={'when': ['month']}), r"dates.when: expected some of days, year, week, day, got \['month'"),
    ('%Y-%m-%d', dict(dates={'wen': ['week']}), r"no column 'wen'; did you mean 'when'"),
    ('%Y-%m-%d', dict(dates=['when'], features=['x']), r"dates: 'when' is not among the features"),
  ],
)
def test_mistakes_are_one_line(tmp_path, form, options, says):
  with pytest.raises(ConfigError, match=says):
    Csv(write(tmp_path / 'a.csv', DAYS, form), 'y', **options)


def test_days_going_on_are_no_numbers_of_rows(tmp_path, capfd):
  make(dict(name='tabular.Csv', path=write(tmp_path / 'a.csv', DAYS), target='y', dates=['when'], batch_size=4))
  assert not capfd.readouterr().err


def test_parts_in_time_are_cut_by_a_column_of_dates_or_numbers(tmp_path):
  """Whatever the order of the rows; the column is no feature unless it is asked for."""
  mixed = [DAYS[i] for i in np.random.default_rng(0).permutation(N)]
  spec = dict(name='tabular.Csv', path=write(tmp_path / 'a.csv', mixed), target='y', batch_size=4, split='time')
  spec |= dict(time='when', test=10, validation=0.1, gap=2)
  train, validation, test = (make(spec, split=s, train=False).source for s in ('train', 'validation', 'test'))
  assert train.stated.feature_names == ('x',) and len(make(spec).source) == len(train)
  assert test.span == ('2024-02-20', '2024-02-29') and len(test) == 10
  assert validation.span == ('2024-02-12', '2024-02-17') and train.span == ('2024-01-01', '2024-02-09')
  assert (
    len(make(spec | {'time': 'x', 'test': 1, 'dates': ['when']}, split='test', train=False).source) == 8
  )  # all of one time
  with pytest.raises(ConfigError, match=r"config.data.split: 'time' needs to know when .* time='date', say"):
    make({k: v for k, v in spec.items() if k not in ('time', 'gap')} | {'features': ['x']})
  with pytest.raises(ConfigError, match=r"column 'when': '.*' is no date of '%d'"):
    make(spec | {'date_format': '%d'})
