"""Every bundled config with mistakes in it: each is one line, exit code 2, before anything is compiled or written.

A sample of the mistakes is part of the test command; `pytest tests/test_fuzz.py --fuzz=500` tries 500 a config.
"""

import collections
import json
import pathlib
import re
import runpy
import sys
import types

import jax
import numpy as np
import pytest
from absl import flags
from mutations import mutations, source
from PIL import Image
from small import ROOT

from dl import assemble, cli, config, loop, memory, restore, steps, workdir
from dl.data import images, tfds
from dl.data import text as texts
from dl.errors import ConfigError
from dl.state import State

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


@pytest.fixture(scope='session')
def neurons(tmp_path_factory):
  return pairs(tmp_path_factory.mktemp('neurons'))


def shortened(spec, neurons):
  """A config in which all that a trial reads is here and small."""
  plain = config.load(spec)
  data = plain['data'] or {}
  if data.get('name') == 'tfds.Tfds':
    data['batch_size'] = 16
    for evaluation in plain['eval'].values():
      evaluation['batch_size'] = 16
  if data.get('name') == 'segmentation.Pairs':
    data |= dict(path=neurons, tile=32)
  return plain


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
    real_open, real_load, abstractly, assembled = tfds._open, restore.load, assemble.abstractly, loop.assemble
    data = self._base['data'] or {}

    def open_set(dataset, data_dir, builder_kwargs, split, decoders):
      if data.get('dataset') == dataset and (data_dir, builder_kwargs) == (data['data_dir'], data['builder_kwargs']):
        return Prepared(dataset, split)
      return real_open(dataset, data_dir, builder_kwargs, split, decoders)

    def load_run(path, step=None, averaged=True):
      if path != self._base['init_from']['path']:
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
      key = self._stage, where, json.dumps([self._now[p] for p in parts])
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
    patch.setattr(images, 'SAMPLE', 4)
    patch.setattr(memory, '_host', lambda: 10**12)  # the largest of the configs is for larger machines
    patch.setattr(restore, 'load', load_run)
    patch.setattr(assemble, 'abstractly', once)
    patch.setattr(loop, 'assemble', stage)
    patch.setattr(workdir, 'claim', reached)
    compiled = steps.compiled

    def guarded(parts, mesh):
      found = compiled(parts, mesh)
      return steps.Compiled(*([reached] * 6), like=found.like)

    patch.setattr(steps, 'compiled', guarded)
    patch.setattr(cli, 'fail', fail)

  def __call__(self, plain):
    """(exit code, or what went wrong; the error line)."""
    path = self._folder / 'config.py'
    path.write_text(
      'from math import inf, nan\nfrom dl.config import config\n\n'
      f'def get_config():\n  return config(**{source(plain)})\n', encoding='utf-8'
    )  # fmt: skip
    return run_main('dl.train', self._capsys, f'--config={path}', f'--workdir={self.directory}', '--noprogress')


def run_main(module, capsys, *arguments):
  """(exit code or the exception, stderr) of a command in this process."""
  before, argv = set(flags.FLAGS), sys.argv
  path = ROOT.joinpath(*module.split('.'))
  sys.argv = [str(path), *arguments]
  code = None
  try:
    runpy.run_path(str(path / '__main__.py' if path.is_dir() else path.with_suffix('.py')), run_name='__main__')
  except SystemExit as e:
    code = e.code or 0
  except Reached:
    code = 'accepted'
  except Exception as e:
    code = e
  finally:
    sys.argv = argv
    flags.FLAGS.unparse_flags()
    for name in set(flags.FLAGS) - before:
      where = flags.FLAGS.find_module_defining_flag(name)
      if where in ('dl.cli', '__main__') or where.startswith(str(ROOT)):
        delattr(flags.FLAGS, name)
  return code, capsys.readouterr().err


@pytest.mark.parametrize('spec', SPECS, ids=lambda s: str(pathlib.Path(s).relative_to(ROOT / 'experiments')))
def test_every_mistake_is_one_line(spec, neurons, tmp_path, monkeypatch, capsys, request):
  base = shortened(spec, neurons)
  trial = Trials(base, tmp_path, monkeypatch, capsys)
  code, err = trial(base)
  assert code == 'accepted', (code, err)  # without a mistake
  wrong, kinds = [], collections.Counter()
  for mutation in mutations(base, request.config.getoption('fuzz'), spec.rpartition('experiments')[2]):
    kinds[mutation.kind] += 1
    trial.errors.clear()
    code, err = trial(mutation.apply(base))
    problem = misreported(mutation, code, err, trial.errors)
    if trial.directory.exists():
      problem = 'wrote'
    if problem:
      wrong.append(f'{problem}: {mutation}'[:400])
      print(wrong[-1], flush=True)
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
