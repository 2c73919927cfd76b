"""Evaluators that a config names: a user's own, what of an entry is theirs, exact sums, several seeds, mistakes."""

import csv
import dataclasses
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from small import records, small

import dl
from dl.data.parts import part
from dl.data.sources.sklearn import Digits
from dl.errors import ConfigError
from dl.parallel import meshes
from dl.training import assemble, entries, evaluation, evaluators, loop

KEY = jax.random.key(0)
OWN = '''
  import dataclasses

  import jax
  import jax.numpy as jnp

  from dl.config.bounds import NotNegative
  from dl.contract.evaluator import Evaluator
  from dl.contract.metrics import Mean


  @dataclasses.dataclass(frozen=True, kw_only=True)
  class Slope(Evaluator):
    """The fast gradient sign method: a step of epsilon up the loss, of every pixel."""

    epsilon: NotNegative = 0.1
    shuffle: bool = False

    def measure(self, task, state, batch, key):
      loss = lambda image: task.loss(state.params, state.extra, batch | {'image': image}, key, False)
      slope = jax.grad(lambda image: loss(image)[0])(batch['image'])
      attacked = batch['image'] + self.epsilon * jnp.sign(slope)
      moved = jnp.abs(attacked - batch['image']).max((1, 2, 3))
      return {'accuracy': loss(attacked)[1][1]['accuracy'], 'moved': Mean.of(moved, batch['mask'])}

    def examine(self, task, state, batch, key):
      return {'brightness': batch['image'].mean((1, 2, 3))}

    def findings(self, task, examined, inputs):
      darkest = examined['brightness'].argsort()[:2]
      rows = [{'index': int(examined['index'][i])} for i in darkest]
      return {'darkest': rows, 'pictures': inputs(darkest)['image'][0]}


  @dataclasses.dataclass(frozen=True, kw_only=True)
  class Number(Evaluator):
    def measure(self, task, state, batch, key):
      return {'loss': 1.0}


  @dataclasses.dataclass(frozen=True, kw_only=True)
  class Curious(Evaluator):
    def measure(self, task, state, batch, key):
      return {}

    def examine(self, task, state, batch, key):
      return {'sound': batch['sound']}


  class NoEvaluator:
    pass


  @dataclasses.dataclass(frozen=True, kw_only=True)
  class Silent(Evaluator):
    threshold: float = 0.5
'''


@pytest.fixture(scope='module', autouse=True)
def laboratory(tmp_path_factory):
  """A module of the user's own, `slopes`, on the Python path."""
  folder = tmp_path_factory.mktemp('laboratory')
  (folder / 'slopes.py').write_text(textwrap.dedent(OWN))
  sys.path.insert(0, str(folder))
  yield
  sys.path.remove(str(folder))
  sys.modules.pop('slopes', None)


def with_eval(kind='perceptron', **evaluations):
  return dataclasses.replace(small(kind), eval=evaluations, expect={}, baselines={}, keep={})


def made(experiment):
  """(parts, pipelines, evaluators, their numbers), all by shapes alone."""
  parts = assemble.assemble(experiment)
  pipelines, opinions = assemble.make_eval_pipelines(experiment), evaluators.make(parts)
  return parts, pipelines, opinions, evaluation.numbers(parts, pipelines, opinions)


def measured(parts, pipelines, opinions, state):
  mesh = meshes.make_mesh({'data': 1}, jax.devices()[:1])
  steps = evaluation.compiled(parts, mesh, opinions)
  return {name: evaluation.evaluate(steps[name], state, pipelines[name], mesh) for name in opinions}


def test_a_users_evaluator_measures_the_gradient_of_the_loss_and_counts_each_example_once(runs):
  """100 divides the 360 test examples into batches of which the last is padded, and 360 does not."""
  slope = dict(by='slopes.Slope', epsilon=0.05, split='test')
  experiment = with_eval(test={}, padded=slope | {'batch_size': 100}, whole=slope | {'batch_size': 360})
  parts, pipelines, opinions, numbers = made(experiment)
  of_slope = {'accuracy': 'max', 'moved': None}
  assert numbers == {'test': {'accuracy': 'max', 'loss': 'min'}, 'padded': of_slope, 'whole': of_slope}
  assert opinions['padded'] == opinions['whole'] and opinions['padded'].epsilon == 0.05
  task, state = dl.load(runs('perceptron'))
  measures = measured(parts, pipelines, opinions, state)
  assert measures['padded']['accuracy'] == measures['whole']['accuracy'] < measures['test']['accuracy'] - 0.02
  assert measures['padded']['moved'] == pytest.approx(0.05, rel=1e-5)
  # The same by hand.
  test = part(Digits(), 'test').columns
  images = jnp.asarray(test['image'], jnp.float32) / (255 if test['image'].dtype == np.uint8 else 1)
  batch = {'image': images, 'label': jnp.asarray(test['label']), 'mask': jnp.ones(360)}
  slopes = jax.grad(lambda x: task.loss(state.params, state.extra, batch | {'image': x}, KEY, False)[0])(images)
  outputs, _ = task.apply(state.params, state.extra, task.prepare(images + 0.05 * jnp.sign(slopes)), KEY, False)
  assert measures['whole']['accuracy'] == pytest.approx(float((outputs.argmax(-1) == batch['label']).mean()), abs=1e-6)


