"""Weights from elsewhere."""

import dataclasses
import io
import zipfile
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file
from small import small

from dl.errors import ConfigError
from dl.models.gpt import GPT
from dl.models.vit import ViT
from dl.store import workdir
from dl.training import loop, restore, start
from dl.training.assemble import assemble


@pytest.fixture(scope='module')
def config():
  """A config of a network with batch statistics and an average of its parameters."""
  optim = "optim={'sgd': {'name': 'sgd', 'learning_rate': 0.1}, 'ema': {'name': 'params_ema', 'decay': 0.9}}"
  return small(
    'digits', optim, 'data.augment=[]', 'train_for=3', 'log_every=3', 'eval_every=3', 'checkpoint_every=3', 'keep={}'
  )


@pytest.fixture(scope='module')
def parts(config):
  return assemble(config)


def named(state):
  """The weights of a state as PyTorch would name and lay them out."""
  tensors = {}
  for collection in ({'params': state.params['model']}, state.extra['model']):
    for path, x in jax.tree_util.tree_leaves_with_path(collection):
      *modules, leaf = [str(k.key) for k in path][1:]
      name = {'kernel': 'weight', 'scale': 'weight', 'mean': 'running_mean', 'var': 'running_var'}.get(leaf, leaf)
      tensors['.'.join([*modules, name])] = np.ascontiguousarray(x.T if leaf == 'kernel' else x)
  return tensors


def test_a_run_starts_from_a_file_of_tensors(config, parts, tmp_path, runs):
  _, state = restore.load(runs('digits'), averaged=False)
  file = tmp_path / 'model.safetensors'
  tensors = named(state) | {'norm_0.num_batches_tracked': np.asarray(3)}
  save_file({k.replace('dense_0', 'dense.0'): v for k, v in tensors.items()}, file)
  given = start.load({'name': 'tensors', 'path': str(file)}, parts)
  initial = jax.jit(parts.init)(dict(given))
  jax.tree.map(np.testing.assert_array_equal, (initial.params, initial.extra), (state.params, state.extra))
  jax.tree.map(np.testing.assert_array_equal, initial.averaged().params, state.params)  # an average starts there too
  loop.train(
    dataclasses.replace(config, init_from={'name': 'tensors', 'path': str(file)}), tmp_path / 'run', show_progress=False
  )


def test_a_run_starts_from_another_with_a_new_head(config, parts, tmp_path, runs):
  _, state = restore.load(runs('digits'))
  spec = {'name': 'run', 'path': str(runs('digits')), 'exclude': ['^out/']}
  initial = jax.jit(parts.init)(dict(start.load(spec, parts)))
  fresh = jax.jit(parts.init)()
  for name in state.params['model']:
    expected = fresh if name == 'out' else state
    jax.tree.map(np.testing.assert_array_equal, initial.params['model'][name], expected.params['model'][name])
  # The whole of it: resumed, it does not read the weights again.
  started = dataclasses.replace(config, init_from=dict(spec, path=str(tmp_path / 'copy')))
  (tmp_path / 'copy').symlink_to(runs('digits'))
  loop.train(started, tmp_path / 'run', show_progress=False)
  (tmp_path / 'copy').unlink()
  assert loop.train(started, tmp_path / 'run', show_progress=False).status == 'complete'


def test_each_tensor_that_does_not_fit_is_named(parts, tmp_path, runs):
  tensors = named(restore.load(runs('digits'))[1])
  tensors['head.weight'] = tensors.pop('out.weight')
  tensors['out.bias'] = tensors['out.bias'][:5]
  file = tmp_path / 'model.npz'
  np.savez(file, **tensors)
  spec = {'name': 'tensors', 'path': str(file)}
  with pytest.raises(ConfigError) as error:
    start.load(spec, parts)
  for part in ('missing out/kernel', 'extra head.weight', 'out.bias has shape (5,), which does not fit (10,)'):
    assert part in str(error.value)
  given = start.load(spec | {'exclude': ['^out', '^head']}, parts)
  assert not any('out' in name for name in given) and len(given) == len(tensors) - 2
  for wrong, says in (('^hat', "'\\^hat' matches nothing"), ('(', 'is not a regular expression')):
    for spec in ({'name': 'tensors', 'path': str(file)}, {'name': 'run', 'path': str(runs('digits'))}):
      with pytest.raises(ConfigError, match=f'config.init_from.exclude: .*{says}'):
        start.load(spec | {'exclude': [wrong]}, parts)


