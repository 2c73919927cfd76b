"""A session in its work directory: whose it is, in which order things are written, and what is left of a failure."""

import dataclasses

import jax
import numpy as np
import pytest
from sklearn.datasets import load_digits
from small import interrupted, small

from dl.errors import ConfigError, TrainingError
from dl.store import checkpoint, logs, workdir
from dl.store.skipped import Skipped
from dl.training.loop import train
from dl.training.prepare import prepare
from dl.training.session import Session, check_data


@pytest.fixture(scope='module')
def run():
  return prepare(small('perceptron'))


def test_a_session_from_its_beginning_to_its_end(run, tmp_path, monkeypatch):
  directory, order = tmp_path / 'run', []
  for owner, name in ((logs.Logs, 'sync'), (Skipped, 'write'), (checkpoint.Checkpoints, 'save')):
    real = getattr(owner, name)
    label = f'{owner.__name__}.{name}'
    monkeypatch.setattr(owner, name, lambda self, *a, real=real, label=label: (order.append(label), real(self, *a))[1])

  with Session(directory, run) as session:
    step, state, sums = session.begin()
    assert (step, session.history, session.stopped, session.complete, session.saved_step) == (0, [], None, False, None)
    assert workdir.read_run(directory)['status'] == 'running' and workdir.read_run(directory)['total_steps'] == 40
    with pytest.raises(ConfigError, match='is in use by process'), Session(directory, run) as other:
      other.begin()
    assert workdir.read_run(directory)['status'] == 'running'  # the other one left no word

    session.log.write(20, 'train', {'loss': 1.0, 'seconds': 8.5})
    session.evaluated(20, 'test', {'accuracy': 0.5})
    session.write_artifacts(20, {'note': 'half'})
    session.save(20, state, sums)
    assert order == ['Logs.sync', 'Skipped.write', 'Checkpoints.save']  # no checkpoint without its lines
    assert session.saved_step == 20
    session.wait()
    session.finish('interrupted', 20, None)
  assert workdir.holder(directory) is None
  assert workdir.read_run(directory)['status'] == 'interrupted' and (directory / 'report.html').exists()
  assert (directory / 'artifacts/00000020_note.txt').read_text() == 'half'

  with pytest.raises(KeyError), Session(directory, run) as session:  # goes on, and fails
    step, again, _ = session.begin()
    assert (step, session.saved_step, session.seconds) == (20, 20, 8.5)
    assert session.history == [{'step': 20, 'split': 'test', 'accuracy': 0.5}]
    assert all((a == b).all() for a, b in zip(jax.tree.leaves(state), jax.tree.leaves(again), strict=True))
    with pytest.raises(TrainingError) as e:
      session.not_finite('loss', 25)
    last = 'the last good checkpoint is of step 20'
    look = 'look at config.optim.adam.learning_rate or clip gradients'
    assert str(e.value) == f'loss is not finite at step 25; {last}; {look}'
    nan = state.replace(params=jax.tree.map(lambda x: x * float('nan'), state.params))
    with pytest.raises(TrainingError, match='a parameter is not finite at step 26'):
      session.save(26, nan, sums)
    assert session.saved_step == 20
    raise KeyError
  said = workdir.read_run(directory)
  assert said['status'] == 'failed' and len(said['sessions']) == 2
  assert 'failed' in (directory / 'report.html').read_text()
  assert [p.name for p in (directory / 'checkpoints').iterdir() if p.name.isdecimal()] == ['20']


@pytest.mark.parametrize(
  ('change', 'says'),
  [
    ('inverted', r'test: other values \(examples from 0 on, .*; train: other values'),
    ('dropped', r'test: 80 examples, not 100; train: 320 examples, not 400'),
  ],
)
def test_a_run_refuses_to_go_on_with_other_data(tmp_path, change, says):
  """An interrupted run, whose file is then another; it goes on where that is brought back."""
  images, label = load_digits(return_X_y=True)
  images = (images[:500].reshape(-1, 8, 8, 1) * 15).astype(np.uint8)
  path = tmp_path / 'mine.npz'
  save = lambda x, y: np.savez(path, x=x, y=y)
  save(images, label[:500])
  config = dataclasses.replace(
    small('perceptron'), data={'name': 'arrays.Npz', 'path': str(path), 'batch_size': 32}, eval={'test': {}}
  )
  with interrupted(5):
    assert train(config, tmp_path / 'run').status == 'interrupted'
  kept = {p: p.read_bytes() for p in (tmp_path / 'run').iterdir() if p.is_file()}
  save(255 - images if change == 'inverted' else images[:400], label[: 500 if change == 'inverted' else 400])
  with pytest.raises(ConfigError, match=says) as e:
    train(config, tmp_path / 'run')
  assert 'holds a run which began with other data' in str(e.value) and '\n' not in str(e.value)
  assert kept == {p: p.read_bytes() for p in (tmp_path / 'run').iterdir() if p.is_file()}
  save(images, label[:500])
  assert train(config, tmp_path / 'run').status == 'complete'


def test_statistics_of_other_data_and_damaged_words_about_them(tmp_path, run):
  with Session(tmp_path / 'run', run) as session:
    session.begin()
  facts = workdir.read_run(tmp_path / 'run')['data']
  check_data(tmp_path / 'run', run)
  for damaged in ({'fingerprints': {'train': 3}}, {'info': {'no': 1}}):
    workdir.update_run(tmp_path / 'run', data=facts | damaged)
    with pytest.raises(ConfigError, match=r'run\.json: what it says about the data is damaged'):
      check_data(tmp_path / 'run', run)
  del facts['fingerprints']  # as older runs
  workdir.update_run(tmp_path / 'run', data=facts)
  check_data(tmp_path / 'run', run)
  workdir.update_run(tmp_path / 'run', data=facts | {'info': facts['info'] | {'num_classes': 11}})
  with pytest.raises(ConfigError, match='began with other data: num_classes is 10, was 11;'):
    check_data(tmp_path / 'run', run)
