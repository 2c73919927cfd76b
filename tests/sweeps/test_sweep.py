"""Sweeps: which runs they are, how they are executed, resumed and reported."""

import contextlib
import csv
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import types

import pytest
from small import ROOT

from dl.errors import ConfigError
from dl.report import chart, scatter
from dl.store import logs
from dl.store import workdir as workdirs
from dl.sweeps import launch, page, sweeping

CONFIG = str(ROOT / 'experiments/vision/digits_mlp.py')
RATE = 'optim.adam.learning_rate.peak_value'


def made(*grid, shared=(), config=CONFIG):
  return sweeping.make(config, shared, sweeping.grid(grid))


# -- Which runs.


def test_values_are_split_at_commas_outside_of_brackets_and_quotes():
  assert sweeping.split("(256,128),(64,),'a,b',{'name': \"x,y\"}", '--grid') == [
    '(256,128)', '(64,)', "'a,b'", "{'name': \"x,y\"}",
  ]  # fmt: skip
  for text in ('1,,2', '', '(1,2', "'a"):
    with pytest.raises(ConfigError, match='--grid'):
      sweeping.split(text, '--grid')


def test_a_grid_is_the_product_of_its_keys_with_values_as_overrides_have_them():
  sweep = made(f'{RATE}=1e-3,1e-2', 'model.hidden=(8,),(8,4)', 'seed=0,1', shared=['train_for=20'])
  assert len(sweep.runs) == 8 and sweep.keys == ['model.hidden', RATE, 'seed']
  run = sweep.runs[-1]
  assert run.overrides == {'model.hidden': [8, 4], RATE: 0.01, 'seed': 1}
  assert run.experiment.model['hidden'] == [8, 4] and run.experiment.train_for == 20 and run.experiment.seed == 1
  assert sweep.runs[0].experiment.optim['adam']['learning_rate']['peak_value'] == 0.001


def test_names_are_stable_readable_safe_and_different():
  a, b = made(f'{RATE}=1e-3', 'seed=0'), made('seed=0', f'{RATE}=0.001,0.01')
  assert a.runs[0].name == b.runs[0].name == f'{RATE}=0.001,seed=0'
  nasty = [
    {'k': v} for v in ('a/b', 'a-b', '../..', '', ' ', '<b>', 'x' * 300, 'x' * 301, '1', 1, True, 'True', [1, 2])
  ]
  names = [sweeping.name(v) for v in nasty] + [sweeping.name({}), sweeping.name({'k': 1, 'l': 2})]
  assert len(set(names)) == len(names)
  assert all(re.fullmatch(r'[A-Za-z0-9._+=,-]{1,200}', name) for name in names)


def test_samples_are_in_range_repeatable_and_can_be_extended():
  texts = ['a=log_uniform(1e-4,1e-1)', 'b=uniform(-1,1)', 'c=int_uniform(1,3)', "d=choice((1,2),'x,y')"]
  points = sweeping.sample(texts, 40, 0)
  assert sweeping.sample(texts[::-1], 60, 0)[:40] == points != sweeping.sample(texts, 40, 1)
  assert all(1e-4 <= float(p['a']) <= 1e-1 and -1 <= float(p['b']) <= 1 for p in points)
  assert {p['c'] for p in points} == {'1', '2', '3'} and {p['d'] for p in points} == {'(1,2)', "'x,y'"}
  assert sum(float(p['a']) < 10**-2.5 for p in points) in range(10, 31)  # half of them, by the logarithm
  assert {p['c'] for p in sweeping.sample(['c=int_uniform(1,3)'], 3, 0)} == {'1', '2', '3'}


