"""A user's mistake is one line on stderr with the nearest valid names: no traceback, nothing compiled or written."""

import os
import pathlib
import subprocess
import sys

import jax
import pytest
from small import TEXT, small

from dl import config
from dl.errors import ConfigError
from dl.training import loop

ROOT = pathlib.Path(__file__).parents[2]
DIGITS = str(ROOT / 'experiments/vision/digits_mlp.py')
PPO = str(ROOT / 'experiments/rl/cartpole_ppo.py')
GAN = str(ROOT / 'experiments/generative/digits_gan.py')
GPT = str(ROOT / 'experiments/text/stdlib_gpt.py')

LSTM = str(ROOT / 'experiments/text/shakespeare_lstm.py')
TEXTS = f"data={{'name': 'text.TextFiles', 'path': {str(TEXT)!r}, 'length': 64, 'batch_size': 4}}"
STREAMS = ['data.streams=4', 'data.vocabulary=bytes', 'model.vocab_size=256', 'task.carry=True']

MISTAKES = [
  (DIGITS, ['model.name=mpl.MLP'], "did you mean 'mlp.MLP'"),
  (DIGITS, ['model.name=mlp.MLPP'], "did you mean 'MLP'"),
  (DIGITS, ['model.hiden=(3,)'], "did you mean 'hidden'"),
  (DIGITS, ['model.hidden=abc'], 'config.model.hidden'),
  (DIGITS, ['model.activation=rellu'], 'relu'),
  (DIGITS, ['model.num_outputs=7'], '10 classes'),
  (DIGITS, ['task.name=classify.Clasify'], "did you mean 'Classify'"),
  (DIGITS, ['task.name=ppo.PPO'], 'config.'),
  (DIGITS, ['task.criterion=cros_entropy'], 'cross_entropy'),
  (DIGITS, ['task.label_smoothing=lots'], 'config.task.label_smoothing'),
  (DIGITS, ['data.name=sklearn.Digit'], "did you mean 'Digits'"),
  (DIGITS, ['data.name=tfds.Tfds', 'data.dataset=mnits', 'data.data_dir=/nonexistent'], 'mnits'),
  (DIGITS, ["data={'name': 'arrays.Npz', 'path': '/nonexistent.npz', 'batch_size': 4}"], '/nonexistent.npz'),
  (DIGITS, ['data.batch_size=0'], 'batch_size'),
  (DIGITS, ['data.batch_size=many'], 'batch_size'),
  (DIGITS, ['data.pixels=3'], 'pixels'),
  (DIGITS, ['data.split=trian'], 'train'),
  (DIGITS, ["data.augment=[{'name': 'random_shif', 'pixels': 1}]"], 'random_shift'),
  (DIGITS, ["eval={'test': {'split': 'tset'}}"], 'test'),
  (DIGITS, ["eval={'train': {}}"], 'take another name'),
  (DIGITS, ["optim={'adam': {'name': 'adamm', 'learning_rate': 0.1}}"], "'adam'"),
  (DIGITS, ["optim={'adam': {'name': 'adamw', 'learning_rate': 0.1, 'mask': 'kernl'}}"], 'matches no parameter'),
  (DIGITS, ["optim={'sgd': {'name': 'sgd', 'learning_rate': [['kernel', 0.1]]}}"], 'no pattern matches'),
  (DIGITS, ['train_for=3 eons'], 'config.train_for'),
  (DIGITS, ['eval_every=often'], 'config.eval_every'),
  (DIGITS, ['log_every=0'], 'config.log_every'),
  (DIGITS, ["keep={'best': 1}"], 'needs a metric'),
  (DIGITS, ["keep={'best': 1, 'metric': 'test/acuracy'}"], "did you mean 'test/accuracy'"),
  (DIGITS, ["early_stop={'metric': 'tset/loss', 'patience': 3}"], "'test/loss'"),
  (PPO, ["early_stop={'metric': 'test/episode_length', 'patience': 3}"], "give mode='min' or 'max'"),
  (DIGITS, ["early_stop={'metric': 'test/loss', 'patience': 'long'}"], 'config.early_stop.patience'),
  (DIGITS, ['steps_per_call=0'], 'config.steps_per_call'),
  (DIGITS, ["mesh={'data': 3}"], 'config.mesh'),
  (DIGITS, ["mesh={'model': 1}"], "'data'"),
  (DIGITS, ['sharding=fspd'], 'config.sharding'),
  (DIGITS, ["sharding=[['kernel', ['data']]]"], 'no pattern matches'),
  (DIGITS, ["sharding=[['.*', ['dta']]]"], "did you mean 'data'"),
  (DIGITS, ['model=None'], 'config.model'),
  (DIGITS, ['data=None'], 'config.data'),
  (PPO, ["data={'name': 'sklearn.Digits', 'batch_size': 4}"], 'makes its own data'),
  (PPO, ['task.env=cartpole.CartPol'], "'CartPole'"),
  (PPO, ['train_for=3 epochs'], 'no meaning here'),
  (GAN, ["optim={'generator': {'adam': {'name': 'adam', 'learning_rate': 0.1}}}"], "'discriminator'"),
  (GAN, ["optim={'generater': {'adam': {'name': 'adam', 'learning_rate': 0.1}}}"], "did you mean 'generator'"),
  (DIGITS, ["optim={'p': {'name': 'polyak_sgd'}}"], 'config.optim'),
  (
    DIGITS,
    ["optim={'e': {'name': 'params_ema', 'decay': 0.9}, 's': {'name': 'sgd', 'learning_rate': 0.1}}"],
    'last stage',
  ),
  (DIGITS, ["optim={'s': {'name': 'sgd', 'learning_rate': 1.0}, 'a': {'name': 'accumulate', 'steps': 2}}"], 'before'),
  (DIGITS, ["eval={'wine': {'name': 'sklearn.Wine', 'split': 'test'}}"], 'config.eval.wine'),
  (DIGITS, ['task.criterion=jax.numpy.dot'], 'config.'),
  (DIGITS, ['sharding=[1]'], 'pairs'),
  (DIGITS, ["sharding=[['.*']]"], 'pairs'),
  (DIGITS, ["sharding=[['.*', [['dato']]]]"], 'no mesh axis'),
  (DIGITS, ["keep={'last': 0}"], 'at least 1'),
  (DIGITS, ["keep={'best': 1, 'metric': 'test/class_accuracy'}"], "'test/accuracy'"),
  (DIGITS, ["expect={'tset/acuracy': (1.0, 0.1)}"], "'test/accuracy'"),
  (DIGITS, ["expect={'test/accuracy': 3}"], 'tolerance'),
  (DIGITS, ['steps_per_call=10', 'log_every=5 steps'], 'less than steps_per_call'),
  (GAN, ['model.discriminator.base=4'], 'config.'),
  (GPT, ['model.vocab_size=5'], '256'),
  (GPT, [TEXTS, 'data.length=900000'], 'length: a window takes 900001 tokens, and this part of the text has'),
  (GPT, [TEXTS, "data.vocabulary={'name': 'bpe', 'size': 300}"], 'model.vocab_size is 256, but the data has 300 token'),
  (GPT, [TEXTS, 'data.vocabulary=characters', 'task.prompt=ж'], "task.prompt: character 1, 'ж', is not in the vocab"),
  (GPT, [f'task.prompt={"def " * 65}'], 'config.task.prompt: has 260 tokens, and the model reads 256 at most'),
  (LSTM, [TEXTS, *STREAMS], 'config.eval.validation: each window of a stream would begin without the state'),
]


