"""Every bundled config with mistakes in it: each is one line, exit code 2, before anything is compiled or written.

The test command tries some in a few configs, which have each task, model and source between them; `--thorough` some in
every config, and `--fuzz=500` tries 500 a config (`pytest tests/test_fuzz.py --thorough --fuzz=500`).
"""

import collections
import json
import pathlib
import re
import subprocess
import sys
import types

import faces
import jax
import numpy as np
import pytest
from mutations import mutations, source
from PIL import Image
from scipy import io
from small import ROOT

from dl import config
from dl.commands import cli
from dl.contract.state import State
from dl.data import memory as data_memory
from dl.data import statistics
from dl.data.sources import text as texts
from dl.data.sources import tfds
from dl.errors import ConfigError
from dl.store import workdir
from dl.training import assemble, memory, prepare, restore, steps

# Configs -> changes which keep a trial short, and put a small set in the place of one that is not here.
VARIANTS = {
  'scale/gpt': ['124m', '8b'],
  'tabular/breast_cancer_mlp': ['0', '4'],
  'vision/transfer_mnist_to_digits': ['pretrain', 'finetune', 'scratch'],
}
SPECS = [
  str(path) + suffix
  for path in sorted((ROOT / 'experiments').rglob('*.py'))
  for suffix in [f':{v}' for v in VARIANTS.get(str(path.relative_to(ROOT / 'experiments').with_suffix('')), [])] or ['']
]
TOTAL = 36
"""Mistakes which the test command tries, whatever the number of configs."""


def parts_of(spec):
  """The files of dl that a config names, each with what it is there: ('model', 'resnet')."""
  plain = config.load(spec).to_json()

  def names(node):
    if isinstance(node, dict):
      yield from [node['name']] if isinstance(node.get('name'), str) else []
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
      yield from names(child)

  named = {(key, name.rpartition('.')[0]) for key in ('task', 'model', 'data') for name in names(plain[key])}
  return named | {('init_from', '') for _ in range(bool(plain['init_from']))}


def representatives():
  """A few configs which name all that the others name, the large ones last."""
  left = {spec: parts_of(spec) for spec in sorted(SPECS, key=lambda s: '/scale/' in s or '/imagenet' in s)}
  missing, chosen = set().union(*left.values()), []
  while missing:
    chosen.append(max(left, key=lambda spec: len(left[spec] & missing)))
    missing -= left.pop(chosen[-1])
  return chosen


FEW = representatives()
PREPARED = {
  'mnist': ((28, 28, 1), 10),
  'fashion_mnist': ((28, 28, 1), 10),
  'cifar10': ((32, 32, 3), 10),
  'imagenet2012': ((None, None, 3), 1000),
}
EXAMPLES = 64


class Reached(BaseException):
  """A run got past its checks."""


class Prepared:
  """A few random images in the place of a TFDS set; whatever is asked of it but these fails as it would."""

  def __init__(self, name, split):
    import tensorflow_datasets as tf

    shape, classes = PREPARED[name]
    features = tf.features.FeaturesDict(
      {'image': tf.features.Image(shape=shape), 'label': tf.features.ClassLabel(num_classes=classes)}
    )
    splits = {'train': EXAMPLES, 'validation' if name == 'imagenet2012' else 'test': EXAMPLES}
    if split != 'all' and split not in splits:
      raise ConfigError(f'split: {name}: Unknown split {split!r}')
    self.dataset_info = types.SimpleNamespace(
      name=name,
      features=features,
      supervised_keys=('image', 'label'),
      splits={k: types.SimpleNamespace(num_examples=n) for k, n in splits.items()},
    )
    rng = np.random.default_rng(0)
    size = [s or 48 for s in shape]
    self._images = [encoded(rng.integers(0, 256, size, np.uint8)) for _ in range(4)]
    self._classes = classes

  def __len__(self):
    return EXAMPLES

  def __getitem__(self, index):
    return {'image': self._images[index % 4], 'label': np.int64(index % self._classes)}

  def __getitems__(self, indices):
    return [self[i] for i in indices]


