"""The loop: what it leaves, that it resumes bit for bit, stops, averages, accumulates, and evaluates exactly."""

import csv
import dataclasses
import itertools
import json
import math
import os
import shutil
import signal
import subprocess
import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from small import each_call, interrupted, records, small

import dl
from dl import optim
from dl.commands import evaluate
from dl.contract import metrics
from dl.data.parts import part
from dl.data.sources.sklearn import Diabetes, Digits
from dl.errors import ConfigError, TrainingError
from dl.store import logs
from dl.store import workdir as workdirs
from dl.store.checkpoint import Checkpoints
from dl.training import assemble, loop, meter, recorder, restore, steps
from dl.training.progress import Hidden
from dl.training.recorder import Recorder

SGD = "optim={'sgd': {'name': 'sgd', 'learning_rate': 0.5}}"


FUSED = ('steps_per_call=5', 'log_every=5', 'checkpoint_every=10')


def train(config, workdir):
  return loop.train(config, workdir, show_progress=False)


def saved(workdir):
  """Steps of the finished checkpoints on disk."""
  return sorted(int(p.name) for p in (workdir / 'checkpoints').iterdir() if p.name.isdecimal())


def assert_same(a, b):
  """Bit for bit."""
  assert jax.tree.structure(a) == jax.tree.structure(b)
  for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
    if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key):
      x, y = jax.random.key_data(x), jax.random.key_data(y)
    np.testing.assert_array_equal(x, y)


def assert_close(a, b, **tolerance):
  """Lines of metrics, to float tolerance."""
  assert [sorted(r) for r in a] == [sorted(r) for r in b]
  for x, y in zip(a, b, strict=True):
    for name in x:
      if isinstance(x[name], str):
        assert x[name] == y[name]
      else:
        np.testing.assert_allclose(x[name], y[name], **tolerance, err_msg=f'{name} in {x}')


# -- What a run leaves.


def test_the_work_directory_holds_what_the_design_says(runs):
  workdir, config = runs('digits'), small('digits')
  assert {p.name for p in workdir.iterdir()} - {'tensorboard', '.lock'} == {
    'config.json', 'run.json', 'metrics.jsonl', 'checkpoints', 'artifacts', 'report.html',
  }  # fmt: skip
  assert json.loads((workdir / 'config.json').read_text()) == config.to_json()
  assert workdirs.read_config(workdir) == config
  run = workdirs.read_run(workdir)
  assert {'command', 'commit', 'versions', 'devices', 'seed', 'started', 'finished', 'data'} <= run.keys()
  of_git = subprocess.run(['git', 'rev-parse', 'HEAD'], cwd=dl.__path__[0], capture_output=True, text=True, check=False)
  assert of_git.returncode or run['commit'].removesuffix('+changes') == of_git.stdout.strip()
  assert run['status'] == 'complete' and run['step'] == run['total_steps'] == 60 and run['seed'] == 0
  assert run['versions']['jax'] == jax.__version__ and run['versions']['dl'] == dl.__version__
  assert run['devices']['count'] == jax.device_count() and run['devices']['platform'] == 'cpu'
  assert run['parameters'] == 64 * 32 + 32 * 16 + 2 * (32 + 16) + 16 * 10 + 10
  assert run['data']['batch'] == {
    'image': [[32, 8, 8, 1], 'float32'], 'label': [[32], 'int32'], 'mask': [[32], 'float32'],
  }  # fmt: skip
  assert run['data']['steps_per_epoch'] == (1797 - 360) / 32
  assert sum(run['data']['info']['class_counts']) == 1797 - 360
  page = (workdir / 'report.html').read_text()
  assert page.startswith('<!') and 'accuracy' in page and 'http://' not in page.replace('http://www.w3.org', '')


