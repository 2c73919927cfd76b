"""A task of one's own which breaks its contract is one line that says how; and padding is tried by value."""

import re
import sys

import numpy as np
import pytest
from small import small

from dl.errors import ConfigError
from dl.training import padding, prediction
from dl.training.loop import train

OWN = """
import dataclasses
import flax.linen as nn
import jax, jax.numpy as jnp
from dl.contract.metrics import Mean, Metric, average
from dl.contract.task import Task

@dataclasses.dataclass(frozen=True, kw_only=True)
class Guess(Task):
  def init(self, key, batch):
    variables = self.model.init(key, batch['image'], train=False)
    return {'model': variables['params']}, {}

  def loss(self, params, extra, batch, key, train):
    outputs = self.model.apply({'params': params['model']}, batch['image'], train=train)
    errors = jnp.square(outputs[:, 0] - batch['label'])
    loss = Mean.of(errors, batch['mask'], better='min')
    return average(loss), (extra, {'loss': loss})
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
  """A function which gives the config of a run of the task above, with a part of it replaced."""
  monkeypatch.syspath_prepend(str(tmp_path))

  def make(old='', new='', *overrides):
    assert old in OWN
    (tmp_path / 'own_guess.py').write_text(OWN.replace(old, new))
    sys.modules.pop('own_guess', None)
    return small(
      'perceptron', "task={'name': 'own_guess.Guess'}", 'train_for=4', 'eval_every=4', 'expect={}', *overrides
    )

  yield make
  sys.modules.pop('own_guess', None)


INIT = "return {'model': variables['params']}, {}"
LOSS = "return average(loss), (extra, {'loss': loss})"
MEAN = "Mean.of(errors, batch['mask'], better='min')"
PADS = "config.eval.test: Guess counts rows that only pad a batch in 'loss'"
ADVICE = "leave out rows whose batch['mask'] is 0, as Mean.of(values, batch['mask']) does"


@pytest.mark.parametrize(
  ('old', 'new', 'says'),
  [
    (INIT, 'return variables', 'Guess.init gives a dict of params, but must give (params, extra)'),
    (INIT, "return variables['params']", 'Guess.init gives a dict of out, but must give (params, extra)'),
    (INIT, "return variables['params'], {}", 'as params a dict of out, but must give .* by its name: model'),
    (INIT, 'return [variables, {}]', 'Guess.init gives a list of 2, but must give (params, extra)'),
    (LOSS, 'return average(loss)', 'Guess.loss gives an array float32[], but must give (loss, (extra, metrics))'),
    (LOSS, "return average(loss), {'loss': loss}", 'of which the second is a dict of loss, but must give (loss, (ex'),
    (LOSS, "return errors, (extra, {'loss': loss})", 'gives as the loss an array float32[64], but must give one float'),
    (LOSS, "return average(loss), (extra, {'loss': average(loss)})", "loss gives as metric 'loss' no sums .* a number"),
    (LOSS, "return average(loss), (extra, {'loss': errors})", "as metric 'loss' no sums .*, but an array [64]: take"),
    (LOSS, 'return average(loss), (extra, loss)', 'Guess.loss gives no metrics by name, but a Mean'),
    ('def loss(', 'def los(', 'the task has no method `loss`, which dl.contract.task.Task describes'),
    (
      'params, extra, batch, key, train)',
      'params, batch, key, train)',
      'called with (params, extra, batch, key, train)',
    ),
    (LOSS, "return average(loss), ({'n': 1}, {'loss': loss})", 'another state than it took: extra/n was not there'),
  ],
)
def test_a_task_which_breaks_its_contract_is_one_line(own, tmp_path, old, new, says):
  with pytest.raises(ConfigError) as e:
    train(own(old, new), tmp_path / 'run', show_progress=False)
  pattern = re.escape(says).replace(r'\.\*', '.*')
  assert re.search(f'^config.task: .*{pattern}|^config.task: {pattern}', str(e.value)), str(e.value)
  assert not (tmp_path / 'run').exists()


def test_a_number_of_no_rows_is_told_how_to_be_one(own, tmp_path):
  norm = "{'loss': loss, 'norm': Mean(jnp.float32(3), jnp.float32(1))}"
  with pytest.raises(ConfigError, match=r"gives 'norm' the same sums for any rows.*; weigh it by the mask, as Mean.of"):
    train(own("{'loss': loss}", norm), tmp_path / 'run', show_progress=False)


def test_predictions_are_named_arrays_of_all_rows(own, tmp_path):
  predict = """
  def predict(self, state, inputs, key):
    return {}
