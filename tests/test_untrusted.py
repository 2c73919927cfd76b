"""Files of others execute nothing, write nowhere but where they should, and inject nothing into a page or a terminal.

A config file is Python, and is executed: that is what it is for. All else (`config.json`, `run.json`, checkpoints,
weights, data sets, images, artifacts) is data.
"""

import ast
import csv
import dataclasses
import html.parser
import json
import os
import pickle
import shutil
import zipfile

import jax
import numpy as np
import pytest
from PIL import Image
from small import ROOT, small
from test_fuzz import run_main

import dl
from dl import config, report
from dl.commands import cli
from dl.config import build
from dl.data.make import is_source
from dl.data.parts import part
from dl.data.sources.arrays import Npz
from dl.data.sources.images import Folder
from dl.data.sources.segmentation import Pairs
from dl.data.sources.text import TextFiles
from dl.errors import ConfigError
from dl.store import artifacts, atomic
from dl.training import assemble, restore, start

FILES = sorted((ROOT / 'dl').rglob('*.py'))


class Payload:
  """Whoever unpickles this creates a file."""

  def __init__(self, path):
    self.path = str(path)

  def __reduce__(self):
    return open, (self.path, 'w')


@pytest.fixture
def mark(tmp_path):
  """A file that must not come into being."""
  path = tmp_path / 'executed'
  pickle.loads(pickle.dumps(Payload(path))).close()
  assert path.exists()  # the payload works
  path.unlink()
  yield path
  assert not path.exists()


# -- The code itself.

FORBIDDEN = {
  'eval', 'exec', 'compile', '__import__', 'os.system', 'os.popen', 'pickle', 'cPickle', 'dill', 'cloudpickle',
  'joblib', 'shelve', 'marshal', 'yaml.load', 'torch.load', 'np.fromfile', 'subprocess.getoutput', 'jsonpickle',
  'extractall', 'unpack_archive',
}  # fmt: skip


def test_nothing_here_can_execute_data():
  nodes = [(path, node) for path in FILES for node in ast.walk(ast.parse(path.read_text()))]
  for path, node in nodes:
    if isinstance(node, ast.Import | ast.ImportFrom):
      names = [a.name for a in node.names] + [getattr(node, 'module', None) or '']
      assert not FORBIDDEN & {n.partition('.')[0] for n in names}, f'{path}:{node.lineno}'
    if isinstance(node, ast.Call):
      name = ast.unparse(node.func)
      assert name not in FORBIDDEN and name.rpartition('.')[2] not in ('extractall', 'unpack_archive', 'to_pickle'), (
        f'{path}:{node.lineno}: {name}'
      )
      given = {k.arg: ast.unparse(k.value) for k in node.keywords}
      assert given.get('shell', 'False') == 'False', f'{path}:{node.lineno}: shell'
      if name in ('np.load', 'numpy.load'):
        assert given.get('allow_pickle') == 'False', f'{path}:{node.lineno}: say allow_pickle=False'


# -- Pickles.


def test_pickled_arrays_are_refused(tmp_path, mark):
  evil = np.empty(3, object)
  evil[:] = Payload(mark)
  np.savez(tmp_path / 'objects.npz', x=evil, y=np.arange(3))
  (tmp_path / 'pickled.npz').write_bytes(pickle.dumps(Payload(mark)))
  with zipfile.ZipFile(tmp_path / 'inside.npz', 'w') as file:
    file.writestr('x.npy', pickle.dumps(Payload(mark)))
    file.writestr('y.npy', pickle.dumps(Payload(mark)))
  for name in ('objects', 'pickled', 'inside'):
    with pytest.raises(ConfigError) as e:
      Npz(str(tmp_path / f'{name}.npz'))
    assert '\n' not in str(e.value) and f'{name}.npz' in str(e.value)
    with pytest.raises(ConfigError) as e:
      start.read(tmp_path / f'{name}.npz')
    assert '\n' not in str(e.value) and f'{name}.npz' in str(e.value)


