"""CSV tables: numbers, categories, what is inferred, and errors which name row and column."""

import json

import numpy as np
import pytest

from dl.contract.info import Info
from dl.data.make import make
from dl.data.parts import part
from dl.data.reading import read_inputs
from dl.data.sources.tabular import Csv
from dl.data.tables import features_for, read_table
from dl.errors import ConfigError

ROWS = [('1.5', 'red', 'yes'), ('2', 'blue', 'no'), ('-3e1', 'red', 'yes'), ('4', 'green', 'no')]


def write(path, rows=ROWS, header='size,colour,bought', separator=','):
  path.write_text('\n'.join([header, *(separator.join(r) for r in rows)]) + '\n')
  return str(path)


def test_numbers_and_categories(tmp_path):
  source = Csv(write(tmp_path / 'a.csv'), 'bought')
  assert source.info.feature_names == ('size', 'colour=blue', 'colour=green', 'colour=red')
  np.testing.assert_array_equal(
    source.columns['features'], [[1.5, 0, 0, 1], [2, 1, 0, 0], [-30, 0, 0, 1], [4, 0, 1, 0]]
  )
  np.testing.assert_array_equal(source.columns['label'], [1, 0, 1, 0])
  assert source.info.class_names == ('no', 'yes') and source.info.target_name == 'bought'


def test_statistics_are_of_the_training_part(tmp_path):
  rows = [(str(i), str(i * 0.5)) for i in range(100)]
  path = write(tmp_path / 'a.csv', rows, 'x,y')
  train, test = part(Csv(path, 'y')), part(Csv(path, 'y'), 'test')
  assert (len(train), len(test)) == (80, 20) and train.info == test.info
  np.testing.assert_allclose(test.info.mean, train.columns['features'].mean(0), rtol=1e-6)
  np.testing.assert_allclose(test.info.target_mean, train.columns['target'].mean(), rtol=1e-6)


@pytest.mark.parametrize(
  ('target', 'kind', 'key'),
  [
    ([str(i % 3) for i in range(60)], None, 'label'),
    ([str(i) for i in range(60)], None, 'target'),
    ([str(i % 2 + 0.5) for i in range(60)], None, 'target'),
    ([str(i % 3) for i in range(60)], 'regression', 'target'),
    ([str(i % 30) for i in range(60)], 'classification', 'label'),
    (['ab'[i % 2] for i in range(60)], None, 'label'),
  ],
)
def test_the_kind_of_target_is_inferred_or_given(tmp_path, target, kind, key):
  path = write(tmp_path / 'a.csv', [(str(i), t) for i, t in enumerate(target)], 'x,y')
  source = Csv(path, 'y', kind=kind)
  assert set(source.columns) == {'features', key}
  if key == 'label' and target[0].isdigit():
    assert [source.info.class_names[i] for i in source.columns['label']] == target


def test_parts_in_files_columns_in_any_order_and_chosen_features(tmp_path):
  a = write(tmp_path / 'a.csv')
  b = write(tmp_path / 'b.csv', [('no', 'pink', '7')], 'bought;colour;size', ';')
  with pytest.raises(ConfigError, match=r"b\.csv has no column 'size'"):
    Csv({'train': a, 'test': b}, 'bought')
  b = write(tmp_path / 'b.csv', [('no', 'pink', '7')], 'bought,colour,size')
  test = part(Csv({'train': a, 'test': b}, 'bought'), 'test')
  assert test.info.feature_names[-2:] == ('colour=pink', 'colour=red')
  np.testing.assert_array_equal(test.columns['features'], [[7, 0, 0, 1, 0]])
  assert test.info.class_counts == (2, 2)
  only = Csv(a, 'bought', features=['size'])
  assert only.columns['features'].shape == (4, 1)