@pytest.mark.parametrize(
  'text, message',
  [
    ('a=log_uniform(0,1)', 'positive'), ('a=uniform(1)', 'two numbers'), ('a=uniform(2,1)', 'higher'),
    ('a=log_unifrom(1,2)', "did you mean 'log_uniform'"), ('a=3', 'valid: uniform'), ('uniform(0,1)', 'KEY=VALUES'),
    ('a=int_uniform(0,1)', 'only 2 different'), ('a=choice()', 'empty'), ('a=uniform(0,inf)', 'higher'),
  ],
)  # fmt: skip
def test_distributions_which_cannot_be(text, message):
  with pytest.raises(ConfigError, match=re.escape(message)):
    sweeping.sample([text], 3, 0)


def test_files_of_points_and_their_product_with_a_grid(tmp_path):
  entries = [{'seed': 1, 'model.hidden': [8]}, {'train_for': '2 epochs'}]
  (tmp_path / 'a.json').write_text(json.dumps(entries))
  (tmp_path / 'b.py').write_text(f'def get_sweep():\n  return {entries!r}\n')
  points = sweeping.from_file(str(tmp_path / 'a.json'))
  assert points == sweeping.from_file(str(tmp_path / 'b.py'))
  sweep = sweeping.make(CONFIG, (), sweeping.product(points, sweeping.grid(['model.dropout=0.0,0.5'])))
  assert [run.overrides for run in sweep.runs][::2] == [
    {'model.dropout': 0.0, 'model.hidden': [8], 'seed': 1}, {'model.dropout': 0.0, 'train_for': '2 epochs'},
  ]  # fmt: skip
  (tmp_path / 'c.json').write_text('{"seed": 1}')
  (tmp_path / 'd.py').write_text('def get_sweep():\n  return 1 / 0\n')
  for name, message in ('c.json', 'list of overrides'), ('d.py', 'ZeroDivisionError'), ('e.json', 'no file'):
    with pytest.raises(ConfigError, match=message):
      sweeping.from_file(str(tmp_path / name))


def test_mistakes_are_found_before_anything_runs():
  with pytest.raises(ConfigError, match="did you mean 'seed'"):
    made('sed=0,1')
  with pytest.raises(ConfigError, match='train the same'):
    made(f'{RATE}=1e-3,0.001')
  with pytest.raises(ConfigError, match='swept twice'):
    made('seed=0', 'seed=1')
  with pytest.raises(ConfigError, match='given for all runs'):
    made('model.hidden=(8,)', shared=["model={'name': 'mlp.MLP'}"])
  with pytest.raises(ConfigError, match=r"dropuot=0.1.*: .*did you mean 'dropout'"):
    launch.check(made('seed=0,1', 'model.dropuot=0.1').runs)
  with pytest.raises(ConfigError, match=r'keep\.metric'):
    launch.check(made('seed=0', "keep={},{'best': 1, 'metric': 'test/acuracy'}").runs)


def test_a_directory_remembers_its_sweep_and_takes_more_runs_but_no_other_config(tmp_path):
  first = made(f'{RATE}=1e-3,1e-2', shared=['train_for=20'])
  sweeping.write(tmp_path, first)
  assert sweeping.read(tmp_path) == first
  more = made('seed=1,0', f'{RATE}=1e-2,1e-1', shared=['train_for=20'])
  joined = sweeping.read(tmp_path).joined(more)
  assert joined.runs[:2] == first.runs and len(joined.runs) == 5  # seed=0 is the default: that run is there already
  assert next(run.name for run in joined.chosen(more.runs)) == f'{RATE}=0.01'
  sweeping.write(tmp_path, joined)
  assert sweeping.read(tmp_path).joined(first) == joined
  with pytest.raises(ConfigError, match=re.escape('train_for (20, now 30)')):
    sweeping.read(tmp_path).joined(made('seed=0', shared=['train_for=30']))
  (tmp_path / 'sweep.json').write_text((tmp_path / 'sweep.json').read_text().replace(f'"{RATE}=0.01"', '"../x"'))
  with pytest.raises(ConfigError, match='is no name'):
    sweeping.read(tmp_path)