def encoded(pixels):
  import io

  file = io.BytesIO()
  Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(file, 'PNG')
  return file.getvalue()


def pairs(folder):
  """Twenty sections of neurons, of random pixels."""
  rng = np.random.default_rng(0)
  for kind in ('raw', 'membranes'):
    (folder / 'stack1' / kind).mkdir(parents=True)
    for i in range(20):
      pixels = rng.integers(0, 256, (64, 64), np.uint8)
      if kind == 'membranes':
        pixels = (pixels > 127).astype(np.uint8) * 255
      picture = Image.fromarray(pixels)
      (picture.convert('1') if kind == 'membranes' else picture).save(folder / 'stack1' / kind / f'{i:02}.png')
  return str(folder)


def hours(folder):
  """A table of 1,000 hours, of random numbers."""
  times = np.datetime64('2016-07-01T00:00:00') + np.arange(1000) * np.timedelta64(1, 'h')
  rows = [f'{t},{a:.3f},{b:.3f}' for t, (a, b) in zip(times, np.random.default_rng(0).random((1000, 2)), strict=True)]
  (folder / 'hours.csv').write_text('\n'.join(['date,a,b', *rows]))
  return str(folder / 'hours.csv')


def moves(folder):
  """Twenty series of a hand, of random numbers."""
  rng = np.random.default_rng(0)
  lines = [f'{",".join(f"{x:.3f}" for x in rng.normal(size=24))}:{1 + i % 2}' for i in range(20)]
  for part in ('TRAIN', 'TEST'):
    (folder / f'GunPoint_{part}.ts').write_text('\n'.join(['@classLabel true 1 2', '@data', *lines]))
  return str(folder)


def messages(folder):
  """Three hundred messages of random words, of two classes."""
  rng = np.random.default_rng(0)
  rows = [f'{("ham", "spam")[i % 2]}\t{" ".join(map(str, rng.integers(0, 9, 5)))}' for i in range(300)]
  (folder / 'messages').write_text('\n'.join(rows))
  return str(folder / 'messages')


def abstracts(folder):
  """Forty sentences of two words."""
  (folder / 'sentences.tsv').write_text('a\tB-Disease\nb\tI-Disease\n\nb\tO\na\tO\n\n' * 20)
  return dict.fromkeys(('train', 'validation', 'test'), str(folder / 'sentences.tsv'))


def commands_of(folder):
  """Three hundred commands of two words, each with its actions, as training and test part."""
  lines = [f'IN: a{i % 4} b{i // 4 % 8} OUT: A{i % 3} B{i % 2}' for i in range(300)]
  (folder / 'commands').write_text('\n'.join(lines))
  path = dict.fromkeys(('train', 'validation', 'test'), str(folder / 'commands'))
  return dict(path=path, pattern='IN: (?P<source>.*) OUT: (?P<target>.*)', source='source', target='target')


def chorales(folder):
  """Twenty pieces of eight frames of 88 keys in each part."""
  pieces = np.empty((1, 20), object)
  for i in range(20):
    pieces[0, i] = (np.random.default_rng(i).random((8, 88)) < 0.05).astype(np.uint8)
  io.savemat(folder / 'tunes.mat', dict.fromkeys(('traindata', 'validdata', 'testdata'), pieces))
  return str(folder / 'tunes.mat')


@pytest.fixture(scope='session')
def small_sets(tmp_path_factory):
  """Name of a source -> what its config changes."""
  return {
    'segmentation.Pairs': dict(path=pairs(tmp_path_factory.mktemp('neurons')), tile=32),
    'series.Csv': dict(path=hours(tmp_path_factory.mktemp('hours')), train=600, validation=200, test=200),
    'conll.Conll': dict(path=abstracts(tmp_path_factory.mktemp('abstracts'))),
    'music.PianoRolls': dict(path=chorales(tmp_path_factory.mktemp('chorales'))),
    'pairs.Pairs': commands_of(tmp_path_factory.mktemp('commands')),
    'text.TextFiles': dict(path=verses(tmp_path_factory.mktemp('verses')), validation=0.1, test=0.1),
    'texts.Labelled': dict(
      path=messages(tmp_path_factory.mktemp('messages')), label=0, text=1, validation=0.2, test=0.2
    ),
    'ucr.Ts': dict(path=moves(tmp_path_factory.mktemp('moves'))),
  }