def test_each_line_of_the_metrics_is_one_object(runs):
  lines = [json.loads(line) for line in (runs('digits') / 'metrics.jsonl').read_text().splitlines()]
  assert all(list(r)[:2] == ['step', 'split'] for r in lines)
  of_training = [r for r in lines if r['split'] == 'train']
  assert [r['step'] for r in of_training] == [7, 14, 21, 28, 35, 42, 49, 56, 60]
  for r in of_training:
    measured = set(logs.MACHINE) - {'tokens_per_second', 'mfu'}
    assert r.keys() == {'step', 'split', 'loss', 'accuracy', 'learning_rate', *measured}
    assert 0 <= r['data_wait'] <= 1 and r['memory_gb'] > 0.05
    assert r['examples_per_second'] == pytest.approx(32 * r['steps_per_second'])
    assert 0 <= r['accuracy'] <= 1 and r['loss'] > 0 and r['steps_per_second'] > 0
  assert all(a['seconds'] < b['seconds'] for a, b in itertools.pairwise(of_training))
  of_test = [r for r in lines if r['split'] == 'test']
  assert [r['step'] for r in of_test] == [15, 30, 45, 60]
  for r in of_test:
    assert r.keys() == {'step', 'split', 'loss', 'accuracy', 'cross_entropy', 'class_accuracy'}
    assert len(r['class_accuracy']) == 10
  assert [r['step'] for r in lines] == sorted(r['step'] for r in lines)
  assert lines == logs.read(runs('digits'))


def test_the_training_loss_of_a_line_is_the_mean_since_the_line_before(tmp_path):
  for every in (1, 6):
    train(small('perceptron', 'train_for=12', f'log_every={every}', 'eval={}'), tmp_path / str(every))
  single, sixth = (records(tmp_path / k) for k in ('1', '6'))
  assert len(single) == 12 and len(sixth) == 2
  for name in ('loss', 'accuracy'):
    means = [np.mean([r[name] for r in single[i : i + 6]]) for i in (0, 6)]
    np.testing.assert_allclose([r[name] for r in sixth], means, rtol=1e-6)


@pytest.mark.parametrize(
  ('kind', 'names', 'metrics'),
  [
    ('gan', {'00000006_samples.png', '00000012_samples.png'}, {'generator_loss', 'discriminator_loss'}),
    ('gpt', {'00000012_samples.txt'}, {'loss', 'perplexity', 'bits_per_character'}),
    ('ppo', {'00000006_episode.png', '00000006_trace.csv'}, {'loss', 'entropy', 'approx_kl'}),
  ],
)
def test_other_kinds_of_learning_leave_their_numbers_and_artifacts(runs, kind, names, metrics):
  workdir = runs(kind)
  assert {p.name for p in (workdir / 'artifacts').iterdir()} == names
  assert all(p.stat().st_size > 0 for p in (workdir / 'artifacts').iterdir())
  assert metrics <= records(workdir, 'train')[-1].keys()
  evaluation = next(iter(small(kind).eval))
  assert [r['step'] for r in records(workdir, evaluation)] == [r['step'] for r in records(workdir, evaluation)][:2]
  page = (workdir / 'report.html').read_text()
  assert ('data:image/png;base64' in page) == any(n.endswith('.png') for n in names)