def test_seeds_which_follow_one_another_become_one_run_which_later_sweeps_know(tmp_path):
  grid = lambda seeds: made(f'{RATE}=1e-3,1e-2', f'seed={seeds}')
  empty = sweeping.Sweep(CONFIG, (), made('seed=0').base, ())
  sweep = empty.joined(grid('4,0,2,1,7'), vectorize=True)
  assert [run.name for run in sweep.runs][:3] == [
    f'{RATE}=0.001,seed=0,seeds=3', f'{RATE}=0.001,seed=4', f'{RATE}=0.001,seed=7',
  ]  # fmt: skip
  assert len(sweep.runs) == 6 and sweep.runs[0].experiment.seeds == 3
  assert sweep.chosen(grid('1').runs) == [sweep.runs[0], sweep.runs[3]]
  assert sweep.joined(grid('0,1,4')) == sweep
  more = sweep.joined(grid('1,2,3,5,6'), vectorize=True)
  assert [run.overrides['seed'] for run in more.runs[6:]] == [3, 5, 3, 5]
  sweeping.write(tmp_path, more)
  assert sweeping.read(tmp_path) == more


# -- How they are executed: with a stand-in for dl.train, which starts at once.

CHILD = """
import json, pathlib, signal, sys, time
folder, kind = pathlib.Path(sys.argv[1]), sys.argv[2]
folder.mkdir(exist_ok=True)
write = lambda status: (folder / 'run.json').write_text(json.dumps({'status': status}))
def stop(*_):
  write('interrupted')
  sys.exit(75)
signal.signal(signal.SIGTERM, stop)
(folder / 'started').write_text(str(time.monotonic()))
if kind == 'fails':
  print('trouble', file=sys.stderr)
  sys.exit('error: loss is not finite at step 3')
if kind == 'dies':
  signal.raise_signal(signal.SIGKILL)
while kind == 'long' or (kind == 'beside' and len([*folder.parent.glob('*/started')]) < 2):
  time.sleep(0.01)
(folder / 'ended').write_text(str(time.monotonic()))
write('complete')
"""


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
  """(sweep, runs) of runs seed=0, 1, ... of the kinds given."""
  (tmp_path / 'child.py').write_text(CHILD)

  def start(*kinds):
    def command(workdir, sweep, run):
      return [sys.executable, '-S', str(tmp_path / 'child.py'), str(workdir / run.name), kinds[run.overrides['seed']]]

    monkeypatch.setattr(launch, 'command', command)
    sweep = made('seed=' + ','.join(map(str, range(len(kinds)))))
    return sweep, sweep.runs

  return start


def test_as_many_at_once_as_asked_for_and_complete_ones_are_skipped(stand_in, tmp_path, capsys):
  sweep, runs = stand_in('beside', 'beside', 'beside', 'beside')
  outcome = launch.execute(tmp_path, sweep, runs, 2)
  assert outcome == launch.Outcome({}, False)
  spans = [tuple(float((tmp_path / r.name / f).read_text()) for f in ('started', 'ended')) for r in runs]
  together = [sum(a <= start < b for a, b in spans) for start, _ in spans]
  assert max(together) == 2
  assert '4/4' in capsys.readouterr().err
  launch.execute(tmp_path, sweep, runs, 2)
  assert '4 runs, 4 of them complete' in capsys.readouterr().err
  assert [float((tmp_path / r.name / 'started').read_text()) for r in runs] == [a for a, _ in spans]


def test_a_failed_run_is_named_and_stops_no_other(stand_in, tmp_path, capsys):
  sweep, runs = stand_in('fails', 'dies', 'short')
  outcome = launch.execute(tmp_path, sweep, runs, 1)
  assert outcome.failed == {'seed=0': 'loss is not finite at step 3', 'seed=1': 'killed by signal 9'}
  assert not outcome.interrupted and launch.status(tmp_path / 'seed=2') == 'complete'
  assert 'seed=0   failed (loss is not finite at step 3)' in capsys.readouterr().err


