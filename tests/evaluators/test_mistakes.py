"""The findings of a classifier, against scikit-learn; and logits which are NaN, of pixels too."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.metrics

from dl.contract import metrics
from dl.contract.info import Info
from dl.contract.kinds import IMAGE
from dl.contract.state import State
from dl.evaluators.masks import Masks
from dl.evaluators.mistakes import Mistakes
from dl.models.mlp import MLP
from dl.tasks.classify import Classify
from dl.tasks.segment import Segment

KEY = jax.random.key(0)


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


class Same(nn.Module):
  """Its inputs are the logits."""

  def __call__(self, x, train=False):
    return x


def opinions(task, evaluator, batch):
  """(the numbers of the task itself, those of the evaluator, what it examines)."""
  state = State(step=jnp.int32(0), params={'model': {}}, opt={}, extra={'model': {}})
  sums = task.evaluate(state, batch, KEY), evaluator.measure(task, state, batch, KEY)
  return *map(metrics.compute, jax.device_get(sums)), jax.device_get(evaluator.examine(task, state, batch, KEY))


def test_a_classifier_whose_logits_are_nan_is_wrong():
  """The first example is right; of the others a logit is NaN, or the label is no class."""
  logits = jnp.asarray([[3.0, 1.0, 0.0], [jnp.nan] * 3, [0.0, jnp.nan, 9.0], [1.0, 0.0, 0.0]])
  batch = {'features': logits, 'label': jnp.asarray([0, 0, 2, -1]), 'mask': jnp.ones(4)}
  task = Classify(model=Same(), info=Info(num_classes=3, mean=(0.0,) * 3, std=(1.0,) * 3))
  its, measured, examined = opinions(task, Mistakes(), batch)
  for numbers in (its, measured):
    assert numbers['accuracy'] == 0.25
    np.testing.assert_array_equal(numbers['class_accuracy'], [0.5, np.nan, 0.0])
  assert examined['label'].tolist() == [0, 0, 2, -1] and examined['predicted'].tolist() == [0, -1, -1, 0]
  found = Mistakes().findings(task, examined, lambda index: {})
  assert [(row['examples'], row['accuracy'], row['most taken for']) for row in found['classes']] == [
    (2, 0.5, 'none'), (0, '', ''), (1, 0.0, 'none'),
  ]  # fmt: skip
  assert [(row['true'], row['predicted']) for row in found['mistakes']] == [('0', 'none'), ('2', 'none'), ('none', '0')]


def test_pixels_whose_logits_are_nan_are_wrong():
  logits = jnp.asarray([[[[3.0, 1.0], [jnp.nan, jnp.nan]], [[jnp.nan, 2.0], [0.0, 1.0]]]])
  batch = {'image': logits, 'label_map': jnp.asarray([[[0, 0], [1, 1]]]), 'mask': jnp.ones(1)}
  task = Segment(model=Same(), info=Info(num_classes=2, mean=(0.0,) * 2, std=(1.0,) * 2))
  its, measured, examined = opinions(task, Masks(), batch)
  for numbers in (its, measured):
    assert (numbers['mean_iou'], numbers['iou']) == (0.5, [0.5, 0.5])
  assert its['accuracy'] == 0.5 and its['dice'] == pytest.approx(2 / 3)
  assert examined['middle'].tolist() == [[[0, -1], [-1, 1]]]
  for row in Masks().findings(task, examined, lambda index: jax.device_get(batch))['classes']:
    assert (row['pixels'], row['accuracy'], row['precision']) == (2, 0.5, 1.0)


def test_images_are_shown_whatever_their_column_is_called():
  task = Classify(model=MLP((), 2), info=Info(num_classes=2, kinds=(('left', IMAGE),)))
  half = np.full(2, 0.5)
  examined = {'label': np.arange(2), 'predicted': 1 - np.arange(2), 'loss': half, 'probability': half}
  examined['true_probability'] = half
  inputs = lambda index: {'left': np.zeros((len(index), 4, 4, 1), np.float32)}
  assert Mistakes().findings(task, examined, inputs)['mistakes_picture'].ndim == 3
  truth = np.zeros((2, 4, 4), np.int32)
  examined = {'counts': np.asarray([[[16, 0], [0, 0]]] * 2), 'middle': truth}
  task = Segment(model=Same(), info=task.info)
  drawn = Masks().findings(task, examined, lambda index: inputs(index) | {'label_map': truth[index]})['masks']
  assert drawn.ndim == 3 and drawn[:30].min() < 50 and (drawn[0] == 255).all()  # titles above the columns
