"""The commands as a user runs them, on small trained runs."""

import copy
import csv
import dataclasses
import importlib
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import types

import jax
import numpy as np
import pytest
from PIL import Image
from small import SMALL, records, small

import dl
from dl import config
from dl.commands import evaluate
from dl.config import citations
from dl.contract.info import Info
from dl.data import augment, transforms
from dl.data import make as data_make
from dl.data.parts import part
from dl.data.sources.sklearn import BreastCancer, Diabetes, Digits
from dl.errors import ConfigError
from dl.parallel import meshes
from dl.show.words import number
from dl.store import workdir as workdirs
from dl.training import answers, assemble, entries, evaluation, policy, prediction, steps

ROOT = pathlib.Path(__file__).parents[1]
EXPERIMENTS = sorted((ROOT / 'experiments').rglob('*.py'))
KEY = jax.random.key(0)
MEASURES_ALONE = """
import dataclasses
from dl.contract.evaluator import Evaluator

@dataclasses.dataclass(frozen=True, kw_only=True)
class Measures(Evaluator):
  def measure(self, task, state, batch, key):
    return task.evaluate(state, batch, key)
"""


def objects(text):
  return [json.loads(line) for line in text.splitlines()]


def assert_mistake(done, *says):
  """One line on stderr, nothing on stdout, exit code 2."""
  code, out, err = done
  assert (code, out) == (2, '')
  assert err.startswith('error: ') and err.count('\n') == 1
  for text in says:
    assert text in err


def test_the_commands_can_be_imported_side_by_side():
  for name in ('train', 'evaluate', 'predict', 'sample', 'cite', 'report'):
    assert importlib.import_module(f'dl.{name}').__doc__
  vars(dl).pop('train')  # the module took the place of the function
  importlib.reload(dl)


# -- dl.train


def test_a_file_of_a_command_can_be_run_as_it_is(environment, tmp_path):
  """Then its folder comes first on Python's path, so no module there may hide one of Python's own."""
  done = subprocess.run(
    [sys.executable, ROOT / 'dl/train.py', '--helpshort'],
    cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
  )  # fmt: skip
  assert 'Traceback' not in done.stderr
  assert all(word in done.stdout for word in ('python -m dl.train', '--workdir', '--[no]debug'))


def test_train_prints_its_numbers_and_exits_with_0(tmp_path, environment, command):
  path, overrides = SMALL['perceptron']
  arguments = [f'--config=experiments/{path}', f'--workdir={tmp_path}/run', *(f'--config.{o}' for o in overrides)]
  done = subprocess.run(
    [sys.executable, '-m', 'dl.train', *arguments],
    cwd=ROOT, env=environment, capture_output=True, text=True, check=False,
  )  # fmt: skip
  assert done.returncode == 0, done.stderr
  line = records(tmp_path / 'run', 'test')[-1]
  cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()
  numbers, end, *look = done.stdout.splitlines()
  assert end == f'complete at step 40: {tmp_path}/run'
  assert look == [
    f'report: {tmp_path}/run/report.html',
    f'predict: python -m dl.predict --workdir={tmp_path}/run --inputs=FILES',
  ]
  assert done.stderr.splitlines()[:7] == [
    'task        classify.Classify with perceptron.Perceptron, 650 parameters',
    'data        sklearn.Digits: train 1,437, test 360 examples; batches of 64',
    'training    40 steps, 22.45 an epoch (1.8 epochs)',
    'evaluation  test every 20 steps',
    f'devices     1 x cpu ({cores} core{"" if cores == 1 else "s"}), float32',
    f'writes to   {tmp_path}/run, a checkpoint every 20 steps',
    'compiling the training step and the evaluation of test ...',
  ]
  assert re.fullmatch(r'test: +\S.*', numbers)
  assert f'accuracy {number(line["accuracy"])}' in numbers and f'loss {number(line["loss"])}' in numbers
  assert '40/40   epoch 1.8   100%' in done.stderr and 'loss' in done.stderr and 'Traceback' not in done.stderr
  assert workdirs.read_config(tmp_path / 'run') == small('perceptron')
  assert ' -m dl.train ' in workdirs.read_run(tmp_path / 'run')['command']
  arguments[0] = f'--config={ROOT}/experiments/{path}'
  assert command('dl.train', *arguments, '--noprogress') == (0, done.stdout, '')


def test_train_exits_with_1_where_the_loss_is_not_finite(tmp_path, command):
  code, out, err = command(
    'dl.train', f'--config={ROOT}/experiments/vision/digits_mlp.py', f'--workdir={tmp_path}/run', '--noprogress',
    '--config.optim.adam.learning_rate=1e30', '--config.model.hidden=(8, 8)', '--config.train_for=30',
  )  # fmt: skip
  assert (code, out) == (1, '')
  assert err.startswith('error: ') and err.count('\n') == 1
  assert re.search(r'loss.* not finite at step \d+; .*; look at config\.optim\.adam\.learning_rate', err)


# -- dl.evaluate


@pytest.mark.parametrize('kind', ['digits', 'gan', 'gpt', 'ppo'])
def test_evaluate_prints_what_training_measured(runs, command, kind):
  code, out, err = command('dl.evaluate', f'--workdir={runs(kind)}')
  assert (code, err) == (0, '')
  (line,) = objects(out)
  wanted = [r for r in records(runs(kind)) if r['split'] != 'train'][-1]
  assert line == wanted


def test_evaluate_takes_a_step_a_set_and_a_batch_size(runs, command):
  at = {r['step']: r for r in records(runs('digits'), 'test')}
  best = max(at, key=lambda s: (at[s]['accuracy'], -s))
  (line,) = objects(command('dl.evaluate', f'--workdir={runs("digits")}', '--step=best', '--eval=test')[1])
  assert line == at[best]
  (line,) = objects(command('dl.evaluate', f'--workdir={runs("digits")}', '--step=60', '--batch_size=7')[1])
  assert line['accuracy'] == at[60]['accuracy']
  np.testing.assert_allclose(line['loss'], at[60]['loss'], rtol=1e-5)
  assert_mistake(command('dl.evaluate', f'--workdir={runs("digits")}', '--eval=tset'), "did you mean 'test'")
  assert_mistake(command('dl.evaluate', f'--workdir={runs("digits")}', '--step=7'), 'no checkpoint of step 7', '60')


