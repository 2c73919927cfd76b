"""The table of a model, FLOPs from a jaxpr, and the pictures before training."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from small import small

from dl.data.sources.sklearn import Digits
from dl.training import flops, inspection, steps
from dl.training.assemble import assemble


def total(function, *shapes):
  return sum(flops.count(function, *(jax.ShapeDtypeStruct(s, jnp.float32) for s in shapes)).values())


def test_flops_of_products_convolutions_and_loops():
  assert total(jnp.matmul, (3, 5), (5, 7)) == 2 * 3 * 5 * 7
  assert total(lambda a, b: jnp.einsum('bij,bjk->bik', a, b), (4, 3, 5), (4, 5, 7)) == 4 * 2 * 3 * 5 * 7
  assert total(lambda x: x + jnp.sin(x), (9, 9)) == 0
  conv = lambda groups, stride: (
    lambda x, k: jax.lax.conv_general_dilated(
      x, k, (stride, stride), 'VALID', dimension_numbers=('NHWC', 'HWIO', 'NHWC'), feature_group_count=groups
    )
  )
  assert total(conv(1, 1), (2, 8, 8, 4), (3, 3, 4, 6)) == 2 * 2 * 6 * 6 * 6 * 9 * 4
  assert total(conv(4, 1), (2, 8, 8, 4), (3, 3, 1, 8)) == 2 * 2 * 6 * 6 * 8 * 9
  assert total(conv(1, 2), (2, 9, 9, 4), (3, 3, 4, 6)) == 2 * 2 * 4 * 4 * 6 * 9 * 4
  scanned = lambda x, w: jax.lax.scan(lambda c, _: (c @ w, None), x, None, length=10)[0]
  assert total(scanned, (3, 5), (5, 5)) == 10 * 2 * 3 * 5 * 5
  assert total(jax.checkpoint(lambda a, b: jax.jit(jnp.matmul)(a, b)), (3, 5), (5, 7)) == 2 * 3 * 5 * 7
  either = lambda x, w: jax.lax.cond(x.sum() > 0, lambda: x @ w @ w, lambda: x @ w)
  assert total(either, (3, 5), (5, 5)) == 2 * 2 * 3 * 5 * 5


def test_rows_of_lenet():
  rows = inspection.rows(
    assemble(small('digits', "model={'name': 'lenet.LeNet5', 'num_classes': 10, 'fit': 'resize'}"))
  )
  found = {'/'.join(r.path): (r.shape, r.parameters, r.flops) for r in rows}
  assert found['LeNet5/conv_0'] == ('28x28x6', 156, 2 * 28 * 28 * 6 * 25)
  assert found['LeNet5/conv_1'] == ('10x10x16', 2416, 2 * 10 * 10 * 16 * 25 * 6)
  assert found['LeNet5/dense_0'] == ('120', 48_120, 2 * 400 * 120)
  shape, parameters, work = found['LeNet5']
  parts = sum(f for name, (_, _, f) in found.items() if name != 'LeNet5')
  assert (shape, parameters) == ('10', 61_706) and 0 <= work - parts < 0.05 * parts  # and the resizing


@pytest.mark.parametrize('kind', ['gan', 'gpt', 'ppo'])
def test_the_parameters_of_every_kind_add_up(kind):
  parts = assemble(small(kind))
  rows = inspection.rows(parts)
  whole = sum(x.size for x in jax.tree.leaves(parts.state.params))
  assert sum(r.parameters for r in rows if len(r.path) == 1) == whole
  assert f'{whole:,}' in inspection.table(rows, 1)
  assert all(r.flops > 0 for r in rows if len(r.path) == 1)
  if kind == 'ppo':  # whose networks begin with a batch of environments
    (row,) = (r for r in rows if len(r.path) == 1)
    assert row.flops <= 2 * whole


def test_the_batch_is_the_one_that_training_sees(monkeypatch):
  parts = assemble(small('digits'))
  seen = {}

  def step(state, batch, key, optim):
    seen['image'] = batch['image']
    return state, {}

  monkeypatch.setattr(type(parts.task), 'step', lambda self, *a: step(*a))
  state = parts.init()
  train = steps.make_train_step(parts)
  train(state, steps.Sums({}, jnp.int32(-1)), parts.pipeline[0])
  np.testing.assert_allclose(inspection.augmented_batch(parts, 0)['image'], seen['image'], atol=1e-6)
  assert not np.allclose(seen['image'], parts.pipeline[0]['image'])


def test_pictures(tmp_path):
  parts = assemble(small('digits'))
  paths = inspection.write_pictures(parts, tmp_path / 'looks', 9)
  assert [p.name for p in paths] == ['learning_rate.png', 'batch.png']
  with Image.open(paths[1]) as picture:
    assert picture.size[0] > 20
  ((steps_, rates),) = inspection.learning_rates(parts).values()
  assert steps_[0] == 1 and steps_[-1] == 60 and max(rates) == pytest.approx(0.01, rel=0.05) and rates[-1] < 1e-3


class Twins(Digits):
  """Images in columns of other names."""

  kinds = {'left': 'image', 'right': 'image'}

  def __init__(self):
    super().__init__()
    image = self.columns.pop('image')
    self.columns |= {'left': image, 'right': 1 - image}


def test_images_are_shown_by_their_kind(tmp_path):
  parts = assemble(small('perceptron', f"data={{'name': '{__name__}.Twins', 'batch_size': 9}}"))
  paths = inspection.write_pictures(parts, tmp_path, 4)
  assert [p.name for p in paths] == ['learning_rate.png', 'batch_left.png', 'batch_right.png']