def verses(folder):
  """A text of few characters, long enough for windows in each part."""
  (folder / 'verses.txt').write_text('To be, or not to be: that is the question.\n' * 2000)
  return str(folder / 'verses.txt')


def shortened(spec, small_sets):
  """A config in which all that a trial reads is here and small."""
  experiment = config.load(spec)
  data = experiment.data or {}
  if data.get('name') == 'tfds.Tfds':
    data['batch_size'] = 16
    for evaluation in experiment.eval.values():
      evaluation['batch_size'] = 16
  data |= small_sets.get(data.get('name'), {})
  if data.get('name') == 'texts.Labelled':
    for argument in {'num_classes', 'num_outputs'} & experiment.model.keys():
      experiment.model[argument] = 2  # as the messages above, whose parts are the usual ones
    data.pop('vocabulary', None)  # a tokenizer's, of another run or of more words than there are here
    for name in [name for name, evaluation in experiment.eval.items() if 'by' in evaluation]:
      experiment.eval.pop(name)  # by a class that the messages have not
    for evaluation in experiment.eval.values():
      evaluation['split'] = evaluation['split'].replace('out_of_scope', 'test')
  if 'exclude' in (experiment.init_from or {}):
    experiment.init_from['exclude'] = ('^out',)  # the run that is there is one of this model
  return experiment


class Trials:
  """Trains configs up to where something would be compiled or written, as the command does.

  What a mistake does not touch is built once: the stages of `assemble` by the parts of the config that they depend on.
  """

  def __init__(self, base, folder, monkeypatch, capsys):
    self._base, self._folder, self._capsys = base, folder, capsys
    self.directory = folder / 'run'
    self.errors = []
    self._kept = {}
    self._now = None
    self._patch(monkeypatch)

  def _patch(self, patch):
    real_open, real_load, abstractly, assembled = tfds._open, restore.load, assemble.abstractly, prepare.assemble
    data = self._base.data or {}

    def open_set(dataset, data_dir, builder_kwargs, split, decoders):
      if data.get('dataset') == dataset and (data_dir, builder_kwargs) == (data['data_dir'], data['builder_kwargs']):
        return Prepared(dataset, split)
      return real_open(dataset, data_dir, builder_kwargs, split, decoders)

    def load_run(path, step=None, averaged=True):
      if path != self._base.init_from['path']:
        return real_load(path, step, averaged)
      parts = assembled(self._base)
      zeros = lambda tree: jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), tree)
      return parts.task, State(step=0, params=zeros(parts.state.params), opt={}, extra=zeros(parts.state.extra))

    def stage(config):
      self._now, self._stage = config, 0
      return assembled(config)

    def once(function, *arguments, where='config.model'):
      self._stage += 1
      parts = ['task', 'model', 'precision', 'data'] + (
        ['optim', 'train_for', 'seed', 'eval'] if self._stage > 2 else []
      )
      key = self._stage, where, json.dumps([getattr(self._now, p) for p in parts])
      if key not in self._kept:
        found = abstractly(function, *arguments, where=where)
        if self._stage > 4:
          return found  # of evaluations, whose number of stages depends on the config
        self._kept[key] = found
      return self._kept[key]

    def reached(*_, **__):
      raise Reached

    def fail(error):
      self.errors.append(str(error))
      return fail_(error)

    fail_ = cli.fail
    files = texts.library_files()
    patch.setattr(tfds, '_open', open_set)
    patch.setattr(texts, 'library_files', lambda: files)
    patch.setattr(statistics, 'SAMPLE', 4)
    for module in (data_memory, memory):
      patch.setattr(module, 'host_memory', lambda: 10**12)  # the largest of the configs is for larger machines
    patch.setattr(restore, 'load', load_run)
    patch.setattr(assemble, 'abstractly', once)
    patch.setattr(prepare, 'assemble', stage)
    patch.setattr(workdir, 'claim', reached)
    compiled = steps.compiled

    def guarded(parts, mesh):
      found = compiled(parts, mesh)
      return steps.Compiled(*([reached] * 5), like=found.like, note=found.note)

    patch.setattr(steps, 'compiled', guarded)
    patch.setattr(cli, 'fail', fail)

  def __call__(self, plain):
    """(exit code, or what went wrong; the error line)."""
    path = self._folder / 'config.py'
    path.write_text(written(plain), encoding='utf-8')
    return run_main('dl.train', self._capsys, f'--config={path}', f'--workdir={self.directory}', '--noprogress')


