import pytest

from dl.config import Experiment
from dl.errors import ConfigError
from dl.store import workdir as workdirs
from dl.training import policy

METRICS = {'test': {'loss': 'min', 'accuracy': 'max', 'novelty': None}}


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


@pytest.mark.parametrize(('name', 'better'), [('loss', 'min'), ('accuracy', 'max')])
def test_the_metric_says_what_is_better_unless_the_config_does(name, better):
  for cls, rest in ((policy.Keep, {'best': 1}), (policy.EarlyStop, {'patience': 3})):
    make = lambda cls=cls, rest=rest, **mode: policy.make(
      cls, {'metric': f'test/{name}', **rest, **mode}, 'config.keep', METRICS
    )
    assert make().mode == better
    assert make(mode='max').mode == 'max' and make(mode='min').mode == 'min'


def test_a_metric_which_does_not_say_what_is_better_needs_a_mode():
  spec = {'metric': 'test/novelty', 'patience': 3}
  with pytest.raises(ConfigError, match=r"^config.early_stop.mode: 'test/novelty' does not say whether less or more"):
    policy.make(policy.EarlyStop, spec, 'config.early_stop', METRICS)
  assert policy.make(policy.EarlyStop, spec | {'mode': 'max'}, 'config.early_stop', METRICS).mode == 'max'


def test_the_best_checkpoint_of_a_run_is_found_as_it_was_ranked():
  facts = {'better': {'test': {'loss': 'min', 'accuracy': 'max'}}}
  keeping = lambda **keep: Experiment(task={}, optim={}, train_for=1, keep={'best': 1, **keep})
  assert policy.mode_of_run(keeping(metric='test/accuracy'), facts) == 'max'
  assert policy.mode_of_run(keeping(metric='test/accuracy', mode='min'), facts) == 'min'
  assert policy.mode_of_run(keeping(metric='test/accuracy'), {}) == 'min'  # as code of before ranked it
  assert policy.mode_of_run(keeping(), facts) == 'min'


def test_a_run_writes_down_what_is_better_for_its_report(runs):
  said = {'loss': 'min', 'accuracy': 'max'}
  assert workdirs.read_run(runs('perceptron'))['better'] == {'train': said, 'test': said}
