import json
import os
import signal
import subprocess
import sys
import textwrap

import jax.numpy as jnp
import numpy as np
import pytest

from dl.errors import ConfigError
from dl.store import logs


def steps_of(workdir):
  return [(r['step'], r['split']) for r in logs.read(workdir)]


def test_a_line_is_json_and_there_at_once(tmp_path):
  with logs.Logs(tmp_path, tensorboard=False) as log:
    log.write(500, 'train', {'loss': jnp.float32(0.25), 'half': jnp.bfloat16(0.5), 'n': np.int64(3), 'by': [0.5, 1]})
    (line,) = (tmp_path / 'metrics.jsonl').read_text().splitlines()
  assert json.loads(line) == {'step': 500, 'split': 'train', 'loss': 0.25, 'half': 0.5, 'n': 3, 'by': [0.5, 1]}


def test_numbers_survive_exactly(tmp_path):
  values = np.random.default_rng(0).normal(size=100).tolist()
  with logs.Logs(tmp_path, tensorboard=False) as log:
    log.write(1, 'test', {'values': values})
  assert logs.read(tmp_path)[0]['values'] == values


def test_a_number_that_is_not_finite_is_null(tmp_path):
  with logs.Logs(tmp_path, tensorboard=False) as log:
    log.write(1, 'train', {'loss': float('nan'), 'array': jnp.inf, 'list': [1.0, np.float32('-inf')]})
  text = (tmp_path / 'metrics.jsonl').read_text()

  def refuse(token):
    raise AssertionError(f'{token} is not JSON')

  assert json.loads(text, parse_constant=refuse) == dict(step=1, split='train', loss=None, array=None, list=[1.0, None])


def test_values_that_are_no_numbers_and_taken_names_are_refused(tmp_path):
  with logs.Logs(tmp_path, tensorboard=False) as log:
    with pytest.raises(TypeError, match='must be a number'):
      log.write(1, 'train', {'loss': object()})
    with pytest.raises(ValueError, match="called 'step'"):
      log.write(1, 'train', {'step': 1})
  assert logs.read(tmp_path) == []


def test_resume_drops_what_comes_after_the_checkpoint(tmp_path):
  with logs.Logs(tmp_path, tensorboard=False) as log:
    for step in range(10, 60, 10):
      log.write(step, 'train', {'loss': 1 / step})
      log.write(step, 'test', {'loss': 2 / step})
  before = (tmp_path / 'metrics.jsonl').read_bytes()
  with logs.Logs(tmp_path, resume_step=30, tensorboard=False) as log:
    assert steps_of(tmp_path)[-1] == (30, 'test')
    for step in range(40, 60, 10):
      log.write(step, 'train', {'loss': 1 / step})
      log.write(step, 'test', {'loss': 2 / step})
  assert (tmp_path / 'metrics.jsonl').read_bytes() == before
  assert os.listdir(tmp_path) == ['metrics.jsonl']


def test_a_new_run_starts_an_empty_log(tmp_path):
  with logs.Logs(tmp_path, tensorboard=False) as log:
    log.write(1, 'train', {'loss': 1.0})
  with logs.Logs(tmp_path, tensorboard=False):
    assert logs.read(tmp_path) == []


@pytest.mark.parametrize(
  'tail', [b'{"step": 40, "spl', b'{"step": 40, "s": "\xc3', b'\0\0\0\0', b'40', b'{"a": 1}\n\n']
)
def test_a_torn_last_line_is_left_out_and_mended(tmp_path, tail):
  path = tmp_path / 'metrics.jsonl'
  whole = b'{"step": 10, "split": "train", "loss": 1.0}\n{"step": 20, "split": "train", "loss": 0.5}\n'
  path.write_bytes(whole + tail)
  assert [r['step'] for r in logs.read(tmp_path)] == [10, 20]
  with logs.Logs(tmp_path, resume_step=20, tensorboard=False) as log:
    assert path.read_bytes() == whole
    log.write(30, 'train', {'loss': 0.25})
  assert [r['step'] for r in logs.read(tmp_path)] == [10, 20, 30]


def test_a_whole_last_line_without_its_newline_is_kept(tmp_path):
  (tmp_path / 'metrics.jsonl').write_text('{"step": 10, "split": "train"}')
  with logs.Logs(tmp_path, resume_step=10, tensorboard=False) as log:
    log.write(20, 'train', {})
  assert [r['step'] for r in logs.read(tmp_path)] == [10, 20]


def test_damage_in_the_middle_is_an_error_and_changes_nothing(tmp_path):
  path = tmp_path / 'metrics.jsonl'
  path.write_text('{"step": 10}\n{"step": 2\n{"step": 30}\n')
  with pytest.raises(ConfigError, match='line 2'):
    logs.read(tmp_path)
  with pytest.raises(ConfigError, match='line 2'):
    logs.Logs(tmp_path, resume_step=10, tensorboard=False)
  assert path.read_text() == '{"step": 10}\n{"step": 2\n{"step": 30}\n'


def test_lines_survive_sigkill(tmp_path):
  code = """
    import os, signal, sys
    from dl.store import logs
    log = logs.Logs(sys.argv[1], tensorboard=False)
    for step in range(1, 51):
      log.write(step, 'train', {'loss': 1.0 / step})
    os.kill(os.getpid(), signal.SIGKILL)
  """
  done = subprocess.run([sys.executable, '-c', textwrap.dedent(code), tmp_path], check=False)
  assert done.returncode == -signal.SIGKILL
  assert [r['step'] for r in logs.read(tmp_path)] == list(range(1, 51))


def test_no_file_is_no_lines(tmp_path):
  assert logs.read(tmp_path) == []


def test_without_tensorboard_there_are_no_events(tmp_path, monkeypatch):
  monkeypatch.setattr(logs.importlib.util, 'find_spec', lambda name: None)
  with logs.Logs(tmp_path) as log:
    log.write(1, 'train', {'loss': 1.0})
  assert os.listdir(tmp_path) == ['metrics.jsonl']


def test_tensorboard_holds_the_same_numbers_and_purges_what_a_resume_repeats(tmp_path):
  pytest.importorskip('tensorboard')
  from tensorboard.compat.proto import event_pb2

  with logs.Logs(tmp_path) as log:
    for step in (10, 20, 30):
      log.write(step, 'train', {'loss': 1 / step, 'per_class': [0.5, 1.0], 'note': 'text'})
  with logs.Logs(tmp_path, resume_step=20) as log:  # within the second: the first file must stay
    log.write(30, 'test', {'loss': float('nan')})
  files = sorted((tmp_path / 'tensorboard').iterdir())
  assert len(files) == 2
  first, second = (list(events(path, event_pb2.Event)) for path in files)
  numbers = {(e.step, v.tag): v.simple_value for e in first for v in e.summary.value}
  assert numbers.keys() == {(s, f'train/{tag}') for s in (10, 20, 30) for tag in ('loss', 'per_class/0', 'per_class/1')}
  assert numbers[20, 'train/loss'] == np.float32(1 / 20)
  starts = [e.step for e in second if e.session_log.status == 1]
  assert starts == [21]
  ((step, value),) = [(e.step, v) for e in second for v in e.summary.value]
  assert step == 30 and value.tag == 'test/loss' and np.isnan(value.simple_value)


def events(path, kind):
  """The records of an event file: length (8 bytes), its checksum (4), data, its checksum (4)."""
  data = path.read_bytes()
  while data:
    size = int.from_bytes(data[:8], 'little')
    event = kind()
    event.ParseFromString(data[12 : 12 + size])
    yield event
    data = data[16 + size :]