def written(plain):
  """A config file which makes a config, right or wrong."""
  head = 'from math import inf, nan\nfrom dl.config import config\n\n'
  return f'{head}def get_config():\n  return config(**{source(plain)})\n'


def run_main(module, capsys, *arguments):
  """(exit code or the exception, stderr) of a command in this process."""
  try:
    faces.run(module, *arguments)
    code = 0
  except SystemExit as e:
    code = e.code or 0
  except Reached:
    code = 'accepted'
  except Exception as e:
    code = e
  return code, capsys.readouterr().err


named = lambda spec: str(pathlib.Path(spec).relative_to(ROOT / 'experiments'))


@pytest.mark.parametrize('spec', SPECS, ids=named)
def test_where_one_evaluation_chooses_the_best_others_are_of_that_alone(spec):
  """Numbers of the test part along the way would let one choose by them."""
  experiment = config.load(spec)
  if experiment.keep.get('best'):
    chooses = experiment.keep['metric'].partition('/')[0]
    assert {of.get('of') for name, of in experiment.eval.items() if name != chooses} <= {'best'}


@pytest.mark.parametrize('spec', FEW, ids=named)
def test_some_mistakes_are_one_line(spec, small_sets, tmp_path, monkeypatch, capsys):
  assert_refuses_mistakes(spec, -(-TOTAL // len(FEW)), small_sets, tmp_path, monkeypatch, capsys)


@pytest.mark.thorough
@pytest.mark.parametrize('spec', SPECS, ids=named)
def test_every_mistake_is_one_line(spec, small_sets, tmp_path, monkeypatch, capsys, request):
  assert_refuses_mistakes(spec, request.config.getoption('fuzz'), small_sets, tmp_path, monkeypatch, capsys)


def assert_refuses_mistakes(spec, count, small_sets, tmp_path, monkeypatch, capsys):
  base = shortened(spec, small_sets)
  trial = Trials(base, tmp_path, monkeypatch, capsys)
  code, err = trial(base.to_json())
  assert code == 'accepted', (code, err)  # without a mistake
  wrong, kinds = [], collections.Counter()
  for mutation in mutations(base.to_json(), count, spec.rpartition('experiments')[2]):
    kinds[mutation.kind] += 1
    trial.errors.clear()
    code, err = trial(mutation.apply(base.to_json()))
    problem = misreported(mutation, code, err, trial.errors)
    if trial.directory.exists():
      problem = 'wrote'
    if problem:
      wrong.append(f'{problem}: {mutation}'[:400])
      with capsys.disabled():
        print(f'\n{wrong[-1]}', flush=True)
  print(f'{spec}: {sum(kinds.values())} mistakes {dict(kinds)}, {len(wrong)} not refused as they should be')
  assert not wrong, '\n' + '\n'.join(wrong)


def misreported(mutation, code, err, errors):
  """What is wrong with how a mistake was refused, if anything."""
  if code == 'accepted':
    return 'accepted'
  if isinstance(code, Exception):
    return f'traceback {type(code).__name__}: {code}'[:200].replace('\n', ' ')
  if code != 2 or err.count('\n') != 1 or not err.startswith('error: '):
    return f'exit code {code}, {err[:200]!r}'
  if any('\n' in e for e in errors):
    return f'more than one line: {errors}'
  keys = {str(key) for path, _ in mutation.changes for key in path}
  keys |= {k for _, value in mutation.changes if isinstance(value, dict) for k in value}
  if not any(re.search(rf'(^|\W){re.escape(key)}(\W|$)', err) for key in keys if key != 'name'):
    return f'names no key of it ({err.strip()[:200]})'
  return None


# -- Real processes, and the command lines.


@pytest.mark.thorough
def test_mistakes_in_a_process_of_their_own(tmp_path, environment, request):
  """Some of each kind: exit code 2, one line, no traceback, no work directory."""
  count = 1 if request.config.getoption('fuzz') < 100 else 5
  base = config.load(str(ROOT / 'experiments/vision/digits_lenet.py')).to_json()
  other = base | {'data': {'name': 'arrays.Npz', 'path': 'x', 'batch_size': 8}}
  found = {'file': [(other, m) for m in mutations(other, 2000, 'files') if m.kind == 'file']}
  for mutation in mutations(base, 400, 'processes'):
    found.setdefault(mutation.kind, []).append((base, mutation))
  assert found.keys() == {'type', 'unknown', 'missing', 'absurd', 'regex', 'file'}
  trials = [trial for some in found.values() for trial in some[:count]]
  for start in range(0, len(trials), 3):
    running = []
    for i, (plain, mutation) in enumerate(trials[start : start + 3], start):
      (tmp_path / f'{i}.py').write_text(written(mutation.apply(plain)), encoding='utf-8')
      arguments = ['-m', 'dl.train', f'--config={tmp_path}/{i}.py', f'--workdir={tmp_path}/run']
      pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
      running.append((mutation, subprocess.Popen([sys.executable, *arguments], cwd=ROOT, env=environment, **pipes)))
    for mutation, process in running:
      out, err = process.communicate()
      assert not out and misreported(mutation, process.returncode, err, []) is None, (str(mutation), out, err)
  assert not (tmp_path / 'run').exists()


COMMANDS = ('train', 'evaluate', 'predict', 'sample', 'cite', 'report', 'plan', 'sweep', 'export')
CONFIGS = {
  'syntax.py': 'def get_config(:\n',
  'raises.py': 'def get_config():\n  raise RuntimeError("first line\\nsecond line")\n',
  'exits.py': 'import sys\nsys.exit(3)\n',
  'recursion.py': 'def get_config():\n  return get_config()\n',
  'number.py': 'def get_config():\n  return 3\n',
  'nothing.py': 'def get_config():\n  pass\n',
  'module.py': 'import os\ndef get_config():\n  return os\n',
  'circular.py': 'def get_config():\n  d = {}\n  d["task"] = d\n  return d\n',
  'empty.py': '',
  'arguments.py': 'def get_config(a, b):\n  return {}\n',
  'imports.py': 'import no_such_module_at_all\n',
  'not_callable.py': 'get_config = 3\n',
  'binary.py': b'\x7fELF\0\xff\xfe\0\x01',
  'nul.py': b'x = 1\0\n',
  'latin.py': 'x = "ü"\n'.encode('latin-1'),
  'config.yaml': 'task: x\n',
  'config.json': '{}',
  'folder.py': None,
}


def files_in(folder):
  for name, content in CONFIGS.items():
    if content is None:
      (folder / name).mkdir()
    else:
      (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())


def assert_refused(done, *command):
  code, err = done
  assert (code, err.count('\n'), err[:7]) == (2, 1, 'error: '), (command, code, err)


@pytest.mark.parametrize('command', COMMANDS)
def test_flags_which_cannot_be(command, capsys):
  for flags_ in (
    ['--no_such_flag=1'], ['--wrokdir=x'], ['--workdir'], ['--config'], ['---'], ['--=x'], ['--override'], ['-x'],
    ['--config.task.name'], ['--step='], ['--seed=x'], ['--count=0'], ['--batch_size=-1'], ['--devices=0'],
    ['--debug=maybe'], ['--progress=maybe'], ['--temperature=nan?'], ['--verbosity=x'], ['--flagfile=/no/such/file'],
    ['--config.=3'], ['--config.a.=3'], ['--config..b=3'],
  ):  # fmt: skip
    assert_refused(run_main(f'dl.{command}', capsys, *flags_), command, flags_)


@pytest.mark.parametrize('name', CONFIGS)
def test_files_which_are_no_configs(name, tmp_path, capsys):
  files_in(tmp_path)
  for command in ('train', 'cite'):
    more = [f'--workdir={tmp_path}/run'] if command == 'train' else []
    for argument in ('', ':x', ':', ':../x'):
      assert_refused(run_main(f'dl.{command}', capsys, f'--config={tmp_path}/{name}{argument}', *more), name, argument)
  assert not (tmp_path / 'run').exists()


def test_command_lines_which_cannot_be(tmp_path, runs, capsys):
  files_in(tmp_path)
  lenet, run, here = f'--config={ROOT}/experiments/vision/digits_lenet.py', f'--workdir={runs("perceptron")}', tmp_path
  (here / 'file').write_text('x')
  wrong = []
  for command, *arguments in (
    ('train',), ('train', lenet), ('train', f'--workdir={here}/run'), ('train', lenet, '--workdir='),
    ('train', '--config=/no/such.py', f'--workdir={here}/run'), ('train', '--config=', f'--workdir={here}/run'),
    ('train', f'--config={here}', f'--workdir={here}/run'), ('train', lenet, f'--workdir={here}/file'),
    ('train', lenet, f'--workdir={here}/file/run'), ('train', lenet, f'--workdir={here}'),
    ('train', lenet, f'--workdir={here}/run', 'positional'), ('train', lenet, f'--workdir={"x" * 5000}'),
    ('train', f'--config={"x" * 5000}.py', f'--workdir={here}/run'), ('train', lenet, f'--workdir={here}/a\0b'),
    ('train', f'--config={here}/a\0b.py', f'--workdir={here}/run'), ('train', lenet, '--workdir=/proc/run'),
    ('train', f'{lenet}:argument', f'--workdir={here}/run'),
    *(('train', lenet, f'--workdir={here}/run', f'--profile={p}') for p in ('x', '5', '9:2', '0:1', '1:10**9', '-1:3')),
    *(('train', lenet, f'--workdir={here}/run', o) for o in (
      '--config.model=3', '--config.task', '--config.modle.x=1', '--config.data.augment.7.x=1', '--config.seed=1e999',
      '--config.data.augment.x=1', '--config.seed.x=1', '--override=seed', '--override==3', '--override=',
      '--config.optim.adam.learning_rate=[', '--config.train_for=__import__("os")', '--config.seed=' + '(' * 500,
      '--config.name.os=1', '--config.a.b.c=1', '--config.eval={', '--config.model.name=os.system', '--config.seed=-1',
    )),
    ('evaluate',), ('evaluate', f'--workdir={here}'), ('evaluate', '--workdir=/no/such'), ('evaluate', run, '--step=x'),
    ('evaluate', run, '--step=7'), ('evaluate', run, '--step=-1'), ('evaluate', run, '--step=1.5'),
    ('evaluate', run, '--step=99999999999999999999'), ('evaluate', run, '--eval=tset'), ('evaluate', run, '--step=²'),
    ('evaluate', run, f'--classifier={here}'), ('evaluate', run, '--batch_size=99999999999999'),
    ('predict', run), ('predict', '--inputs=x'), ('predict', run, '--inputs=/no/such'),
    ('predict', run, f'--inputs={here}/file'),
    ('predict', run, f'--inputs={here}'), ('predict', run, f'--inputs={here}/file', '--output=x.exe'),
    ('sample',), ('sample', run), ('sample', run, '--prompt=x'), ('sample', run, '--output=/no/such/x.png'),
    ('sample', run, '--count=99999999999999999999'),
    ('cite',), ('cite', '--config=/no/such.py'), ('cite', lenet, 'x'),
    ('report',), ('report', '/no/such'), ('report', here / 'folder.py'),
    ('report', runs('perceptron'), '--output=/no/such/x.html'),
  ):  # fmt: skip
    done = run_main(f'dl.{command}', capsys, *map(str, arguments))
    if done[0] != 2 or done[1].count('\n') != 1 or not done[1].startswith('error: '):
      wrong.append((command, [a[-80:] for a in map(str, arguments)], *done))
  assert not wrong and not (here / 'run').exists(), '\n'.join(map(str, wrong))