def test_evaluate_judges_a_generative_model_by_a_classifier(runs, command):
  arguments = [f'--workdir={runs("gan")}', f'--classifier={runs("digits")}', '--samples=70', '--seed=3']
  code, out, err = command('dl.evaluate', *arguments)
  assert (code, err) == (0, '')
  (seen,) = objects(out)
  gan, state = dl.load(runs('gan'))
  classifier, weights = dl.load(runs('digits'))
  images = gan.sample(state, jax.random.split(jax.random.key(3))[0], 70)
  probability = np.asarray(classifier.predict(weights, images, KEY)['probability'])
  assert seen['samples'] == 70 and len(seen['shares']) == 10
  np.testing.assert_allclose(seen['shares'], np.bincount(probability.argmax(1), minlength=10) / 70, atol=1e-3)
  np.testing.assert_allclose(seen['confidence'], probability.max(1).mean(), rtol=1e-5)
  judged_by = lambda kind, of='gan': command(
    'dl.evaluate', f'--workdir={runs(of)}', f'--classifier={runs(kind)}', '--samples=2'
  )
  assert command('dl.evaluate', *arguments[:2], '--samples=0')[0] != 0
  assert_mistake(command('dl.evaluate', *arguments, '--eval=test'), '--eval: goes not with --classifier')
  assert_mistake(command('dl.evaluate', arguments[0], '--seed=3'), '--seed: is for --classifier')
  assert_mistake(judged_by('digits', of='perceptron'), 'draws no samples')
  assert_mistake(judged_by('gan'), 'predict')
  assert_mistake(judged_by('cancer'), '--classifier', 'does not read images')
  assert_mistake(judged_by('digits', of='gpt'), '--classifier', '(8, 8, 1)')


def test_evaluate_asks_another_evaluator(runs, command, tmp_path):
  by = [f'--workdir={runs("perceptron")}', '--by=mistakes.Mistakes']
  code, out, err = command('dl.evaluate', *by, '--by.shown', '3', f'--output={tmp_path}')
  assert code == 0
  (line,) = objects(out)
  last = records(runs('perceptron'), 'test')[-1]
  assert {k: line[k] for k in ('split', 'by', 'accuracy')} == {
    'split': 'test', 'by': 'mistakes.Mistakes', 'accuracy': last['accuracy'],
  }  # fmt: skip
  written = {p.name: p for p in (tmp_path / 'artifacts').iterdir()}
  assert set(written) == {
    f'00000040_test_{n}' for n in ('confusion.png', 'classes.csv', 'mistakes.csv', 'mistakes_picture.png')
  }
  assert sorted(err.splitlines()) == sorted(map(str, written.values()))
  # They are those that the run itself left, but fewer.
  ours, theirs = (
    (folder / 'artifacts/00000040_test_mistakes.csv').read_text().splitlines()
    for folder in (tmp_path, runs('perceptron'))
  )
  assert len(ours) == 4 and ours == theirs[:4]
  judge = [f'--workdir={runs("gan")}', '--by=judge.Judge', f'--by.classifier={runs("digits")}', '--by.samples=70']
  code, out, err = command('dl.evaluate', *judge, '--by.seed=3')
  (line,) = objects(out)
  assert err == 'note: --output=FOLDER is needed for pictures and tables of what judge.Judge finds\n'
  short = f'--workdir={runs("gan")}', f'--classifier={runs("digits")}', '--samples=70', '--seed=3'
  code, out, err = command('dl.evaluate', *short)
  (same,) = objects(out)
  assert (code, err) == (0, '')
  assert line['split'] == 'judge.Judge' and line['confidence'] == same['confidence']
  assert [round(share, 4) for share in line['shares']] == same['shares']
  for arguments, words in (
    ([*by, '--by.shwon=3'], ('--by.shwon: ', "did you mean 'shown'")),
    ([*by, '--by.shown=x'], ('--by.shown: expected int',)),
    ([*by, '--by.shown=0'], ('--by.shown: must be at least 1',)),
    ([by[0], '--by=mistakes.Mistaks'], ('--by: ', "did you mean 'Mistakes'")),
    ([by[0], '--by.shown=3'], ('--by.shown: is for --by',)),
    ([by[0], '--by=dl.contract.evaluator.Evaluator'], ('--by: Evaluator has no measure',)),
    ([by[0], '--by=masks.Masks'], ('--by: Masks are of segmentations',)),
    ([by[0], f'--output={tmp_path}'], ('--output: is for what --by finds',)),
    ([*judge, '--eval=test'], ('--eval: ', 'its own examples')),
    ([f'--workdir={runs("ppo")}', by[1]], ('--by: ', 'no evaluation')),
  ):
    assert_mistake(command('dl.evaluate', *arguments), *words)


def test_evaluate_says_what_becomes_of_its_output(runs, command, tmp_path, monkeypatch):
  """What cannot be written is told before anything is measured; that nothing is to be written, after."""
  (tmp_path / 'file').write_text('precious')
  (tmp_path / 'taken').mkdir()
  (tmp_path / 'taken/artifacts').write_text('precious')
  (tmp_path / 'lab').mkdir()
  (tmp_path / 'lab/firm.py').write_text(MEASURES_ALONE)
  monkeypatch.syspath_prepend(tmp_path / 'lab')
  asked = lambda by, output: command(
    'dl.evaluate', f'--workdir={runs("perceptron")}', f'--by={by}', f'--output={output}'
  )
  code, out, err = asked('firm.Measures', tmp_path / 'new')
  assert (code, len(objects(out))) == (0, 1)
  assert err == f'note: firm.Measures shows nothing of test, so nothing is written to {tmp_path}/new\n'
  assert not (tmp_path / 'new').exists()
  monkeypatch.setattr(evaluation, 'evaluate', None)
  for output, file in (('file', 'file'), ('file/x', 'file'), ('taken', 'taken/artifacts')):
    assert_mistake(
      asked('mistakes.Mistakes', tmp_path / output), f'--output: {tmp_path / file} is a file; name a folder'
    )


