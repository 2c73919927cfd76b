import html.parser
import json
import math
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest

from dl import report
from dl.errors import ConfigError
from dl.report import chart, runs
from dl.show import pictures, words
from dl.store import artifacts, logs

NASTY = '</script><script>alert("1")</script><img src=x onerror=alert(2)>&amp;'


def make_run(path, *, steps=1000, seed=0, learning_rate=1e-3, status='complete', scale=1.0, **config):
  """A work directory as the loop leaves it, with made-up numbers."""
  rng = np.random.default_rng(seed)
  path = pathlib.Path(path)
  with logs.Logs(path, tensorboard=False) as log:
    for step in range(steps // 50, steps + 1, steps // 50):
      loss = scale * (2.3 * math.exp(-4 * step / steps) + 0.05 + 0.02 * abs(rng.normal()))
      log.write(
        step,
        'train',
        {
          'loss': loss,
          'accuracy': 1 - loss / 3,
          'learning_rate': learning_rate * math.cos(math.pi / 2 * step / steps),
          'steps_per_second': 400 + 10 * rng.normal(),
          'seconds': step / 400,
        },
      )
      if step % (steps // 10) == 0:
        test = loss + 0.05 + 0.3 * (step / steps) ** 4
        by_class = np.clip(1 - test / 3 + 0.03 * rng.normal(size=10), 0, 1).tolist()
        log.write(step, 'test', {'loss': test, 'accuracy': 1 - test / 3, 'accuracy_by_class': by_class})
        y, x = np.mgrid[:8, :8] / 8
        digits = [np.clip(np.sin(9 * x * (i + 1) / 5) * np.cos(7 * y) * step / steps, 0, 1) for i in range(16)]
        write = {'samples': pictures.grid(np.stack(digits)[..., None].astype(np.float32))}
        if step == steps:
          write['text'] = f'def sample(n):\n  return [{seed}] * n\n'
          write['mistakes'] = [{'label': i, 'predicted': (i + 1) % 10, 'confidence': 0.5 + i / 30} for i in range(5)]
        artifacts.write(path, step, write)
  config = {
    'seed': seed,
    'task': {'name': 'classify.Classify', 'label_smoothing': 0.1},
    'model': {'name': 'lenet.LeNet5', 'num_classes': 10},
    'data': {'name': 'sklearn.Digits', 'batch_size': 64, 'augment': [{'name': 'random_shift', 'pixels': 1}]},
    'optim': {'adam': {'name': 'adam', 'learning_rate': learning_rate}},
    'expect': {'test/accuracy': [0.83, 0.02], 'test/loss': [0.1, 0.01]},
    'baselines': {'test/accuracy': {'a random forest': 0.5, 'people': 0.99}},
  } | config
  facts = {
    'command': 'python -m dl.train --config=experiments/vision/digits_lenet.py --workdir=runs/digits',
    'commit': '0123456789abcdef0123456789abcdef01234567+changes',
    'versions': {'python': '3.11.2', 'dl': '0.1.0', 'jax': '0.10.2', 'flax': '0.12.8', 'optax': '0.2.8'},
    'devices': {'platform': 'cpu', 'kind': 'cpu', 'count': 1, 'processes': 1, 'host': 'Linux', 'cpus': 2},
    'seed': seed,
    'started': '2026-03-01T12:30:00+0000',
    'status': status,
    'total_steps': steps,
    'parameters': 61706,
    'data': {'info': {'class_names': [f'digit {i}' for i in range(10)]}, 'batch_size': 64},
  }
  (path / 'config.json').write_text(json.dumps(config))
  (path / 'run.json').write_text(json.dumps(facts))
  return path


class Page(html.parser.HTMLParser):
  """A page as a browser's parser sees it: its elements, texts, and whether tags are balanced."""

  VOID = {'meta', 'img', 'br', 'input'}

  def __init__(self, path):
    super().__init__()
    self.source = pathlib.Path(path).read_text(encoding='utf-8')
    self.elements, self.open, self.texts = [], [], []
    self.feed(self.source)
    self.close()

  def handle_starttag(self, tag, attrs):
    self.elements.append((tag, dict(attrs)))
    if tag not in self.VOID:
      self.open.append(tag)

  def handle_startendtag(self, tag, attrs):
    self.elements.append((tag, dict(attrs)))

  def handle_endtag(self, tag):
    assert self.open and self.open[-1] == tag, f'</{tag}> closes {self.open[-3:]}'
    self.open.pop()

  def handle_data(self, data):
    self.texts.append(data)

  def all(self, tag, **wanted):
    return [a for t, a in self.elements if t == tag and all(a.get(k.rstrip('_')) == v for k, v in wanted.items())]

  @property
  def text(self):
    return ' '.join(' '.join(self.texts).split())


@pytest.fixture(scope='module')
def pair(tmp_path_factory):
  root = tmp_path_factory.mktemp('runs')
  return make_run(root / 'slow'), make_run(root / 'fast', seed=1, learning_rate=3e-3, scale=0.8)


def test_the_page_is_one_well_formed_file_which_asks_for_nothing(pair, tmp_path):
  page = Page(report.write(pair, tmp_path / 'report.html'))
  assert page.open == []
  for tag, attributes in page.elements:
    assert tag not in ('link', 'iframe', 'object', 'base')
    for name in ('src', 'href', 'srcset', 'action', 'data'):
      value = attributes.get(name)
      assert value is None or value.startswith('data:image/png;base64,'), (tag, name, value[:80])
  assert not re.search(r'https?:|//[a-z]+\.|@import|url\(', page.source)
  assert next(m['content'] for m in page.all('meta') if m.get('http-equiv')).startswith("default-src 'none'")
  assert [p.name for p in tmp_path.iterdir()] == ['report.html']


def test_every_metric_has_a_chart_with_every_run_and_split(pair, tmp_path):
  page = Page(report.write(pair, tmp_path / 'report.html'))
  charts = {}
  for attributes in page.all('figure', class_='chart'):
    lines = json.loads(attributes['data-lines'])
    charts[len(charts)] = {line['name']: line for line in lines}
  names = [set(lines) for lines in charts.values()]
  both = {'slow · train', 'slow · test', 'fast · train', 'fast · test'}
  trained = {'slow · train', 'fast · train'}
  assert names == [both, both, trained, trained]  # loss, accuracy, learning rate, steps per second
  loss = charts[0]['fast · test']
  wanted = [(r['step'], r['loss']) for r in logs.read(pair[1]) if r['split'] == 'test']
  assert loss['x'] == [s for s, _ in wanted]
  np.testing.assert_allclose(loss['y'], [v for _, v in wanted], rtol=1e-5)
  assert len(page.all('svg', role='img')) >= 4 and page.all('polyline')


def test_results_name_the_final_best_and_expected_values(pair, tmp_path):
  page = Page(report.write([pair[0]], tmp_path / 'report.html'))
  records = [r for r in logs.read(pair[0]) if r['split'] == 'test']
  best = min(records, key=lambda r: r['loss'])
  assert best['step'] != 1000
  assert f'{records[-1]["loss"]:.4f}' in page.text  # of the last checkpoint: nothing is chosen by the test part
  assert f'best {best["loss"]:.4f}' not in page.text
  assert 'expected 0.8300 ± 0.02: met' in page.text
  assert 'expected 0.1000 ± 0.01: not met' in page.text
  accuracy = records[-1]['accuracy']
  for method, value in ('a random forest', 0.5), ('people', 0.99):
    assert f'{method} {value:.4f}: {accuracy - value:+.4g}' in page.text
  for word in ('complete', '61,706', '0123456789+changes', 'jax 0.10.2', 'cpu, 2 cores', '2026-03-01 12:30 UTC'):
    assert word in page.text
  assert 'digit 7' in page.text and 'What differs' not in page.text


def changed(workdir, /, **files):
  """A run whose files say other things: name of the file -> function of its values."""
  for name, change in files.items():
    path = workdir / f'{name}.json'
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
  return workdir


def test_the_best_is_of_what_may_choose_and_validation_comes_before_test(tmp_path):
  with logs.Logs(make_run(tmp_path / 'run'), resume_step=1000, tensorboard=False) as log:
    for step, loss in ((500, 0.3), (1000, 0.4)):
      log.write(step, 'held_out', {'loss': loss})
      log.write(step, 'validation', {'loss': loss + 0.1})
  run = changed(
    tmp_path / 'run',
    config=lambda c: c | {'eval': {'test': {'split': 'test'}, 'held_out': {'split': 'validation'}}},
    run=lambda r: r | {'best': {'step': 500, 'metric': 'validation/loss', 'value': 0.4, 'metrics': {
      'validation': {'loss': 0.4}, 'test': {'loss': 0.77, 'class_accuracy': [1.0]}}}},
  )  # fmt: skip
  page = Page(report.write([run], tmp_path / 'report.html'))
  table = page.text.split('Results')[1].split('Curves')[0]
  assert 'validation loss 0.5000 best 0.4000 at 500' in table and 'held_out loss 0.4000 best 0.3000 at 500' in table
  assert (
    table.index('validation loss') < table.index('held_out loss') < table.index('test loss') < table.index('train l')
  )
  assert re.search(r'test loss [\d.]+ expected', table)  # and no best of it
  assert 'Best validation/loss: 0.4000 at step 500; there test loss 0.7700' in table


def test_a_claim_is_of_the_config_as_it_stands(tmp_path):
  command = 'python -m dl.train --config=x.py --config.seed=3 --config.train_for=9 --config.optim.adam.learning_rate=1'
  run = changed(make_run(tmp_path / 'run'), run=lambda r: r | {'command': command})
  page = Page(report.write([run], tmp_path / 'report.html'))
  assert 'expected 0.8300 ± 0.02: met' in page.text
  without = 'of the config without --config.train_for, --config.optim.adam.learning_rate'
  assert f'expected 0.1000 ± 0.01: {without}' in page.text and 'not met' not in page.text


def test_what_is_learned_comes_first_and_the_machine_is_folded(pair, tmp_path):
  page = Page(report.write([pair[0]], tmp_path / 'report.html'))
  order = ['complete', 'Results', 'Curves', 'The machine', 'Artifacts', 'The run', 'Config']
  assert sorted(order, key=page.text.index) == order
  folded = page.source.split('<summary>The machine</summary>')[1].split('</details>')[0]
  assert 'steps per second' in folded and 'learning rate' not in folded
  assert not [a for a in page.all('details') if 'open' in a]


def test_each_chart_says_in_words_what_it_shows(pair, tmp_path):
  page = Page(report.write([pair[0]], tmp_path / 'report.html'))
  records = logs.read(pair[0])
  of = lambda split: [(r['step'], r['loss']) for r in records if r['split'] == split]
  at = lambda point: f'{words.number(point[1])} at step {point[0]:,}'
  label = page.all('svg', role='img')[0]['aria-label']
  for split in ('train', 'test'):
    points = of(split)
    least = min(points, key=lambda p: p[1])
    assert f'{split} from {at(points[0])} to {at(points[-1])}, least {at(least)}' in label
  assert label.startswith('loss: ')


def test_lines_have_epochs_and_the_time_of_evaluations(tmp_path):
  run = changed(make_run(tmp_path / 'run'), run=lambda r: r | {'data': r['data'] | {'steps_per_epoch': 50.0}})
  page = Page(report.write([run], tmp_path / 'report.html'))
  lines = {line['split']: line for line in json.loads(page.all('figure', class_='chart')[0]['data-lines'])}
  np.testing.assert_allclose(lines['test']['s'], np.array(lines['test']['x']) / 400, atol=0.01)
  assert lines['train']['epoch'] == 50.0 and '20 epochs' in page.text
  assert [o['value'] for o in page.all('option')] == ['step', 'epoch', 'time']


def test_the_card_says_where_a_run_is_from(tmp_path):
  facts = {
    'own': {'code': 'code/1a2b', 'repositories': {'/home/me/lab': 'f' * 40 + '+changes'}},
    'init_from': {'step': 60, 'loaded': 8, 'values': 1234, 'fresh': ['params/model/out/bias'], 'unused': ['out/bias']},
    'extended': [{'at_step': 200, 'from': '200 steps', 'to': '300 steps', 'from_steps': 200, 'to_steps': 300}],
  }
  times = {'times': {'train': ['2022-01-01', '2023-01-01'], 'test': ['2023-01-02', '2023-06-01']}}
  run = changed(make_run(tmp_path / 'run'), run=lambda r: r | facts | {'data': r['data'] | times})
  text = Page(report.write([run], tmp_path / 'report.html')).text
  for said in (
    'Own code /home/me/lab: ffffffffff+changes; code/1a2b',
    'Started from step 60; 8 arrays, 1,234 values; fresh: params/model/out/bias; not used: out/bias',
    'Extended at step 200 from 200 steps to 300 steps',
    'Parts in time train 2022-01-01 to 2023-01-01, test 2023-01-02 to 2023-06-01',
  ):
    assert said in text


def test_differences_are_those_keys_which_differ(pair, tmp_path):
  assert runs.differences(runs.load(pair)) == {'seed': [0, 1], 'optim.adam.learning_rate': [1e-3, 3e-3]}
  page = Page(report.write(pair, tmp_path / 'report.html'))
  section = page.text.split('What differs between the configs')[1].split('The runs')[0]
  assert ' '.join(section.split()) == 'Key slow fast seed 0 1 optim.adam.learning_rate 0.001 0.003'
  same = Page(report.write([pair[0], pair[0]], tmp_path / 'same.html'))
  assert 'the configs are equal' in same.text


def test_artifacts_are_inside(pair, tmp_path):
  page = Page(report.write([pair[0]], tmp_path / 'report.html'))
  images = page.all('img')
  assert len(images) == 1 + 6 and images[0]['alt'] == 'samples at step 1000'
  assert [b['data-at'] for b in page.all('button') if 'data-at' in b][-1] == '1,000'
  assert 'def sample(n): return [0] * n' in page.text and 'confidence' in page.text


def test_artifacts_of_validation_come_first_and_pictures_say_what_they_show(tmp_path):
  run = make_run(tmp_path / 'run', eval={'test': {'split': 'test'}, 'validation': {'split': 'validation'}})
  square = np.zeros((8, 8, 1), np.uint8)
  for split in ('test', 'validation'):
    artifacts.write(run, 1000, {f'{split}_confusion': square, f'{split}_worst': [{'error': 12345.678, 'file': 'a'}]})
  page = Page(report.write([run], tmp_path / 'report.html'))
  assert [a['alt'] for a in page.all('img') if 'confusion' in a['alt']] == [
    f'{split} confusion at step 1000: the confusion matrix, a row a true class, a column a predicted one'
    for split in ('validation', 'test')
  ]
  assert page.text.index('validation worst') < page.text.index('test worst')
  assert '12,346' in page.text and page.all('div', class_='artifacts tables')


def test_a_number_of_the_best_checkpoint_says_so(tmp_path):
  test = {'split': 'test', 'of': 'best'}
  run = make_run(tmp_path / 'run', eval={'test': test}, keep={'metric': 'train/loss', 'best': 1})
  assert 'of the best checkpoint, step 1,000' in Page(report.write([run], tmp_path / 'report.html')).text


def test_a_split_has_the_same_colour_on_every_page(tmp_path):
  run = make_run(tmp_path / 'run')
  colour = lambda page: re.search(r'swatch (c\d) s1"></i>test<', page.source)[1]
  before = colour(Page(report.write([run], tmp_path / 'a.html')))
  with logs.Logs(run, resume_step=1000, tensorboard=False) as log:
    log.write(1000, 'validation', {'loss': 0.1})
  after = Page(report.write([run], tmp_path / 'b.html'))
  assert colour(after) == before and 'validation' in after.text


def test_whatever_a_run_says_is_escaped(tmp_path):
  path = make_run(tmp_path / 'run', model={'name': NASTY, NASTY: [NASTY]}, task={'name': NASTY})
  clean = make_run(tmp_path / 'clean')
  with logs.Logs(path, resume_step=1000, tensorboard=False) as log:
    log.write(1000, NASTY, {NASTY: 1.0, 'list': [0.5]})
  artifacts.write(path, 1000, {'text': NASTY, 'table': [{NASTY: NASTY}]})
  facts = json.loads((path / 'run.json').read_text())
  for key in ('command', 'commit', 'status', 'started'):
    facts[key] = NASTY
  facts['versions'] = {NASTY: NASTY}
  facts['devices'] = {'kind': NASTY}
  (path / 'run.json').write_text(json.dumps(facts))
  for group in ([path], [path, clean]):
    page, plain = Page(report.write(group, tmp_path / 'x.html')), Page(report.write([clean], tmp_path / 'y.html'))
    assert page.open == [] and len(page.all('script')) == len(plain.all('script')) == 1
    assert all('onerror' not in attributes for _, attributes in page.elements)
    assert 'alert("1")' in page.text and '<script>alert' not in page.source


def test_the_script_is_the_one_which_the_policy_admits(pair, tmp_path):
  import base64
  import hashlib

  source = report.write([pair[0]], tmp_path / 'report.html').read_text()
  script = source.split('<script>')[1].split('</script>')[0]
  assert f'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}' in source


def test_a_run_which_has_just_begun_or_broke_still_has_a_page(tmp_path):
  (tmp_path / 'new').mkdir()
  (tmp_path / 'new' / 'config.json').write_text('{"seed": 0}')
  assert 'No metrics yet' in Page(report.write([tmp_path / 'new'], tmp_path / 'a.html')).text
  broken = make_run(tmp_path / 'broken', status='failed')
  with logs.Logs(broken, resume_step=1000, tensorboard=False) as log:
    log.write(1001, 'train', {'loss': float('nan')})
  page = Page(report.write([broken], tmp_path / 'b.html'))
  assert 'failed' in page.text and 'not finite best' in page.text


@pytest.mark.parametrize(
  'make, message',
  [
    (lambda p: p / 'digit', "no work directory .*did you mean '.*digits'"),
    (lambda p: p / 'other', 'not a work directory'),
    (lambda p: p, 'there are runs in it: .*digits'),
    (lambda p: (p / 'digits' / 'config.json').write_text('{') and p / 'digits', 'cannot be read as JSON'),
  ],
)
def test_what_is_no_work_directory_is_one_line(tmp_path, make, message):
  (tmp_path / 'digits').mkdir()
  (tmp_path / 'digits' / 'config.json').write_text('{}')
  (tmp_path / 'other').mkdir()
  with pytest.raises(ConfigError, match=message) as e:
    report.write([make(tmp_path)], tmp_path / 'r.html')
  assert '\n' not in str(e.value)


def test_the_command_writes_the_page_and_prints_a_table(pair, tmp_path):
  command = [sys.executable, '-m', 'dl.report', *map(str, pair), f'--output={tmp_path / "out.html"}']
  done = subprocess.run(command, capture_output=True, text=True, check=True)
  table = done.stdout.splitlines()
  assert [c.strip() for c in table[0].strip('|').split('|')] == [
    'run', 'status', 'steps', 'time', 'test loss', 'test accuracy',
  ]  # fmt: skip
  cells = [c.strip() for c in table[2].strip('|').split('|')]
  final = [r for r in logs.read(pair[0]) if r['split'] == 'test'][-1]
  assert cells == ['slow', 'complete', '1,000', '0:00:02', f'{final["loss"]:.4f}', f'{final["accuracy"]:.4f}']
  assert len(table) == 4 and len({len(line) for line in table}) == 1
  assert Page(tmp_path / 'out.html').open == []


def test_the_command_refuses_in_one_line(tmp_path, command):
  for arguments in ([], [tmp_path / 'none']):
    code, out, err = command('dl.report', *arguments)
    assert (code, out, err.count('\n')) == (2, '', 1) and err.startswith('error: ')


def test_a_folder_is_no_file_to_write(pair, tmp_path, command):
  code, out, err = command('dl.report', pair[0], f'--output={tmp_path}')
  assert (code, out) == (2, '')
  assert err == f'error: --output: {tmp_path} is a folder; name the file, such as {tmp_path}/report.html\n'


def test_better_is_what_the_config_or_the_metric_says(tmp_path):
  path = make_run(tmp_path / 'r', keep={'metric': 'test/accuracy', 'mode': 'min'})
  facts = json.loads((path / 'run.json').read_text())
  said = {'train': {'loss': None}, 'test': {'novelty': 'max', 'loss': 'min', 'accuracy': 'max', 'spread': None}}
  (path / 'run.json').write_text(json.dumps(facts | {'better': said}))
  (run,) = runs.load([path])
  modes = {metric: run.mode('test', metric) for metric in (*said['test'], 'value_loss', 'learning_rate')}
  assert modes == {
    'novelty': 'max', 'loss': 'min', 'accuracy': 'min', 'spread': None, 'value_loss': None, 'learning_rate': None,
  }  # fmt: skip
  assert run.mode('train', 'loss') is None and ('train', 'loss') not in run.best()


def test_better_is_what_the_name_says_for_a_run_of_before(tmp_path):
  keep = {'metric': 'test/novelty', 'mode': 'min'}
  (run,) = runs.load([make_run(tmp_path / 'r', keep=keep)])
  assert run.mode('test', 'novelty') == 'min' and run.mode('train', 'novelty') is None
  down = ('loss', 'value_loss', 'perplexity', 'bits_per_character', 'rmse', 'calibration_error', 'fid')
  up = ('accuracy', 'balanced_accuracy', 'r2', 'episode_return', 'f1', 'auc')
  neither = ('generator_loss', 'discriminator_loss', 'policy_loss', 'entropy', 'learning_rate', 'seconds', 'grad_norm')
  assert {run.mode('test', m) for m in down} == {'min'}
  assert {run.mode('test', m) for m in up} == {'max'}
  assert {run.mode('test', m) for m in neither} == {None}


def test_names_are_as_long_as_it_takes_to_tell_runs_apart():
  paths = [pathlib.Path(p) for p in ('a/x/run', 'a/y/run', 'b')]
  assert runs.short_names(paths[:2]) == ['x/run', 'y/run']
  assert runs.short_names(paths[1:]) == ['run', 'b']
  assert runs.short_names([paths[0], paths[0]]) == ['run', 'run']


def test_numbers():
  given = [0.98765432, 1.0, 12345, 0.0001234, 123.456, None, 3.2e9]
  assert [words.number(v) for v in given] == ['0.9877', '1', '12,345', '0.0001234', '123.5', 'not finite', '3.2e+09']


def test_ticks_are_round_and_inside():
  assert chart.ticks(0, 1) == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1.0])
  assert chart.ticks(-3, 7) == [-2, 0, 2, 4, 6]
  assert chart.log_ticks(0.05, 3) == pytest.approx([0.05, 0.1, 0.2, 0.5, 1, 2])
  assert chart.log_ticks(1e-6, 1) == pytest.approx([1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1])
  assert [words.tick(v) for v in (0, 0.25, 1500, 20000, 3e6, 1e-5)] == ['0', '0.25', '1,500', '20k', '3M', '1e-05']