def test_the_logged_learning_rate_is_the_schedule(runs, tmp_path):
  schedule = optax.warmup_cosine_decay_schedule(0.0, 0.01, 3, 30)  # 60 steps of two gradients an update
  for r in records(runs('digits'), 'train'):
    np.testing.assert_allclose(r['learning_rate'], schedule(max(r['step'] // 2 - 1, 0)), rtol=1e-6)
  schedule = optax.cosine_decay_schedule(1e-2, 40)
  for r in records(runs('perceptron'), 'train'):
    np.testing.assert_allclose(r['learning_rate'], schedule(r['step'] - 1), rtol=1e-6)
  for r in records(runs('gan'), 'train'):
    expected = optax.linear_schedule(1e-3, 0.0, 12)(r['step'] - 1)
    np.testing.assert_allclose(r['generator_learning_rate'], expected, rtol=1e-6)
    np.testing.assert_allclose(r['discriminator_learning_rate'], 5e-4, rtol=1e-6)
  for r in records(runs('ppo'), 'train'):  # four updates a step
    np.testing.assert_allclose(r['learning_rate'], optax.linear_schedule(1e-3, 0.0, 24)(4 * r['step'] - 1), rtol=1e-6)


def test_what_is_aside_counts_for_no_interval(tmp_path, monkeypatch):
  """Each step takes a second, and what is aside 100: 26 s a step, if it counted."""
  now, aside = [0.0], []
  clock = types.SimpleNamespace(monotonic=lambda: now[0], perf_counter=lambda: now[0])
  for module in (meter, recorder):
    monkeypatch.setattr(module, 'time', clock)

  def takes(seconds):
    now[0] += seconds

  monkeypatch.setattr(loop, 'artifacts', lambda *_: aside.append(takes(100.0)) or {})
  config = small('gan', 'log_every=4', 'artifacts_every=4', 'eval_every=None')
  with each_call(lambda *_: takes(1.0)):
    loop.train(config, tmp_path / 'run', show_progress=False)
  assert [r['step_seconds'] for r in logs.read(tmp_path / 'run') if r['split'] == 'train'] == [1.0] * len(aside)
  assert len(aside) == 3


def test_some_steps_are_traced(tmp_path, capsys):
  import gzip

  loop.train(small('perceptron'), tmp_path / 'run', show_progress=False, profile='3:5')
  (trace,) = (tmp_path / 'run/profile').rglob('perfetto_trace.json.gz')
  names = [e.get('name', '') for e in json.loads(gzip.decompress(trace.read_bytes()))['traceEvents']]
  assert any('train_step' in name for name in names)
  fused = tmp_path / 'fused'
  loop.train(
    small('perceptron', 'train_for=12', 'steps_per_call=6', 'log_every=6', 'eval={}', 'checkpoint_every=12'),
    fused,
    show_progress=False,
    profile='8:9',
  )
  assert list((fused / 'profile').rglob('perfetto_trace.json.gz'))
  assert capsys.readouterr().err == '--profile=8:9: traced the steps 7 to 12\n'
  loop.train(small('perceptron'), tmp_path / 'run', show_progress=False, profile='3:5')  # it is complete
  assert '--profile=3:5: nothing was traced' in capsys.readouterr().err
  for span in ('3', '0:2', '5:3', '3:41'):
    with pytest.raises(ConfigError, match='--profile: expected the first and last step'):
      loop.train(small('perceptron'), tmp_path / 'other', profile=span)
  assert not (tmp_path / 'other').exists()


# -- Continuing.


def test_a_directory_in_use_is_refused_and_left_alone(runs, tmp_path):
  workdir = tmp_path / 'run'
  shutil.copytree(runs('digits'), workdir)
  before = {p: p.read_bytes() for p in workdir.rglob('*') if p.is_file()}
  with (
    workdirs.claim(workdir, small('digits')),
    pytest.raises(ConfigError, match=rf'is in use by process {os.getpid()} on .*; wait for it'),
  ):
    train(small('digits'), workdir)
  after = {p: p.read_bytes() for p in workdir.rglob('*') if p.is_file()}
  assert {k: v for k, v in after.items() if k.name != '.lock'} == {k: v for k, v in before.items() if k.name != '.lock'}
  assert train(small('digits'), workdir).status == 'complete'


def test_what_a_process_killed_at_its_start_leaves_is_no_run(tmp_path):
  (tmp_path / '.lock').write_text('process 1 on a machine\n')
  workdirs.check(tmp_path, small('digits'))


def test_a_complete_run_stays_as_it_is(runs, tmp_path):
  workdir = tmp_path / 'run'
  shutil.copytree(runs('digits'), workdir)
  _, before = restore.load_parts(workdir)
  lines, checkpoints = (workdir / 'metrics.jsonl').read_bytes(), saved(workdir)
  result = train(small('digits'), workdir)
  assert result.status == 'complete' and result.step == 60
  assert result.metrics['test'] == {k: v for k, v in records(workdir, 'test')[-1].items() if k not in ('step', 'split')}
  assert_same(before, result.state)
  assert (workdir / 'metrics.jsonl').read_bytes() == lines and saved(workdir) == checkpoints
  assert workdirs.read_run(workdir)['status'] == 'complete'


@pytest.mark.parametrize(
  ('overrides', 'cuts'),
  [
    pytest.param((), (5, 1, 17, 2, 9), marks=pytest.mark.thorough, id='single'),
    pytest.param(FUSED, (1, 4), marks=pytest.mark.thorough, id='fused'),
  ],
)
def test_a_run_cut_anywhere_continues_bit_for_bit(runs, tmp_path, overrides, cuts):
  config, whole = small('digits', *overrides), runs('digits', *overrides)
  cut, at = tmp_path / 'cut', []
  for after in cuts:
    with interrupted(after):
      result = train(config, cut)
    assert result.status == workdirs.read_run(cut)['status'] == 'interrupted'
    at.append(result.step)
    assert saved(cut)[-1] == workdirs.read_run(cut)['step'] == result.step
  assert at == [step * (5 if overrides else 1) for step in np.cumsum(cuts).tolist()]
  result = train(config, cut)
  assert result.status == 'complete'
  a, b = (restore.load_parts(w)[1] for w in (whole, cut))
  assert_same(a, b)
  assert_same(a, result.state)
  assert records(whole) == records(cut)
  assert saved(whole) == saved(cut)


def test_sums_of_an_unfinished_line_survive(runs, tmp_path):
  """The line of step 14 is of steps 8 to 14, though the run was cut after 10."""
  with interrupted(10):
    train(small('digits'), tmp_path / 'run')
  with Checkpoints(tmp_path / 'run/checkpoints', read_only=True) as checkpoints:
    assert checkpoints.latest == 10
  with interrupted(4):
    train(small('digits'), tmp_path / 'run')
  assert records(tmp_path / 'run')[1] == records(runs('digits'))[1]


@pytest.mark.thorough  # the contract has two steps of each kind
def test_fused_steps_give_the_same_numbers(runs, tmp_path):
  train(small('digits', *FUSED, 'steps_per_call=1'), tmp_path / 'digits')
  assert_close(records(tmp_path / 'digits'), records(runs('digits', *FUSED)), rtol=2e-4, atol=1e-5)
  train(small('ppo', 'steps_per_call=2', 'eval_every=6'), tmp_path / 'ppo')  # no data: its batches are empty
  assert_close(records(tmp_path / 'ppo', 'train'), records(runs('ppo'), 'train'), rtol=2e-4, atol=1e-5)


def test_early_stopping_stops_and_stays_stopped(tmp_path):
  rule = "early_stop={'metric': 'test/loss', 'patience': '15 steps', 'min_delta': 100.0}"
  config = small('perceptron', rule, 'eval_every=10', 'checkpoint_every=100')
  result = train(config, tmp_path / 'whole')  # the first evaluation is the best, so: 10, 20, stop at 30
  assert (result.status, result.step) == ('complete', 30)
  assert result.stopped_early == workdirs.read_run(tmp_path / 'whole')['stopped_early']
  assert result.stopped_early == 'test/loss last improved at step 10, 20 steps before; the patience is 15'
  assert result.stopped_early in (tmp_path / 'whole/report.html').read_text()
  assert saved(tmp_path / 'whole') == [30]
  lines = records(tmp_path / 'whole')
  again = train(config, tmp_path / 'whole')
  assert (again.status, again.step) == ('complete', 30)
  assert_same(result.state, again.state)
  assert records(tmp_path / 'whole') == lines
  # A run which is cut between two evaluations does not stop there, though the patience has run out meanwhile.
  with interrupted(26):
    assert train(config, tmp_path / 'cut').status == 'interrupted'
  cut = train(config, tmp_path / 'cut')
  assert (cut.status, cut.step) == ('complete', 30)
  assert_same(result.state, cut.state)
  assert records(tmp_path / 'cut') == lines


def test_the_best_checkpoint_is_kept(runs):
  workdir = runs('digits')
  accuracy = {r['step']: r['accuracy'] for r in records(workdir, 'test')}
  best = min(s for s, v in accuracy.items() if v == max(accuracy.values()))
  assert saved(workdir) == sorted({best, 55, 60})  # and the two newest
  task, state = dl.load(workdir, step='best')
  assert int(state.step) == best
  test = part(Digits(), 'test').columns
  label = np.asarray(task.predict(state, test['image'], jax.random.key(0))['label'])
  np.testing.assert_allclose((label == test['label']).mean(), accuracy[best], rtol=1e-6)


# -- Learning.


def test_evaluation_uses_the_averages(runs):
  parts, raw = restore.load_parts(runs('digits'))
  averaged = raw.averaged()
  test = part(Digits(), 'test').columns
  line = records(runs('digits'), 'test')[-1]
  assert_metrics(parts.task, averaged, test, line, smoothing=0.1)
  with pytest.raises(AssertionError):
    assert_metrics(parts.task, raw, test, line, smoothing=0.1)
  assert_same(dl.load(runs('digits'))[1], averaged)
  assert_same(dl.load(runs('digits'), averaged=False)[1], raw)


def assert_metrics(task, state, columns, line, smoothing=0.0):
  """The metrics of a line are those of the predictions, in plain NumPy and float64."""
  probability = np.asarray(task.predict(state, columns['image'], jax.random.key(0))['probability'], np.float64)
  label = columns['label']
  right = probability.argmax(1) == label
  np.testing.assert_allclose(line['accuracy'], right.mean(), rtol=1e-12)
  np.testing.assert_allclose(line['class_accuracy'], [right[label == c].mean() for c in range(10)], rtol=1e-12)
  nats = -np.log(probability)
  loss = (1 - smoothing) * nats[np.arange(len(label)), label] + smoothing * nats.mean(1)
  np.testing.assert_allclose(line['loss'], loss.mean(), rtol=1e-5)


def test_the_average_is_the_one_of_its_definition(tmp_path):
  """Against the recursion by hand over the parameters after each step."""
  ema = "optim={'sgd': {'name': 'sgd', 'learning_rate': 0.5}, 'ema': {'name': 'params_ema', 'decay': 0.5}}"
  config = small('perceptron', ema, 'train_for=8', 'eval={}', 'checkpoint_every=1', "keep={'last': 9}")
  result = train(config, tmp_path / 'run')
  average = jax.device_get(assemble.assemble(config).init().params)
  for step in range(1, 9):
    _, state = restore.load_parts(tmp_path / 'run', step)
    decay = min(0.5, (1 + step) / (10 + step))
    average = jax.tree.map(lambda a, p, d=decay: d * a + (1 - d) * np.asarray(p), average, state.params)
  close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)
  jax.tree.map(close, average, result.state.averaged().params)


def test_four_accumulated_batches_are_one_of_four_times_the_size(tmp_path):
  four = "optim={'four': {'name': 'accumulate', 'steps': 4}, 'sgd': {'name': 'sgd', 'learning_rate': 0.5}}"
  one = small('perceptron', SGD, 'data.batch_size=64', 'train_for=30', 'log_every=30', 'eval={}')
  many = small('perceptron', four, 'data.batch_size=16', 'train_for=120', 'log_every=120', 'eval={}')
  a, b = train(one, tmp_path / 'one'), train(many, tmp_path / 'many')
  jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5), a.state.params, b.state.params)
  lines = [[{k: r[k] for k in ('loss', 'accuracy')} for r in records(tmp_path / name)] for name in ('one', 'many')]
  assert_close(*lines, rtol=1e-4)


