import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dl.nn.stochastic_depth import StochasticDepth, linear_rates


def test_whole_rows_are_dropped_and_the_mean_stays():
  x = jax.random.normal(jax.random.key(0), (4000, 3, 2, 5)) + 1.0
  y = StochasticDepth(0.3).apply({}, x, True, rngs={'dropout': jax.random.key(1)})
  kept = np.asarray(jnp.any(y != 0, axis=(1, 2, 3)))
  np.testing.assert_allclose(y[kept], x[kept] / 0.7, rtol=1e-5)
  assert not np.any(y[~kept]) and abs(kept.mean() - 0.7) < 0.03


@pytest.mark.parametrize('rate, train', [(0.3, False), (0.0, True)])
def test_nothing_happens_in_evaluation_or_at_rate_zero(rate, train):
  x = jnp.ones((8, 2))
  assert jnp.array_equal(StochasticDepth(rate).apply({}, x, train), x)


def test_rates_grow_linearly():
  assert linear_rates(0.2, 3) == [0.0, 0.1, 0.2]
  assert linear_rates(0.2, 1) == [0.0]
