"""Runs with adapters: what is frozen stays bit for bit, files of adapters alone, and what goes on from them."""

import json

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from small import small

import dl
from dl import optim
from dl.contract.task import Task
from dl.errors import ConfigError
from dl.models.mlp import MLP
from dl.nn import lora
from dl.training import adapters, loop, restore, start
from dl.training.assemble import assemble

LORA = "model.lora={'layers': 'attention/(q|v)$', 'rank': 2, 'alpha': 8, 'dropout': 0.1, 'trained': ['^out_bias']}"
RANK, WIDTH, VOCABULARY = 2, 16, 257


@pytest.fixture(scope='module')
def tuned(runs, tmp_path_factory):
  """(work directory of a BERT, that of one which goes on from it with adapters)."""
  workdir = tmp_path_factory.mktemp('adapters') / 'run'
  config = small('masked', LORA, f"init_from={{'name': 'run', 'path': {str(runs('masked'))!r}}}")
  loop.train(config, workdir, show_progress=False)
  return runs('masked'), workdir


@pytest.fixture(scope='module')
def file(tuned, tmp_path_factory):
  """A file of its adapters."""
  path = tmp_path_factory.mktemp('file') / adapters.FILE
  task, state = restore.load(tuned[1])
  adapters.save(task.model, state.params['model'], path)
  return path


def equal(one, other):
  jax.tree.map(np.testing.assert_array_equal, one, other)


def test_the_adapters_are_trained_and_nothing_else(tuned):
  base, run = tuned
  (_, before), (task, after) = dl.load(base), dl.load(run)
  mine, theirs = lora.without(after.params['model']), dict(before.params['model'])
  assert not np.array_equal(mine.pop('out_bias'), theirs.pop('out_bias'))
  equal(mine, theirs)
  count = 2 * RANK * (WIDTH + WIDTH) + VOCABULARY
  assert sum(x.size for x in adapters.trained(task.model, after.params['model']).values()) == count
  assert sum(x.size for x in jax.tree.leaves(after.opt) if x.ndim) == 2 * count  # of Adam, and of these alone
  assert all(np.any(x) for x in adapters.trained(task.model, after.params['model']).values())
  facts = json.loads((run / 'run.json').read_text())
  assert not any('lora' in k for k in facts.get('init_from', {}).get('unused', ()))


def test_they_are_a_small_file_from_which_a_run_goes_on(tuned, file, command, tmp_path):
  base, run = tuned
  code, out, err = command('dl.export', f'--workdir={run}', '--adapters', f'--output={tmp_path}')
  count = 2 * RANK * (WIDTH + WIDTH) + VOCABULARY
  assert (code, err) == (0, '') and out == f'step 12: adapters.safetensors, {count:,} numbers, in {tmp_path}\n'
  equal(load_file(tmp_path / adapters.FILE), load_file(file))
  _, state = restore.load(run)
  spec = {'name': 'run', 'path': str(base), 'adapters': str(tmp_path)}
  parts = assemble(small('masked', LORA))
  equal(jax.jit(parts.init)(dict(start.load(spec, parts))).params, state.params)
  fresh = jax.jit(parts.init)(dict(start.load(spec | {'adapters': None}, parts))).params['model']
  assert not fresh['block_0']['attention']['q']['lora_b'].any()


def test_they_are_merged_into_plain_weights(tuned, command, tmp_path):
  _, run = tuned
  task, state = restore.load(run)
  whole = lora.merged(task.model, state.params['model'])
  parts = assemble(small('masked'))
  given = start.load({'name': 'run', 'path': str(run)}, parts)
  plain = jax.jit(parts.init)(dict(given))
  equal(plain.params['model'], whole)
  tokens = np.random.default_rng(0).integers(0, VOCABULARY, (2, 9))
  found = task.model.apply({'params': state.params['model']}, tokens)
  expected = parts.task.model.apply({'params': whole}, tokens)
  np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
  assert command('dl.export', f'--workdir={run}', f'--output={tmp_path}/bert')[0] == 0
  tensors = start.read(tmp_path / 'bert' / 'model.safetensors')
  query = 'bert.encoder.layer.0.attention.self.query.weight'
  np.testing.assert_array_equal(tensors[query].T, whole['block_0']['attention']['q']['kernel'])
  again = start.load({'name': 'tensors', 'path': f'{tmp_path}/bert/model.safetensors', 'layout': 'huggingface'}, parts)
  equal(jax.jit(parts.init)(dict(again)).params['model'], whole)


