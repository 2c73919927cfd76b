import importlib.metadata
import pathlib
import re
import sys
import textwrap

import jax
import pytest
import yaml

import dl
from dl.config import citations
from dl.config.experiment import Experiment
from dl.errors import ConfigError

ROOT = pathlib.Path(__file__).parents[2]
SOURCES = sorted(
  p
  for folder in ('dl', 'experiments')
  for p in (ROOT / folder).rglob('*.py')
  if p.name not in ('cite.py', 'citations.py')
)
FIELDS = {
  'article': {'author', 'title', 'journal', 'year'},
  'inproceedings': {'author', 'title', 'booktitle', 'year'},
  'techreport': {'author', 'title', 'institution', 'year'},
  'misc': {'author', 'title', 'year'},
  'software': {'author', 'title'},
}


@pytest.fixture
def nets(tmp_path, monkeypatch):
  """A user's own package with classes that say what to cite."""
  (tmp_path / 'my_nets.py').write_text(
    textwrap.dedent('''
      """Nets of my own. Cite: he2016deep."""

      class Deep:
        pass

      class Gelu:
        """One that cites by itself.

        Cite: hendrycks2016gaussian,
          vaswani2017attention.
        """

      class Wrong:
        """Cite: nobody1999nothing"""
    ''')
  )
  monkeypatch.syspath_prepend(tmp_path)
  yield
  sys.modules.pop('my_nets', None)


def test_the_file_has_unique_whole_entries():
  text = pathlib.Path(citations.__file__).with_name('references.bib').read_text(encoding='utf-8')
  keys = re.findall(r'^@\w+\{([^,]+),', text, re.MULTILINE)
  entries = citations.entries()
  assert len(keys) == len(set(keys)) == len(entries) > 80
  for key, entry in entries.items():
    assert entry.count('{') == entry.count('}') and entry.endswith('\n}'), key
    kind = re.match(r'@(\w+)', entry)[1]
    fields = re.findall(r'^  (\w+) = \{.+\},$', entry, re.MULTILINE)
    assert len(fields) == len(set(fields)) == entry.count('\n') - 1, key
    assert FIELDS[kind] <= set(fields), key
    if year := re.search(r'year = \{(\d+)\}', entry):
      assert 1900 < int(year[1]) <= 2026, key
      if kind != 'software':
        assert year[1] in key, key
  # What lies between the entries is comments alone.
  for entry in entries.values():
    text = text.replace(entry, '')
  assert all(line.startswith('%') for line in text.splitlines() if line.strip())


def test_every_key_in_the_code_exists():
  cited = {str(path): set(citations.cited(path.read_text(encoding='utf-8'))) for path in SOURCES}
  assert len(set().union(*cited.values())) > 30
  assert not {path: unknown for path, keys in cited.items() if (unknown := keys - citations.entries().keys())}


def test_every_key_of_the_tables_exists():
  tables = (citations._OPTIMIZERS, citations._ARGUMENTS, citations._VALUES, citations._DATA, citations._SOURCES)
  used = {key for table in tables for keys in table.values() for key in keys} | set(citations._LIBRARIES)
  assert used <= citations.entries().keys()


def test_every_optimizer_of_the_table_is_one_of_optax_or_ours():
  import optax

  from dl.optim import stages

  for name in citations._OPTIMIZERS:
    assert any(hasattr(module, name) for module in (optax, optax.contrib, stages)), name


def test_the_version_is_said_in_one_way():
  assert f'version = {{{dl.__version__}}}' in citations.entries()['dl2026']
  cff = yaml.safe_load((ROOT / 'CITATION.cff').read_text(encoding='utf-8'))
  assert cff['cff-version'] == '1.2.0' and str(cff['version']) == dl.__version__
  assert {'message', 'title', 'authors'} <= cff.keys() and cff['license'] == 'Apache-2.0'
  assert cff['authors'] == [{'name': 'The dl contributors'}]
  assert 'Apache License' in (ROOT / 'LICENSE').read_text() and 'END OF TERMS' in (ROOT / 'LICENSE').read_text()


def test_cited_reads_lists_sentences_and_continued_lines():
  assert citations.cited('Reproduces it.  Cite: lecun1998gradient.\n') == ['lecun1998gradient']
  assert citations.cited('Cite: a2000b, c2001d\n\nArgs:\n  x: y') == ['a2000b', 'c2001d']
  assert citations.cited('Cite: a2000b,\n    c2001d.\nCite: e2002f') == ['a2000b', 'c2001d', 'e2002f']
  assert citations.cited(None) == citations.cited('To cite this: see below') == []


def resolved(**keys):
  """An experiment of these parts."""
  return Experiment(**{'task': {}, 'optim': {}, 'train_for': 1} | keys)


