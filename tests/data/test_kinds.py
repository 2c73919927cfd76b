"""A kind of data of one's own, in one file outside: trained on, recorded, loaded again, and predicted from files."""

import dataclasses
import json
import sys

import flax.linen as nn
import jax
import numpy as np
import pytest

import dl
from dl import config
from dl.contract.info import Info, to_float
from dl.contract.kinds import IMAGE, KINDS, Kind, whole
from dl.data.make import make
from dl.data.pipeline import Pipeline
from dl.data.reading import read_inputs
from dl.data.source import as_batch, find_kind, kinds_of, standard
from dl.errors import ConfigError
from dl.training.assemble import assemble, make_eval_pipelines
from dl.training.loop import train
from dl.training.prediction import predict

WAVES = '''
"""Recordings: a kind of data, its source, and what reads its files."""
import numpy as np
from dl.contract.kinds import Kind
from dl.data.readers import FileReader


class Waves(FileReader):
  reads, suffixes = 'recordings', ('.raw',)

  def rows(self, path, lines):
    yield str(path), np.fromfile(path, np.int16).astype(np.int32)


def loudness(waves, info):
  return {'loudest': float(np.abs(waves).max()), 'rate': 8000}


WAVE = Kind(
  name=f'{__name__}.WAVE',
  inputs=True,
  to_float=lambda wave: wave.astype('float32') / 32768.0,
  statistics=loudness,
  reader=Waves,
)


class Tones:
  """Low and high tones of 16 bits."""

  kinds = {'wave': WAVE}

  def __len__(self):
    return 40

  def __getitem__(self, index):
    wave = 20000 * np.sin(np.arange(32) * (0.3 if index % 2 else 1.1) + index)
    return {'wave': wave.astype(np.int16), 'label': index % 2}
'''


@pytest.fixture
def waves(tmp_path, monkeypatch):
  """The module of a user, beside the project."""
  (tmp_path / 'waves.py').write_text(WAVES)
  monkeypatch.syspath_prepend(tmp_path)
  yield __import__('waves')
  del sys.modules['waves']


def test_a_kind_of_ones_own_is_one_file(waves, tmp_path):
  experiment = dict(
    task=dict(name='classify.Classify'),
    model=dict(name='mlp.MLP', hidden=(4,), num_outputs=2),
    data=dict(name='waves.Tones', batch_size=8, test=0.2),
    eval=dict(test=dict(split='test')),
    optim=dict(adam=dict(name='adam', learning_rate=0.03)),
    train_for=8,
  )
  train(config.resolve(experiment), tmp_path / 'run', show_progress=False)
  recorded = json.loads((tmp_path / 'run' / 'run.json').read_text())['data']
  assert recorded['batch']['wave'] == [[8, 32], 'int32'] and recorded['info']['kinds'] == [['wave', 'waves.WAVE']]
  task, state = dl.load(tmp_path / 'run')
  assert task.info.kind('wave') is waves.WAVE and task.info.fact('rate') == 8000
  source = waves.Tones()
  assert task.info.fact('loudest') <= 20000
  shown = np.stack([source[i]['wave'] for i in range(3)])
  expected = task.model.apply({'params': state.params['model']}, shown / np.float32(32768))
  raw = task.predict(state, shown.astype(np.int32), jax.random.key(0))
  np.testing.assert_allclose(raw['probability'], jax.nn.softmax(expected), rtol=1e-5)
  for i in range(3):
    shown[i].tofile(tmp_path / f'{i}.raw')
  rows = list(predict(tmp_path / 'run', [str(tmp_path)]))
  np.testing.assert_allclose([row.outputs['probability'] for row in rows], raw['probability'], rtol=1e-5)
  with pytest.raises(ConfigError, match=r'the model reads recordings or \.npz, not \.py'):
    list(predict(tmp_path / 'run', [str(tmp_path / 'waves.py')]))


AUDIO = Kind(name='audio', inputs=True, batch=whole, to_float=lambda x: x.astype('float32') / 32768.0)


