"""Whose code a run is of: a user's own files are copied, and the commits of their repositories are kept."""

import os
import pathlib
import shlex
import subprocess
import sys
import types

import pytest
from small import small

from dl import config
from dl.store import provenance, workdir
from dl.training import loop

NETS = """
import flax.linen as nn
from my_lab_here.layers import width

class Narrow(nn.Module):
  @nn.compact
  def __call__(self, x, train=False):
    return nn.Dense(10)(nn.relu(nn.Dense(width())(x.reshape(len(x), -1))))
"""


def git(folder, *arguments):
  names = ('-c', 'user.name=A', '-c', 'user.email=a@b.c', '-c', 'commit.gpgsign=false')
  environment = {k: v for k, v in os.environ.items() if not k.startswith('GIT_')}
  done = subprocess.run(
    ['git', *names, *arguments], cwd=folder, capture_output=True, text=True, check=True, env=environment
  )
  return done.stdout.strip()


@pytest.fixture
def lab(tmp_path, monkeypatch):
  """A repository of a user, with a package and a config file; none of it is installed."""
  folder = tmp_path / 'lab'
  package = folder / 'my_lab_here'
  package.mkdir(parents=True)
  (package / '__init__.py').write_text('')
  (package / 'layers.py').write_text('def width():\n  return 4\n')
  (package / 'unused.py').write_text('nobody = True\n')
  (package / 'nets.py').write_text(NETS)
  (folder / 'narrow.py').write_text('# a config\n')
  git(folder, 'init', '-q')
  git(folder, 'add', '-A')
  git(folder, 'commit', '-qm', 'first')
  monkeypatch.syspath_prepend(str(folder))
  yield folder
  for name in [name for name in sys.modules if name.partition('.')[0] == 'my_lab_here']:
    del sys.modules[name]


def test_a_run_keeps_the_code_of_its_user(lab, tmp_path):
  experiment = small('perceptron', "model={'name': 'my_lab_here.nets.Narrow'}", 'train_for=2', 'eval_every=2')
  run = tmp_path / 'run'
  loop.train(experiment, run, show_progress=False, config_file=lab / 'narrow.py')
  facts = workdir.read_run(run)
  own = facts['own']
  assert own['repositories'] == {str(lab): git(lab, 'rev-parse', 'HEAD')}
  copies = {p.relative_to(run / own['code']).as_posix(): p.read_text() for p in (run / own['code']).rglob('*.py')}
  assert copies == {
    'config-file/narrow.py': '# a config\n',
    'my_lab_here/__init__.py': '',
    'my_lab_here/layers.py': 'def width():\n  return 4\n',
    'my_lab_here/nets.py': NETS,
  }
  assert facts['commit'] == provenance.commit_of_this_code()

  # A later session has its own: what has changed since is kept beside it, what has not is there once.
  (lab / 'my_lab_here' / 'layers.py').write_text('def width():\n  return 2 + 2\n')
  loop.train(experiment_with(experiment, 3), run, show_progress=False, config_file=lab / 'narrow.py', extend=True)
  sessions = workdir.read_run(run)['sessions']
  assert [s['own']['repositories'][str(lab)].endswith('+changes') for s in sessions] == [False, True]
  assert sessions[0]['own']['code'] != sessions[1]['own']['code']
  assert '2 + 2' in (run / sessions[1]['own']['code'] / 'my_lab_here' / 'layers.py').read_text()


def experiment_with(experiment, steps):
  return type(experiment)(**vars(experiment) | {'train_for': steps})


def loaded(monkeypatch, folder, *names):
  """Own files of a user, as modules which are loaded."""
  for name in names:
    (folder / f'{name}.py').write_text(f'# {name}\n')
    module = types.ModuleType(name)
    module.__file__ = str(folder / f'{name}.py')
    monkeypatch.setitem(sys.modules, name, module)