def test_weights_of_another_network_are_one_short_line(tmp_path, runs):
  gpt = GPT(vocab_size=9, length=8, layers=12, heads=1, width=4)
  like = jax.eval_shape(gpt.init, jax.random.key(0), jnp.zeros((1, 2), jnp.int32))
  tensors = {f'model.layers.{i}.mlp.up_proj.weight': np.zeros((4, 4)) for i in range(200)}
  for layout, also in ((None, ", or named as in layout='huggingface'"), ('huggingface', '')):
    with pytest.raises(ConfigError) as error:
      start.convert(tensors, like, model=gpt, layout=layout)
    assert 'of 148 variables of GPT 148 are not there, such as block_0/attention/out/bias' in str(error.value)
    assert f'the 200 tensors, such as model.layers.0.mlp.up_proj.weight, are of another network{also};' in str(
      error.value
    )
    assert len(str(error.value)) < 300
  spec = {'name': 'run', 'path': str(runs('digits'))}
  with pytest.raises(ConfigError, match=f'variables of GPT .* are not there, such as .*; {runs("digits")} is a run of'):
    start.load(spec, assemble(small('gpt')))


def test_a_bad_source_writes_nothing(config, tmp_path):
  code, junk = io.BytesIO(), io.BytesIO()
  np.savez(code, x=np.asarray([print], object))  # which NumPy pickles
  with zipfile.ZipFile(junk, 'w') as z:
    z.writestr('x.npy', b'no array')
  for name, content in {
    'a.pt': b'',
    'b.npz': b'damaged',
    'c.safetensors': b'damaged',
    'd.npz': code.getvalue(),
    'e.npz': junk.getvalue(),
  }.items():
    (tmp_path / name).write_bytes(content)
  for spec, line in (
    ({'name': 'tensors', 'path': str(tmp_path / 'none.npz')}, 'no file'),
    ({'name': 'tensors', 'path': str(tmp_path / 'a.pt')}, 'neither .safetensors nor .npz'),
    ({'name': 'tensors', 'path': str(tmp_path / 'b.npz')}, 'cannot read'),
    ({'name': 'tensors', 'path': str(tmp_path / 'c.safetensors')}, 'cannot read'),
    ({'name': 'tensors', 'path': str(tmp_path / 'd.npz')}, 'cannot read'),
    ({'name': 'tensors', 'path': str(tmp_path / 'e.npz')}, 'cannot read'),
    ({'name': 'tensor', 'path': 'x'}, 'tensors'),
    ({'name': 'run', 'path': str(tmp_path)}, 'not the work directory'),
  ):
    with pytest.raises(ConfigError, match=line):
      loop.train(dataclasses.replace(config, init_from=spec), tmp_path / 'run', show_progress=False)
    assert not (tmp_path / 'run').exists()


class Named(nn.Module):
  """A network whose weights others name in two ways: by a table, and by a function."""

  layouts: ClassVar = {
    'table': [(r'a\.(\d+)\.query', r'b.\1.qkv#0'), (r'a\.(\d+)\.key', r'b.\1.qkv#1'), ('drop', None)],
    'function': lambda tensors, model: {f'{model.prefix}.{name}': x.T for name, x in tensors.items()},
  }
  prefix: str = 'b'


class Inheriting(Named):
  """A kind of it."""


def test_layouts_rename_and_join():
  tensors = {'a.3.key': np.ones((1, 2)), 'a.3.query': np.zeros((2, 2)), 'drop': np.ones(1), 'same': np.ones(2)}
  like = {'params': {'b_3': {'qkv': np.zeros((3, 2))}, 'same': np.zeros(2)}}
  joined = start.convert(tensors, like, model=Inheriting(), layout='table')
  np.testing.assert_array_equal(joined['params']['b_3']['qkv'], [[0, 0], [0, 0], [1, 1]])
  np.testing.assert_array_equal(joined['params']['same'], [1, 1])
  like = {'params': {'c': {'x': np.zeros((2, 3))}}}
  turned = start.convert({'x': np.ones((3, 2))}, like, model=Inheriting(prefix='c'), layout='function')
  assert turned['params']['c']['x'].shape == (2, 3)
  with pytest.raises(ConfigError, match="layout: Named has no layout 'tabel'; did you mean 'table'"):
    start.convert({}, like, model=Named(), layout='tabel')
  with pytest.raises(ConfigError, match="Dense has no layout 'table'; layouts are a class attribute of Dense"):
    start.convert({}, like, model=nn.Dense(1), layout='table')


def test_an_exclude_that_leaves_nothing_is_refused(parts, tmp_path, runs):
  file = tmp_path / 'model.npz'
  np.savez(file, **named(restore.load(runs('digits'))[1]))
  for spec in ({'name': 'tensors', 'path': str(file)}, {'name': 'run', 'path': str(runs('digits'))}):
    with pytest.raises(ConfigError, match='exclude: it leaves no variable to load'):
      start.load(spec | {'exclude': ['.']}, parts)


class Sequence(nn.Module):
  """A network of somebody else, with embeddings of positions in a text."""

  grid: tuple[int, int] = (4, 4)

  @nn.compact
  def __call__(self, x, train=False):
    positions = self.param('pos_embed', nn.initializers.normal(), (1, self.grid[0] * self.grid[1], 4))
    return nn.Dense(10)(x.reshape(len(x), -1)) + positions.sum()


class Patches(ViT):
  """What a ViT says of its weights is inherited."""


