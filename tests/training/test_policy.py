import pytest

from dl.config import Experiment
from dl.errors import ConfigError
from dl.training import policy

METRICS = {'test': ['loss', 'accuracy']}


def claiming(**claims):
  """An experiment which claims this."""
  return Experiment(task={}, optim={}, train_for=1, **claims)


def test_claims_that_fit_are_accepted():
  claims = {'expect': {'test/accuracy': (0.9, 0.01)}, 'baselines': {'test/accuracy': {'a forest': 0.8, 'chance': 0}}}
  policy.check_claims(claiming(**claims), METRICS)
  policy.check_claims(claiming(**claims), {})  # an experiment without evaluations is judged elsewhere


@pytest.mark.parametrize(
  ('claims', 'message'),
  [
    ({'expect': {'test/acuracy': (0.9, 0.1)}}, r"config.expect: no evaluation has 'test/acuracy'.*test/accuracy"),
    ({'expect': {'test/loss': 0.9}}, r"config.expect: 'test/loss' needs \(value, tolerance\), got 0.9"),
    ({'expect': {'test/loss': (0.9, -0.1)}}, r"config.expect: 'test/loss' needs"),
    ({'baselines': {'train/loss': {'chance': 2.3}}}, r"config.baselines: no evaluation has 'train/loss'"),
    ({'baselines': {'test/loss': 2.3}}, r"config.baselines: 'test/loss' needs a dict method -> value, got 2.3"),
    ({'baselines': {'test/loss': {'chance': '2.3'}}}, r"config.baselines: 'test/loss' needs a dict"),
  ],
)
def test_claims_that_do_not_fit_are_refused(claims, message):
  with pytest.raises(ConfigError, match=message):
    policy.check_claims(claiming(**claims), METRICS)