@pytest.mark.parametrize(
  ('rows', 'header', 'options', 'says'),
  [
    ([*ROWS, ('x', 'red', 'no')], None, {}, "a.csv, row 6, column 'size': 'x' is not a finite number"),
    ([*ROWS, ('nan', 'red', 'no')], None, {}, "row 6, column 'size': 'nan' is not a finite number"),
    (
      [*ROWS, ('', 'red', 'no')],
      None,
      {},
      "row 6, column 'size': the cell is empty; fill it in, or leave out the row or",
    ),
    ([*ROWS, ('1', '', 'no')], None, {}, "row 6, column 'colour': the cell is empty"),
    ([*ROWS, ('1', 'red', '')], None, {}, "row 6, column 'bought': the cell is empty"),
    ([*ROWS, ('1', 'red')], None, {}, 'row 6: 2 cells, but the header has 3 columns'),
    (ROWS, 'size,colour,size', {}, "'size' appears more than once"),
    ([], None, {}, 'no rows'),
    (ROWS, None, dict(target='bougth'), "did you mean 'bought'"),
    (ROWS, None, dict(features=['size', 'color']), "did you mean 'colour'"),
    (ROWS, None, dict(features=['bought']), 'is the target'),
    (ROWS, None, dict(features=[]), 'expected distinct columns'),
    (ROWS, None, dict(kind='regression'), "row 2, column 'bought': 'yes' is not a finite number"),
    ([('1', f'name {i}', 'yes') for i in range(200)], None, {}, '200 different texts are too many'),
    (ROWS, '1.5,red,yes', {}, "row 1: '1.5' stands where a column should have its name; set header=None if"),
    (ROWS, None, dict(header=['a', 'b']), 'row 1: 3 cells, but there are names for 2 columns'),
    (ROWS, None, dict(header=None, target=3), 'target: there is no column number 3; '),
    (ROWS, None, dict(header=True), "header: expected 'infer', 0, None or a list of names, got True"),
    ([('3', '5;2', '5;no')], '1,2;1,5;yes', {}, "'1' stands where a column should have its name; set delimiter=';'"),
    ([('3', '5;2', '5')], 'a;b', {}, "row 2: 3 cells, but the header has 1 columns; set delimiter=';'"),
    (ROWS, None, dict(delimiter=';'), "its header is 'size,colour,bought': set delimiter=','"),
    ([('"3,5"', 'red', 'yes'), ('"4,25"', 'blue', 'no')], None, {}, "'3,5' is not a finite number; set decimal=','"),
    ([*ROWS, ('"3,5"', 'red', 'yes')], None, {}, "row 6, column 'size': '3,5' is not a finite number; set decimal=','"),
    ([('"3,500"', 'red', 'yes')], None, {}, "set decimal=',' if that is the decimal sign, or leave out the commas"),
    (ROWS, None, dict(decimal=','), "row 2, column 'size': '1.5' is not a finite number with decimal=','"),
    (
      [('"2,5"', 'red', 'yes'), ('"3,5"', 'red', 'no'), ('"1.020,5"', 'red', 'no')],
      None,
      dict(decimal=','),
      "'1.020,5' is not a finite number with decimal=','; leave out the dots of thousands",
    ),
  ],
)
def test_mistakes_are_one_line(tmp_path, rows, header, options, says):
  path = write(tmp_path / 'a.csv', rows, header or 'size,colour,bought')
  with pytest.raises(ConfigError) as e:
    Csv(path, **{'target': 'bought'} | options)
  assert says in str(e.value) and '\n' not in str(e.value)


def test_columns_that_say_nothing_are_a_warning(tmp_path, capfd):
  rows = [(str(i + 1), '7', str(i % 5), f'{i * i}', str(i % 2)) for i in range(40)]
  spec = dict(name='tabular.Csv', path=write(tmp_path / 'a.csv', rows, 'id,same,x,square,y'), target='y', batch_size=4)
  assert make(spec).info.std[1] == 1
  said = capfd.readouterr().err
  assert said.count('\n') == 1
  assert "warning: config.data: features: 'same' holds one value throughout and 'id' numbers the rows" in said
  make(spec | {'features': ['x', 'square']})
  make(spec, split='test', train=False)
  assert not capfd.readouterr().err


