"""Sums that stay right: beyond 2^31 pixels, far from zero, and for labels which are none of the classes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.metrics

from dl.contract import metrics
from dl.contract.metrics import R2, BySeed, Confusion, Dice, IoU, Mean, MeanIoU
from dl.errors import ConfigError
from dl.store import older


def added(parts):
  """The parts as training adds them up: on the device, from zeros on."""

  def body(total, part):
    return metrics.add(total, part), None

  stacked = jax.tree.map(lambda *x: jnp.stack(x), *parts)
  zeros = jax.tree.map(jnp.zeros_like, parts[0])
  return jax.device_get(jax.jit(lambda zeros, stacked: jax.lax.scan(body, zeros, stacked)[0])(zeros, stacked))


def test_overlap_is_exact_beyond_two_to_the_31_pixels():
  rng = np.random.default_rng(0)
  counts = rng.integers(2**29, 2**31 - 1, (12, 3, 3))
  parts = [
    {'mean_iou': MeanIoU(c, c * 0), 'dice': Dice(c, c * 0), 'iou': IoU(c, c * 0)}
    for c in jnp.asarray(counts, jnp.int32)
  ]
  exact = counts.sum(0)
  assert exact.min() > 2**31
  for found in (added(parts), metrics.total(jax.device_get(parts))):
    for metric in found.values():
      np.testing.assert_array_equal(metric.whole(), exact)
      assert metric.compute() == type(metric)(exact).compute()


@pytest.mark.parametrize('centre', [1e5, 1e6])
def test_r2_far_from_zero_is_sklearns(centre):
  rng = np.random.default_rng(1)
  target = (centre + rng.normal(0, 10, (40, 64))).astype(np.float32)
  target += np.linspace(-5, 5, 40, dtype=np.float32)[:, None]  # batches differ
  predicted = (target + rng.normal(0, 5, target.shape)).astype(np.float32)
  mask = (rng.random(target.shape) < 0.9).astype(np.float32)
  mask[7] = 0.0  # a batch of padding alone
  of = jax.jit(lambda p, t, m: {'r2': R2.of(p, jnp.where(m > 0, t, jnp.nan), m)})
  parts = [of(*rows) for rows in zip(predicted, target, mask, strict=True)]
  real = mask > 0
  expected = sklearn.metrics.r2_score(target[real].astype(np.float64), predicted[real].astype(np.float64))
  assert 0.7 < expected < 0.9
  assert metrics.compute(metrics.total(jax.device_get(parts)))['r2'] == pytest.approx(expected, abs=1e-4)
  assert metrics.compute(added(parts))['r2'] == pytest.approx(expected, abs=1e-3)


def test_merging_zeros_changes_nothing_and_seeds_are_merged_each():
  mask = jnp.ones(5)
  one = {'r2': R2.of(jnp.arange(5.0), jnp.arange(5.0) ** 2, mask), 'loss': Mean.of(jnp.arange(5.0), mask)}
  zeros = jax.tree.map(jnp.zeros_like, one)
  for both in (metrics.add(zeros, one), metrics.add(one, zeros)):
    jax.tree.map(np.testing.assert_array_equal, both, one)
  two = {'r2': R2.of(jnp.arange(5.0) * 2, jnp.arange(5.0) - 9, mask), 'loss': Mean.of(jnp.arange(5.0) * 3, mask)}
  seeds = [
    {k: BySeed(jax.tree.map(lambda *x: jnp.stack(x), a[k], b[k])) for k in one} for a, b in ((one, two), (two, one))
  ]
  merged = metrics.compute(metrics.total(jax.device_get(seeds)))
  single = metrics.compute(metrics.total(jax.device_get([one, two])))
  for name, value in single.items():
    assert merged[f'{name}_by_seed'] == pytest.approx([value, value], rel=1e-12)


def test_a_label_that_is_no_class_is_never_right():
  logits = jnp.asarray([[0.0, 1.0, 9.0], [9.0, 1.0, 0.0], [0.0, 9.0, 1.0], [0.0, 1.0, 9.0]])
  label = jnp.asarray([-1, 3, 1, 1])
  assert metrics.correct(logits, label).tolist() == [False, False, True, False]
  assert metrics.rank(logits, label).tolist() == [3, 3, 0, 1]
  counts = Confusion.of(logits.argmax(-1), label, 3, jnp.ones(4)).counts
  np.testing.assert_array_equal(counts, [[0, 0, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0]])
  pixels = IoU.of_maps(logits.argmax(-1)[None], label[None], 3, jnp.ones((1, 4))).counts
  np.testing.assert_array_equal(pixels, counts)


def test_a_logit_that_is_nan_is_never_right():
  logits = jnp.asarray([[jnp.nan] * 3, [jnp.nan, 2.0, 1.0], [3.0, 3.0, 1.0]])
  assert metrics.correct(logits, jnp.asarray([0, 1, 0])).tolist() == [False, False, True]
  assert metrics.rank(logits, jnp.asarray([0, 1, 1])).tolist() == [3, 1, 1]
  label, predicted = jnp.asarray([0, 1, 0]), metrics.predicted(logits)
  assert predicted.tolist() == [-1, -1, 0]
  by_class = Confusion.of(predicted, label, 3, jnp.ones(3))
  np.testing.assert_array_equal(by_class.compute(), [1 / 2, 0, np.nan])
  counts = IoU.of_maps(predicted[None], label[None], 3, jnp.ones((1, 3))).counts
  np.testing.assert_array_equal(counts, by_class.counts)
  np.testing.assert_array_equal(IoU(counts).compute(), [1 / 2, 0, np.nan])
  assert (MeanIoU(counts).compute(), Dice(counts).compute()) == pytest.approx((1 / 4, 1 / 3))


def test_sums_that_an_earlier_version_saved_go_on():
  target = np.asarray([3.0, 5.0, 9.0], np.float32)
  before = {
    'metrics': {
      'r2': {'residual': 2.0, 'target': target.sum(), 'target_square': (target**2).sum(), 'weight': 3.0},
      'iou': {'counts': jnp.asarray([[4, 1], [2, 2**31 - 1]], jnp.int32)},
      'loss': {'total': 6.0, 'weight': 3.0},
    }
  }
  today = {
    'r2': R2.of(jnp.zeros(3), jnp.zeros(3), jnp.zeros(3)),
    'iou': IoU.of_maps(jnp.zeros((1, 1), int), jnp.zeros((1, 1), int), 2, jnp.zeros((1, 1))),
    'loss': Mean.of(jnp.zeros(3)),
  }
  assert older.layout({'metrics': today}, {'metrics': today}) is None
  like, now = older.layout({'metrics': today}, before)
  assert older.paths(like) == older.paths(before)
  old = {'metrics': before['metrics'] | {'loss': Mean(6.0, 3.0)}}
  sums = now(old)['metrics']
  assert sums['r2'].compute() == pytest.approx(1 - 2 / ((target - target.mean()) ** 2).sum(), rel=1e-6)
  assert sums['loss'].compute() == 2.0
  once_more = metrics.add(sums, {**today, 'iou': sums['iou']})
  np.testing.assert_array_equal(jax.device_get(once_more['iou']).whole(), [[8, 2, 0], [4, 2**32 - 2, 0]])
  # Later ones had both parts of the counts, but no column for pixels of no class.
  square = jnp.asarray([[4, 1], [2, 7]], jnp.int32)
  like, now = older.layout({'iou': today['iou']}, {'iou': {'counts': square, 'full': square}})
  assert jax.tree.map(lambda x: x.shape, like) == {'iou': IoU((2, 2), (2, 2))}
  wider = now({'iou': IoU(square, square)})['iou']
  np.testing.assert_array_equal(wider.counts, [[4, 1, 0], [2, 7, 0]])
  np.testing.assert_array_equal(wider.full, wider.counts)


def test_a_metric_says_whether_less_or_more_of_it_is_better():
  values = jnp.ones(3)
  parts = {
    'loss': Mean.of(values, better='min'),
    'score': BySeed(Mean.of(values, better='max')),
    'spread': Mean.of(values),
    'perplexity': metrics.ExpMean.of(values),
    'r2': R2.of(values, values, values),
    'by_class': Confusion(jnp.ones((2, 2))),
  }
  expected = {'loss': 'min', 'score': 'max', 'spread': None, 'perplexity': 'min', 'r2': 'max'}
  assert metrics.better(parts) == expected
  assert metrics.better(jax.eval_shape(lambda: metrics.add(parts, parts))) == expected
  with pytest.raises(ConfigError, match="metric 'loss': better is 'min', 'max' or None, got 'lower'"):
    metrics.better({'loss': Mean.of(values, better='lower')})