def test_another_batch_size_leaves_the_experiment_as_it_was(runs, monkeypatch):
  experiment = workdirs.read_config(runs('perceptron'))
  experiment.eval['test']['batch_size'] = 9
  before = copy.deepcopy(experiment)
  monkeypatch.setattr(workdirs, 'read_config', lambda workdir: experiment)
  sizes = lambda parts: {name: pipeline.batch_size for name, pipeline in parts.items()}
  made, seen = assemble.make_eval_pipelines, []
  monkeypatch.setattr(assemble, 'make_eval_pipelines', lambda *given: seen.append(sizes(made(*given))) or {}['end'])
  with pytest.raises(KeyError, match='end'):
    evaluate.evaluate(runs('perceptron'), batch_size=7)
  assert seen == [{'test': 7}] and experiment == before


# -- dl.predict


@pytest.fixture(scope='module')
def scans(tmp_path_factory):
  """A folder of twelve digits as grayscale PNG files, and their labels."""
  folder = tmp_path_factory.mktemp('scans')
  test = part(Digits(), 'test').columns
  for i in range(12):
    Image.fromarray(np.rint(test['image'][i, :, :, 0] * 255).astype(np.uint8)).save(folder / f'{i:02}.png')
  return folder, test['image'][:12], test['label'][:12]


def shares(rows):
  """The probabilities of the classes, a row an input."""
  return np.asarray([[float(v) for k, v in row.items() if k.startswith('p(')] for row in rows])


def test_predict_reads_images(runs, command, scans, tmp_path):
  folder, images, labels = scans
  task, state = dl.load(runs('digits'))
  expected = task.predict(state, np.rint(images * 255).astype(np.uint8), KEY)
  given = [f'--workdir={runs("digits")}', f'--inputs={folder}']

  code, out, err = command('dl.predict', *given, '--batch_size=5')
  assert (code, err) == (0, '')
  rows = objects(out)
  assert [r['input'] for r in rows] == [str(folder / f'{i:02}.png') for i in range(12)]
  assert list(rows[0]) == ['input', 'class', *(f'p({i})' for i in range(10))]  # the class comes first
  assert [int(r['class']) for r in rows] == np.asarray(expected['label']).tolist()
  np.testing.assert_allclose(shares(rows), expected['probability'], rtol=1e-4, atol=1e-6)
  assert all(p == round(p, 6) for p in shares(rows).ravel())
  assert np.mean(np.asarray([int(r['class']) for r in rows]) == labels) >= 0.5
  code, _, err = command('dl.predict', *given, f'--output={tmp_path}/rows.npz')
  assert (code, err) == (0, f'12 predictions by the checkpoint of step 60: {tmp_path}/rows.npz\n')
  with np.load(tmp_path / 'rows.npz') as arrays:
    assert arrays['input'].tolist() == [r['input'] for r in rows] and arrays['probability'].shape == (12, 10)
    assert arrays['class'].tolist() == [r['class'] for r in rows] == arrays['label'].astype(str).tolist()

  code, out, err = command('dl.predict', *given, f'--output={tmp_path}/rows.jsonl')
  assert (code, out, err) == (0, '', f'12 predictions by the checkpoint of step 60: {tmp_path}/rows.jsonl\n')
  assert [r['class'] for r in objects((tmp_path / 'rows.jsonl').read_text())] == [r['class'] for r in rows]

  code, out, err = command('dl.predict', *given, f'--output={tmp_path}/rows.csv', '--step=best')
  assert (code, out) == (0, '')
  best, weights = dl.load(runs('digits'), step='best')
  expected = best.predict(weights, np.rint(images * 255).astype(np.uint8), KEY)
  with open(tmp_path / 'rows.csv', newline='') as file:
    table = list(csv.DictReader(file))
  assert list(table[0]) == list(rows[0])
  assert [int(r['class']) for r in table] == np.asarray(expected['label']).tolist()
  np.testing.assert_allclose(shares(table), expected['probability'], rtol=1e-4, atol=1e-6)

  one, several = f'--inputs={folder}/03.png', f'--inputs={folder}/1*.png'
  code, out, err = command('dl.predict', given[0], one, several)
  assert [pathlib.Path(r['input']).name for r in objects(out)] == ['03.png', '10.png', '11.png']


def test_a_file_that_cannot_be_read_is_named_and_the_others_are_predicted(runs, command, scans, tmp_path):
  folder, *_ = scans
  (tmp_path / 'torn.png').write_bytes(b'\x89PNG torn')
  (tmp_path / 'gone.png').symlink_to('nowhere.png')
  given = [f'--workdir={runs("digits")}', f'--inputs={tmp_path}']
  code, out, err = command('dl.predict', *given, f'--inputs={folder}', f'--output={tmp_path}/rows.csv')
  gone, torn, count = err.splitlines()
  assert (code, out) == (
    2,
    '',
  ) and count == f'12 predictions by the checkpoint of step 60: {tmp_path}/rows.csv; 2 of the files could not be read'
  assert gone.endswith('gone.png cannot be read as an image: a link to nowhere.png, which is not there')
  assert torn.startswith(f'error: {tmp_path}/torn.png cannot be read')
  assert len((tmp_path / 'rows.csv').read_text().splitlines()) == 13
  # Where none can be read, there is nothing to write.
  assert_mistake(command('dl.predict', *given, f'--output={tmp_path}/none.csv'), 'gone.png', '(and 1 more)')
  assert not (tmp_path / 'none.csv').exists()


