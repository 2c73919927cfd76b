"""Segmentation: exact metrics, the Dice loss, void pixels, auxiliary heads, learning."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import sklearn.metrics
from supervised_fit import evaluate, fit, init

from dl import losses
from dl.contract import metrics
from dl.contract.info import Info, to_float
from dl.contract.kinds import KINDS
from dl.contract.metrics import Dice, IoU, MeanIoU
from dl.errors import ConfigError
from dl.evaluators.masks import Masks
from dl.models.perceptron import Perceptron
from dl.models.unet import UNet
from dl.show import pictures
from dl.tasks.segment import Segment

KEY = jax.random.key(0)
VOID = 255


class Pixel(nn.Module):
  """A linear classifier of each pixel, with an auxiliary head if asked for."""

  num_classes: int
  aux: bool = False

  @nn.compact
  def __call__(self, x, train=False):
    out, aux = (nn.Dense(self.num_classes, name=name)(x) for name in ('out', 'aux'))
    return {'out': out, 'aux': aux} if train and self.aux else out


def discs(rng, n, size=32):
  """Bright discs on noise, as bytes, and where they are."""
  y, x = np.mgrid[:size, :size]
  centre, radius = rng.uniform(6, size - 6, (n, 2, 1, 1)), rng.uniform(6, 9, (n, 1, 1))
  inside = (y - centre[:, 0]) ** 2 + (x - centre[:, 1]) ** 2 < radius**2
  image = 0.3 + 0.4 * inside + rng.normal(0, 0.15, inside.shape)
  return {
    'image': (image.clip(0, 1) * 255).astype(np.uint8)[..., None],
    'label_map': inside.astype(np.int32),
    'mask': np.ones(n, np.float32),
  }


def random_batch(rng, b=3, size=(6, 7), classes=3, void=0.2):
  labels = rng.integers(0, classes, (b, *size)).astype(np.int32)
  labels[rng.random(labels.shape) < void] = VOID
  image = rng.random((b, *size, 2)).astype(np.float32)
  return {'image': image, 'label_map': labels, 'mask': np.ones(b, np.float32)}


@pytest.mark.thorough
def test_learns_discs_which_noise_hides_from_single_pixels():
  rng = np.random.default_rng(0)
  task = Segment(model=UNet(2, (8, 16)), info=Info(num_classes=2))
  state, _ = fit(task, [discs(rng, 16) for _ in range(60)], optax.adam(5e-3))
  test = [discs(rng, 16) for _ in range(2)]
  found = evaluate(task, state, test)
  assert found['iou'][1] > 0.9 and found['mean_iou'] > 0.93 and found['dice'] > 0.96, found
  predicted = jax.jit(task.predict)(state, test[0]['image'], KEY)
  assert predicted['label_map'].shape == (16, 32, 32) and predicted['label_map'].dtype == jnp.int32
  assert (predicted['label_map'] == test[0]['label_map']).mean() > 0.97
  np.testing.assert_allclose(predicted['probability'].sum(-1), 1, rtol=1e-5)
  # What a report shows.
  examine = jax.jit(functools.partial(Masks().examine, task))
  examined = jax.device_get(examine(state, to_float(test[0], task.info), KEY))
  shown = Masks().findings(task, examined, lambda index: {k: v[index] for k, v in test[0].items()})
  height, width, _ = shown['masks'].shape  # below a band of titles, a row an example and a column a map
  assert (height - 0.06 * width) / width == pytest.approx((4 * 36 - 4) / (3 * 36 - 4), abs=1 / width)
  assert [row['class'] for row in shown['classes']] == ['0', '1']
  assert shown['classes'][1]['iou'] == pytest.approx(
    sklearn.metrics.jaccard_score(test[0]['label_map'].ravel(), predicted['label_map'].ravel()), abs=1e-4
  )


def test_metrics_are_sklearns_and_do_not_depend_on_batches():
  rng = np.random.default_rng(1)
  task = Segment(model=Pixel(4), info=Info(num_classes=4), void_label=VOID)
  rows = random_batch(rng, 10, classes=3)  # class 3 is predicted alone
  state = init(task, rows, optax.sgd(0.1))
  state = state.replace(params=jax.tree.map(lambda p: jnp.asarray(5 * rng.normal(size=p.shape), p.dtype), state.params))
  whole = evaluate(task, state, [rows])
  cut = []
  for i in range(0, 10, 4):
    part = {k: v[i : i + 4] for k, v in rows.items()}
    fill = 4 - len(part['mask'])
    spoiled = {'image': np.nan, 'label_map': 99999, 'mask': 0}
    cut.append({k: np.concatenate([v, np.full((fill, *v.shape[1:]), spoiled[k], v.dtype)]) for k, v in part.items()})
  parts = evaluate(task, state, cut)
  for name, value in whole.items():
    np.testing.assert_allclose(parts[name], value, rtol=1e-6, err_msg=name)
  predicted = np.asarray(task.predict(state, rows['image'], KEY)['label_map'])
  real = rows['label_map'] != VOID
  truth, guess = rows['label_map'][real], predicted[real]
  assert 3 in guess and 3 not in truth
  iou = sklearn.metrics.jaccard_score(truth, guess, average=None)
  np.testing.assert_allclose(whole['iou'], iou, rtol=1e-6)
  assert whole['mean_iou'] == pytest.approx(iou.mean(), rel=1e-6)
  assert whole['dice'] == pytest.approx(sklearn.metrics.f1_score(truth, guess, average='macro'), rel=1e-6)
  assert whole['accuracy'] == pytest.approx((truth == guess).mean(), rel=1e-6)


def test_overlap_leaves_out_classes_that_are_nowhere_and_counts_beyond_float32():
  label, predicted = jnp.asarray([[0, 0, 1, 1]]), jnp.asarray([[0, 1, 1, 1]])
  counts = IoU.of_maps(predicted, label, 4, jnp.ones((1, 4))).counts
  numbers = [kind(counts).compute() for kind in (IoU, MeanIoU, Dice)]
  for kind, number in zip((IoU, MeanIoU, Dice), numbers, strict=True):
    assert kind.is_number == isinstance(number, float)  # which config.keep and config.expect may name
  np.testing.assert_allclose(numbers[0], [1 / 2, 2 / 3, np.nan, np.nan])
  assert numbers[1:] == pytest.approx([(1 / 2 + 2 / 3) / 2, (2 / 3 + 4 / 5) / 2])
  assert np.isnan(MeanIoU(jnp.zeros((2, 2))).compute())
  many = 2**24 + 1  # which float32 does not have
  assert int(jax.jit(lambda x: IoU.of_maps(x, x, 2, x).counts)(jnp.ones(many, jnp.int32))[1, 1]) == many


def test_dice_loss_and_its_gradient_equal_torch():
  torch = pytest.importorskip('torch')
  rng = np.random.default_rng(2)
  logits = rng.normal(size=(3, 5, 6, 4)).astype(np.float32)
  labels = rng.integers(0, 3, (3, 5, 6))  # class 3 is nowhere
  weight = (rng.random(labels.shape) < 0.7).astype(np.float32)
  weight[2] = 0  # an example without a pixel
  value, gradient = jax.jit(jax.value_and_grad(lambda x: losses.dice(x, labels, weight).sum()))(logits)

  x = torch.tensor(logits, requires_grad=True)
  total = 0
  for i in range(2):
    real = torch.tensor(weight[i] > 0)
    p = x[i].softmax(-1)[real]
    g = torch.nn.functional.one_hot(torch.tensor(labels[i])[real], 4)
    score = 2 * (p * g).sum(0) / ((p * p).sum(0) + (g * g).sum(0))
    total = total + 1 - score[g.sum(0) > 0].mean()
  total.backward()
  assert float(value) == pytest.approx(total.item(), rel=1e-5)
  np.testing.assert_allclose(gradient, x.grad, atol=1e-6)
  assert not np.asarray(gradient)[2].any()
  np.testing.assert_allclose(losses.dice(20 * jax.nn.one_hot(labels, 4), labels), 0, atol=1e-6)


def test_loss_equals_torch_with_void_pixels_and_class_weights():
  torch = pytest.importorskip('torch')
  batch = random_batch(np.random.default_rng(3))
  batch['label_map'][2] = VOID  # an image of nothing else
  task = Segment(
    model=Pixel(3), info=Info(num_classes=3), void_label=VOID, dice_weight=0.0, class_weights=(1.0, 2.0, 0.5)
  )
  state = init(task, batch, optax.sgd(0.1))
  outputs, _, loss, _ = task.forward(state.params, state.extra, batch, KEY, True)
  values = torch.nn.functional.cross_entropy(
    torch.tensor(np.asarray(outputs)).permute(0, 3, 1, 2),
    torch.tensor(batch['label_map'].astype(np.int64)),
    torch.tensor([1.0, 2.0, 0.5]),
    ignore_index=VOID,
    reduction='none',
  ).numpy()
  real = batch['label_map'] != VOID
  expected = [v[m].mean() for v, m in zip(values[:2], real[:2], strict=True)]
  assert float(loss) == pytest.approx(np.mean(expected), rel=1e-5)
  # Neither what is void nor what the image of nothing else shows has a gradient.
  loss_of = lambda x: task.forward(state.params, state.extra, batch | {'image': x}, KEY, True)[2]
  gradient = jax.jit(jax.grad(loss_of))(batch['image'])
  assert np.array_equal(np.asarray(gradient).any(-1), real)


def test_auxiliary_heads_and_both_losses_add_up():
  batch = random_batch(np.random.default_rng(4), void=0.0)
  make = lambda **options: Segment(model=Pixel(3, aux=True), info=Info(num_classes=3), **options)
  state = init(make(), batch, optax.sgd(0.1))
  loss = lambda train, **options: float(make(**options).forward(state.params, state.extra, batch, KEY, train)[2])
  swapped = {'model': {'out': state.params['model']['aux'], 'aux': state.params['model']['out']}}
  aux = float(make().forward(swapped, state.extra, batch, KEY, False)[2])
  assert loss(True) == pytest.approx(loss(False) + 0.4 * aux, rel=1e-5)
  one, other = loss(False, dice_weight=0.0), loss(False, cross_entropy_weight=0.0)
  assert loss(False, cross_entropy_weight=0.5, dice_weight=3.0) == pytest.approx(0.5 * one + 3 * other, rel=1e-5)


def test_a_model_without_padding_is_judged_by_the_middle():
  rng = np.random.default_rng(5)
  batch = random_batch(rng, 2, (20, 24), classes=2, void=0.0)
  model = UNet(2, (4, 4), padding='valid')
  task = Segment(model=model, info=Info(num_classes=2))
  task.check(jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), batch))
  state = init(task, batch, optax.sgd(0.1))
  found = evaluate(task, state, [batch])
  logits = jax.jit(model.apply)({'params': state.params['model']}, batch['image'])
  assert found['accuracy'] == pytest.approx((logits.argmax(-1) == batch['label_map'][:, 8:-8, 8:-8]).mean())
  assert jax.eval_shape(task.predict, state, batch['image'], KEY)['label_map'].shape == (2, 4, 8)


def test_test_time_flip_averages_what_lies_at_the_same_place():
  batch = random_batch(np.random.default_rng(6), 2, (8, 8), classes=2)
  plain, flip = (Segment(model=UNet(2, (4, 4)), info=Info(), void_label=VOID, test_time_flip=f) for f in (False, True))
  state = init(plain, batch, optax.sgd(0.1))
  apply = lambda task, x: jax.jit(lambda x: task.apply(state.params, state.extra, x, KEY, False)[0])(x)
  both = (apply(plain, batch['image']) + apply(plain, batch['image'][:, :, ::-1])[:, :, ::-1]) / 2
  np.testing.assert_allclose(apply(flip, batch['image']), both, atol=1e-6)
  np.testing.assert_allclose(apply(flip, batch['image'][:, :, ::-1])[:, :, ::-1], both, atol=1e-5)


def test_mistakes_are_one_line():
  batch = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), random_batch(np.random.default_rng(7)))

  def check(model=None, batch=batch, classes=3, **options):
    Segment(model=model or Pixel(3), info=Info(num_classes=classes), **options).check(batch)

  check()
  left = {'left' if k == 'image' else k: v for k, v in batch.items()}
  Segment(model=Pixel(3), info=Info(kinds=(('left', KINDS['image']),))).check(left)
  for says, arguments in (
    ('needs image and label_map in a batch, got image', dict(batch={'image': batch['image']})),
    ('num_classes is 3, but the data has 4 classes', dict(classes=4)),
    ('void_label: 2 is one of the 3 classes', dict(void_label=2)),
    ('both 0', dict(dice_weight=0.0, cross_entropy_weight=0.0)),
    ('config.task.dice_weight: must be at least 0', dict(dice_weight=-1.0)),
    ('class_weights: 2 weights, but the data has 3', dict(class_weights=(1.0, 2.0))),
    (r'Segment needs logits for every pixel of \(6, 7\), Perceptron gives \(3,\)', dict(model=Perceptron(3))),
  ):
    with pytest.raises(ConfigError, match=says):
      check(**arguments)


def test_overlay_colours_classes_and_leaves_the_rest():
  image = np.full((2, 3, 1), 0.5)
  shown = pictures.overlay(image, np.asarray([[0, 1, 2], [-1, 1, 3]]))
  assert shown.shape == (2, 3, 3) and shown.dtype == np.uint8
  assert (shown[0, 0] == 128).all() and (shown[1, 0] == 128).all()
  assert np.array_equal(shown[0, 1], shown[1, 1])
  colours = {tuple(shown[at]) for at in ((0, 0), (0, 1), (0, 2), (1, 2))}
  assert len(colours) == 4


def test_balanced_weights_are_those_of_pixels():
  info = Info(num_classes=2, class_counts=(300, 100))
  batch = random_batch(np.random.default_rng(8), classes=2)
  task = Segment(model=Pixel(2), info=info, class_weights='balanced', void_label=VOID)
  same = Segment(model=Pixel(2), info=info, class_weights=(2 / 3, 2.0), void_label=VOID)
  state = init(task, batch, optax.sgd(0.1))
  of = lambda t: metrics.compute(jax.device_get(t.evaluate(state, batch, KEY)))
  assert of(task)['loss'] == pytest.approx(of(same)['loss'])