@pytest.mark.thorough  # the contract has a step of each kind
def test_bfloat16_computes_in_it_and_keeps_float32(runs, tmp_path):
  config = small('digits', 'precision=bfloat16')
  parts = assemble.assemble(config)
  sums = jax.eval_shape(lambda: steps.zero_sums(parts))
  assert 'bf16[32,32]' in str(jax.make_jaxpr(steps.make_train_step(parts))(parts.state, sums, parts.batch))
  result = train(config, tmp_path / 'run')
  assert {x.dtype for x in jax.tree.leaves(result.state)} == {jnp.dtype('float32'), jnp.dtype('int32')}
  for a, b in zip(records(tmp_path / 'run', 'train'), records(runs('digits'), 'train'), strict=True):
    np.testing.assert_allclose(a['loss'], b['loss'], rtol=0.05)
    assert a['loss'] != b['loss']


def exploding(factor, **changes):
  """A perceptron whose learning rate is multiplied after 20 updates."""
  rate = {'name': 'piecewise_constant_schedule', 'init_value': 0.1, 'boundaries_and_scales': {'20 steps': factor}}
  changes = {'optim': {'sgd': {'name': 'sgd', 'learning_rate': rate}}} | changes
  return dataclasses.replace(small('perceptron'), **changes)


def test_a_loss_that_is_not_finite_stops_with_one_line(tmp_path):
  """The parameters after step 21 are absurd, and the loss of step 22 is none."""
  model = {'name': 'mlp.MLP', 'hidden': [8, 8], 'num_outputs': 10}
  config = exploding(1e30, model=model, checkpoint_every=8)
  with pytest.raises(TrainingError) as e:
    train(config, tmp_path / 'run')
  message = str(e.value)
  assert '\n' not in message
  assert message.startswith('loss is not finite at step 22; the last good checkpoint is of step 16; ')
  assert 'config.optim.sgd.learning_rate' in message
  assert workdirs.read_run(tmp_path / 'run')['status'] == 'failed'
  assert saved(tmp_path / 'run') == [8, 16]
  _, state = restore.load_parts(tmp_path / 'run')
  assert all(np.isfinite(x).all() for x in jax.tree.leaves(state))
  with pytest.raises(TrainingError):  # again: it continues from the last good checkpoint, to the same end
    train(config, tmp_path / 'run')
  assert saved(tmp_path / 'run') == [8, 16]