def test_label_maps_are_pictures_of_the_size_of_their_files(runs, tmp_path):
  """Of an example as it was stored: in the file's size, turned as its EXIF tag says, and with a class a pixel."""
  maps = [np.arange(6, dtype=np.int32).reshape(2, 3) % 3, np.full((2, 3), 2, np.int32)]
  turned = Image.new('RGB', (4, 6))
  exif = turned.getexif()
  exif[0x0112] = 6  # on its side
  (tmp_path / 'a').mkdir()
  (tmp_path / 'b').mkdir()
  turned.save(tmp_path / 'a' / 'x.jpg', exif=exif)
  Image.new('L', (9, 4)).save(tmp_path / 'b' / 'x.jpg')
  of = lambda name, **outputs: prediction.Prediction(name, outputs, Info())
  rows = [of(str(tmp_path / f), label_map=m) for f, m in zip(('a/x.jpg', 'b/x.jpg'), maps, strict=True)]
  write = answers.writer(tmp_path / 'masks')
  assert write(iter([*rows, of('some.npz:3', label_map=maps[0])])) == 3
  first, second, third = (Image.open(tmp_path / 'masks' / f'{n}.png') for n in ('x', 'b_x', 'some_npz_3'))
  np.testing.assert_array_equal(np.asarray(first), maps[0].repeat(2, 0).repeat(2, 1))
  assert second.size == (9, 4) and set(np.unique(second)) == {2}
  np.testing.assert_array_equal(np.asarray(third), maps[0])
  assert first.mode == 'P' and len(np.unique(np.asarray(first.convert('RGB')).reshape(-1, 3), axis=0)) == 3
  with pytest.raises(ConfigError, match='a folder is for label maps, and this model predicts label, probability'):
    write([of('x', label=1, probability=2)])
  with pytest.raises(ConfigError, match='holds classes from 0 to 255, got 300 to 300'):
    write([of('x', label_map=np.full((2, 2), 300))])
  with pytest.raises(ConfigError, match=r'the y of these inputs differ in shape; write a \.jsonl file'):
    answers.writer(tmp_path / 'x.npz')([of('x', y=np.zeros(n)) for n in (1, 2)])
  with pytest.raises(ConfigError, match=r'label_map has more than one axis.*name a \.npz file'):
    answers.writer(tmp_path / 'x.csv')(iter(rows))
  assert answers.writer(tmp_path / 'one.png')(iter(rows[:1])) == 1
  assert (tmp_path / 'one.png').read_bytes() == (tmp_path / 'masks' / 'x.png').read_bytes()
  with pytest.raises(ConfigError, match='holds the label map of one input, and there are several; name a folder'):
    answers.writer(tmp_path / 'two.png')(iter(rows))


def test_predictions_bear_the_name_of_their_column_in_every_kind_of_file(tmp_path):
  outputs = lambda value: {'target': np.float32(value)}
  house = Info(target_name='price')
  rows = [prediction.Prediction(f'a.csv:{i}', outputs(v), house) for i, v in enumerate((250_000.5, np.nan))]
  wine = Info(target_name='cultivar', class_names=('barolo', 'barbera'))
  bottle = prediction.Prediction('a', {'label': np.int32(1), 'probability': np.array([np.inf, 0.9])}, wine)
  assert list(rows[0].arrays()) == ['input', 'price']
  assert list(bottle.arrays()) == ['input', 'cultivar', 'label', 'probability']
  assert bottle.arrays()['cultivar'] == 'barbera' and bottle.row()['p(barolo)'] is None
  answers.writer(tmp_path / 'x.jsonl')(iter(rows))
  strict = lambda line: json.loads(line, parse_constant=pytest.fail)
  assert [strict(line)['price'] for line in (tmp_path / 'x.jsonl').read_text().splitlines()] == [250000.5, None]


def test_a_reader_that_has_seen_enough_ends_a_command_without_a_word(runs, scans):
  command = [sys.executable, '-m', 'dl.predict', f'--workdir={runs("digits")}', *[f'--inputs={scans[0]}'] * 200]
  with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
    assert json.loads(process.stdout.readline())['input']
    process.stdout.close()
    assert (process.stderr.read(), process.wait()) == ('', 128 + signal.SIGPIPE)


def test_predict_reads_a_table_by_the_names_of_its_columns(runs, command, tmp_path):
  source = part(BreastCancer(), 'test', folds=5, fold=1)
  features, names = source.columns['features'], source.info.feature_names
  with open(tmp_path / 'patients.csv', 'w', newline='') as file:
    writer = csv.writer(file)
    writer.writerow(['patient', *reversed(names)])
    writer.writerows([f'number {i}', *map(str, reversed(row.tolist()))] for i, row in enumerate(features))
  np.savez(tmp_path / 'patients.npz', x=features, other=features[:2])
  task, state = dl.load(runs('cancer'))
  expected = np.asarray(task.predict(state, features, KEY)['probability'])
  accuracy = (expected.argmax(1) == source.columns['label']).mean()
  np.testing.assert_allclose(accuracy, records(runs('cancer'), 'test')[-1]['accuracy'], rtol=1e-6)

  for name, count in (('patients.csv', len(features)), ('patients.npz', len(features)), ('patients.npz:other', 2)):
    code, out, err = command(
      'dl.predict', f'--workdir={runs("cancer")}', f'--inputs={tmp_path}/{name}', '--batch_size=50'
    )
    assert (code, err) == (0, '')
    rows = objects(out)
    assert len(rows) == count
    assert list(rows[0]) == ['input', 'class', 'p(malignant)', 'p(benign)']
    np.testing.assert_allclose(shares(rows), expected[:count], rtol=1e-4, atol=1e-6)
    assert [r['class'] for r in rows] == [('malignant', 'benign')[i] for i in expected[:count].argmax(1)]


