"""What README.md and docs/architecture.md tell a reader to do: files, written in an empty folder, and commands, run."""

import json
import pathlib
import re
import runpy
import shlex
import sys

import faces
import jax
import numpy as np
import pytest

import dl
from benchmarks import record

ROOT = pathlib.Path(__file__).parents[1]


def sections(page, level):
  """Title -> text of the parts of a page."""
  return dict(re.findall(rf'^{level} (.+?)\n(.*?)(?=^##|\Z)', page, re.S | re.M))


README = sections((ROOT / 'README.md').read_text(), '##')
HOW_TO_ADD = sections((ROOT / 'docs' / 'architecture.md').read_text().partition('## How to add')[2], '###')
SECTIONS = README | HOW_TO_ADD
SHORT = ['--config.train_for=4', '--config.eval_every=4', '--config.log_every=4', '--noprogress']


def blocks(section, language):
  return re.findall(rf'^```{language}\n(.*?)^```', SECTIONS[section], re.S | re.M)


@pytest.fixture
def follow(tmp_path, monkeypatch):
  """A function which does what a section says in one folder, empty at first: (files written by hand, work directory).

  Files, then commands, then the code which is of no file.
  """
  monkeypatch.chdir(tmp_path)
  monkeypatch.setattr(sys, 'path', [str(tmp_path), *sys.path])  # as `python -m` does, for the current folder
  before = set(sys.modules)

  def done(section):
    code = {code: re.match(r'# (\S+\.py)\n', code) for code in blocks(section, 'python')}
    files = {file[1]: text for text, file in code.items() if file}
    for name, text in files.items():
      pathlib.Path(name).parent.mkdir(exist_ok=True)
      pathlib.Path(name).write_text(text)
    (commands,) = blocks(section, 'bash')
    commands = commands.replace('\\\n', ' ').replace('experiments/', f'{ROOT}/experiments/')
    workdirs = []
    for command in commands.splitlines():
      python, *arguments = shlex.split(command)
      assert python == 'python'
      if arguments[0] in files:
        runpy.run_path(arguments[0])
        continue
      m, module, *arguments = arguments
      assert m == '-m'
      with pytest.raises(SystemExit) as e:
        faces.run(module, *arguments, *(SHORT if module == 'dl.train' else ()))
      assert e.value.code in (0, None)
      workdirs += [a.partition('=')[2] for a in arguments if a.startswith('--workdir=')]
    for text in (text for text, file in code.items() if not file):
      exec(text, {})
    return list(files), tmp_path / workdirs[-1]

  yield done
  for name in set(sys.modules) - before:
    if name.partition('.')[0] == 'my_lab':
      del sys.modules[name]


def last(workdir, split):
  lines = map(json.loads, (workdir / 'metrics.jsonl').read_text().splitlines())
  return [line for line in lines if line['split'] == split][-1]


@pytest.mark.parametrize('section', HOW_TO_ADD)
def test_a_part_is_added_in_few_lines(section):
  for language in ('python', 'bash'):
    for code in blocks(section, language):
      assert len(code.splitlines()) < 30 and max(map(len, code.splitlines())) <= 120


def test_every_snippet_of_the_readme_runs():
  """Those of two sections do in the test below; 'Start' has two commands, each whole in one line."""
  start = re.findall(r'^```bash\n(.*)\n```', README['Start'], re.M)
  assert [line.startswith('python3 -m venv') for line in start] == [True, True]
  followed = ('An experiment of your own', 'A learning problem of your own')
  count = sum(text.count('```') // 2 for text in README.values())
  assert count == len(start) + sum(README[title].count('```') // 2 for title in followed)


def test_the_readme_is_short_and_its_tables_are_of_the_recorded_runs():
  text = (ROOT / 'README.md').read_text()
  assert (
    record.table(json.loads(record.RESULTS.read_text())) == text.split(record.BEGIN)[1].split(record.END)[0].strip()
  )
  assert len(text.splitlines()) < 240 and text.count('<details>') == len({n.split('/')[0] for n in record.EXPERIMENTS})


def test_the_first_hour(follow, capsys):
  """The README from its first config to a task of one's own, whole."""
  files, _ = follow('An experiment of your own')
  assert files == ['photos.py', 'mine.py'] and len(list(pathlib.Path('photos').rglob('*.png'))) == 1797
  assert last(pathlib.Path('runs/lenet'), 'test')['accuracy'] >= 0 and pathlib.Path('both.html').stat().st_size > 1000
  predictions = pathlib.Path('predictions.csv').read_text().splitlines()
  assert len(predictions) == 184 and 'digit 3' in predictions[0] + predictions[1]
  files, workdir = follow('A learning problem of your own')
  assert files == ['my_lab/autoencoder.py'] and 0 < last(workdir, 'test')['loss'] < 1
  assert capsys.readouterr().out.splitlines()[-1] == '(1, 32, 32, 1)'


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