def test_files_which_are_not_tables(tmp_path):
  (tmp_path / 'b.csv').write_bytes(b'a,b\n\xff\xfe,1\n')
  with pytest.raises(ConfigError, match='not UTF-8'):
    Csv(str(tmp_path / 'b.csv'), 'a')
  with pytest.raises(ConfigError, match=r"did you mean 'b.csv'"):
    Csv(str(tmp_path / 'c.csv'), 'a')


def test_quotes_byte_order_marks_and_blank_lines(tmp_path):
  (tmp_path / 'a.csv').write_bytes('\ufeff"a, b",c\r\n1,"x ""y"""\r\n\r\n2,z\r\n'.encode())
  table = read_table(tmp_path / 'a.csv')
  assert table.header == ['a, b', 'c'] and table.rows == [['1', 'x "y"'], ['2', 'z']]
  assert table.places[1].endswith('row 4')


def test_features_of_new_rows_by_name(tmp_path):
  source = Csv(write(tmp_path / 'a.csv'), 'bought')
  names = source.info.feature_names
  new = read_table(write(tmp_path / 'new.csv', [('?', 'red', '1'), ('?', 'blue', '2')], 'note,colour,size'))
  np.testing.assert_array_equal(features_for(new, names), [[1, 0, 0, 1], [2, 1, 0, 0]])
  for header, row, says in (
    ('colour,sise', ('red', '1'), r"new.csv has no column 'size'; did you mean 'sise'"),
    ('colour,size', ('rde', '1'), r"row 2, column 'colour': training never saw 'rde'; did you mean 'red'"),
    ('colour,size', ('red', 'big'), r"row 2, column 'size': 'big'"),
  ):
    with pytest.raises(ConfigError, match=says):
      features_for(read_table(write(tmp_path / 'new.csv', [row], header)), names)


def test_tables_without_a_header_have_numbered_or_given_names(tmp_path):
  path = write(tmp_path / 'a.csv', ROWS[1:], ','.join(ROWS[0]))
  source = Csv(path, -1, header=None)
  assert source.info.feature_names[0] == 'column_0' and source.info.target_name == 'column_2' and len(source) == 4
  named = Csv(path, 'bought', header=['size', 'colour', 'bought'], features=[0])
  assert named.info.feature_names == ('size',) and named.paths[0] == f'{path}, row 1'
  years = write(tmp_path / 'years.csv', [('1', '2', '3')] * 3, '2023,2024,y')
  assert Csv(years, 'y', header=0, kind='regression').info.feature_names == ('2023', '2024')


@pytest.mark.parametrize(
  ('options', 'rows', 'header'),
  [
    (dict(delimiter=';', decimal=','), [('1,5', 'red', 'yes'), ('2', 'blue', 'no'), ('1,25e1', 'red', 'no')], True),
    (dict(header=None), ROWS, False),
    (dict(header=['size', 'colour', 'bought'], delimiter='|'), ROWS, False),
  ],
)
def test_a_run_reads_other_tables_as_its_own(tmp_path, options, rows, header):
  """Also without the target, which a table with no header has no name for."""
  separator, names = options.get('delimiter', ','), ['size', 'colour', 'bought']
  save = lambda name, rows, names: write(
    tmp_path / name, rows[not header :], separator.join(names if header else rows[0]), separator
  )
  source = Csv(save('a.csv', rows, names), -1, **options)
  info = Info.from_json(json.loads(json.dumps(source.info.to_json())))
  for path in (save('b.csv', rows, names), save('c.csv', [row[:2] for row in rows], names[:2])):
    ((_, read),) = read_inputs([path], info, 'features')
    np.testing.assert_array_equal(read, source.columns['features'])
  other = write(tmp_path / 'd.csv', [('1', 'red')], '1^red' if not header else 'size^colour', '^')
  with pytest.raises(ConfigError) as e:
    list(read_inputs([other], info, 'features'))
  assert 'set ' not in str(e.value)  # the arguments are the run's
  if header:
    other = write(tmp_path / 'e.csv', [('1', 'red')], 'size,colour')
    with pytest.raises(ConfigError, match="the tables of the run were read with delimiter=';'"):
      list(read_inputs([other], info, 'features'))