def test_predict_gives_the_target_of_a_regression(runs, command, tmp_path):
  test = part(Diabetes(), 'test').columns
  np.savez(tmp_path / 'x.npz', test['features'][:3])
  task, state = dl.load(runs('diabetes'))
  rows = objects(command('dl.predict', f'--workdir={runs("diabetes")}', f'--inputs={tmp_path}/x.npz')[1])
  expected = np.asarray(task.predict(state, test['features'][:3], KEY)['target'])
  assert [r['input'] for r in rows] == [f'{tmp_path}/x.npz:{i}' for i in range(3)]
  assert all(list(r) == ['input', 'progression'] for r in rows)  # what the data set calls its target
  np.testing.assert_allclose([r['progression'] for r in rows], expected, rtol=1e-5)


def test_predict_reads_text(runs, command, tmp_path):
  texts = {'a.txt': 'def f(x):\n  return x\n', 'b.txt': 'import json, sys\n' * 9}  # the second beyond the context
  for name, text in texts.items():
    (tmp_path / name).write_text(text)
  code, out, err = command('dl.predict', f'--workdir={runs("gpt")}', f'--inputs={tmp_path}/*.txt')
  assert (code, err) == (0, '')
  rows = objects(out)
  assert [pathlib.Path(r['input']).name for r in rows] == ['a.txt', 'b.txt']
  task, state = dl.load(runs('gpt'))
  for row, text in zip(rows, texts.values(), strict=True):
    tokens = np.frombuffer(text.encode(), np.uint8).astype(np.int32)
    alone = task.predict(state, tokens[None], KEY)
    assert row['tokens'] == len(text) - 1
    np.testing.assert_allclose(row['log_likelihood'], alone['log_likelihood'][0], rtol=1e-4)
    np.testing.assert_allclose(row['bits_per_character'], -row['log_likelihood'] / row['tokens'] / np.log(2), rtol=1e-5)
    np.testing.assert_allclose(row['perplexity'], 2 ** row['bits_per_character'], rtol=1e-5)
  code, out, err = command('dl.predict', f'--workdir={runs("gpt")}', f'--inputs={tmp_path}/a.txt', '--lines')
  assert (code, err) == (0, '')
  assert [(pathlib.Path(r['input']).name, r['tokens']) for r in objects(out)] == [('a.txt:1', 8), ('a.txt:2', 9)]


@pytest.mark.parametrize(('count', 'batch_size', 'sizes'), [(1, 256, [1]), (3, 256, [4]), (5, 6, [6]), (5, 4, [4, 4])])
def test_predict_pads_no_more_than_it_must(runs, monkeypatch, scans, count, batch_size, sizes):
  task, state = dl.load(runs('digits'))
  shapes = []
  seen = lambda state, inputs, key: shapes.append(inputs.shape) or task.predict(state, inputs, key)
  monkeypatch.setattr(
    'dl.training.restore.load', lambda *_: (types.SimpleNamespace(info=task.info, predict=seen), state)
  )
  monkeypatch.setattr(jax, 'jit', lambda f: f)
  paths = [str(scans[0] / f'{i:02}.png') for i in range(count)]
  assert len(list(prediction.predict(runs('digits'), paths, batch_size=batch_size))) == count
  assert shapes == [(n, 8, 8, 1) for n in sizes]


def test_mistakes_of_predict_leave_an_old_file_as_it_was(runs, command, scans, tmp_path):
  assert_mistake(command('dl.predict', '--workdir=x', '--config.seed=1'), '--config.KEY=value changes the config of')
  folder, *_ = scans
  old = tmp_path / 'old.csv'
  old.write_text('precious')
  (tmp_path / 'torn.png').write_bytes(b'\x89PNG torn')
  (tmp_path / 'short.csv').write_text('mean radius\n1.0\n')
  run = lambda kind, *a: command('dl.predict', f'--workdir={runs(kind)}', *a, f'--output={old}')
  assert_mistake(run('digits', f'--inputs={tmp_path}/nothing.png'), 'nothing.png')
  assert_mistake(run('digits', f'--inputs={tmp_path}/torn.png'), 'torn.png')
  assert_mistake(run('digits', f'--inputs={tmp_path}/short.csv'), 'images')
  assert_mistake(run('cancer', f'--inputs={tmp_path}/short.csv'), 'mean texture')
  assert_mistake(run('ppo', f'--inputs={folder}'), 'reads no files')
  assert_mistake(run('gan', f'--inputs={folder}'), 'GAN has nothing to predict')
  assert_mistake(run('digits', f'--inputs={folder}', '--lines'), 'lines', 'images')
  assert_mistake(run('digits'), '--inputs is needed')
  given = [f'--workdir={runs("digits")}', f'--inputs={folder}']
  assert_mistake(
    command('dl.predict', *given, '--output=rows.txt'), 'a .csv, .jsonl or .npz file, a .png or a folder for label maps'
  )
  assert_mistake(command('dl.predict', *given, f'--output={tmp_path}/nowhere/rows.csv'), 'no directory')
  assert old.read_text() == 'precious'
  assert sorted(p.name for p in tmp_path.iterdir()) == ['old.csv', 'short.csv', 'torn.png']


# -- dl.inspect


def test_pictures_have_a_folder_of_their_own(command, tmp_path):
  """A file in its place is a mistake that is told before the config is looked at."""
  file = tmp_path / 'precious.txt'
  file.write_text('precious')
  inspect = lambda output: command(
    'dl.inspect', f'--config={ROOT}/experiments/vision/digits_perceptron.py', f'--output={output}'
  )
  for output in (file, file / 'looks'):
    assert_mistake(inspect(output), f'--output: {file} is a file')
  assert file.read_text() == 'precious' and [*tmp_path.iterdir()] == [file]
  code, out, err = inspect(tmp_path / 'looks')
  assert (code, err) == (0, '') and out.endswith(f'{tmp_path}/looks/learning_rate.png\n{tmp_path}/looks/batch.png\n')
  assert '\n40 epochs: 898 steps, 22.45 an epoch, of 64 examples each\n' in out


