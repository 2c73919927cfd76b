import jax.numpy as jnp
import numpy as np
import pytest
from reference import close, timm

from dl.nn import position


@pytest.mark.parametrize('source, target, prefix', [((7, 7), (12, 12), 1), ((12, 12), (5, 5), 0), ((4, 6), (9, 3), 2)])
def test_resampling_is_that_of_timm(source, target, prefix):
  timm()
  torch = pytest.importorskip('torch')
  from timm.layers import resample_abs_pos_embed

  rng = np.random.default_rng(0)
  embedding = rng.standard_normal((1, prefix + source[0] * source[1], 6)).astype(np.float32)
  theirs = resample_abs_pos_embed(torch.tensor(embedding), target, source, prefix).numpy()
  mine = position.resample(jnp.asarray(embedding), source, target, prefix)
  close(np.asarray(mine), theirs, 1e-5)
  if source[0] == source[1]:
    close(np.asarray(position.fit(embedding, theirs.shape[1])), theirs, 1e-5)


def test_the_same_grid_changes_nothing_and_a_type_stays():
  embedding = np.random.default_rng(0).standard_normal((1, 17, 4)).astype(np.float16)
  assert position.fit(embedding, 17) is embedding
  assert position.resample(embedding, (4, 4), (4, 4), 1) is embedding
  assert position.fit(embedding, 5).dtype == jnp.float16


@pytest.mark.parametrize('tokens', [15, 16, 1])
def test_what_is_no_square_grid_is_refused(tokens):
  with pytest.raises(ValueError, match=f'of 17 tokens do not fit {tokens}'):
    position.fit(np.zeros((1, 17, 4)), tokens)
