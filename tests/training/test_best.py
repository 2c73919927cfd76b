"""The result of the best checkpoint: chosen on one evaluation, measured on another once, and the same when killed."""

import json

import jax
import numpy as np
import pytest
from small import records, small

import dl
from dl.commands import evaluate
from dl.errors import ConfigError
from dl.training import loop, overview
from dl.training.prepare import prepare

CHOSEN = (
  'data.validation=0.2',
  "eval={'validation': {'split': 'validation'}, 'test': {'split': 'test', 'of': 'best'}}",
  "keep={'best': 1, 'metric': 'validation/loss'}",
  # It learns, and then a learning rate that is far too large spoils it.
  "optim={'sgd': {'name': 'sgd', 'learning_rate': {'name': 'piecewise_constant_schedule', 'init_value': 0.05, "
  "'boundaries_and_scales': {'20': 40000.0}}}}",
  'train_for=40', 'eval_every=10', 'log_every=10', 'checkpoint_every=40',
)  # fmt: skip


def run(workdir, *overrides):
  return loop.train(small('perceptron', *CHOSEN, *overrides), workdir, show_progress=False)


@pytest.fixture(scope='module')
def chosen(tmp_path_factory):
  workdir = tmp_path_factory.mktemp('best') / 'run'
  return workdir, run(workdir)


def test_what_is_due_no_sooner_than_the_end_is_said_to_be_at_the_end(tmp_path):
  says = lambda *keys: overview.before(prepare(small('perceptron', 'train_for=20', *keys)), tmp_path)
  often, seldom = says('eval_every=1', 'checkpoint_every=1'), says('eval_every=2500', 'checkpoint_every=20')
  assert 'test every step' in often and often.endswith(f'{tmp_path}, a checkpoint every step')
  assert 'test at the end' in seldom and seldom.endswith(f'{tmp_path}, a checkpoint at the end')


def test_the_test_part_is_measured_once_of_the_best_checkpoint(chosen):
  workdir, result = chosen
  losses = {r['step']: r['loss'] for r in records(workdir, 'validation')}
  best = min(losses, key=losses.get)
  assert best == 20 and losses[40] > 2 * losses[20]
  (line,) = records(workdir, 'test')
  assert line['step'] == best
  task, state = dl.load(workdir, step='best')
  assert line == {'split': 'test'} | evaluate.evaluate(workdir, step='best', names=['test'])['test']
  again = evaluate.evaluate(workdir)  # without being asked for that step
  assert {'split': 'test'} | again['test'] == line and again['validation']['step'] == 40
  assert list(again) == ['validation', 'test']
  assert 'predict: python -m dl.predict' in overview.where(workdir, task, True)[1]
  assert f'--workdir={workdir} --step=best' in overview.where(workdir, task, True)[1]
  assert result.best == {
    'step': 20, 'metric': 'validation/loss', 'value': losses[20],
    'metrics': {k: {n: v for n, v in r.items() if n not in ('step', 'split')} for k, r in (
      ('validation', next(r for r in records(workdir, 'validation') if r['step'] == 20)), ('test', line),
    )},
  }  # fmt: skip
  assert json.loads((workdir / 'run.json').read_text())['best'] == result.best
  assert int(state.step) == 20 and result.of_best == ('test',) and result.task == task
  # What the evaluator finds is of the same weights; of the validation part, of the last.
  names = {p.name for p in (workdir / 'artifacts').iterdir()}
  assert {'00000020_test_confusion.png', '00000040_validation_confusion.png'} <= names
  assert overview.after(result.metrics, result.best, result.of_best)[1].startswith(
    'test of the best checkpoint, of step 20: accuracy '
  )


@pytest.mark.parametrize('where', ['before', 'after'])
def test_a_run_killed_at_its_end_has_the_same_lines(chosen, tmp_path, monkeypatch, where):
  """Between the last checkpoint and the word that it is complete: before the line of the test part, and after it."""
  name = 'conclude' if where == 'before' else 'examine'
  real = getattr(loop, name)

  def killed(*arguments):
    raise KeyboardInterrupt

  monkeypatch.setattr(loop, name, killed)
  with pytest.raises(KeyboardInterrupt):
    run(tmp_path / 'run')
  assert len(records(tmp_path / 'run', 'test')) == (where == 'after')
  monkeypatch.setattr(loop, name, real)
  assert run(tmp_path / 'run').best == chosen[1].best
  assert records(tmp_path / 'run') == records(chosen[0])
  (_, mine), (_, theirs) = dl.load(tmp_path / 'run'), dl.load(chosen[0])
  jax.tree.map(np.testing.assert_array_equal, mine, theirs)


def test_the_same_command_again_says_the_same_and_measures_nothing(chosen, monkeypatch):
  workdir, result = chosen
  monkeypatch.setattr(loop, 'conclude', None)
  again = run(workdir)
  assert (again.best, again.metrics, again.of_best) == (result.best, result.metrics, result.of_best)


@pytest.mark.parametrize(
  ('override', 'says'),
  [
    ('keep={}', r'config\.eval\.test\.of: nothing says which checkpoint is the best; set keep=dict\(best=1, metric='),
    (
      "keep={'best': 1, 'metric': 'test/loss'}",
      r"config\.keep\.metric: 'test' is measured once, of the best checkpoin",
    ),
    ("early_stop={'metric': 'test/loss', 'patience': 10}", r"config\.early_stop\.metric: 'test' is measured once"),
    ('eval.test.of=last', r"config\.eval\.test\.of: expected 'best', an evaluation of the best .*, got 'last'"),
  ],
)
def test_mistakes(tmp_path, override, says):
  with pytest.raises(ConfigError, match=says):
    run(tmp_path / 'run', override)
  assert not (tmp_path / 'run').exists()