def test_a_run_writes_what_an_evaluator_measures_and_finds(runs):
  overrides = [
    "eval={'test': {}, 'slope': {'by': 'slopes.Slope', 'epsilon': 0.1, 'split': 'test'}}",
    "keep={'best': 1, 'metric': 'slope/accuracy', 'mode': 'max'}", 'train_for=20', 'checkpoint_every=20',
  ]  # fmt: skip
  workdir = runs('perceptron', *overrides)
  splits = {r['split']: r for r in records(workdir)}
  assert 0 <= splits['slope']['accuracy'] < splits['test']['accuracy']
  files = {path.name for path in (workdir / 'artifacts').iterdir()}
  mistakes = {'confusion.png', 'classes.csv', 'mistakes.csv', 'mistakes_picture.png'}
  assert files == {f'00000020_test_{n}' for n in mistakes} | {
    f'00000020_slope_{n}' for n in ('darkest.csv', 'pictures.png')
  }
  index, brightness = part(Digits(), 'test').index, Digits().columns['image'].mean((1, 2, 3))
  rows = (workdir / 'artifacts/00000020_slope_darkest.csv').read_text().split()
  assert sorted(brightness[[int(i) for i in rows[1:]]]) == pytest.approx(np.sort(brightness[index])[:2])


def test_an_evaluator_sees_each_of_several_seeds():
  experiment = dataclasses.replace(with_eval(slope=dict(by='slopes.Slope', split='test')), seeds=2)
  parts, pipelines, opinions, _ = made(experiment)
  state = jax.jit(parts.init)()
  measures = measured(parts, pipelines, opinions, state)['slope']
  alone = dataclasses.replace(parts, experiment=dataclasses.replace(experiment, seeds=None))
  first = measured(alone, pipelines, opinions, jax.tree.map(lambda x: x[0], state))['slope']
  assert len(measures['accuracy_by_seed']) == 2
  assert measures['accuracy_by_seed'][0] == pytest.approx(first['accuracy'])
  assert measures['accuracy'] == pytest.approx(np.mean(measures['accuracy_by_seed']))


@pytest.mark.parametrize(
  ('spec', 'by', 'data'),
  [
    ({'split': 'test'}, None, {'split': 'test'}),
    ({'by': 'slopes.Slope', 'epsilon': 1, 'batch_size': 8}, {'name': 'slopes.Slope', 'epsilon': 1}, {'batch_size': 8}),
    ({'by': {'name': 'slopes.Slope', 'shuffle': True}, 'shuffle': False}, {'name': 'slopes.Slope', 'shuffle': True},
     {'shuffle': False}),
    ({'by': 'judge.Judge', 'classifier': 'x', 'seed': 3}, {'name': 'judge.Judge', 'classifier': 'x', 'seed': 3}, None),
  ],
)  # fmt: skip
def test_what_of_an_entry_is_the_evaluators_and_what_the_datas(spec, by, data):
  entry = entries.read(with_eval(test=spec), 'test')
  assert (entry.by, entry.data) == (by, data)