@pytest.fixture
def compilations():
  """Names of the functions which were compiled during the test."""
  seen = []
  listener = lambda event, duration, **_: seen.append(event) if 'backend_compile' in event else None
  jax.monitoring.register_event_duration_secs_listener(listener)
  yield seen
  jax.monitoring.unregister_event_duration_listener(listener)


@pytest.mark.parametrize(
  ('path', 'overrides', 'says'), MISTAKES, ids=lambda v: v[0][:40] if isinstance(v, list) else ''
)
def test_a_mistake_is_one_line_before_anything_happens(path, overrides, says, tmp_path, compilations):
  workdir = tmp_path / 'run'
  with pytest.raises(ConfigError) as e:
    loop.train(config.load(path, overrides), workdir, show_progress=False)
  assert says in str(e.value)
  assert '\n' not in str(e.value)
  assert not compilations
  assert not workdir.exists()


def test_a_workdir_of_another_config_is_refused_untouched(tmp_path):
  overrides = ['train_for=2', 'eval={}']
  loop.train(config.load(DIGITS, overrides), tmp_path / 'run', show_progress=False)
  before = {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in (tmp_path / 'run').rglob('*') if p.is_file()}
  with pytest.raises(ConfigError, match=r'another config: seed \(0, now 1\)'):
    loop.train(config.load(DIGITS, [*overrides, 'seed=1']), tmp_path / 'run', show_progress=False)
  assert before == {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in (tmp_path / 'run').rglob('*') if p.is_file()}