def test_no_checkpoint_holds_numbers_that_are_not_finite(tmp_path):
  """The update of step 21 overflows while its loss is still finite, and a checkpoint is due then."""
  config = exploding(1e30, checkpoint_every=1, keep={'last': 50}, eval={}, eval_every=None)
  again = {'name': 'scale_by_schedule', 'step_size_fn': config.optim['sgd']['learning_rate']}
  config = dataclasses.replace(config, optim={'again': again} | config.optim)
  with pytest.raises(TrainingError, match='not finite at step 21; the last good checkpoint is of step 20'):
    train(config, tmp_path / 'run')
  assert saved(tmp_path / 'run') == list(range(1, 21))
  _, state = restore.load_parts(tmp_path / 'run')
  assert all(np.isfinite(x).all() for x in jax.tree.leaves(state))


def test_the_loop_does_not_wait_for_the_newest_step(tmp_path, monkeypatch):
  """Between two lines of the log nothing is fetched, and what it waits for has others dispatched after it."""
  fetched, waited, dispatched = [], [], []
  get, block = jax.device_get, jax.block_until_ready
  monkeypatch.setattr(jax, 'device_get', lambda x: (fetched.append(len(dispatched)), get(x))[1])
  monkeypatch.setattr(jax, 'block_until_ready', lambda x: (waited.append((len(dispatched), x)), block(x))[1])
  last = [f'{k}_every=30' for k in ('log', 'eval', 'checkpoint')]
  with each_call(lambda _, done: dispatched.append(done)):
    train(small('perceptron', 'train_for=30', *last), tmp_path / 'run')
  assert len(dispatched) == 30 and set(fetched) == {0, 30}  # before, padding is tried
  during = [(n, next(i for i, done in enumerate(dispatched) if done is x)) for n, x in waited if n < 30]
  assert during and during[0] == (3, 1)  # at first at most four are under way
  assert all(i <= n - 2 for n, i in during)
  assert [i for _, i in during] == sorted({i for _, i in during})