# -- dl.sample


def test_sample_draws_images(runs, command, tmp_path):
  given = [f'--workdir={runs("gan")}', '--count=10', '--seed=4']
  assert command('dl.sample', *given, f'--output={tmp_path}/grid.png') == (0, f'10 samples: {tmp_path}/grid.png\n', '')
  with Image.open(tmp_path / 'grid.png') as image:
    assert image.format == 'PNG' and image.width > image.height >= 3 * 8  # four a row
  assert command('dl.sample', *given, f'--output={tmp_path}/x.npz')[0] == 0
  images = np.load(tmp_path / 'x.npz')['x']
  assert images.shape == (10, 8, 8, 1) and images.min() >= 0 and images.max() <= 1
  task, state = dl.load(runs('gan'))
  np.testing.assert_array_equal(images, task.sample(state, jax.random.key(4), 10))
  assert_mistake(command('dl.sample', *given), '.png or .npz')
  assert_mistake(
    command('dl.sample', *given, f'--output={tmp_path}/x.png', '--prompt=a'),
    '--prompt: ',
    'GAN draws samples without it',
  )


def test_sample_writes_texts(runs, command, tmp_path):
  given = [f'--workdir={runs("gpt")}', '--count=3', '--length=20', '--prompt=def ', '--top_k=40']
  code, out, err = command('dl.sample', *given)
  assert (code, err) == (0, '')
  texts = out.removesuffix('\n').split('\n' + '-' * 80 + '\n')
  assert len(texts) == 3 and len(set(texts)) == 3
  assert all(t.startswith('def ') and len(t) <= 24 for t in texts)
  assert command('dl.sample', *given)[1] == out
  assert command('dl.sample', *given, '--seed=1')[1] != out
  assert command('dl.sample', *given, f'--output={tmp_path}/x.txt') == (0, '', '')
  assert (tmp_path / 'x.txt').read_text() == out
  cold = [*given[:3], '--temperature=0']
  assert (
    len(set(command('dl.sample', *cold)[1].split('\n' + '-' * 80 + '\n'))) <= 2
  )  # the same, but for the last newline
  assert_mistake(command('dl.sample', *given, f'--output={tmp_path}/x.png'), '.txt')
  assert_mistake(command('dl.sample', f'--workdir={runs("ppo")}'), 'draws no samples')
  assert_mistake(command('dl.sample', *given, '--top_k=0'), '--top_k: must be at least 1')
  assert_mistake(command('dl.sample', '--wrokdir=x'), '--wrokdir: ', "did you mean 'workdir'")


def test_sample_writes_music(runs, command, tmp_path):
  given = [f'--workdir={runs("music")}', '--length=6', '--prompt=C4 G4']
  assert command('dl.sample', *given, f'--output={tmp_path}/tune.mid') == (0, f'1 piece: {tmp_path}/tune.mid\n', '')
  content = (tmp_path / 'tune.mid').read_bytes()
  assert content.startswith(b'MThd') and content.endswith(b'\xff\x2f\x00')
  several = command('dl.sample', *given, f'--output={tmp_path}/tune.mid', '--count=2')
  assert several == (0, f'2 pieces: {tmp_path}/tune_0.mid\n', '')
  assert (tmp_path / 'tune_1.mid').read_bytes() != (tmp_path / 'tune_0.mid').read_bytes()
  assert_mistake(command('dl.sample', *given, f'--output={tmp_path}/x.wav'), '--output: music goes to a .mid file')
  assert_mistake(command('dl.sample', *given, '--prompt=H4', f'--output={tmp_path}/x.mid'), "no key 'H4'")


# -- dl.report and dl.cite


def test_report_compares_runs(runs, command, tmp_path):
  code, out, err = command('dl.report', runs('digits'), runs('perceptron'), f'--output={tmp_path}/both.html')
  assert (code, err) == (0, f'wrote {tmp_path}/both.html\n')
  header, rule, *rows = out.strip().splitlines()
  assert 'test accuracy' in header and set(rule) <= set('|-:')
  assert [row.split('|')[1].strip() for row in rows] == ['digits', 'perceptron']
  for row, kind in zip(rows, ('digits', 'perceptron'), strict=True):
    assert f'{records(runs(kind), "test")[-1]["accuracy"]:.4f}' in row
  page = (tmp_path / 'both.html').read_text()
  assert 'digits' in page and 'perceptron' in page and 'mlp.MLP' in page
  assert not re.search(r'(src|href)="(https?:)?//', page)


CITED = {
  'digits_perceptron': {'rosenblatt1958perceptron', 'alpaydin1998optical', 'kingma2015adam'},
  'digits_mlp': {'rumelhart1986learning', 'srivastava2014dropout', 'szegedy2016rethinking', 'loshchilov2019decoupled'},
  'digits_lenet': {'lecun1998gradient', 'alpaydin1998optical', 'loshchilov2019decoupled', 'polyak1992acceleration'},
  'breast_cancer_mlp': {'street1993nuclear', 'rumelhart1986learning', 'pedregosa2011scikit'},
  'diabetes_mlp': {'efron2004least', 'rumelhart1986learning', 'pedregosa2011scikit'},
  'stdlib_gpt': {'radford2019language', 'vaswani2017attention', 'pascanu2013difficulty'},
  'digits_gan': {'goodfellow2014generative', 'radford2016unsupervised', 'alpaydin1998optical'},
  'cartpole_ppo': {'schulman2017proximal', 'schulman2016high', 'barto1983neuronlike', 'towers2024gymnasium'},
}


