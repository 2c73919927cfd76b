"""A table of one's own from file to predictions: a separator, a decimal sign and dates which are no defaults."""

import csv
import datetime

import numpy as np
import pytest

from dl import config
from dl.store import workdir as workdirs
from dl.training import answers
from dl.training.assemble import assemble
from dl.training.loop import train
from dl.training.prediction import predict


def write(path, target=True):
  start = datetime.datetime(2024, 1, 1)
  with path.open('w', newline='') as file:
    rows = csv.writer(file, delimiter=';')
    rows.writerow(['Datum', 'Temp', *['Last'] * target])
    for i in range(40):
      cells = (start + datetime.timedelta(days=i)).strftime('%d.%m.%Y'), f'{i / 2:.1f}'.replace('.', ',')
      rows.writerow([*cells, *[f'{i % 7},5'] * target])
  return str(path)


@pytest.fixture(scope='module')
def run(tmp_path_factory):
  folder = tmp_path_factory.mktemp('tables')
  data = dict(name='tabular.Csv', path=write(folder / 'a.csv'), target='Last', delimiter=';', decimal=',')
  data |= dict(date_format='%d.%m.%Y', dates=['Datum'], time='Datum', split='time', test=0.25, gap=2, batch_size=8)
  train(
    config.resolve(
      dict(
        task=dict(name='regress.Regress', normalize=True, normalize_target=True),
        model=dict(name='mlp.MLP', hidden=(), num_outputs=1),
        data=data,
        optim=dict(sgd=dict(name='sgd', learning_rate=0.01)),
        train_for=1,
        eval=dict(test=dict(split='test')),
      )
    ),
    folder / 'run',
    show_progress=False,
  )
  return folder


def test_a_run_knows_the_times_of_its_parts(run):
  facts = workdirs.read_run(run / 'run')['data']
  assert facts['times'] == {'train': ['2024-01-01', '2024-01-28'], 'test': ['2024-01-31', '2024-02-09']}


def test_it_leaves_what_a_regression_is_looked_at_by(run):
  names = {path.name.partition('_test_')[2] for path in (run / 'run/artifacts').iterdir()}
  assert names == {'predicted.png', 'residuals.png', 'scores.csv', 'largest_errors.csv'}
  with open(run / 'run/artifacts/00000001_test_largest_errors.csv', newline='') as file:
    first = next(csv.DictReader(file))
  row = int(first['index']) + 2  # below a header, and counted from 1
  assert row > 31 and first['file'] == f'{run}/a.csv, row {row}'
  assert float(first['true']) == (int(first['index']) % 7) + 0.5


def test_others_are_predicted_from_as_they_are_and_named_by_the_column(run):
  whole, without = (list(predict(run / 'run', [write(run / n, t)])) for n, t in (('b.csv', True), ('c.csv', False)))
  answers.writer(run / 'p.csv')(iter(whole))
  with open(run / 'p.csv', newline='') as file:
    rows = list(csv.DictReader(file))
  assert len(rows) == 40 and rows[0].keys() == {'input', 'Last'} and rows[3]['input'] == f'{run}/b.csv:5'
  expected = [float(p.outputs['target']) for p in without]
  np.testing.assert_allclose([float(row['Last']) for row in rows], expected, rtol=1e-6)
  assert len(np.unique(expected)) > 30


def test_a_run_of_before_the_format_was_recorded_has_it_in_its_config(run):
  facts = workdirs.read_run(run / 'run')['data']
  facts['info'].pop('table')
  assert assemble(workdirs.read_config(run / 'run'), facts).task.info.table == (('delimiter', ';'),)