@pytest.mark.parametrize('kind', ['short', 'fails'])
def test_a_run_of_another_process_is_waited_for(kind, stand_in, tmp_path, capsys):
  sweep, runs = stand_in(kind, 'short')
  lock = contextlib.ExitStack()
  lock.enter_context(workdirs.locked(tmp_path / runs[0].name))

  def end():
    while 'waited for' not in ''.join(said):
      time.sleep(0.01)
    if kind == 'short':  # else it was killed before its end, and is this sweep's again
      (tmp_path / runs[0].name / 'run.json').write_text('{"status": "complete"}')
    lock.close()

  said = []
  stream = types.SimpleNamespace(write=said.append, flush=lambda: None)
  thread = threading.Thread(target=end)
  thread.start()
  outcome = launch.execute(tmp_path, sweep, runs, 1, stream=stream)
  thread.join()
  assert f'seed=0 is trained by process {os.getpid()} on ' in ''.join(said)
  assert list(outcome.failed) == ([] if kind == 'short' else ['seed=0']) and not outcome.interrupted
  assert (tmp_path / runs[0].name / 'started').exists() == (kind == 'fails')
  assert launch.status(tmp_path / runs[1].name) == 'complete'


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_passed_on_and_nothing_more_starts(stand_in, tmp_path, number):
  sweep, runs = stand_in('long', 'long', 'long')

  def stop():
    while not all((tmp_path / f'seed={i}' / 'started').exists() for i in (0, 1)):
      pass
    os.kill(os.getpid(), number)

  thread = threading.Thread(target=stop)
  thread.start()
  outcome = launch.execute(tmp_path, sweep, runs, 2)
  thread.join()
  assert outcome == launch.Outcome({}, True)
  assert [launch.status(tmp_path / run.name) for run in runs] == ['interrupted', 'interrupted', 'waiting']


# -- As a user runs it.


def sweep_command(workdir, *arguments):
  tiny = ['train_for=12', 'eval_every=6', 'model.hidden=(8,)']
  return [
    sys.executable, '-m', 'dl.sweep', f'--config={CONFIG}', f'--workdir={workdir}', *arguments,
    *(f'--config.{text}' for text in tiny),
  ]  # fmt: skip


@pytest.mark.thorough
def test_from_the_command_to_the_report_and_through_slurm(environment, command, tmp_path):
  run = lambda *a: subprocess.run(a, env=environment, cwd=ROOT, capture_output=True, text=True)
  workdir, script = tmp_path / 'sweep', tmp_path / 'sweep.sh'
  arguments = sweep_command(workdir, '--grid', f'{RATE}=1e-2,1e30', '--parallel=2')
  code, printed, _ = command(*arguments[2:], '--slurm')
  script.write_text(printed)
  assert code == 0 and run('bash', '-n', str(script)).returncode == 0
  assert '#SBATCH --array=0-1%2\n' in printed and '#SBATCH --requeue\n' in printed
  environment = environment | {'SLURM_ARRAY_TASK_ID': '0'}
  task = run('bash', str(script))
  assert task.returncode == 0, task.stderr
  good, bad = sweeping.read(workdir).runs
  assert [launch.status(workdir / r.name) for r in (good, bad)] == ['complete', 'waiting']
  assert '#SBATCH --array=1%2\n' in command(*arguments[2:], '--slurm')[1]

  done = run(*arguments)
  assert done.returncode == 1, done.stderr
  assert re.search(rf'^error: {re.escape(bad.name)}: .*not finite', done.stderr, re.MULTILINE), done.stderr
  assert '2 runs, 1 of them complete; 2 at once' in done.stderr
  lines = done.stdout.splitlines()
  assert ' '.join(lines[0].split()) == '| peak_value | status | step | test accuracy |'
  assert re.fullmatch(r'\| 0.01 +\| complete \| +12 \| +0\.\d{4} \|', lines[2])
  assert lines[3].startswith('| 1e+30      | failed')
  rows = list(csv.DictReader((workdir / 'sweep.csv').read_text().splitlines()))
  assert [row['status'] for row in rows] == ['complete', 'failed']
  assert float(rows[0]['test/accuracy']) == logs.read(workdir / good.name)[-1]['accuracy']
  code, out, _ = command('dl.sweep', f'--workdir={workdir}', '--report', '--metric=test/loss')
  assert code == 0 and 'test loss' in out