@pytest.mark.parametrize('suffix', ['.pth', '.pt', '.bin', '.pkl', '.ckpt', '.safetensors', '.npz', '.h5', ''])
def test_pickled_weights_are_refused(suffix, tmp_path, mark):
  path = tmp_path / f'weights{suffix}'
  path.write_bytes(pickle.dumps({'fc.weight': Payload(mark)}))
  with pytest.raises(ConfigError) as e:
    start.read(path)
  assert str(e.value).startswith('config.init_from.path: ') and '\n' not in str(e.value)


def test_pickled_torch_weights_are_refused(tmp_path, mark):
  torch = pytest.importorskip('torch')
  torch.save({'fc.weight': Payload(mark)}, tmp_path / 'model.pth')
  shutil.copy(tmp_path / 'model.pth', tmp_path / 'model.safetensors')
  shutil.copy(tmp_path / 'model.pth', tmp_path / 'model.npz')
  for suffix in ('.pth', '.safetensors', '.npz'):
    with pytest.raises(ConfigError, match=r'config\.init_from\.path'):
      start.read(tmp_path / f'model{suffix}')


def test_nothing_is_unpickled_when_a_run_is_loaded(runs, monkeypatch):
  path = runs('perceptron')

  def refuse(*_, **__):
    raise AssertionError('unpickled')

  for name in ('load', 'loads', 'Unpickler', '_Unpickler'):
    monkeypatch.setattr(pickle, name, refuse)
  task, state = dl.load(path)
  assert int(state.step) == 40 and task.info.num_classes == 10
  assert len(jax.tree.leaves(state.params)) == 2


# -- What a config names.


HOSTILE = {  # with the arguments by which it would make a file
  'os.system': {'command': 'touch FILE'},
  'posix.system': {'command': 'touch FILE'},
  'subprocess.Popen': {'args': ['touch', 'FILE']},
  'subprocess.run': {'args': ['touch', 'FILE']},
  'builtins.eval': {},
  'builtins.exec': {},
  'builtins.open': {'file': 'FILE', 'mode': 'w'},
  'runpy.run_path': {'path_name': 'FILE'},
  'importlib.import_module': {},
  'pickle.load': {'file': 'FILE'},
  'shelve.DbfilenameShelf': {'filename': 'FILE'},
  'logging.FileHandler': {'filename': 'FILE'},
  'shutil.rmtree': {'path': 'FILE'},
  'numpy.load': {'file': 'FILE', 'allow_pickle': True},
  'numpy.save': {'file': 'FILE', 'arr': [1]},
  'numpy.savez': {'file': 'FILE'},
  'numpy.memmap': {'filename': 'FILE', 'mode': 'w+', 'shape': [3]},
  'jax.numpy.save': {'file': 'FILE', 'arr': [1]},
  'h5py.File': {'name_': 'FILE', 'mode': 'w'},
  'PIL.Image.open': {'fp': 'FILE', 'mode': 'w'},
  'ml_collections.ConfigDict': {},
  'dl.store.atomic.write': {'path': 'FILE', 'content': 'x'},
  'dl.config.load': {'spec': 'FILE'},
  'dl.store.workdir.update_run': {'workdir': 'FILE'},
  'dl.training.loop.train': {'directory': 'FILE', 'config': {}},
  'dl.store.artifacts.write': {'workdir': 'FILE', 'step': 1, 'artifacts': {'a': 'b'}},
  'dl.store.checkpoint.Checkpoints': {'directory': 'FILE'},
  'dl.store.logs.Logs': {'workdir': 'FILE'},
}


@pytest.fixture
def foreign(runs, tmp_path):
  """A work directory of somebody else: a function of (path of a key, value) which changes its config.json."""

  def make(*keys, value):
    path = tmp_path / 'foreign'
    shutil.rmtree(path, ignore_errors=True)
    shutil.copytree(runs('perceptron'), path)
    plain = json.loads((path / 'config.json').read_text())
    node = plain
    for key in keys[:-1]:
      node = node[key]
    node[keys[-1]] = value
    (path / 'config.json').write_text(json.dumps(plain))
    return path

  return make