class Recordings:
  """Loud and soft recordings of 16 bits."""

  def __len__(self):
    return 8

  def __getitem__(self, index):
    return {'audio': np.full(4, 16384 * (index % 2), np.int16), 'label': index % 2}


class Sentences:
  """Token ids with a class."""

  vectorized = True
  info = Info(vocab_size=7)

  def __len__(self):
    return 8

  def __getitem__(self, index):
    return {'tokens': np.asarray(index)[..., None] % 7 * np.ones(5, np.int32), 'label': np.asarray(index) % 2}


class Bag(nn.Module):
  """The mean of embeddings."""

  @nn.compact
  def __call__(self, tokens, train=False):
    assert tokens.dtype == np.int32
    return nn.Dense(2)(nn.Embed(7, 4)(tokens).mean(1))


def experiment(source, **model):
  return config.resolve(
    dict(
      task=dict(name='classify.Classify'),
      model=model or dict(name='mlp.MLP', hidden=(4,), num_outputs=2),
      data=dict(name=f'{__name__}.{source}', batch_size=4),
      optim=dict(sgd=dict(name='sgd', learning_rate=0.1)),
      train_for=1,
    )
  )


def test_a_row_of_the_table_is_read_alike_in_training_and_prediction(monkeypatch):
  monkeypatch.setitem(KINDS, 'audio', AUDIO)
  parts = assemble(experiment('Recordings'))
  again = assemble(experiment('Recordings'), json.loads(json.dumps(parts.record())))
  batch = parts.pipeline[0]
  for task in (parts.task, again.task):
    trained = task.inputs(to_float(batch, task.info))
    assert task.info.input == 'audio' and trained.max() == 0.5
    np.testing.assert_array_equal(task.prepare(task.checked(batch['audio'])), trained)


def test_tokens_are_an_input_like_any_other():
  parts = assemble(experiment('Sentences', name=f'{__name__}.Bag'))
  assert parts.task.info.input == 'tokens' and parts.state.params['model']['Embed_0']['embedding'].shape == (7, 4)


MAPS = np.asarray([[[0, 1], [2, 0]], [[0, 1], [2, -1]]])


@pytest.mark.parametrize(
  ('column', 'values', 'info', 'says'),
  [
    ('label', [0, -1], {}, 'the label is -1; classes are numbered from 0: leave out what has none'),
    (
      'label',
      [0, 3],
      dict(num_classes=3),
      'from 0 to 2: number them so, or raise the num_classes of data and model',
    ),
    (
      'label_map',
      MAPS,
      dict(num_classes=3),
      'the label_map holds -1; classes are numbered from 0 to 2: leave out',
    ),
    (
      'label_map',
      MAPS,
      dict(void_label=9),
      'from 0, beside 9 for pixels without one: leave out what has none',
    ),
    ('label_map', MAPS % 10, dict(num_classes=3), r'holds 9; .* leave such pixels out by config.task.void_label=9'),
    ('label_map', MAPS, dict(num_classes=3, void_label=-1), None),
    ('label_map', (MAPS % 256).astype(np.uint8), dict(num_classes=3, void_label=255), None),
    (
      'tokens',
      [[1, 2], [-1, 999]],
      dict(vocab_size=10),
      'the tokens hold 999; ids go from 0 to 9: encode the text',
    ),
    ('tokens', [[1, 9], [3, -1]], dict(vocab_size=10), None),
    ('tokens', [[1, 999]], {}, None),
    ('target', [0.5, np.nan], {}, 'the target is nan, which cannot be learned; leave out an example without a finite'),
    ('target', [[0.5, 1], [2, -np.inf]], {}, 'the target is -inf'),
    ('target', [0.5, 2], {}, None),
  ],
)
def test_values_that_nothing_can_be_learned_from(column, values, info, says):
  values, info = np.asarray(values), Info(**info)
  if says is None:
    assert as_batch({column: values}, info)[column].shape == values.shape
    return
  assert KINDS[column].wrong(standard(column, values), info)[0] == len(values) - 1
  with pytest.raises(ConfigError, match=says) as e:
    as_batch({column: values}, info)
  assert '\n' not in str(e.value)
  other = dataclasses.replace(info, kinds=(('other', KINDS[column]),))
  with pytest.raises(ConfigError, match=f"^'other': .*{says}"):
    as_batch({'other': values}, other)