def test_keys_come_from_every_part_once_and_in_order(nets):
  keys = {
    'cite': ['lecun1998gradient'],
    'model': {'name': 'my_nets.Deep', 'dropout': 0.1, 'batch_norm': False, 'activation': 'gelu'},
    'task': {'name': 'my_nets.Gelu', 'label_smoothing': 0.1, 'loss': 'focal'},
    'optim': {
      'clip': {'name': 'clip_by_global_norm', 'max_norm': 1.0},
      'adam': {'name': 'adamw', 'learning_rate': {'name': 'cosine_decay_schedule', 'init_value': 1e-3}},
    },
  }
  assert citations.keys(resolved(**keys), 'A config. Cite: cybenko1989approximation, lecun1998gradient.') == [
    'dl2026', 'lecun1998gradient', 'cybenko1989approximation',
    'he2016deep', 'srivastava2014dropout', 'hendrycks2016gaussian',
    'vaswani2017attention', 'szegedy2016rethinking', 'lin2017focal',
    'pascanu2013difficulty', 'kingma2015adam', 'loshchilov2019decoupled', 'loshchilov2017sgdr',
    'jax2018github', 'flax2020github', 'deepmind2020jax',
  ]  # fmt: skip


def test_players_have_their_own_models_and_optimizers(nets):
  keys = {
    'model': {'generator': {'name': 'my_nets.Deep'}, 'discriminator': {'name': 'my_nets.Gelu'}},
    'optim': {
      'generator': {'a': {'name': 'rmsprop', 'learning_rate': 1e-3}},
      'discriminator': {'b': {'name': 'sgd', 'momentum': 0.9, 'nesterov': True, 'learning_rate': 1e-3}},
    },
  }
  keys = citations.keys(resolved(**keys))
  assert keys[1:4] == ['he2016deep', 'hendrycks2016gaussian', 'vaswani2017attention']
  assert keys[4:9] == [
    'tieleman2012rmsprop', 'robbins1951stochastic', 'polyak1964some', 'sutskever2013importance', 'nesterov1983method',
  ]  # fmt: skip


def test_data_is_cited_by_name(monkeypatch):
  monkeypatch.setattr(citations, 'resolve', lambda name, package, where: object())
  one = citations.keys(resolved(data={'name': 'sklearn.BreastCancer', 'batch_size': 64}))
  assert one[1:3] == ['street1993nuclear', 'pedregosa2011scikit']
  two = citations.keys(resolved(data={'name': 'tfds.Tfds', 'dataset': 'fashion_mnist:3.0.1'}))
  assert two[1:3] == ['tfds', 'xiao2017fashion']


def test_unknown_keys_and_names_are_one_line(nets):
  with pytest.raises(ConfigError, match=r"'lecun1998gradiant'; did you mean 'lecun1998gradient'"):
    citations.bibtex(['lecun1998gradiant'])
  with pytest.raises(ConfigError, match=r"config\.model: .*'my_nets' has no 'Dep'.*'Deep'"):
    citations.keys(resolved(model={'name': 'my_nets.Dep'}))
  with pytest.raises(ConfigError, match='nobody1999nothing'):
    citations.bibtex(citations.keys(resolved(model={'name': 'my_nets.Wrong'})))


def test_an_evaluator_says_what_to_cite(nets):
  experiment = lambda by: Experiment(task={}, optim={}, train_for=1, eval={'attacked': {'by': by}, 'test': {}})
  for by in ('my_nets.Gelu', {'name': 'my_nets.Gelu', 'epsilon': 1}):
    assert {'hendrycks2016gaussian', 'vaswani2017attention'} <= {*citations.keys(experiment(by))}
  assert 'hendrycks2016gaussian' not in citations.keys(experiment('mistakes.Mistakes'))
  with pytest.raises(ConfigError, match=r'config\.eval\.attacked\.by: '):
    citations.keys(experiment('my_nets.Gleu'))


def test_bibtex_prints_each_entry_once_with_versions():
  text = citations.bibtex(['dl2026', 'jax2018github', 'kingma2015adam', 'dl2026'])
  assert re.findall(r'^@\w+\{(.+),', text, re.MULTILINE) == ['dl2026', 'jax2018github', 'kingma2015adam']
  assert f'version = {{{jax.__version__}}}' in text and f'version = {{{dl.__version__}}}' in text
  assert text.count('{') == text.count('}')
  assert f'{{{importlib.metadata.version("flax")}}}' in citations.bibtex(['flax2020github'])


def test_the_command_prints_the_references_of_a_config(tmp_path, nets, command):
  path = tmp_path / 'config.py'
  path.write_text(
    textwrap.dedent('''
      """Mine. Cite: rosenblatt1958perceptron."""
      from dl.config import config

      def get_config(cite=''):
        return config(
          task=dict(name='my_nets.Deep'),
          model=dict(name='my_nets.Gelu'),
          optim=dict(lion=dict(name='lion', learning_rate=1e-4)),
          train_for='10 steps',
          cite=tuple(cite.split()),
        )
    ''')
  )
  code, out, err = command('dl.cite', f'--config={path}')
  assert (code, err) == (0, '')
  assert re.findall(r'^@\w+\{(.+),', out, re.MULTILINE) == [
    'dl2026', 'rosenblatt1958perceptron', 'hendrycks2016gaussian', 'vaswani2017attention', 'he2016deep',
    'chen2023symbolic', 'jax2018github', 'flax2020github', 'deepmind2020jax',
  ]  # fmt: skip
  code, out, err = command('dl.cite', f'--config={path}:adam2015')
  assert (code, out, err.count('\n')) == (2, '', 1) and err.startswith("error: no reference has the key 'adam2015'")