@pytest.mark.parametrize('path', EXPERIMENTS, ids=lambda p: p.stem)
def test_cite_prints_what_an_experiment_builds_on(path, command):
  code, out, err = command('dl.cite', f'--config={path}')
  assert (code, err) == (0, '')
  keys = re.findall(r'^@\w+\{([^,]+),$', out, re.MULTILINE)
  assert len(keys) == len(set(keys)) and set(keys) <= citations.entries().keys()
  assert {'dl2026', 'jax2018github', 'flax2020github'} | CITED.get(path.stem, set()) <= set(keys)
  assert out.count('{') == out.count('}')


# -- Experiments, and checkpoints without their data.


UNRUN = (
  'cifar10_resnet18', 'fashion_resnet18', 'fashion_vgg16', 'fashion_vit', 'imagenet_resnet50', 'imagenet_vit_s16',
)  # fmt: skip
"""Experiments which nobody has run yet: large ones, which take seconds to be traced."""


@pytest.mark.parametrize(
  'path',
  [
    pytest.param(path, id=path.stem, marks=[pytest.mark.thorough] if path.stem in UNRUN else []) for path in EXPERIMENTS
  ],
)
def test_an_experiment_assembles_and_names_its_command(path):
  docstring = re.sub(r'\\\n\s*', '', config_docstring(path))
  relative = path.relative_to(ROOT)
  assert re.search(rf'python -m dl\.train --config={re.escape(str(relative))}(:\w+)? --workdir=\S+', docstring)
  experiment = config.load(str(path))
  assert experiment.eval or path.parent.name == 'scale', 'it is never evaluated'
  assert all(tolerance > 0 and np.isfinite(value) for value, tolerance in experiment.expect.values())
  data = experiment.data
  parts = assemble.assemble(experiment, mock_record(data))
  if data is not None:
    augment.make(data.get('augment', ()))
    transforms.make(data.get('transform', ()))
  assert parts.total_steps > 10
  numbers = {}
  for name in experiment.eval:
    entry = entries.read(experiment, name)
    by = {} if entry.by is None else {k: v for k, v in entry.by.items() if k != 'name'}
    evaluator = evaluation.OWN if entry.by is None else entries.evaluator_class(entry.by['name'], name)(**by)
    evaluate = evaluation.make_eval_step(parts.task, 0, evaluator=evaluator)
    found = jax.eval_shape(
      evaluate, parts.state, evaluated(parts.batch, entry.data), jax.ShapeDtypeStruct((), np.int32)
    )
    numbers[name] = [metric for metric, sums in found.items() if sums.is_number]
  policy.check_claims(experiment, numbers)


def evaluated(batch, changes):
  """The batch of an evaluation: the training's, with what the entry of a config changes of its columns."""
  if changes and changes.get('references'):
    batch = batch | {'references': jax.ShapeDtypeStruct((*batch['mask'].shape, 2, 40), np.uint8)}
  if changes and 'length' in changes and changes['length'] is None:  # a row is a whole stream
    batch = {name: column for name, column in batch.items() if name != 'first'}
  return batch


# Sets which a user prepares: name -> (shape of an image, classes, training examples).
PREPARED = {
  'mnist': ((28, 28, 1), 10, 60_000),
  'fashion_mnist': ((28, 28, 1), 10, 60_000),
  'cifar10': ((32, 32, 3), 10, 50_000),
  'imagenet2012': ((224, 224, 3), 1000, 1_281_167),
}


@pytest.mark.thorough
@pytest.mark.parametrize('name', UNRUN)
def test_a_recipe_that_was_not_run_yet_takes_two_steps(name):
  """The whole recipe (augmentation, model, optimizer, precision) on a few random images, of 32 pixels at most."""
  experiment = config.load(str(ROOT / f'experiments/vision/{name}.py'))
  shape, classes, _ = PREPARED[experiment.data['dataset']]
  size = min(shape[0], 32)
  source = dict(name='synthetic.Images', size=size, channels=shape[-1], num_classes=classes, count=8)
  stages = [a | ({'size': (size, size)} if 'size' in a else {}) for a in experiment.data.get('augment', [])]
  data = source | dict(batch_size=4, augment=stages)
  short = dict(eval={}, expect={}, baselines={}, train_for='100 steps', eval_every=None)
  experiment = dataclasses.replace(experiment, data=data, **short)
  record = mock_record({'name': 'tfds.Tfds', 'dataset': 'cifar10' if shape[-1] == 3 else 'mnist', 'batch_size': 4})
  record['info']['num_classes'] = classes
  record['batch']['image'][0][1:] = [size, size, shape[-1]]
  parts = assemble.assemble(experiment, record)
  parts = dataclasses.replace(parts, pipeline=data_make.make(data, split='train'))
  jax.config.update('jax_disable_most_optimizations', True)
  try:
    functions = steps.compiled(parts, meshes.make_mesh({'data': 1}, jax.devices()[:1]))
    state = functions.init({})
    before = jax.tree.map(np.asarray, state.params)
    sums = functions.new_sums()
    for i in range(2):  # the first one's learning rate is 0
      state, sums, finite = functions.train(state, sums, parts.pipeline[i])
  finally:
    jax.config.update('jax_disable_most_optimizations', False)
  assert finite and int(state.step) == 2 and int(sums.bad_step) == -1
  assert np.isfinite(float(sums.metrics['loss'].total))
  changed = jax.tree.map(lambda a, b: not np.array_equal(a, b), before, jax.tree.map(np.asarray, state.params))
  assert any(jax.tree.leaves(changed))


NOT_HERE = (
  'tfds.Tfds',
  'segmentation.Pairs',
  'series.Csv',
  'ucr.Ts',
  'text.TextFiles',
  'texts.Labelled',
  'pairs.Pairs',
  'conll.Conll',
  'music.PianoRolls',
)


