"""A run which goes on for longer: its optimizer with it, recorded, and only where that is asked for."""

import jax
import numpy as np
import pytest
from small import interrupted, records, small

import dl
from dl.errors import ConfigError
from dl.store import workdir
from dl.training.loop import train

EVERY = ('log_every=5', 'eval_every=10', 'checkpoint_every=10')
CONSTANT = "optim={'adam': {'name': 'adam', 'learning_rate': 0.01}}"
COSINE = "optim={'adam': {'name': 'adam', 'learning_rate': {'name': 'cosine_decay_schedule', 'init_value': 0.01}}}"


def run(directory, steps, *overrides, extend=False, config=CONSTANT):
  return train(
    small('perceptron', *EVERY, config, f"train_for='{steps} steps'", *overrides), directory, show_progress=False,
    extend=extend,
  )  # fmt: skip


def test_an_extended_run_is_the_longer_one_where_nothing_depends_on_its_length(tmp_path, capsys):
  """The moments of Adam go on, which the weights alone, as `init_from` takes them, would not give."""
  run(tmp_path / 'a', 20)
  assert run(tmp_path / 'a', 30, extend=True).step == 30
  run(tmp_path / 'whole', 30)
  (_, mine), (_, theirs) = dl.load(tmp_path / 'a'), dl.load(tmp_path / 'whole')
  jax.tree.map(np.testing.assert_array_equal, mine, theirs)
  assert records(tmp_path / 'a') == records(tmp_path / 'whole')
  facts = workdir.read_run(tmp_path / 'a')
  assert facts['extended'] == [{'at_step': 20, 'from': '20 steps', 'to': '30 steps', 'from_steps': 20, 'to_steps': 30}]
  assert (facts['total_steps'], facts['step'], facts['status']) == (30, 30, 'complete')
  assert workdir.read_config(tmp_path / 'a').train_for == '30 steps'


def test_schedules_are_those_of_the_whole_length_and_that_is_said(tmp_path, capfd):
  run(tmp_path / 'a', 20, config=COSINE)
  experiment = small('perceptron', *EVERY, COSINE, "train_for='40 steps'")
  train(experiment, tmp_path / 'a', extend=True)
  said = capfd.readouterr().err
  rate = lambda step, total: 0.005 * (1 + np.cos(np.pi * (step - 1) / total))
  assert 'extended to 40 steps, which schedules in shares of the run, or without a length, are now of; ' in said
  assert f'; learning_rate {rate(20, 20):.4g} at step 20 of 20, {rate(21, 40):.4g} at step 21 of 40\n' in said
  block, _, rest = said.partition('extended to 40 steps')  # what is about to happen is said as at a start
  assert 'evaluation  test every 10 steps' in block and 'resuming at step 20 of 40' in rest
  assert 'compiling the training step' in rest.partition('resuming')[2]
  logged = {r['step']: r['learning_rate'] for r in records(tmp_path / 'a', 'train')}
  assert logged[20] == pytest.approx(rate(20, 20), rel=1e-3) and logged[25] == pytest.approx(rate(25, 40), rel=1e-3)


def test_a_schedule_of_so_many_steps_which_has_ended_is_said(tmp_path, capfd):
  linear = (
    "optim={'sgd': {'name': 'sgd', 'learning_rate': {'name': 'linear_schedule', 'init_value': 0.1, 'end_value': 0"
  )
  ended = linear + ", 'transition_steps': 10}}}"
  train(small('perceptron', *EVERY, ended, "train_for='10 steps'"), tmp_path / 'a', show_progress=False)
  train(small('perceptron', *EVERY, ended, "train_for='20 steps'"), tmp_path / 'a', extend=True)
  said = capfd.readouterr().err
  assert 'learning_rate 0.0100 at step 10 of 10, 0 at step 11 of 20; from here on every learning rate is 0, so' in said


def test_an_extension_killed_between_its_writes_is_recorded_once(tmp_path):
  run(tmp_path / 'a', 20)
  config = (tmp_path / 'a' / workdir.CONFIG).read_text()
  run(tmp_path / 'a', 30, extend=True)
  said = workdir.read_run(tmp_path / 'a')['extended']
  (tmp_path / 'a' / workdir.CONFIG).write_text(config)
  with workdir.claim(tmp_path / 'a', small('perceptron', *EVERY, "train_for='30 steps'"), said[0]):
    pass
  assert workdir.read_run(tmp_path / 'a')['extended'] == said and len(said) == 1


def test_an_extension_which_was_interrupted_goes_on_by_the_same_command_or_without_the_flag(tmp_path):
  run(tmp_path / 'a', 20)
  with interrupted(after=3):
    assert run(tmp_path / 'a', 40, extend=True).status == 'interrupted'
  with interrupted(after=3):
    assert run(tmp_path / 'a', 40, extend=True).status == 'interrupted'
  assert run(tmp_path / 'a', 40).status == 'complete'
  assert len(workdir.read_run(tmp_path / 'a')['extended']) == 1


def test_what_cannot_be_extended_is_one_line(tmp_path):
  with pytest.raises(ConfigError, match=r'--extend: .* holds no run that has begun; leave it out'):
    run(tmp_path / 'a', 20, extend=True)
  run(tmp_path / 'a', 20)
  before = (tmp_path / 'a' / 'run.json').read_text(), (tmp_path / 'a' / 'config.json').read_text()
  for steps, extend, says in (
    (30, False, "holds a run with train_for '20 steps', now '30 steps'; --extend makes it longer"),
    (20, True, "the run is of 20 steps already, and config.train_for, '20 steps', is 20: set a longer one"),
    (10, True, "the run is of 20 steps already, and config.train_for, '10 steps', is 10: set a longer one"),
  ):
    with pytest.raises(ConfigError, match=says):
      run(tmp_path / 'a', steps, extend=extend)
  with pytest.raises(ConfigError, match='holds a run of another config: seed'):
    run(tmp_path / 'a', 30, 'seed=1', extend=True)
  assert before == ((tmp_path / 'a' / 'run.json').read_text(), (tmp_path / 'a' / 'config.json').read_text())


def test_a_run_that_stopped_early_is_not_extended(tmp_path):
  stops = "early_stop={'metric': 'test/accuracy', 'patience': '10 steps', 'min_delta': 2.0}"
  assert run(tmp_path / 'a', 60, stops).stopped_early
  with pytest.raises(ConfigError, match=r'--extend: the run stopped early \(.*\), so more steps would change nothing'):
    run(tmp_path / 'a', 90, stops, extend=True)