def test_training_metrics_are_written_while_later_steps_run(tmp_path, clock):
  """The line of an interval waits for the device, not the device for the line; and it is the one a flush would give."""
  sums = steps.Sums({'loss': metrics.Mean(jnp.float32(6), jnp.float32(4))}, jnp.int32(-1))
  optimizer = optim.Optimizer({}, {'learning_rate': (lambda step: 0.1 * step, 1)})
  with logs.Logs(tmp_path) as log:
    rate = types.SimpleNamespace(numbers=lambda steps, seconds: {'steps_per_second': steps / seconds})
    with Recorder(log, Hidden(), rate, optimizer, lambda *_: pytest.fail('finite'), step=0, seconds=5.0) as recorder:
      recorder.poll()
      assert logs.read(tmp_path) == []
      clock.advance(0.3)
      recorder.put(3, sums)
      assert logs.read(tmp_path) == []
      while not logs.read(tmp_path):  # the device has them, once a thread has been told
        recorder.poll()
      clock.advance(0.2)
      recorder.put(4, sums)
      recorder._pending[2].result()
      clock.advance(0.1)
      recorder.flush()
      recorder.flush()
    found = logs.read(tmp_path)
  assert found[1]['seconds'] - found[0]['seconds'] == pytest.approx(0.2)  # when it was done, not written
  assert [(r['step'], r['loss']) for r in found] == [(3, 1.5), (4, 1.5)]
  assert [r['learning_rate'] for r in found] == pytest.approx([0.2, 0.3])
  assert found[1]['seconds'] >= found[0]['seconds'] >= 5.0