class Spoiled:
  """Examples with anything in the place of one of them."""

  vectorized = True

  def __init__(self, column: str, value: int | None, most: int):
    self._column, self._value, self._most = column, np.nan if value is None else value, most

  def __len__(self):
    return 20

  def __getitem__(self, index):
    rows = np.atleast_1d(index)
    shape = {'label': (), 'target': (), 'label_map': (2, 2), 'tokens': (3,)}[self._column]
    values = (rows % self._most).reshape(-1, *(1,) * len(shape)) * np.ones(shape)
    values[rows == 13] = self._value
    columns = {self._column: values if self._column == 'target' else values.astype(np.int32)}
    if self._column != 'tokens':
      columns['image'] = np.ones((len(rows), 2, 2, 1), np.float32)
    return columns if np.ndim(index) else {name: values[0] for name, values in columns.items()}


class Pixels(nn.Module):
  """Logits of each pixel."""

  num_classes: int

  @nn.compact
  def __call__(self, x, train=False):
    return nn.Dense(self.num_classes)(x)


GPT = dict(name='gpt.GPT', vocab_size=8, length=2, layers=1, heads=1, width=4)
OF_TWO = dict(name='mlp.MLP', hidden=(), num_outputs=2)


@pytest.mark.parametrize(
  ('task', 'model', 'column', 'value', 'says'),
  [
    ('classify.Classify', OF_TWO, 'label', 2, 'the label is 2; classes are numbered from 0 to 1'),
    ('lm.LanguageModel', GPT, 'tokens', 8, 'the tokens hold 8; ids go from 0 to 7'),
    ('regress.Regress', dict(OF_TWO, num_outputs=1), 'target', None, 'the target is nan'),
    ('segment.Segment', dict(name=f'{__name__}.Pixels', num_classes=2), 'label_map', -1, 'the label_map holds -1'),
    ('segment.Segment', dict(name=f'{__name__}.Pixels', num_classes=2), 'label_map', 2, 'the label_map holds 2'),
  ],
)
def test_what_the_model_has_no_output_for_is_named_before_any_step(task, model, column, value, says):
  """Not by a loss that is not finite, of which a learning rate would be blamed."""
  spec = dict(name=f'{__name__}.Spoiled', column=column, value=value, most=2, batch_size=4, stratify=False)
  parts = assemble(
    config.resolve(
      dict(
        task=dict(name=task),
        model=model,
        data=spec,
        eval=dict(again=dict(split='train', batch_size=20)),
        optim=dict(sgd=dict(name='sgd', learning_rate=0.1)),
        train_for=1,
      )
    )
  )
  says = f'example 13: {says}'
  with pytest.raises(ConfigError, match=says):
    [parts.pipeline[step] for step in range(5)]
  with pytest.raises(ConfigError, match=says):
    parts.held(make_eval_pipelines(parts.experiment))['again'][0]


def test_pixels_that_a_task_calls_void_are_none():
  task = dict(name='segment.Segment', void_label=-1, normalize=True)
  model = dict(name=f'{__name__}.Pixels', num_classes=2)
  data = dict(name=f'{__name__}.Spoiled', column='label_map', value=-1, most=2, batch_size=20)
  optim = dict(sgd=dict(name='sgd', learning_rate=0.1))
  parts = assemble(config.resolve(dict(task=task, model=model, data=data, optim=optim, train_for=1)))
  assert (parts.pipeline[0]['label_map'] == -1).sum() == 4 and parts.task.void == -1
  assert parts.task.info.mean == (1.0,) and parts.limits == {'num_classes': 2}


def padded(boxes):
  """Boxes [n, 4] of each image, n at most 3 -> [b, 3, 4], with -1 for none."""
  return np.stack([np.pad(b, ((0, 3 - len(b)), (0, 0)), constant_values=-1) for b in boxes])


