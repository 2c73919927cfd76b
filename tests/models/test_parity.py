"""What every network keeps, by the table of networks (`references.py`): a network adds rows, no test."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import abstract
from references import COUNTS, TINY

from dl.config import build
from dl.nn.time import AlongTime

LARGE = 8e6
"""Parameters beyond which a network takes seconds to be traced."""
ROWS = pytest.mark.parametrize('tiny', TINY.values(), ids=TINY)


@pytest.mark.parametrize(
  ('spec', 'size', 'number'),
  [
    pytest.param(*row, id=', '.join(map(str, row[0].values())), marks=[pytest.mark.thorough] * (row[2] > LARGE))
    for row in COUNTS
  ],
)
def test_parameters_are_as_many_as_published(spec, size, number):
  model = build.build(spec, 'dl.models', 'config.model')
  for train in {False, spec.get('aux', False)}:  # auxiliary heads count, whether they are used or not
    shapes = abstract(model, (1, *size), train=train)
    assert sum(x.size for x in jax.tree.leaves(shapes['params'])) == number


@ROWS
def test_bfloat16_is_computed_in_and_float32_is_kept(tiny):
  model = tiny.model.copy(dtype=jnp.bfloat16)
  shapes = abstract(model, (1, *tiny.image))
  assert {x.dtype for x in jax.tree.leaves(shapes)} == {jnp.dtype('float32')}
  layers = lambda module, _: isinstance(module, nn.Dense | nn.Conv | AlongTime)
  logits, seen = jax.eval_shape(
    lambda v, x: model.apply(v, x, train=False, capture_intermediates=layers), shapes, jnp.ones((2, *tiny.image))
  )
  assert logits.dtype == jnp.float32 and logits.shape[0] == 2 and logits.shape[-1] == 5
  assert {x.dtype for x in jax.tree.leaves(seen)} == {jnp.dtype('bfloat16')}


@pytest.mark.parametrize(
  ('tiny', 'changes'),
  [
    # GoogLeNet's training compiles for longer than that of all others; its file trains its heads.
    pytest.param(tiny, c, id=f'{name}-{next(iter(c))}', marks=[pytest.mark.thorough] if name == 'GoogLeNet' else [])
    for name, tiny in TINY.items()
    for c in tiny.random
  ],
)
def test_what_is_random_is_so_in_training_alone(tiny, changes):
  model, x = tiny.model.copy(**changes), np.random.default_rng(0).standard_normal((4, *tiny.image), np.float32)
  shapes, rng = abstract(model, x.shape), np.random.default_rng(1)
  near = lambda path, s: np.abs(rng.normal(1.0 if path[-1].key in ('var', 'scale') else 0.0, 0.2, s.shape)).astype('f4')
  variables = jax.tree.map_with_path(near, shapes)
  options = dict(train=True, mutable=['batch_stats'])
  train = jax.jit(lambda variables, key: model.apply(variables, x, rngs={'dropout': key}, **options)[0])
  one, two = train(variables, jax.random.key(0)), train(variables, jax.random.key(1))
  assert np.isfinite(one).all() and not np.allclose(one, two, rtol=1e-4)
  judged = [str(jax.make_jaxpr(lambda v, m=m: m.apply(v, x, train=False))(variables)) for m in (model, tiny.model)]
  assert judged[0] == judged[1]  # needs no random numbers, and is what it would be without


@pytest.mark.parametrize('tiny', [pytest.param(tiny, id=name) for name, tiny in TINY.items() if tiny.images_alone])
def test_what_is_no_image_is_refused(tiny):
  with pytest.raises(ValueError, match=r'takes images \[height, width, channels\]'):
    abstract(tiny.model, (1, 64))
