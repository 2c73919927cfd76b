"""What README.md and the pages of docs/ tell a reader to do, done in an empty folder, in the order of the page.

A block of `python` whose first line is a file's name is written, another one is executed; commands are in a block of
`bash`, and trainings are short. A block of `sh` needs what a test has not, a download say.
"""

import json
import os
import pathlib
import re
import runpy
import shlex
import subprocess
import sys

import faces
import jax
import numpy as np
import pytest

import dl
from benchmarks import record

ROOT = pathlib.Path(__file__).parents[1]
SHORT = ['--config.train_for=4', '--config.eval_every=4', '--config.log_every=4', '--noprogress']


def page(name):
  return (ROOT / name).read_text()


def sections(text):
  """Title -> text of the parts of a page."""
  return dict(re.findall(r'^## (.+?)\n(.*?)(?=^## |\Z)', text, re.S | re.M))


README = sections(page('README.md'))
TUTORIALS = sorted((ROOT / 'docs' / 'tutorials').glob('*.md'))


def blocks(text):
  """(language, code) of each block."""
  return re.findall(r'^```(\w+)\n(.*?)^```', text, re.S | re.M)


def commands(code):
  return code.replace('\\\n', ' ').replace('experiments/', f'{ROOT}/experiments/').splitlines()


@pytest.fixture
def follow(tmp_path, monkeypatch):
  """A function which does what a text says, in one folder, empty at first: the files that it wrote by hand."""
  monkeypatch.chdir(tmp_path)
  monkeypatch.setattr(sys, 'path', [str(tmp_path), *sys.path])  # as `python -m` does, for the current folder
  monkeypatch.setenv('PYTHONPATH', os.pathsep.join([str(tmp_path), str(ROOT)]))
  before = set(sys.modules)

  def done(text, *flags):
    files = []
    for language, code in blocks(text):
      if language == 'bash':
        for command in commands(code):
          run(command, files, flags)
      elif language == 'python' and (file := re.match(r'# (\S+\.py)\n', code)):
        files.append(file[1])
        pathlib.Path(file[1]).parent.mkdir(exist_ok=True)
        pathlib.Path(file[1]).write_text(code)
      elif language == 'python':
        exec(code, {})
    return files

  yield done
  for name in set(sys.modules) - before:
    if name.partition('.')[0] == 'my_lab':
      del sys.modules[name]


def run(command, files, flags):
  """One line of a shell: a file of the page, or `python -m`; where it makes devices, in a process of its own."""
  words = shlex.split(command)
  variables = dict(word.split('=', 1) for word in words[: words.index('python')])
  arguments = words[len(variables) + 1 :]
  if variables or 'dl.plan' in arguments:
    short = flags if 'dl.train' in arguments else ()
    subprocess.run([sys.executable, *arguments, *short], env=os.environ | variables, check=True)
    return
  if arguments[0] in files:
    runpy.run_path(arguments[0])
    return
  m, module, *arguments = arguments
  assert m == '-m'
  with pytest.raises(SystemExit) as e:
    faces.run(module, *arguments, *(flags if module in ('dl.train', 'dl.sweep') else ()))
  assert e.value.code in (0, None)


def last(workdir, split):
  lines = map(json.loads, (pathlib.Path(workdir) / 'metrics.jsonl').read_text().splitlines())
  return [line for line in lines if line['split'] == split][-1]


def read(name):
  return pathlib.Path(name).read_text()


def test_a_part_is_added_in_few_lines():
  """Each block of the pages is one that a reader takes in at a glance, and copies whole."""
  for path in TUTORIALS:
    for language, code in blocks(path.read_text()):
      lines = code.splitlines()
      assert language in ('python', 'bash', 'sh', 'text') and len(lines) <= 36 and max(map(len, lines)) <= 120, code


