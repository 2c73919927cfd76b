"""Configs: loading, overriding, comparing, and mistakes as one line."""

import dataclasses
import json

import ml_collections
import pytest

from dl import config
from dl.config.duration import to_steps
from dl.errors import ConfigError

FILE = """
from dl.config import config
def get_config(width='8'):
  return config(
    task=dict(name='classify.Classify'),
    model=dict(name='mlp.MLP', hidden=(int(width), 4)),
    data=dict(name='sklearn.Digits', batch_size=64, augment=[dict(name='random_shift', pixels=1)]),
    optim=dict(adam=dict(name='adam', learning_rate=dict(name='cosine_decay_schedule', init_value=1e-3))),
    train_for='2 epochs',
  )
"""


@pytest.fixture
def path(tmp_path):
  file = tmp_path / 'small.py'
  file.write_text(FILE)
  return str(file)


def test_load_fills_defaults_and_passes_the_argument(path):
  experiment = config.load(path + ':16')
  assert experiment.model['hidden'] == [16, 4]
  assert experiment.seed == 0 and experiment.mesh == {'data': -1}
  made = config.config(**experiment.to_json())
  assert isinstance(made, ml_collections.ConfigDict)
  assert config.resolve(made) == config.resolve(experiment) == experiment


def test_a_config_is_made_of_another(path):
  experiment = config.load(path + ':16')
  changed = config.config(**{**config.config(**experiment.to_json()), 'seed': 1})
  assert config.resolve(changed) == dataclasses.replace(experiment, seed=1)


@pytest.mark.parametrize(
  ('text', 'path_', 'value'),
  [
    ('optim.adam.learning_rate=3e-4', 'optim.adam.learning_rate', 3e-4),
    ('optim.adam.learning_rate.init_value=0.5', 'optim.adam.learning_rate.init_value', 0.5),
    ('train_for=5 epochs', 'train_for', '5 epochs'),
    ('train_for=500', 'train_for', 500),
    ('model.hidden=(32,)', 'model.hidden', [32]),
    ('model.dropout=0.1', 'model.dropout', 0.1),
    ('model.batch_norm=true', 'model.batch_norm', True),
    ('data.augment.0.pixels=2', 'data.augment.0.pixels', 2),
    ('data.augment=[]', 'data.augment', []),
    ('early_stop=None', 'early_stop', None),
    ("early_stop=dict(metric='test/loss', patience='1 epoch')", 'early_stop',
     {'metric': 'test/loss', 'patience': '1 epoch'}),
    ("data.augment=[dict(name='random_shift', pixels=-1)]", 'data.augment', [{'name': 'random_shift', 'pixels': -1}]),
    ('task.name=dict(print(1))', 'task.name', 'dict(print(1))'),
    ('init_from.name=run', 'init_from', {'name': 'run'}),  # a part that is None is made
    ("task.name=my_lab.tasks.Mine", 'task.name', 'my_lab.tasks.Mine'),
  ],
)  # fmt: skip
def test_overrides(path, text, path_, value):
  node = config.load(path, [text]).to_json()
  for name in path_.split('.'):
    node = node[int(name)] if isinstance(node, list) else node[name]
  assert node == value and type(node) is type(value)


@pytest.mark.parametrize(
  ('overrides', 'says'),
  [
    (['modle.hidden=1'], "did you mean 'model'"),
    (['trian_for=1'], "did you mean 'train_for'"),
    (['optim.adm.learning_rate=1'], "did you mean 'adam'"),
    (['data.augment.3.pixels=2'], 'from 0 to 0'),
    (['seed.x=1'], 'has no key'),
    (['init_from.nme.x=run'], "no key 'nme'"),
    (['seed=abc'], 'config.seed: expected int'),
    (['seed=1.5'], 'config.seed: expected int'),
    (['model=[]'], 'config.model'),
    (['train_for'], 'needs a value'),
    (['precision=float16'], 'config.precision'),
  ],
)
def test_bad_overrides_are_one_line(path, overrides, says):
  with pytest.raises(ConfigError) as e:
    config.load(path, overrides)
  assert says in str(e.value) and '\n' not in str(e.value)


