"""The findings of a classifier, against scikit-learn."""

import numpy as np
import pytest
import sklearn.metrics

from dl.contract.info import Info
from dl.evaluators.mistakes import Mistakes
from dl.models.mlp import MLP
from dl.tasks.classify import Classify


def test_mistakes_are_those_of_sklearn():
  names = ('cat', 'dog', 'cow')
  task = Classify(model=MLP((), 3), info=Info(num_classes=3, class_names=names))
  label, predicted = np.random.default_rng(0).integers(0, 3, (2, 50))
  loss = np.random.default_rng(1).random(50)
  examined = {'label': label, 'predicted': predicted, 'loss': loss, 'probability': loss, 'true_probability': loss}
  asked = []
  inputs = lambda index: (asked.append(index), {'image': np.zeros((len(index), 4, 4, 1), np.uint8)})[1]
  shown = Mistakes().findings(task, examined, inputs)
  report = sklearn.metrics.classification_report(label, predicted, output_dict=True)
  for i, row in enumerate(shown['classes']):
    theirs = report[str(i)]
    assert (row['class'], row['examples']) == (names[i], theirs['support'])
    for mine, name in (('accuracy', 'recall'), ('precision', 'precision'), ('f1', 'f1-score')):
      assert row[mine] == pytest.approx(theirs[name], abs=1e-4)
  wrong = np.flatnonzero(label != predicted)
  worst = wrong[np.argsort(-loss[wrong])][:25]
  assert [row['index'] for row in shown['mistakes']] == worst.tolist() == asked[0].tolist()
  assert shown['mistakes'][0]['true'] == names[label[worst[0]]]
  assert shown['confusion'].ndim == shown['mistakes_picture'].ndim == 3
  right = examined | {'predicted': label}
  assert Mistakes().findings(task, right, inputs).keys() == {'confusion', 'classes'}