PLACES = {
  'model': ('model',),
  'task': ('task',),
  'stage': ('optim', 'adam'),
  'schedule': ('optim', 'adam', 'learning_rate'),
  'criterion': ('task', 'criterion'),
  'data': ('data',),
  'augment': ('data', 'augment'),
  'init_from': ('init_from',),
}


@pytest.mark.parametrize('place', PLACES)
def test_a_name_calls_nothing_but_what_makes_its_part(place, tmp_path, mark, monkeypatch):
  monkeypatch.chdir(tmp_path)
  for name, arguments in HOSTILE.items():
    arguments = json.loads(json.dumps(arguments).replace('FILE', str(mark)))
    spec = {'name': name} | arguments | ({'batch_size': 8} if place == 'data' else {})
    plain = small('perceptron').to_json()
    node = plain
    for key in PLACES[place][:-1]:
      node = node[key]
    node[PLACES[place][-1]] = [spec] if place == 'augment' else spec
    with pytest.raises(ConfigError) as e:
      parts = assemble.assemble(config.resolve(plain))
      assert place == 'init_from'
      start.load(plain['init_from'], parts)
    assert '\n' not in str(e.value)
    assert not mark.exists(), spec
  assert sorted(p.name for p in tmp_path.iterdir()) == []


@pytest.mark.parametrize('place', ['model', 'task', 'stage', 'schedule', 'criterion'])
def test_a_foreign_run_calls_nothing(place, foreign, mark, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  for name, arguments in (
    ('os.system', {'command': f'touch {mark}'}),
    ('subprocess.Popen', {'args': ['touch', str(mark)]}),
    ('builtins.eval', {}),
    ('dl.store.atomic.write', {'path': str(mark), 'content': 'x'}),
  ):
    path = foreign(*PLACES[place], value={'name': name} | arguments)
    with pytest.raises(ConfigError):
      restore.load(path)
    assert not mark.exists()


def test_what_may_be_named():
  assert is_source(Npz) and is_source(Folder) and not is_source(np.memmap) and not is_source(dict)
  assert not build.makes(atomic.write, dict) and not build.makes(os.system, object)
  for name in ('os.system', 'sys.exit', 'builtins.print', 'json'):
    with pytest.raises(ConfigError):
      build.resolve(name, 'dl.models', 'config.model')


def test_a_damaged_record_is_one_line(foreign):
  path = foreign('seed', value=0)
  whole = json.loads((path / 'run.json').read_text())
  for key, value in (('batch', 3), ('batch', {'x': 'y'}), ('batch', {'x': [[1], 'os.system']}), ('info', {'evil': 1}),
                     ('info', [1]), ('batch', {'image': [['a'], 'uint8']})):  # fmt: skip
    (path / 'run.json').write_text(json.dumps(whole | {'data': whole['data'] | {key: value}}))
    with pytest.raises(ConfigError) as e:
      restore.load(path)
    assert '\n' not in str(e.value)


# -- Names in data which would be paths.


def picture(path, value=100):
  path.parent.mkdir(parents=True, exist_ok=True)
  Image.fromarray(np.full((8, 8), value, np.uint8)).save(path, 'PNG')


def test_members_of_an_archive_stay_in_it(tmp_path):
  """Archives are read in place: a name is no path, and nothing is unpacked."""
  picture(tmp_path / 'secret.png', 7)
  inside = tmp_path / 'inside'
  with zipfile.ZipFile(tmp_path / 'set.zip', 'w') as file:
    for folder in ('images', 'labels'):
      for i in range(5):
        picture(tmp_path / 'one.png', i if folder == 'images' else 1)
        file.write(tmp_path / 'one.png', f'{folder}/{i}.png')
    for name in ('../escaped.png', '/escaped.png', 'images/../../escaped.png', 'labels\\..\\escaped.png'):
      file.writestr(zipfile.ZipInfo(name), (tmp_path / 'one.png').read_bytes())
  inside.mkdir()
  before = sorted(tmp_path.rglob('*'))
  source = Pairs(str(tmp_path / 'set.zip'), class_names=('a', 'b'))
  assert len(part(source, test=1)) == 4 and sorted(tmp_path.rglob('*')) == before
  for folder in ('..', '../images', '/etc', 'images/../..'):
    with pytest.raises(ConfigError, match=r'there is no folder|no image|no partner'):  # in the archive
      Pairs(str(tmp_path / 'set.zip'), images=folder)


def test_links_out_of_a_folder(tmp_path):
  """An image is decoded, wherever its link leads, and else not quoted; a text would be learned, and is refused."""
  secret = tmp_path / 'secret.txt'
  secret.write_text('the secret')
  for name in 'ab':
    for i in range(5):
      picture(tmp_path / 'set' / name / f'{i}.png')
  (tmp_path / 'set/a/5.png').symlink_to(secret)
  with pytest.raises(ConfigError) as e:
    Folder(str(tmp_path / 'set'), (8, 8), in_memory=True)[0]
  assert 'cannot be read as an image' in str(e.value) and 'the secret' not in str(e.value)
  (tmp_path / 'texts').mkdir()
  (tmp_path / 'texts/one.txt').write_text('harmless ' * 20)
  (tmp_path / 'texts/two.txt').symlink_to(tmp_path / 'texts/one.txt')
  assert len(TextFiles(str(tmp_path / 'texts'), 8, 'all').tokens) == 360
  (tmp_path / 'texts/three.txt').symlink_to(secret)
  with pytest.raises(ConfigError, match='a link out of'):
    TextFiles(str(tmp_path / 'texts'), 8)


@pytest.mark.parametrize('name', ['../x', '/tmp/x', 'a/b', '', '.hidden', 'x\n', 'a b', '..', 'a\0', '<b>'])
def test_names_are_no_paths(name, tmp_path):
  with pytest.raises(ValueError, match='a name that a file can have'):
    artifacts.write(tmp_path, 1, {name: 'text'})
  experiment = dataclasses.replace(small('perceptron'), eval={name: {'split': 'test'}})
  with pytest.raises(ConfigError) as e:
    assemble.make_eval_pipelines(experiment)
  assert '\n' not in str(e.value) and 'config.eval' in str(e.value)


def test_writing_follows_no_link(tmp_path):
  precious = tmp_path / 'precious'
  precious.write_text('mine')
  for name in ('config.json', 'config.json.new'):
    (tmp_path / name).symlink_to(precious)
    atomic.write(tmp_path / 'config.json', 'theirs')
    assert precious.read_text() == 'mine' and (tmp_path / 'config.json').read_text() == 'theirs'
    (tmp_path / 'config.json').unlink()


# -- The report.


class Page(html.parser.HTMLParser):
  """Elements with their attributes' names, and all the text."""

  def __init__(self, path):
    super().__init__()
    self.elements, self.text, self.values = [], '', []
    self.feed(path.read_text(encoding='utf-8'))

  def handle_starttag(self, tag, attrs):
    self.elements.append((tag, *(k for k, _ in attrs)))
    self.values += [v or '' for _, v in attrs]

  def handle_data(self, data):
    self.text += data


def said_everywhere(path, word, file):
  """A work directory whose every text is `word`, and whose every file name is `file`."""
  path.mkdir(parents=True)
  plain = {
    'seed': 0, 'task': {'name': word, word: word}, 'model': {'name': word, word: [word, {word: word}]},
    'data': {'name': word}, 'optim': {word: {'name': word}}, 'precision': word,
    'expect': {f'{word}/{word}': [1.0, 0.5]}, 'baselines': {f'{word}/{word}': {word: 0.5}},
  }  # fmt: skip
  (path / 'config.json').write_text(json.dumps(plain))
  facts = {
    'command': word, 'commit': word, 'status': word, 'started': word, 'total_steps': 20, 'seed': word,
    'versions': {word: word}, 'devices': {'kind': word, 'platform': word}, 'parameters': 10, word: word,
    'data': {'info': {'class_names': [word, word]}}, 'sessions': [{'command': word}],
  }  # fmt: skip
  (path / 'run.json').write_text(json.dumps(facts))
  lines = [
    {'step': step, 'split': split, word: value, f'{word}_list': [0.5, value]}
    for step, value in ((10, 0.5), (20, 1.0))
    for split in ('train', word)
  ]
  (path / 'metrics.jsonl').write_text(''.join(json.dumps(line) + '\n' for line in lines))
  (path / 'artifacts').mkdir()
  for step in (10, 20):
    picture(path / 'artifacts' / f'{step:08}_{file}.png')
    (path / 'artifacts' / f'{step:08}_{file}.txt').write_text(word)
    with (path / 'artifacts' / f'{step:08}_{file}.csv').open('w', newline='') as table:
      csv.writer(table).writerows([[word, 'b'], [word, 1]])
  return path


WORDS = [
  '<script>alert(1)</script>', '"><img src=x onload=alert(1)>', "' onmouseover='alert(1)", '" onfocus="alert(1)" a="',
  '&lt;b&gt;', '</pre></style></title><h1>', '<!--', ']]>', 'javascript:alert(1)', '</svg><script>', '`${alert(1)}`',
]  # fmt: skip


@pytest.mark.parametrize('word', WORDS)
def test_a_report_says_what_it_is_told_and_does_nothing(word, tmp_path):
  """The page has the elements and attributes that it has for a harmless word, and shows the word as it is."""
  file = word.replace('/', '_')
  harmless = [said_everywhere(tmp_path / folder / 'word', 'word', 'word') for folder in 'ab']
  hostile = [said_everywhere(tmp_path / folder / file, word, file) for folder in 'ab']
  for count in (1, 2):
    plain = Page(report.write(harmless[:count], tmp_path / 'plain.html'))
    page = Page(report.write(hostile[:count], tmp_path / 'page.html'))
    assert page.elements == plain.elements
    assert page.text.count(word) + sum(v.count(word) for v in page.values) >= 20
    assert {'script', 'img', 'pre', 'table', 'svg', 'button'} <= {tag for tag, *_ in page.elements}


def test_a_report_gives_nothing_away(tmp_path):
  run = said_everywhere(tmp_path / 'run', 'word', 'word')
  (tmp_path / 'id_rsa').write_text('the secret')
  (run / 'artifacts/00000030_word.txt').symlink_to(tmp_path / 'id_rsa')
  page = Page(report.write([run], tmp_path / 'page.html'))
  assert 'the secret' not in page.text and 'word' in page.text


def test_a_report_of_damaged_files_is_one_line(tmp_path):
  for i, facts in enumerate(({'versions': 'x'}, {'parameters': '<b>'}, {'devices': [1]}, {'data': {'info': 3}})):
    run = said_everywhere(tmp_path / str(i), 'word', 'word')
    (run / 'run.json').write_text(json.dumps(facts))
    try:
      report.write([run], tmp_path / 'page.html')
    except ConfigError as e:
      assert '\n' not in str(e) and str(run) in str(e)
    else:
      assert '<b>' not in (tmp_path / 'page.html').read_text().split('</style>')[1].replace('<b>word', '')


# -- The terminal.

ESCAPES = '\x1b]0;pwned\x07\x1b[2J\x1b[31m\r\x9b1A\u202e'


def test_an_error_line_is_harmless_to_a_terminal(capsys):
  assert cli.fail(ConfigError(f'config.x: {ESCAPES} \n second line')) == 2
  err = capsys.readouterr().err
  assert err.count('\n') == 1 and err[:-1].isprintable()
  assert r'\x1b]0;pwned\x07' in err and r'\u202e' in err


def test_what_commands_print_is_harmless_to_a_terminal(tmp_path, capsys):
  run = said_everywhere(tmp_path / 'run', ESCAPES, 'word')
  assert all(line.isprintable() for line in report.runs.markdown(report.runs.load([run])).splitlines())
  code, err = run_main('dl.evaluate', capsys, f'--workdir={run}')
  assert code == 2 and err.count('\n') == 1 and err[:-1].isprintable()
  code, err = run_main('dl.train', capsys, f'--config={tmp_path}/{ESCAPES}.py', f'--workdir={tmp_path}/x')
  assert code == 2 and err.count('\n') == 1 and err[:-1].isprintable()