def test_a_mistake_in_a_file_of_a_relative_path_has_its_line(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  (tmp_path / 'bad.py').write_text('def get_config(size):\n  return dict(size=dict(small=1)[size])')
  with pytest.raises(ConfigError, match=r"^--config: bad\.py:2: KeyError: 'large'$"):
    config.load('bad.py:large')


@pytest.mark.parametrize(
  ('text', 'says'),
  [
    ('x = 1', 'no get_config'),
    ('def get_config():\n  return 3', 'not a config'),
    ('def get_config():\n  return 1 / 0', ':2: ZeroDivisionError'),
    ('def get_config(:', ':1: SyntaxError'),
    ('def get_config():\n  return dict(tsk={})', "did you mean 'task'"),
    (
      'def get_config():\n  return dict(task={}, optim={}, train_for=1, model=dict(a=print))',
      'must hold plain values',
    ),
  ],
)
def test_bad_files_are_one_line(tmp_path, text, says):
  file = tmp_path / 'bad.py'
  file.write_text(text)
  with pytest.raises(ConfigError) as e:
    config.load(str(file))
  assert says in str(e.value) and '\n' not in str(e.value)


def test_missing_file_names_the_near_ones(path):
  with pytest.raises(ConfigError, match=r"did you mean '.*small\.py'"):
    config.load(path.replace('small', 'smal'))


def test_the_order_of_stages_is_kept():
  stages = dict(l2=dict(name='add_decayed_weights'), clip=dict(name='clip'), adam=dict(name='adam'))
  kept = config.resolve(config.config(task={}, optim=stages, train_for=1))
  assert list(kept.optim) == list(config.resolve(kept.to_json()).optim) == ['l2', 'clip', 'adam']


def test_differences():
  a = config.Experiment(task={'name': 'x', 'y': 1, 'z': [1, 2], 'w': 1}, optim={}, train_for=1)
  b = dataclasses.replace(a, task={'name': 'x', 'y': 2, 'z': [1, 2]}, seed=3)
  assert config.differences(a, b) == {'task.y': (1, 2), 'task.w': (1, None), 'seed': (0, 3)}


def test_an_experiment_survives_json_and_is_a_copy_there(path):
  experiment = config.load(path, ["sharding=[('kernel', 'model')]", 'cite=["x"]'])
  plain = json.loads(json.dumps(experiment.to_json()))
  assert config.resolve(plain) == experiment and not config.differences(config.resolve(plain), experiment)
  experiment.to_json()['data']['batch_size'] = 1
  assert experiment.data['batch_size'] == 64


def test_an_override_leaves_the_experiment_as_it_was(path):
  experiment = config.load(path)
  changed = config.override(experiment, ['data.batch_size=8', 'seed=1'])
  assert (changed.data['batch_size'], changed.seed) == (8, 1) and experiment == config.load(path)


def test_an_experiment_of_another_is_checked(path):
  with pytest.raises(ConfigError, match=r'config\.seed: expected int'):
    dataclasses.replace(config.load(path), seed='x')


def test_durations():
  full = dict(steps_per_epoch=22.5, examples_per_step=64, total_steps=900)
  assert to_steps('20 epochs', 'x', **full) == 450
  assert to_steps('1 epoch', 'x', **full) == 22
  assert to_steps('5%', 'x', **full) == 45
  assert to_steps('1e4 examples', 'x', **full) == 156
  assert to_steps('500 steps', 'x') == to_steps(500, 'x') == 500
  assert to_steps('0.001%', 'x', **full) == 1
  for bad in ('5 parsecs', 'epochs', '', None, -1, 1.5, True, '-3 steps'):
    with pytest.raises(ConfigError, match='x: '):
      to_steps(bad, 'x', **full)
  with pytest.raises(ConfigError, match='data set'):
    to_steps('1 epoch', 'x')