def test_a_directory_with_other_files_is_refused(tmp_path):
  (tmp_path / 'thesis.tex').write_text('precious')
  with pytest.raises(ConfigError, match='not empty and holds no run'):
    loop.train(config.load(DIGITS), tmp_path, show_progress=False)


@pytest.mark.parametrize(
  ('arguments', 'says'),
  [
    (['dl.train', f'--config={DIGITS}', '--workdir=W', '--config.modle.x=1'], "did you mean 'model'"),
    (['dl.train', '--config=nowhere.py', '--workdir=W'], 'nowhere.py'),
    (['dl.train', f'--config={DIGITS}'], '--workdir is needed'),
    (['dl.train', f'--config={DIGITS}', '--workdir=W', '--wrokdir=W'], 'wrokdir'),
    (['dl.evaluate', '--workdir=W'], 'not the work directory of a run'),
    (['dl.predict', '--workdir=W', '--inputs=x.png'], 'not the work directory of a run'),
    (['dl.sample', '--workdir=W', '--step=newest'], "expected a number or 'best'"),
    (['dl.report', 'W'], 'W'),
  ],
  ids=lambda v: v[0] if isinstance(v, list) else '',
)
def test_the_commands_say_it_in_one_line(arguments, says, tmp_path, monkeypatch, command):
  monkeypatch.chdir(tmp_path)
  code, out, err = command(*arguments)
  assert (code, out, err.count('\n')) == (2, '', 1) and says in err, err
  assert not list(tmp_path.iterdir())


def test_a_process_of_its_own_says_it_in_one_line(tmp_path):
  arguments = ['-m', 'dl.train', f'--config={DIGITS}', '--workdir=W', '--config.modle.x=1']
  environment = os.environ | {'PYTHONPATH': str(ROOT), 'JAX_PLATFORMS': 'cpu'}
  done = subprocess.run(
    [sys.executable, *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
  )
  assert (done.returncode, done.stdout, done.stderr.count('\n')) == (2, '', 1), done.stderr
  assert "did you mean 'model'" in done.stderr
  assert not list(tmp_path.iterdir())


def test_a_mistake_in_a_config_is_said_before_that_the_directory_is_taken(runs):
  for override, says in (
    ('seed=1', 'holds a run of another config: seed'),
    ('model.num_classes=9', 'config.model.num_classes is 9, but the data has 10 classes'),
  ):
    with pytest.raises(ConfigError, match=says):
      loop.train(small('perceptron', override), runs('perceptron'), show_progress=False)


def test_a_misspelt_run_is_told_the_nearest(tmp_path, command):
  for name in ('digits', 'wine'):
    (tmp_path / name).mkdir()
    (tmp_path / name / 'config.json').write_text('{}')
  says = "is not the work directory of a run: it has no run.json; did you mean 'digits'?"
  for arguments in (['dl.predict', '--inputs=x.png'], ['dl.sample']):
    assert command(*arguments, f'--workdir={tmp_path}/digts')[2] == f'error: {tmp_path}/digts {says}\n'
  inside = f'there are runs in it: {tmp_path}/digits, {tmp_path}/wine'
  assert inside in command('dl.predict', '--inputs=x.png', f'--workdir={tmp_path}')[2]
  (tmp_path / 'other').mkdir()
  assert (
    'it has no run.json; beside it there are digits, wine' in command('dl.sample', f'--workdir={tmp_path}/other')[2]
  )