@pytest.mark.parametrize(
  ('change', 'says'),
  [
    ("model.lora={'layers': 'querry'}", "config.model.lora.layers: 'querry' is found in no layer"),
    ("model.lora={'layers': '('}", "config.model.lora.layers: '(' is not a regular expression"),
    ("model.lora={'layers': 'q', 'rank': 0}", 'config.model.lora.rank: '),
    ("model.lora={'layers': 'q', 'dropout': 1.0}", 'config.model.lora.dropout: '),
    ("model.lora={'layers': 'q', 'rnak': 2}", "config.model.lora.rnak: LoRA takes no argument 'rnak'; did you mean"),
    ("model.lora={'layers': 'q', 'trained': ['^nothing']}", "config.model.lora.trained.0: '^nothing' matches no"),
    ("model.lora='q'", 'config.model.lora: expected a dict'),
    ("model.lora={'rank': 2}", "config.model.lora: LoRA needs an argument 'layers'"),
  ],
)
def test_configs_which_cannot_be(change, says):
  with pytest.raises(ConfigError) as e:
    assemble(small('masked', change))
  assert says in str(e.value)


def test_one_of_two_players_has_adapters():
  model = MLP(num_outputs=3, hidden=(4,))
  task = Task(model={'one': lora.adapted(model, lora.LoRA(layers='dense', rank=2)), 'other': model})
  shapes = lambda m: jax.eval_shape(m.init, jax.random.key(0), np.zeros((1, 5), np.float32))['params']
  params = {player: shapes(m) for player, m in task.players.items()}
  frozen = adapters.frozen(task, params)
  spec = {player: {'adam': {'name': 'adam', 'learning_rate': 1e-3}} for player in params}
  chains = optim.make(spec, params, optim.Length(10), frozen=frozen).chains
  moments = lambda player: [x for x in jax.tree.leaves(jax.eval_shape(chains[player].init, params[player])) if x.ndim]
  assert sum(x.size for x in moments('one')) == 2 * 2 * (5 + 4) and len(moments('other')) == 2 * 4
  with pytest.raises(ConfigError, match=r'config.optim.one.lora: is what freezes all but the adapters'):
    optim.make(spec | {'one': {'lora': spec['one']['adam']}}, params, optim.Length(10), frozen=frozen)
  with pytest.raises(ConfigError, match=r"config.model.one.lora.trained.0: '\^none' matches no parameter"):
    task.model['one'] = lora.adapted(model, lora.LoRA(layers='dense', trained=('^none',)))
    adapters.frozen(task, params)


def test_files_which_do_not_fit(tuned, file, tmp_path, command):
  spec = lambda path: {'name': 'run', 'path': str(tuned[0]), 'adapters': str(path)}
  save_file({'x': np.zeros(3)}, tmp_path / 'other.safetensors')
  (tmp_path / 'damaged.safetensors').write_bytes(file.read_bytes()[:100])
  parts = assemble(small('masked', LORA))
  for path, says in (
    (tmp_path / 'none', f"config.init_from.adapters: no file '{tmp_path}/none'"),
    (tmp_path / 'other.safetensors', 'is no file of adapters'),
    (tmp_path / 'damaged.safetensors', 'cannot read'),
  ):
    with pytest.raises(ConfigError, match=says):
      start.load(spec(path), parts)
  for change, says in (
    ('model.lora.rank=4', 'alpha / rank is 4.0, and that of config.model.lora 2.0'),
    ('model.lora.layers=attention/q$', 'extra block_0/attention/v/lora_a'),
    ('model.lora.layers=attention/.$', 'missing block_0/attention/k/lora_a'),
    ('model.lora=None', 'BERT has no adapters here'),
  ):
    with pytest.raises(ConfigError, match=says):
      start.load(spec(file), assemble(small('masked', LORA, change)))
  code, _, err = command('dl.export', f'--workdir={tuned[0]}', '--adapters', f'--output={tmp_path}/no')
  assert code == 2 and 'BERT has no adapters; config.model.lora gives it some' in err