def test_a_config_file_does_not_take_the_place_of_a_module_of_its_name(tmp_path, monkeypatch):
  lab = tmp_path / 'lab'
  (lab / 'configs').mkdir(parents=True)
  (lab / 'configs' / 'my_net_here.py').write_text('# the config\n')
  loaded(monkeypatch, lab, 'my_net_here')
  experiment = small('perceptron', "model={'name': 'my_net_here.Net'}")
  found = provenance.own(tmp_path, experiment, lab / 'configs' / 'my_net_here.py')
  copies = tmp_path / found['code']
  assert (copies / 'my_net_here.py').read_text() == '# my_net_here\n'
  assert (copies / 'config-file' / 'my_net_here.py').read_text() == '# the config\n'


def test_a_commit_which_lacks_a_file_that_ran_is_not_clean(lab, tmp_path, monkeypatch):
  assert not provenance.commit(lab).endswith('+changes')
  loaded(monkeypatch, lab, 'my_lab_untracked')
  experiment = small('perceptron', "model={'name': 'my_lab_untracked.Net'}")
  assert provenance.own(tmp_path, experiment, None)['repositories'][str(lab)].endswith('+changes')
  assert not provenance.commit(lab, [lab / 'narrow.py']).endswith('+changes')


def test_what_lies_beside_the_config_file_is_copied_though_no_config_names_it(lab, tmp_path, monkeypatch):
  loaded(monkeypatch, lab, 'my_shared_parts')
  found = provenance.own(tmp_path, small('digits'), lab / 'narrow.py')
  assert (tmp_path / found['code'] / 'my_shared_parts.py').read_text() == '# my_shared_parts\n'


@pytest.mark.parametrize('notebook', [False, True])
def test_a_script_or_notebook_which_loads_a_config_keeps_both(lab, tmp_path, monkeypatch, notebook):
  (lab / 'mine.py').write_text(f'def get_config():\n  return {small("digits").to_json()!r}\n')
  (lab / 'script.py').write_text('# trains\n')
  main = types.ModuleType('__main__')
  if notebook:
    monkeypatch.chdir(lab)
  else:
    main.__file__ = str(lab / 'script.py')
  monkeypatch.setitem(sys.modules, '__main__', main)
  monkeypatch.setitem(sys.modules, 'config-file.mine', None)  # taken back at the end
  found = provenance.own(tmp_path, config.load(str(lab / 'mine.py')), None)
  copies = [p.relative_to(tmp_path / found['code']).as_posix() for p in (tmp_path / found['code']).rglob('*.py')]
  assert sorted(copies) == ['config-file/mine.py', *([] if notebook else ['script.py'])]
  assert found['repositories'] == {str(lab): git(lab, 'rev-parse', 'HEAD') + '+changes'}


def test_the_command_is_said_as_people_write_it(monkeypatch):
  given = ['-m', 'dl.train', "--config.model={'name': 'mlp.MLP'}", 'a b', 'it\'s "so"']
  monkeypatch.setattr(sys, 'orig_argv', ['python', *given])
  said = workdir.session(small('digits'))['command']
  assert """ -m dl.train "--config.model={'name': 'mlp.MLP'}" 'a b' """ in said and shlex.split(said)[1:] == given


def test_code_of_this_project_and_of_installed_packages_is_not_copied(tmp_path, monkeypatch):
  by_hand = types.ModuleType('made_by_hand')
  by_hand.__file__ = '_ops.py'  # as torch.ops says
  monkeypatch.setitem(sys.modules, 'made_by_hand', by_hand)
  assert provenance.modules(small('digits')) == {}
  assert provenance.own(tmp_path, small('digits'), None) == {}
  assert list(tmp_path.iterdir()) == []
  root = pathlib.Path(provenance.__file__).parents[2]
  found = provenance.own(tmp_path, small('digits'), root / 'experiments' / 'vision' / 'digits_mlp.py')
  assert found.keys() == {'code'}  # its commit is `commit`
  assert [p.name for p in (tmp_path / found['code']).rglob('*.py')] == ['digits_mlp.py']


def test_a_folder_without_a_repository_has_no_commit(tmp_path):
  (tmp_path / 'a.py').write_text('x = 1')
  assert provenance.own(tmp_path / 'run', small('digits'), tmp_path / 'a.py').keys() == {'code'}