@pytest.mark.parametrize(
  ('kind', 'spec', 'words'),
  [
    ('perceptron', {'by': 'mistakes.Mistaks'}, ("config.eval.test.by: ", "did you mean 'Mistakes'")),
    ('perceptron', {'by': 'judg.Judge'}, ("config.eval.test.by: ", "did you mean 'judge.Judge'")),
    ('perceptron', {'by': 'os.system'}, ('config.eval.test.by: ', 'Python itself')),
    ('perceptron', {'by': 3}, ('config.eval.test.by: ', 'dotted path')),
    ('perceptron', {'by': {'shown': 3}}, ('config.eval.test.by: ', "a dict with a 'name'")),
    ('perceptron', {'by': 'slopes.NoEvaluator'}, ('config.eval.test.by: ', 'no class of')),
    ('perceptron', {'by': 'slopes.Silent'}, ('config.eval.test.by: Silent has no measure',)),
    ('perceptron', {'by': 'slopes.Slope', 'epsilno': 1}, ('config.eval.test.epsilno: ', "did you mean 'epsilon'")),
    ('perceptron', {'by': 'slopes.Slope', 'splt': 'x'}, ('config.eval.test.splt: ', "did you mean 'split'")),
    ('perceptron', {'by': {'name': 'slopes.Slope', 'epsilno': 1}}, ('config.eval.test.by.epsilno: ', 'epsilon')),
    ('perceptron', {'by': 'slopes.Slope', 'epsilon': 'x'}, ('config.eval.test.epsilon: expected float',)),
    ('perceptron', {'by': 'slopes.Slope', 'epsilon': -1}, ('config.eval.test.epsilon: must be at least 0',)),
    ('perceptron', {'by': 'slopes.Slope', 'shuffle': True}, ('config.eval.test.shuffle: may be', 'by=dict(')),
    ('perceptron', {'by': 'slopes.Number'}, ('config.eval.test: Number gives as metric ', 'Mean.of')),
    ('perceptron', {'by': 'slopes.Curious'}, ('config.eval.test: ', "KeyError: 'sound'", 'slopes.py')),
    ('perceptron', {'by': 'masks.Masks'}, ('config.eval.test: Masks are of segmentations',)),
    ('diabetes', {'by': 'mistakes.Mistakes'}, ('config.eval.test: Mistakes are of classifiers',)),
    ('perceptron', {'by': 'judge.Judge'}, ("config.eval.test: Judge needs an argument 'classifier'",)),
    ('perceptron', {'by': 'judge.Judge', 'classifier': 3}, ('config.eval.test.classifier: ', 'work directory')),
    ('perceptron', {'by': 'judge.Judge', 'classifier': '/nowhere'}, ('config.eval.test.classifier: ', '/nowhere')),
    ('perceptron', {'by': 'judge.Judge', 'classifier': 'x', 'split': 'test'}, ('config.eval.test.split: ', 'argument')),
    ('perceptron', {'by': {'name': 'judge.Judge', 'classifier': 'x'}, 'split': 'test'}, ('config.eval.test.split: ',)),
    ('ppo', {'by': 'mistakes.Mistakes'}, ('config.eval.test: ', 'PPO has none')),
  ],
)  # fmt: skip
def test_a_mistake_in_an_evaluator_is_one_line(kind, spec, words, tmp_path):
  with pytest.raises(ConfigError) as e:
    loop.train(with_eval(kind, test=spec), tmp_path / 'run', show_progress=False)
  assert all(word in str(e.value) for word in words), str(e.value)
  assert '\n' not in str(e.value) and not (tmp_path / 'run').exists()


def test_a_judge_is_asked_while_a_gan_trains(runs):
  """Its metrics can be kept by; the samples are those that `dl.sample` draws of the split key."""
  judge = f"'by': 'judge.Judge', 'classifier': {str(runs('digits'))!r}, 'samples': 70, 'seed': 3"
  workdir = runs(
    'gan',
    f"eval={{'test': {{}}, 'judge': {{{judge}}}}}",
    "keep={'best': 1, 'metric': 'judge/confidence', 'mode': 'max'}",
  )
  last = records(workdir, 'judge')[-1]
  task, state = dl.load(workdir)
  classifier, weights = dl.load(runs('digits'))
  images = task.sample(state, jax.random.split(jax.random.key(3))[0], 70)
  probability = np.asarray(classifier.predict(weights, images, KEY)['probability'])
  shares = np.bincount(probability.argmax(1), minlength=10) / 70
  np.testing.assert_allclose(last['shares'], shares, atol=1e-6)
  with open(workdir / 'artifacts/00000012_judge_classes.csv') as file:
    assert [float(row['share']) for row in csv.DictReader(file)] == pytest.approx(shares.tolist(), abs=1e-4)
  with Image.open(workdir / 'artifacts/00000012_judge_samples.png') as picture:
    assert picture.width == picture.height  # ten of each of ten classes
  assert (last['min_share'], last['max_share']) == (min(last['shares']), max(last['shares']))
  np.testing.assert_allclose(last['confidence'], probability.max(1).mean(), rtol=1e-5)