def mock_record(data):
  """What `run.json` would say of a data set that is not here; None for one that is."""
  if data is None or data['name'] not in NOT_HERE:
    return None
  if data['name'] == 'text.TextFiles':
    tokens = [[data['batch_size'], data['length'] + 1], 'int32']
    characters = ['\n', *map(chr, range(33, 97))]
    facts = {'vocab_size': len(characters), 'vocabulary': characters}
    batch = {'mask': [[data['batch_size']], 'float32'], 'tokens': tokens}
    if 'streams' in data:
      facts['more'] = [['streams', data['streams']]]
      batch['first'] = [[data['batch_size']], 'uint8']
    return {'info': facts, 'batch': batch, 'steps_per_epoch': 9}
  if data['name'] == 'pairs.Pairs':
    batch = {'mask': [[data['batch_size']], 'float32']} | {
      name: [[data['batch_size'], length], 'int32'] for name, length in (('source', 9), ('target_tokens', 20))
    }
    facts = {'vocab_size': 15, 'vocabulary': ['<eos>', *'abcdefghijklm', '<unk>'], 'kinds': [['source', 'tokens']]}
    facts['more'] = [['target_length', 19]]
    if data.get('target_vocabulary'):
      facts['more'] += [['target_vocab_size', 8], ['target_vocabulary', ['<eos>', *'abcdef', '<unk>']]]
    return {'info': facts, 'batch': batch, 'steps_per_epoch': 60}
  if data['name'] == 'music.PianoRolls':
    batch = {'mask': [[data['batch_size']], 'float32'], 'series': [[data['batch_size'], 129, 88], 'float32']}
    facts = {'feature_names': [f'key {i}' for i in range(88)], 'mean': [0.0] * 88, 'std': [1.0] * 88}
    return {'info': facts | {'more': [['lowest_pitch', 21]]}, 'batch': batch, 'steps_per_epoch': 28}
  if data['name'] == 'conll.Conll':
    batch = {
      'mask': [[data['batch_size']], 'float32'],
      'words': [[data['batch_size'], 12, 21], 'int32'],
      'tags': [[data['batch_size'], 12], 'int32'],
    }
    facts = {'num_classes': 3, 'class_names': ['O', 'B-Disease', 'I-Disease'], 'vocab_size': 4000}
    return {'info': facts, 'batch': batch, 'steps_per_epoch': 60}
  if data['name'] == 'texts.Labelled':
    batch = {
      'mask': [[data['batch_size']], 'float32'],
      'tokens': [[data['batch_size'], 30], 'int32'],
      'label': [[data['batch_size']], 'int32'],
    }
    intents = 150 + ('out_of_scope' in data['path']) if 'clinc150' in str(data['path']) else 0
    names = [f'intent {i}' for i in range(intents)] or ['ham', 'spam']
    names[150:] = ['oos'] * len(names[150:])
    facts = {'num_classes': len(names), 'class_names': names, 'vocab_size': 3000}
    facts['vocabulary'] = ['<unk>', *map(str, range(2998)), '[MASK]']
    return {'info': facts, 'batch': batch, 'steps_per_epoch': 60}
  if data['name'] == 'ucr.Ts':
    batch = {
      'mask': [[data['batch_size']], 'float32'],
      'series': [[data['batch_size'], 150, 1], 'float32'],
      'label': [[data['batch_size']], 'int32'],
    }
    return {'info': {'num_classes': 2, 'mean': [0.0], 'std': [1.0]}, 'batch': batch, 'steps_per_epoch': 3}
  if data['name'] == 'series.Csv':
    facts = {'mean': [0.0] * 7, 'std': [1.0] * 7, 'feature_names': [*'abcdefg'], 'more': [['targets', [*'abcdefg']]]}
    batch = {
      'mask': [[data['batch_size']], 'float32'],
      'series': [[data['batch_size'], data['length'], 7], 'float32'],
      'target': [[data['batch_size'], data['horizon'], 7], 'float32'],
    }
    return {'info': facts, 'batch': batch, 'steps_per_epoch': 250}
  batch = {'mask': [[data['batch_size']], 'float32'], 'image': [[data['batch_size'], 64, 64, 1], 'uint8']}
  if data['name'] == 'segmentation.Pairs':
    facts = {'num_classes': 2, 'mean': [0.5], 'std': [0.2]}
    return {
      'info': facts,
      'batch': batch | {'label_map': [[data['batch_size'], 64, 64], 'int32']},
      'steps_per_epoch': 10,
    }
  shape, classes, examples = PREPARED[data['dataset']]
  channels = shape[-1]
  facts = {'num_classes': classes, 'mean': [0.5] * channels, 'std': [0.2] * channels, 'channels': channels}
  batch |= {'image': [[data['batch_size'], *shape], 'uint8'], 'label': [[data['batch_size']], 'int32']}
  return {'info': facts, 'batch': batch, 'steps_per_epoch': examples / data['batch_size']}


def config_docstring(path):
  return citations.docstring(str(path))


def test_a_model_loads_without_its_data_and_the_packages_which_read_it(runs, environment, tmp_path):
  """In a process in which scikit-learn, Grain and TFDS do not exist, from a directory which was moved."""
  shutil.copytree(runs('digits'), tmp_path / 'moved')
  image = part(Digits(), 'test').columns['image'][:20]
  np.save(tmp_path / 'image.npy', image)
  code = """
import sys
for name in ('sklearn', 'grain', 'tensorflow_datasets', 'tensorflow'):
  sys.modules[name] = None
import dl, jax, numpy as np
task, state = dl.load('moved')
found = task.predict(state, np.load('image.npy'), jax.random.key(0))
np.save('probability.npy', found['probability'])
print(int(state.step), task.info.num_classes)
"""
  done = subprocess.run(
    [sys.executable, '-c', code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
  )
  assert (done.returncode, done.stdout) == (0, '60 10\n'), done.stderr
  task, state = dl.load(runs('digits'))
  np.testing.assert_array_equal(np.load(tmp_path / 'probability.npy'), task.predict(state, image, KEY)['probability'])
