"""What docs/architecture.md says of adding a part: its files, written into a project outside, and its commands, run."""

import json
import pathlib
import re
import shlex
import sys

import faces
import jax
import numpy as np
import pytest

import dl

ROOT = pathlib.Path(__file__).parents[1]
PAGE = (ROOT / 'docs' / 'architecture.md').read_text().partition('## How to add')[2]
SECTIONS = {title: text for title, text in re.findall(r'^### (.+?)\n(.*?)(?=^##|\Z)', PAGE, re.S | re.M)}
SHORT = ['--config.train_for=4', '--config.eval_every=4', '--config.log_every=4', '--noprogress']


def blocks(section, language):
  return re.findall(rf'^```{language}\n(.*?)^```', SECTIONS[section], re.S | re.M)


@pytest.fixture
def follow(tmp_path, monkeypatch):
  """A function which does what a section says in an empty folder: (files that it wrote by hand, the work directory)."""
  monkeypatch.chdir(tmp_path)
  monkeypatch.setattr(sys, 'path', [str(tmp_path), *sys.path])  # as `python -m` does, for the current folder
  before = set(sys.modules)

  def done(section):
    for code in blocks(section, 'python'):
      path = pathlib.Path(re.match(r'# (\S+\.py)\n', code)[1])
      path.parent.mkdir(exist_ok=True)
      path.write_text(code)
    files = [str(p.relative_to(tmp_path)) for p in tmp_path.rglob('*') if p.is_file()]
    (commands,) = blocks(section, 'bash')
    commands = commands.replace('\\\n', ' ').replace('experiments/', f'{ROOT}/experiments/')
    for command in commands.splitlines():
      python, m, module, *arguments = shlex.split(command)
      assert (python, m) == ('python', '-m')
      with pytest.raises(SystemExit) as e:
        faces.run(module, *arguments, *(SHORT if module == 'dl.train' else ()))
      assert e.value.code in (0, None)
    return files, tmp_path / next(a for a in arguments if a.startswith('--workdir=')).partition('=')[2]

  yield done
  for name in set(sys.modules) - before:
    if name.partition('.')[0] == 'my_lab':
      del sys.modules[name]


def last(workdir, split):
  lines = map(json.loads, (workdir / 'metrics.jsonl').read_text().splitlines())
  return [line for line in lines if line['split'] == split][-1]


@pytest.mark.parametrize('section', SECTIONS)
def test_a_part_is_added_in_few_lines(section):
  for language in ('python', 'bash'):
    for code in blocks(section, language):
      assert len(code.splitlines()) < 30 and max(map(len, code.splitlines())) <= 120


def test_a_model_is_one_file(follow):
  files, workdir = follow('A model')
  assert files == ['my_lab/nets.py'] and last(workdir, 'test')['loss'] > 0
  task, state = dl.load(workdir)
  assert state.params['model']['wide']['kernel'].shape == (64, 32)
  assert task.predict(state, np.zeros((2, 8, 8, 1), np.float32), jax.random.key(0))['label'].shape == (2,)


def test_a_task_is_one_file(follow):
  files, workdir = follow('A task')
  assert files == ['my_lab/denoise.py'] and last(workdir, 'test')['loss'] > 0
  task, state = dl.load(workdir)
  assert type(task).__name__ == 'Denoise' and task.noise == 0.2
  images = np.ones((2, 8, 8, 1), np.float32)
  assert task.predict(state, images, jax.random.key(0))['image'].shape == images.shape


def test_a_source_with_a_kind_of_data_is_one_file(follow):
  files, workdir = follow('A source, and a kind of data')
  assert files == ['my_lab/waves.py'] and last(workdir, 'test')['accuracy'] >= 0
  recorded = json.loads((workdir / 'run.json').read_text())['data']
  assert recorded['batch']['wave'] == [[8, 32], 'int32']
  task, _ = dl.load(workdir)
  assert 0 < task.info.fact('loudest') <= 20_000 and task.info.kind('wave').name == 'my_lab.waves.WAVE'


def test_an_evaluator_is_one_file(follow, capsys):
  files, workdir = follow('An evaluator')
  attacked, later = last(workdir, 'attacked'), json.loads(capsys.readouterr().out.splitlines()[-1])
  assert files == ['my_lab/attacks.py'] and later['split'] == 'attacked'
  assert later['loss'] > attacked['loss'] > last(workdir, 'test')['loss']