@pytest.mark.parametrize(('name', 'fits'), [('Patches', True), ('Sequence', False)])
def test_positions_are_resampled_where_the_network_says_so(monkeypatch, name, fits):
  small_vit = {'num_classes': 10, 'patch': 2, 'width': 4, 'heads': 1, 'depth': 1, 'pool': 'average'}
  model = {'name': f'{__name__}.{name}'} | (small_vit if fits else {})
  parts = lambda side: assemble(small('perceptron', f'model={model | {"grid": (side, side)}}'))
  mine, theirs = parts(8), parts(4)
  stored = jax.tree.map(lambda s: np.ones(s.shape, s.dtype), theirs.state)
  monkeypatch.setattr(restore, 'load', lambda *_: (theirs.task, stored))
  like = {'params': mine.state.params['model']}
  of_a_file = lambda: start.convert(named(stored), like, model=mine.task.model)
  if fits:
    loaded = start.load({'name': 'run', 'path': 'theirs'}, mine)['params/model/pos_embed']
    for value in (loaded, of_a_file()['params']['pos_embed']):
      np.testing.assert_allclose(value, jnp.ones((1, 64, 4)), rtol=1e-5)
    return
  with pytest.raises(ConfigError, match=r'pos_embed has shape \(1, 16, 4\), not \(1, 64, 4\)'):
    start.load({'name': 'run', 'path': 'theirs'}, mine)
  with pytest.raises(ConfigError, match=r'pos_embed has shape \(1, 16, 4\), which does not fit \(1, 64, 4\)'):
    of_a_file()


def test_what_a_run_started_from_is_said_and_kept(config, tmp_path, runs, capfd):
  spec = {'name': 'run', 'path': str(runs('digits')), 'exclude': ['^out/']}
  loop.train(dataclasses.replace(config, init_from=spec), tmp_path / 'run')
  facts = workdir.read_run(tmp_path / 'run')['init_from']
  assert facts['step'] == 60 and facts['fresh'] == ['params/model/out/bias', 'params/model/out/kernel']
  assert sorted(facts['unused']) == ['out/bias', 'out/kernel']
  _, state = restore.load(runs('digits'))
  leaves = jax.tree.leaves((state.params, state.extra))
  assert facts['loaded'] == len(leaves) - 2
  assert facts['values'] == sum(x.size for x in leaves) - 10 * 17
  said = (
    f'starts from {runs("digits")}, step 60: {facts["loaded"]} arrays, {facts["values"]:,} values; fresh: out/bias, '
  )
  assert said + 'out/kernel; not used: ' in capfd.readouterr().err


def test_the_vocabulary_of_a_run_goes_with_its_weights(tmp_path):
  rows = [f'{["ham", "spam"][i % 2]}\tcats sat on {["mats", "rats", "hats"][i % 3]}' for i in range(40)]
  (tmp_path / 'texts.tsv').write_text('\n'.join(['label\ttext', *rows]))
  source = {'name': 'texts.Labelled', 'path': str(tmp_path / 'texts.tsv'), 'length': 12, 'batch_size': 4}
  learned, folder = {'name': 'wordpiece', 'size': 40}, str(tmp_path / 'run')
  bert = {'name': 'bert.BERT', 'vocab_size': 40, 'layers': 1, 'heads': 1, 'width': 8, 'hidden': 8, 'length': 12}
  common = [f'model={bert}', "task={'name': 'masked_lm.MaskedLanguageModel'}", 'eval={}', 'train_for=1']
  none = ['eval_every=None', 'artifacts_every=None', 'log_every=1', 'checkpoint_every=1']
  masked = lambda vocabulary: small('masked', *common, *none, f'data={source | {"vocabulary": vocabulary}}')
  loop.train(masked(learned), folder, show_progress=False)
  first = restore.load(folder)[1].params['model']
  # Other texts, of which there would be other pieces; by a path they are cut into those of the run.
  (tmp_path / 'texts.tsv').write_text('\n'.join(['label\ttext', *rows[:30]]).replace('cats', 'dogs'))
  heads = ['^transform', '^out', '^pooler']
  tuned = {'name': 'run', 'path': folder, 'exclude': heads}
  pooled = [f'model={bert | {"head": "pooled", "num_outputs": 2}}', "task={'name': 'classify.Classify'}"]
  given = start.load(
    tuned, assemble(small('masked', *common, *none, *pooled, f'data={source | {"vocabulary": folder}}'))
  )
  np.testing.assert_array_equal(given['params/model/token/embedding'], first['token']['embedding'])
  other = assemble(small('masked', *common, *none, *pooled, f'data={source | {"vocabulary": learned}}'))
  with pytest.raises(
    ConfigError, match=r'token/embedding of .* another vocabulary .*; data.vocabulary=.*run. takes its'
  ):
    start.load(tuned, other)
  fresh = start.load(tuned | {'exclude': [*heads, 'token/embedding$']}, other)
  assert 'params/model/token/embedding' not in fresh and 'params/model/block_0/up/kernel' in fresh
