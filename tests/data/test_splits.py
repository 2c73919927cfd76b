"""Splits: exact sizes, disjoint parts that cover all, stratification, folds."""

import numpy as np
import pytest
from sklearn import datasets, model_selection

from dl.data.splits import choose, select
from dl.errors import ConfigError

LABELS = datasets.load_digits().target
PARTS = ('train', 'validation', 'test')


@pytest.mark.parametrize(
  ('rules', 'sizes'),
  [
    (dict(test=360), (1437, 0, 360)),
    (dict(test=0.2), (1437, 0, 360)),
    (dict(test=360, validation=200), (1237, 200, 360)),
    (dict(test=0.1, validation=0.1), (1437, 180, 180)),
    (dict(test=360, validation=100, stratify=False), (1337, 100, 360)),
    (dict(folds=5, fold=2, validation=100), (1337, 100, 360)),
  ],
)
def test_parts_have_exact_sizes_and_cover_all(rules, sizes):
  parts = [select(p, 1797, LABELS, **rules) if n else np.zeros(0, int) for p, n in zip(PARTS, sizes, strict=True)]
  assert [len(p) for p in parts] in ([*sizes], [sizes[0] + 1, sizes[1], sizes[2] - 1])
  np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(1797))
  assert all((np.diff(p) > 0).all() for p in parts)
  np.testing.assert_array_equal(select('all', 1797, LABELS, **rules), np.arange(1797))


def test_stratified_as_scikit_learn_does():
  train, test = model_selection.train_test_split(np.arange(1797), test_size=360, stratify=LABELS, random_state=3)
  np.testing.assert_array_equal(select('test', 1797, LABELS, test=360, seed=3), np.sort(test))
  np.testing.assert_array_equal(select('train', 1797, LABELS, test=360, seed=3), np.sort(train))
  shares = np.bincount(LABELS[test]) / 360 - np.bincount(LABELS) / 1797
  assert np.abs(shares).max() < 1 / 360


def test_a_part_depends_on_the_seed_alone():
  a, b = select('test', 1797, LABELS, seed=0), select('test', 1797, LABELS, seed=1)
  np.testing.assert_array_equal(a, select('test', 1797, LABELS, seed=0))
  assert not np.array_equal(a, b)
  # The test part stays as it is when a validation part is cut.
  np.testing.assert_array_equal(a, select('test', 1797, LABELS, seed=0, validation=0.3))


@pytest.mark.parametrize('labels', [LABELS, None])
@pytest.mark.parametrize('folds', [2, 5, 7])
def test_folds_test_each_example_once(labels, folds):
  tests = []
  for fold in range(folds):
    test = select('test', 1797, labels, folds=folds, fold=fold)
    train = select('train', 1797, labels, folds=folds, fold=fold)
    assert not np.intersect1d(train, test).size and len(train) + len(test) == 1797
    tests.append(test)
    if labels is not None:
      assert np.ptp(np.bincount(labels[test]) - np.bincount(labels) / folds) < 2
  np.testing.assert_array_equal(np.sort(np.concatenate(tests)), np.arange(1797))


@pytest.mark.parametrize(
  ('split', 'rules', 'says'),
  [
    ('trian', {}, "did you mean 'train'"),
    ('validation', {}, "'validation' part is empty; set validation=0.1"),
    ('test', dict(test=0), "'test' part is empty"),
    ('train', dict(test=1.5), 'test: expected a fraction below 1'),
    ('train', dict(test=-1), 'test: expected'),
    ('train', dict(test=True), 'test: expected'),
    ('train', dict(test='many'), "got 'many'"),
    ('train', dict(test=10), 'leaves nothing to train on'),
    ('train', dict(test=5, validation=5), '5 examples of 5, which the other part leaves, leave nothing to train on'),
    ('train', dict(folds=1), 'folds: expected a number from 2'),
    ('train', dict(folds=3, fold=3), 'fold: expected a number from 0 to 2'),
    ('train', dict(stratify='yes'), 'stratify: expected True or False'),
  ],
)
def test_mistakes_are_one_line(split, rules, says):
  with pytest.raises(ConfigError) as e:
    select(split, 10, **rules)
  assert says in str(e.value) and '\n' not in str(e.value)