@pytest.mark.parametrize(
  'arguments, message',
  [
    ([], 'nothing is swept'),
    (['--grid=sed=1'], "did you mean 'seed'"),
    (['--grid=model.dropuot=1'], "did you mean 'dropout'"),
    (['--random=seed=int_uniform(0,9)'], 'go together'),
    (['--grid=seed=0,1', '--index=7'], 'has 2 runs, 0 to 1'),
    (['--grid=seed=0,1', '--index=0', '--report'], '--index and --report'),
    (['--grid=seed=0,1', '--report', '--slurm'], '--report and --slurm'),
    (['--grid=seed=0,1', '--report'], 'leave out --config'),
    (['--grid=seed=0,1', '--metric=test/acuracy'], "did you mean 'test/accuracy'"),
    (
      ['--grid=seed=0,1', '--vectorize_seeds', "--config.early_stop={'metric': 'test/loss', 'patience': 5}"],
      'early_stop',
    ),
  ],
)
def test_mistakes_are_one_line_and_leave_no_directory(arguments, message, command, tmp_path):
  code, _, err = command(*sweep_command(tmp_path / 'sweep', *arguments)[2:])
  assert code == 2 and err.startswith('error: ') and err.count('\n') == 1 and message in err
  assert not (tmp_path / 'sweep').exists()


def test_one_sweep_at_a_time_in_a_directory(command, tmp_path, monkeypatch):
  arguments = sweep_command(tmp_path, '--grid', 'seed=0,1')[2:]
  with workdirs.locked(tmp_path):
    code, _, err = command(*arguments)
  assert code == 2 and 'is in use by process' in err and not (tmp_path / sweeping.FILE).exists()

  def check(runs, metrics):  # while it looks at its runs, another command adds some
    sweeping.write(tmp_path, sweeping.make(CONFIG, [], [{'seed': '7'}]))

  monkeypatch.setattr(launch, 'check', check)
  code, _, err = command(*arguments)
  assert code == 2 and 'another command changed the sweep' in err
  assert [run.overrides for run in sweeping.read(tmp_path).runs] == [{'seed': 7}]


# -- What it says of them.


def fake(workdir, *grid, skip=(), value=lambda overrides: 0.5, config=CONFIG):
  """A sweep's directory as its runs leave it, with made-up numbers."""
  sweep = made(*grid, config=config)
  sweeping.write(workdir, sweep)
  for i, run in enumerate(sweep.runs):
    if i not in skip:
      folder = workdir / run.name
      folder.mkdir()
      (folder / 'config.json').write_text(json.dumps(run.experiment.to_json()))
      (folder / 'run.json').write_text(json.dumps({'status': 'complete', 'total_steps': 900}))
      with logs.Logs(folder, tensorboard=False) as log:
        log.write(900, 'test', {'accuracy': value(run.overrides), 'loss': 1.0})
  return sweep