def test_every_snippet_of_the_readme_runs():
  """Those of two sections do in the test below; 'Start' has two commands, each whole in one line."""
  start = re.findall(r'^```bash\n(.*)\n```', README['Start'], re.M)
  assert [line.startswith('python3 -m venv') for line in start] == [True, True]
  followed = ('An experiment of your own', 'A learning problem of your own')
  count = sum(text.count('```') // 2 for text in README.values())
  assert count == len(start) + sum(README[title].count('```') // 2 for title in followed)


def test_the_readme_is_short_and_its_tables_are_of_the_recorded_runs():
  text = page('README.md')
  before, rest = text.split(record.BEGIN)
  table, after = rest.split(record.END)
  assert record.table(json.loads(record.RESULTS.read_text())) == table.strip()  # folded up, a row a number
  assert len((before + after).splitlines()) < 180 and text.count('<details>') == len(
    {n.split('/')[0] for n in record.EXPERIMENTS}
  )


def test_the_first_hour(follow, capsys):
  """The README from its first config to a task of one's own, whole."""
  files = follow(README['An experiment of your own'], *SHORT)
  assert files == ['photos.py', 'mine.py'] and len(list(pathlib.Path('photos').rglob('*.png'))) == 1797
  assert last('runs/lenet', 'test')['accuracy'] >= 0 and len(read('both.html')) > 1000
  predictions = read('predictions.csv').splitlines()
  assert len(predictions) == 184 and 'digit 3' in predictions[0] + predictions[1]
  files = follow(README['A learning problem of your own'], *SHORT)
  assert files == ['my_lab/autoencoder.py'] and 0 < last('runs/autoencoder', 'test')['loss'] < 1
  assert capsys.readouterr().out.splitlines()[-1] == '(1, 32, 32, 1)'


def test_data_of_ones_own(follow):
  follow(page('docs/tutorials/data.md'), *SHORT)
  assert last('runs/wine', 'test')['accuracy'] >= 0 and len(read('predictions.csv').splitlines()) == 179
  assert last('runs/tides', 'test')['mse'] > 0
  tomorrow = json.loads(read('tomorrow.jsonl'))
  assert list(tomorrow) == ['input', 'temperature', 'height'] and len(tomorrow['height']) == 24
  assert last('runs/waves', 'test')['accuracy'] >= 0
  recorded = json.loads(read('runs/tones/run.json'))['data']
  assert recorded['batch']['wave'] == [[8, 32], 'int32']
  task, _ = dl.load('runs/tones')
  assert 0 < task.info.fact('loudest') <= 20_000 and task.info.kind('wave').name == 'my_lab.tones.WAVE'


def test_a_model_and_a_loss_of_ones_own(follow):
  files = follow(page('docs/tutorials/model.md'), *SHORT)
  assert files == ['my_lab/nets.py', 'my_lab/losses.py'] and last('runs/wide', 'test')['loss'] > 0
  assert last('runs/margin', 'test')['loss'] > 0
  task, state = dl.load('runs/wide')
  assert state.params['model']['wide']['kernel'].shape == (64, 32)
  assert task.predict(state, np.zeros((2, 8, 8, 1), np.float32), jax.random.key(0))['label'].shape == (2,)


def test_a_task_of_ones_own(follow):
  assert follow(page('docs/tutorials/task.md'), *SHORT) == ['my_lab/denoise.py']
  assert last('runs/denoise', 'test')['loss'] > 0
  task, state = dl.load('runs/denoise')
  assert type(task).__name__ == 'Denoise' and task.noise == 0.2
  images = np.ones((2, 8, 8, 1), np.float32)
  assert task.predict(state, images, jax.random.key(0))['image'].shape == images.shape


def test_an_evaluator_of_ones_own(follow, capsys):
  assert follow(page('docs/tutorials/evaluator.md'), *SHORT) == ['my_lab/attacks.py']
  attacked, later = last('runs/attacked', 'attacked'), json.loads(capsys.readouterr().out.splitlines()[-1])
  assert later['split'] == 'attacked'
  assert later['loss'] > attacked['loss'] > last('runs/attacked', 'test')['loss']


@pytest.mark.thorough
def test_gradients_through_time(follow, capsys):
  follow(page('docs/tutorials/gradients.md'), *SHORT)
  (line,) = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith('{"split"')]
  assert 0 < line['gradient_factor'] < 1 and list(pathlib.Path('look/artifacts').glob('*_gradients.png'))
  assert pathlib.Path('gradients.png').read_bytes()[:4] == b'\x89PNG'
  assert last('runs/clipped', 'train')['loss'] > 0


@pytest.mark.thorough
def test_fine_tuning(follow):
  """With trainings of their own length: what the page says of their end."""
  follow(page('docs/tutorials/finetune.md'), '--noprogress')
  tuned, scratch = (last(f'runs/{name}', 'test')['accuracy'] for name in ('tuned', 'scratch'))
  assert tuned > 0.9 > 0.87 > scratch


@pytest.mark.thorough
def test_many_devices(follow):
  follow(page('docs/tutorials/devices.md'), *SHORT)
  assert json.loads(read('runs/split/run.json'))['devices']['count'] == 8


@pytest.mark.thorough
def test_a_sweep(follow):
  follow(page('docs/tutorials/sweeps.md'), *SHORT[:3])
  assert len(read('runs/rates/sweep.csv').splitlines()) >= 5
  assert last('runs/best', 'test')['accuracy'] >= 0


@pytest.mark.thorough
def test_what_is_done_with_runs(follow, capsys):
  text = sections(page('docs/runs.md'))['Use a checkpoint']
  elsewhere = r'^python.*(stdlib_gpt|jsb_lstm|shakespeare_gpt).*\n'  # they have tests of their own
  follow(re.sub(elsewhere, '', text, flags=re.M), *SHORT)
  assert pathlib.Path('samples.png').exists() and capsys.readouterr().out.strip()