def test_a_class_too_small_to_stratify():
  labels, names = np.array([0] * 9 + [1]), ('cat', 'dog')
  for rules, says in (
    (dict(test=3), 'test: 3 of 10 examples cannot have the shares'),
    (dict(folds=3), 'folds: 3 folds'),
  ):
    with pytest.raises(ConfigError, match=rf"{says}.* of class 'dog' there is a single example; set stratify=False"):
      select('test', 10, labels, names=names, **rules)
    assert len(select('test', 10, labels, stratify=False, **rules)) >= 3
  with pytest.raises(ConfigError, match=r'of class 1 there is a single example'):
    select('test', 10, labels, test=3)
  with pytest.raises(ConfigError, match=r'a part of 2 examples cannot have each of 3 classes'):
    select('test', 12, np.arange(12) % 3, test=2)


def test_given_parts_are_kept_and_validation_is_carved_out_of_train():
  given = {'train': np.arange(100), 'test': np.arange(100, 130)}
  chosen, train = choose('test', 130, None, given, validation=0.1)
  np.testing.assert_array_equal(chosen, np.arange(100, 130))
  validation, same = choose('validation', 130, None, given, validation=0.1)
  assert len(train) == 90 and len(validation) == 10
  np.testing.assert_array_equal(train, same)
  np.testing.assert_array_equal(np.union1d(train, validation), np.arange(100))
  np.testing.assert_array_equal(choose('all', 130, None, given)[0], np.arange(130))
  for split, rules, says in (
    ('validation', {}, "no 'validation' part"),
    ('tset', {}, "did you mean 'test'"),
    ('train', dict(folds=3), 'in parts already'),
  ):
    with pytest.raises(ConfigError, match=says):
      choose(split, 130, None, given, **rules)


def test_parts_in_time_stand_one_behind_the_other_with_gaps():
  times = np.random.default_rng(0).permutation(100)
  cut = {part: select(part, 100, LABELS[:100], times=times, test=20, validation=0.1, gap=5) for part in PARTS}
  assert [sorted(times[cut[part]]) for part in PARTS] == [[*range(60)], [*range(65, 75)], [*range(80, 100)]]
  assert all((np.diff(index) > 0).all() for index in cut.values())
  assert len(select('all', 100, times=times, test=20, gap=5)) == 100


def test_examples_of_one_time_stay_together():
  times = np.repeat(np.arange(10), 10)
  assert len(select('test', 100, times=times, test=11)) == 20
  assert times[select('train', 100, times=times, test=11, validation=1)].max() == 6


def test_the_validation_part_of_a_given_training_part_is_its_end():
  given, times = {'train': np.arange(40), 'test': np.arange(40, 50)}, np.arange(50)[::-1]
  validation, train = choose('validation', 50, None, given, validation=0.1, times=times, gap=1)
  assert validation.tolist() == [0, 1, 2, 3] and train.tolist() == [*range(5, 40)]


@pytest.mark.parametrize(
  ('rules', 'says'),
  [
    (dict(gap=3), "gap: is between parts that are cut by time; name the column of it, such as time='date'"),
    (dict(times=np.arange(10), folds=3), 'folds: would train on examples from after'),
    (dict(times=np.arange(10), test=5, gap=5), 'test: the examples from 5 on, and a gap of 5, leave nothing'),
    (dict(times=np.zeros(10)), 'test: the examples from 0.0 on, and a gap of 0, leave nothing'),
  ],
)
def test_mistakes_with_time_are_one_line(rules, says):
  with pytest.raises(ConfigError, match=says):
    select('train', 10, **rules)