def test_the_best_come_first_and_seeds_are_one_row(tmp_path):
  value = lambda o: 0.9 + 0.01 * o['seed'] - (0.2 if o[RATE] > 0.005 else 0)
  sweep = fake(tmp_path, f'{RATE}=1e-2,1e-3,1e-1', 'seed=0,1,2', skip=[5, 6, 7, 8], value=value)
  summary = page.load(tmp_path, sweep)
  assert summary.metrics == ['test/accuracy'] and summary.mode == 'max'
  assert [group.values[RATE] for group in summary.groups] == [0.001, 0.01, 0.1]
  first, second, last = summary.groups
  assert second.text('test/accuracy') == '0.7100 ± 0.01' and first.text('test/accuracy') == '0.9050 ± 0.0071'
  assert first.status == '2 complete, 1 waiting' and last.text('test/accuracy') == ''
  lines = page.write(tmp_path, sweep).splitlines()
  assert ' '.join(lines[2].split()) == '| 0.001 | 2 complete, 1 waiting | 3 | 0-900 | 0.9050 ± 0.0071 |'
  with pytest.raises(ConfigError, match="did you mean 'test/accuracy'"):
    page.load(tmp_path, sweep, ['test/acuracy'])


def test_each_seed_of_a_vectorized_run_is_told(tmp_path):
  sweep = made(f'{RATE}=1e-3,1e-2', 'seeds=3')
  for run in sweep.runs[1:]:
    (tmp_path / run.name).mkdir()
    (tmp_path / run.name / 'config.json').write_text(json.dumps(run.experiment.to_json()))
    (tmp_path / run.name / 'run.json').write_text(json.dumps({'status': 'complete'}))
    with logs.Logs(tmp_path / run.name, tensorboard=False) as log:
      log.write(900, 'test', {'accuracy': 0.8, 'accuracy_by_seed': [0.7, 0.8, 0.9], 'by_class': [0.5, 0.5, 0.5]})
  sweeping.write(tmp_path, sweep)
  table = page.write(tmp_path, sweep)
  assert '0.8000 ± 0.1' in table and 'waiting' in table
  rows = list(csv.DictReader((tmp_path / 'sweep.csv').read_text().splitlines()))
  assert [(row['seed'], row['test/accuracy']) for row in rows] == [
    ('0', ''), ('1', ''), ('2', ''), ('0', '0.7'), ('1', '0.8'), ('2', '0.9'),
  ]  # fmt: skip


def test_the_page_has_a_chart_a_key_and_escapes_what_it_shows(tmp_path):
  sweep = fake(tmp_path, f'{RATE}=1e-3,1e-2', 'model.activation="<b>x</b>",relu', 'seed=0,1')
  page.write(tmp_path, sweep)
  text = (tmp_path / 'sweep.html').read_text()
  assert text.count('<svg viewBox') == 2 and '<b>x' not in text and '&lt;b&gt;x' in text
  assert text.count('class="seed"') == 16 and text.count('class="bar"') == 8
  assert not re.search(r'https?:|url\(|@import', text)
  assert all((tmp_path / href / '..').exists() for href in re.findall(r'href="([^"]+)/report.html"', text))


@pytest.mark.parametrize(
  'values, kind',
  [
    ([1e-4, 1e-3, 1e-2], 'log'), ([32, 64, 128], 'log'), ([0, 1e-3, 1e-2, 1e-1], 'category'),
    ([0.1, 0.2, 0.3], 'linear'), ([0, 1, 2], 'linear'), ([-1, 1, 100], 'linear'), ([True, False], 'category'),
    (['relu', 'tanh'], 'category'), ([[8], [8, 4]], 'category'), ([1, 'all'], 'category'),
  ],
)  # fmt: skip
def test_axes(values, kind):
  axis = scatter.axis([*values, values[0]])
  assert axis.kind == kind and len(axis.values) == len(values)
  low, high = axis.range()
  assert all(low < axis.place(v) < high for v in values)
  assert all(low <= place <= high for place, _ in axis.ticks())
  points = [scatter.Point(v, 1.0 + i, 'x') for i, v in enumerate(values)]
  drawn = scatter.svg([points, points], axis, 'key', 'title')
  xs = [float(x) for x in re.findall(r'cx="([\d.]+)"', drawn)]
  assert len(xs) == 2 * len(values) and all(chart.LEFT <= x <= chart.WIDTH for x in xs)