def longest(boxes):
  most = max(map(len, boxes))
  return np.stack([np.pad(b, ((0, most - len(b)), (0, 0)), constant_values=-1) for b in boxes])


BOXES = Kind(name=f'{__name__}.BOXES', inputs=True, join=padded)
LONGEST = Kind(name=f'{__name__}.LONGEST', join=longest)


class Boxes:
  """As many boxes an image as its number says."""

  def __init__(self, kind: str = 'BOXES'):
    self.kinds = {'boxes': globals()[kind]}

  def __len__(self):
    return 4

  def __getitem__(self, index):
    return {'boxes': np.full((index, 4), index + 0.5), 'label': index % 2}


def test_ragged_examples_are_joined_by_their_kind(tmp_path):
  expected = padded([Boxes()[i]['boxes'] for i in range(4)])
  spec = dict(name=f'{__name__}.Boxes', batch_size=4, split='all')
  pipeline = make(spec, train=False)
  for batch in (pipeline[0], *pipeline.iterate(0), pipeline.examples(np.arange(4))):
    np.testing.assert_array_equal(batch['boxes'], expected)
    assert batch['boxes'].dtype == np.float32 and batch['label'].shape == (4,)
  assert make(spec)[5]['boxes'].shape == (4, 3, 4) and pipeline.example()['boxes'].shape == (1, 3, 4)
  info = pipeline.info
  for i in range(4):
    np.savez(tmp_path / f'{i}.npz', boxes=expected[i : i + 1, :i])
  reader = dataclasses.replace(BOXES, reader='FileReader')  # what is read from files is joined alike
  info = dataclasses.replace(info, kinds=(('boxes', reader),))
  ((_, read),) = read_inputs([tmp_path], info, 'boxes')
  np.testing.assert_array_equal(read, expected)


def test_batches_have_one_shape():
  with pytest.raises(
    ConfigError, match=r"'boxes': 4 examples are joined to the shape \(4, 3, 4\), and the first alone"
  ):
    make(dict(name=f'{__name__}.Boxes', kind='LONGEST', batch_size=4, split='all'), train=False)[0]


def test_images_of_both_dtypes_are_joined_as_floats():
  class Mixed:
    def __len__(self):
      return 2

    def __getitem__(self, index):
      return {'image': np.full((2, 2, 1), 255, np.uint8) if index else np.ones((2, 2, 1), np.float32)}

  assert (Pipeline(Mixed(), 2, train=False)[0]['image'] == 1).all()


def test_columns_named_otherwise_are_of_the_kinds_that_their_source_states():
  class Twins:
    kinds = {'left': 'image', 'right': IMAGE}

  info = Info(kinds=tuple(kinds_of(Twins()).items()))
  batch = {'label': np.zeros(2, np.int32), 'right': np.full((2, 3, 3, 1), 255, np.uint8)}
  floats = to_float(batch, info)
  assert floats['right'].dtype == np.float32 and floats['right'].max() == 1 and floats['label'].dtype == np.int32
  assert info.inputs(batch) == ('right',) and info.inputs({'features': 0, 'image': 0}) == ('image', 'features')
  assert Info.from_json(json.loads(json.dumps(info.to_json()))) == info


@pytest.mark.parametrize(
  ('kinds', 'says'),
  [
    ({'left': 'imgae'}, "nothing is called 'imgae'"),
    ({'left': 'dl.errors.nearest'}, 'is no dl.contract.kinds.Kind'),
    ({'left': Kind(name='image')}, "its name is 'image': of another one"),
    (['image'], 'must map columns to kinds'),
  ],
)
def test_mistakes_are_one_line(kinds, says):
  with pytest.raises(ConfigError) as e:
    kinds_of(type('Twins', (), {'kinds': kinds})())
  assert says in str(e.value) and '\n' not in str(e.value)


def test_rows_name_themselves_and_their_facts():
  fields = Info.__dataclass_fields__
  for name, kind in KINDS.items():
    assert kind.name == name and find_kind(name) is kind and set(kind.facts) <= set(fields)
