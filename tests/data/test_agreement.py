"""Evaluations whose classes, features or words are not those that the model learns from."""

import csv

import numpy as np
import pytest

from dl import config
from dl.errors import ConfigError
from dl.training.prepare import plan


class Some:
  """Classes of one's own, which nothing but the examples says."""

  vectorized = True

  def __init__(self, classes: int = 3):
    self.labels = np.arange(30) * classes // 30

  def __len__(self):
    return 30

  def __getitem__(self, index):
    return {'features': np.stack([self.labels[index]] * 2, -1).astype(np.float32), 'label': self.labels[index]}


def table(path, labels, header='a,b,y'):
  with path.open('w', newline='') as file:
    csv.writer(file).writerows([header.split(','), *[(i * i % 7, i % 5, label) for i, label in enumerate(labels)]])
  return str(path)


def planned(data, classes, task='classify.Classify', **evaluations):
  return plan(
    config.resolve(
      dict(
        task=dict(name=task),
        model=dict(name='mlp.MLP', hidden=(), num_outputs=classes),
        data=dict(batch_size=4) | data,
        optim=dict(sgd=dict(name='sgd', learning_rate=0.1)),
        train_for=1,
        eval=evaluations or dict(test=dict(split='test')),
      )
    )
  )


def test_a_class_that_training_lacks_is_an_error_unless_the_number_of_classes_is_stated(tmp_path, capfd):
  files = {s: table(tmp_path / f'{s}.csv', labels) for s, labels in (('train', 'aabb' * 3), ('test', 'abc'))}
  data = dict(name='tabular.Csv', path=files, target='y')
  says = (
    r"config.eval.test: 1 of 3 examples are of the class 'c', of which there is none to learn from; .* "
    r'config.data.num_classes=3'
  )
  with pytest.raises(ConfigError, match=says):
    planned(data, 3)
  assert planned(data | {'num_classes': 3}, 3).parts.task.info.class_counts == (6, 6, 0)
  said = capfd.readouterr().err
  assert said.count('\n') == 1 and said.startswith("warning: config.eval.test: 1 of 3 examples are of the class 'c'")
  with pytest.raises(ConfigError, match=r"num_classes: is 4, but the source has 3 classes: 'a', 'b', 'c'"):
    planned(data | {'num_classes': 4}, 4)


def test_of_a_source_which_does_not_say_its_classes_too():
  data = dict(name=f'{__name__}.Some', test=0.2)
  planned(data, 3)
  other = dict(name=f'{__name__}.Some', classes=5, batch_size=4)
  with pytest.raises(ConfigError, match=r'config.eval.other: 12 of 30 examples are of the classes 3, 4, of which'):
    planned(data, 5, other=other)
  planned(data | {'num_classes': 5}, 5, other=other)


def test_other_data_have_the_same_names(tmp_path):
  """Or else numbers would stand for other classes than those that the model has learned."""
  data = dict(name='tabular.Csv', path=table(tmp_path / 'a.csv', 'abc' * 10), target='y')
  other = dict(name='tabular.Csv', target='y', batch_size=4, split='all')
  classes = other | {'path': table(tmp_path / 'b.csv', 'ac' * 10)}
  with pytest.raises(ConfigError, match=r"other: its class_names are 'a', 'c' \(2\), those of the training data 'a',"):
    planned(data, 3, other=classes)
  features = other | {'path': table(tmp_path / 'c.csv', 'abc' * 10, 'b,a,y')}
  with pytest.raises(ConfigError, match=r"config.eval.other: its feature_names are 'b', 'a' \(2\), those of"):
    planned(data, 3, other=features)