def test_an_early_stop_writes_the_interval_it_ends_in(tmp_path):
  """Training metrics between the last log and the stop are not lost."""
  stop = "early_stop={'metric': 'test/loss', 'patience': '1 step', 'mode': 'max', 'min_delta': 100.0}"
  train(small('perceptron', 'train_for=40', 'log_every=15', 'eval_every=10', stop), tmp_path / 'run')
  assert [r['step'] for r in records(tmp_path / 'run', 'train')] == [15, 20]


def test_a_failed_run_leaves_its_report(tmp_path):
  with pytest.raises(TrainingError):
    train(small('perceptron', 'optim.adam.learning_rate=1e38'), tmp_path / 'run')
  assert 'failed' in (tmp_path / 'run' / 'report.html').read_text()


# -- Evaluating.


def test_evaluation_is_exact_for_any_batch_size(runs):
  task, state = dl.load(runs('perceptron'))
  test = part(Digits(), 'test').columns
  assert len(test['label']) == 360
  lines = [evaluate.evaluate(runs('perceptron'), batch_size=b)['test'] for b in (7, 64, 360, 1000)]
  for line in [*lines, records(runs('perceptron'), 'test')[-1]]:
    assert_metrics(task, state, test, line)


def test_evaluation_of_a_regression_agrees_with_sklearn(runs):
  from sklearn import metrics

  task, state = dl.load(runs('diabetes'))
  test = part(Diabetes(), 'test').columns
  predicted = np.asarray(task.predict(state, test['features'], jax.random.key(0))['target'], np.float64)
  for b in (7, 32, 89, 1000):
    line = evaluate.evaluate(runs('diabetes'), batch_size=b)['test']
    np.testing.assert_allclose(line['r2'], metrics.r2_score(test['target'], predicted), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(line['mae'], metrics.mean_absolute_error(test['target'], predicted), rtol=1e-5)
    np.testing.assert_allclose(line['rmse'], metrics.mean_squared_error(test['target'], predicted) ** 0.5, rtol=1e-5)
  assert math.isfinite(line['loss'])


def test_a_classifier_leaves_its_mistakes_to_look_at(runs):
  """The pictures are of the examples which the weights kept at the end get wrong."""
  folder = runs('perceptron') / 'artifacts'
  assert {p.name for p in folder.iterdir()} == {
    f'00000040_test_{n}' for n in ('confusion.png', 'classes.csv', 'mistakes.csv', 'mistakes_picture.png')
  }
  task, state = dl.load(runs('perceptron'))
  test = part(Digits(), 'test').columns
  probability = np.asarray(task.predict(state, test['image'], jax.random.key(0))['probability'])
  losses = -np.log(probability[np.arange(360), test['label']])
  wrong = np.flatnonzero(probability.argmax(-1) != test['label'])
  with open(folder / '00000040_test_mistakes.csv') as f:
    rows = list(csv.DictReader(f))
  places = part(Digits(), 'test').index[wrong[np.argsort(-losses[wrong])][:25]]  # in the whole set, as in error lines
  assert [int(r['index']) for r in rows] == places.tolist()
  assert [float(r['loss']) for r in rows] == pytest.approx(np.sort(losses[wrong])[::-1][:25].tolist(), abs=1e-3)


def test_a_signal_that_comes_twice_at_once_is_one_and_a_later_one_acts(monkeypatch):
  from dl.training import signals

  with signals.interruption() as told:
    assert not told()
    for _ in range(2):  # from the terminal or the batch system, and from the supervisor
      signal.raise_signal(signal.SIGINT)
    assert told()
    monkeypatch.setattr(signals, 'TOGETHER', -1.0)
    with pytest.raises(KeyboardInterrupt):
      signal.raise_signal(signal.SIGINT)
