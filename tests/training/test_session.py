"""A session in its work directory: whose it is, in which order things are written, and what is left of a failure."""

import jax
import pytest
from small import small

from dl.errors import ConfigError, TrainingError
from dl.store import checkpoint, logs, workdir
from dl.store.skipped import Skipped
from dl.training.prepare import prepare
from dl.training.session import Session


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