"""
  np.savez(tmp_path / 'x.npz', x=np.zeros((3, 8, 8, 1), np.uint8))
  for given, says in (
    ('inputs[:, 0]', "must return a dict of arrays [batch, ...], as {'image': images}, got uint8"),
    ("{'sum': inputs.sum()}", "'sum' must have a row for each of the 4 inputs, got ()"),
  ):
    workdir = tmp_path / str(len(given))
    train(own(LOSS, LOSS + '\n' + predict.format(given)), workdir, show_progress=False)
    with pytest.raises(ConfigError) as e:
      list(prediction.predict(workdir, [str(tmp_path / 'x.npz')]))
    assert str(e.value).startswith('Guess.predict: ') and says in str(e.value), str(e.value)


def test_a_mistake_of_syntax_in_a_module_is_one_line(own, tmp_path):
  with pytest.raises(ConfigError, match=r'^config.task: own_guess.py:16: IndentationError: '):
    train(own('    errors = jnp', '     errors = jnp'), tmp_path / 'run', show_progress=False)


PARAMETERS_ALONE = """
import jax
from dl.tasks.classify import Classify

class Guess(Classify):
  def init(self, key, batch):
    return self.model.init(key, self.inputs(batch), train=False)['params']
"""


def test_what_init_gives_is_looked_at_before_a_check_that_uses_it(own, tmp_path):
  with pytest.raises(
    ConfigError, match=r'^config.task: Guess.init gives a dict of out, but must give \(params, extra\)'
  ):
    train(own(OWN, PARAMETERS_ALONE), tmp_path / 'run', show_progress=False)


@pytest.mark.parametrize(
  ('mean', 'says'),
  [
    ("Mean.of(errors, better='min')", rf', which is [\d.]+ with one and [\d.]+ with another; {re.escape(ADVICE)}'),
    # The padded rows have no error, but count.
    ("Mean((errors * batch['mask']).sum(), jnp.float32(len(errors)), better='min')", f'; {re.escape(ADVICE)}'),
  ],
)
def test_a_loss_that_ignores_the_mask_is_found_before_the_first_step(own, tmp_path, mean, says):
  """360 examples in batches of 64: the last one has 24 rows which only fill it up."""
  with pytest.raises(ConfigError) as e:
    train(own(MEAN, mean), tmp_path / 'run', show_progress=False)
  assert re.fullmatch(re.escape(PADS) + says, str(e.value)), str(e.value)
  assert not list((tmp_path / 'run').glob('checkpoints/*'))
  # With the code mended the same command goes on.
  assert train(own(), tmp_path / 'run', show_progress=False).status == 'complete'


def test_a_metric_of_rows_that_the_first_batch_has_none_of_is_no_mistake(own, tmp_path):
  rare = "Mean.of(errors, batch['mask'] * (batch['label'] == 99), better='min')"
  assert train(own(MEAN, rare), tmp_path / 'run', show_progress=False).status == 'complete'


def test_padding_is_tried_once_of_equal_evaluations_and_not_when_a_run_goes_on(own, tmp_path, monkeypatch):
  tried = []
  with_padding = padding._with_padding
  monkeypatch.setattr(
    padding, '_with_padding', lambda batch: (tried.append(len(batch['mask'])), with_padding(batch))[1]
  )
  experiment = own('', '', "eval={'test': {'split': 'test'}, 'again': {'split': 'test', 'batch_size': 32}}")
  train(experiment, tmp_path / 'run', show_progress=False)
  assert tried == [64]
  train(experiment, tmp_path / 'run', show_progress=False)
  assert tried == [64]
