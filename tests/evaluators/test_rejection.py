"""What is of no class is told from the rest by how sure a classifier is: against scikit-learn, and by counting."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.metrics

from dl.contract import metrics
from dl.contract.info import Info
from dl.contract.state import State
from dl.errors import ConfigError
from dl.evaluators.rejection import BINS, Rejection
from dl.models.mlp import MLP
from dl.tasks.classify import Classify
from dl.tasks.regress import Regress

STATE = State(step=jnp.int32(0), params={'model': {}}, opt={}, extra={'model': {}})
NAMES = ('pay', 'none', 'call', 'stop')


class Same(nn.Module):
  """Its inputs are the logits."""

  def __call__(self, x, train=False):
    return x


TASK = Classify(model=Same(), info=Info(num_classes=4, class_names=NAMES))


def measured(rejection, logits, label, mask=None):
  mask = np.ones(len(label), np.float32) if mask is None else mask
  batch = {'features': jnp.asarray(logits), 'label': jnp.asarray(label), 'mask': jnp.asarray(mask)}
  return jax.jit(lambda b: rejection.measure(TASK, STATE, b, jax.random.key(0)))(batch)


def examples(count=400):
  rng = np.random.default_rng(0)
  label = rng.integers(0, 4, count)
  logits = rng.normal(0, 1, (count, 4)) + 3 * np.eye(4)[label] * (label != 1)[:, None]
  return logits.astype(np.float32), label


def test_numbers_are_those_of_counting_and_of_sklearn():
  logits, label = examples()
  shares = np.asarray(jax.nn.softmax(logits))
  others = shares.copy()
  others[:, 1] = -1
  chosen, sure = others.argmax(1), np.where(shares.argmax(1) == 1, 0, others.max(1))
  inside, none = label != 1, label == 1

  def of(threshold):
    rejected = sure < threshold
    return ((chosen == label) & ~rejected)[inside].mean(), rejected[none].mean()

  parts = [measured(Rejection(outside='none'), logits[i::2], label[i::2]) for i in (0, 1)]
  found = metrics.compute(metrics.total(jax.device_get(parts)))
  assert (found['accuracy'], found['recall']) == pytest.approx(of(1e-9), abs=1e-6)
  # The areas differ by what a bin holds together.
  assert found['auroc'] == pytest.approx(sklearn.metrics.roc_auc_score(inside, sure), abs=2e-3)
  largest = max(t for t in np.arange(BINS) / BINS if of(t)[0] >= 0.99 * of(1e-9)[0])
  assert found['largest_threshold'] == pytest.approx(largest) and 0.2 < largest < 0.95
  there = metrics.compute(jax.device_get(measured(Rejection(outside=1, threshold=largest), logits, label)))
  assert (there['accuracy'], there['recall']) == pytest.approx(of(largest), abs=1e-6)
  assert there['recall'] > found['recall']
  rules = Rejection(outside=1, accepted=0.8)
  less = metrics.compute(jax.device_get(measured(rules, logits, label)))['largest_threshold']
  assert (
    less == pytest.approx(max(t for t in np.arange(BINS) / BINS if of(t)[0] >= 0.8 * of(1e-9)[0])) and less > largest
  )


def test_padded_rows_count_for_nothing_and_one_kind_alone_has_no_area():
  logits, label = examples(8)
  mask = np.array([1, 1, 1, 1, 1, 0, 0, 0], np.float32)
  of = lambda *rows: metrics.compute(jax.device_get(measured(Rejection(outside='none', threshold=0.5), *rows)))
  assert of(logits, label, mask) == pytest.approx(of(logits[:5], label[:5]), nan_ok=True)
  alone = of(logits[label != 1], label[label != 1])
  assert np.isnan([alone[name] for name in ('recall', 'auroc')]).all() and alone['accuracy'] > 0


def test_mistakes_are_one_line():
  logits, label = examples(4)
  with pytest.raises(ConfigError, match="outside: there is no class 'nome'; did you mean 'none'"):
    measured(Rejection(outside='nome'), logits, label)
  with pytest.raises(ConfigError, match='outside: there is no class 4, they go up to 3'):
    measured(Rejection(outside=4), logits, label)
  with pytest.raises(ConfigError, match='Rejection is of classifiers, which Regress on features, mask, target is not'):
    batch = {name: jnp.zeros((2, 3)) for name in ('features', 'mask', 'target')}
    Rejection(outside=0).measure(Regress(model=MLP((), 1)), STATE, batch, jax.random.key(0))