def test_a_long_series_is_drawn_as_means_with_a_band_and_a_break_stays():
  points = [(i, float(i % 10)) for i in range(10_000)]
  thin = chart.thin(points, 100)
  assert len(thin) == 100 and {y for _, y, *_ in thin} == {4.5}
  assert {(low, high) for *_, low, high in thin} == {(0.0, 9.0)} and thin[-1][0] == 9999
  points[5000] = (5000, None)
  assert [y for _, y, *_ in chart.thin(points, 100)].count(None) == 1
  drawn = chart.svg([chart.Line(points, 'c0 s1', 0, 'train')], 'loss')
  assert drawn.count('<polyline') == 2 and drawn.count('<polygon') == 2


def test_points_lie_where_their_values_say():
  line = chart.Line([(0, 1.0), (50, 3.0), (100, 1.0)], 'c0 s1', 0, 'train')
  f = chart.frame([line])
  left, top = chart.LEFT, chart.TOP
  assert f.x(0) == left and f.x(100) == chart.WIDTH - chart.RIGHT
  assert top < f.y(3.0) < f.y(1.0) < chart.HEIGHT - chart.BOTTOM
  log = chart.frame([chart.Line([(0, 1.0), (1, 100.0)], '', 0, 'train')], log=True)
  assert log.y(10.0) == pytest.approx((log.y(1.0) + log.y(100.0)) / 2)
  flat = chart.frame([chart.Line([(0, 2.0)], '', 0, 'train')])
  assert flat.y0 < 2 < flat.y1 and flat.x1 > flat.x0
