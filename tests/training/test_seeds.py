"""Seeds as one vectorized program: each is the run that it would be alone."""

import json

import jax
import numpy as np
import pytest
from small import interrupted, records, small

from dl import config, report
from dl.commands.evaluate import evaluate
from dl.contract import metrics
from dl.contract.metrics import BY_SEED, BySeed, Confusion, Mean
from dl.errors import ConfigError
from dl.training import loop, restore, seeds


@pytest.fixture(scope='module')
def together(runs):
  """A function from a kind to the work directory of a run of the seeds 0 and 1."""
  return lambda kind: runs(kind, 'seeds=2')


@pytest.mark.thorough
@pytest.mark.parametrize('kind', ['digits', 'ppo'])
def test_a_seed_among_others_equals_its_own_run(kind, together, tmp_path):
  loop.train(small(kind, 'seed=1'), tmp_path / 'alone', show_progress=False)
  both, alone = records(together(kind)), records(tmp_path / 'alone')
  assert [(r['step'], r['split']) for r in both] == [(r['step'], r['split']) for r in alone]
  compared = 0
  for a, b in zip(both, alone, strict=True):
    for name in {k.removesuffix(BY_SEED) for k in a if k.endswith(BY_SEED)}:
      assert a[name + BY_SEED][1] == pytest.approx(b[name], rel=1e-4, abs=1e-5), (b['step'], b['split'], name)
      compared += 1
  assert compared > 8
  _, mine = restore.load(together(kind), seed=1)
  _, theirs = restore.load(tmp_path / 'alone')
  for a, b in zip(jax.tree.leaves(mine.params), jax.tree.leaves(theirs.params), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)
  losses = [r['loss' + BY_SEED] for r in both if 'loss' + BY_SEED in r]
  assert all(a != b for a, b in losses)


@pytest.mark.thorough
def test_an_interrupted_run_of_several_seeds_ends_bit_for_bit_alike(together, tmp_path):
  with interrupted(after=25):
    assert loop.train(small('digits', 'seeds=2'), tmp_path / 'run', show_progress=False).status == 'interrupted'
  loop.train(small('digits', 'seeds=2'), tmp_path / 'run', show_progress=False)
  assert records(tmp_path / 'run') == records(together('digits'))
  a, b = (restore.load_parts(w)[1] for w in (tmp_path / 'run', together('digits')))
  assert all(jax.tree.leaves(jax.tree.map(np.array_equal, a, b)))


def test_what_a_run_of_several_seeds_says(together, tmp_path):
  workdir = together('perceptron')
  last = records(workdir, 'test')[-1]
  found = evaluate(workdir)['test']
  assert found == {k: pytest.approx(v) for k, v in last.items() if k != 'split'}
  assert len(found['accuracy_by_seed']) == 2 and len(found['class_accuracy']) == 10
  task, state = restore.load(workdir)
  assert state.step.shape == () and int(state.step) == 40
  image = np.zeros((3, 8, 8, 1), np.uint8)
  assert task.predict(state, image, jax.random.key(0))['label'].shape == (3,)
  with pytest.raises(ConfigError, match='has no seed 2; its seed is 0 to 1'):
    restore.load(workdir, seed=2)
  page = report.write([workdir], tmp_path / 'report.html').read_text()
  assert 'accuracy by seed' in page and 'seed 1' in page
  assert list((workdir / 'artifacts').glob('*_test_mistakes*'))  # of the first seed
  assert json.loads((workdir / 'run.json').read_text())['seed'] == 0


@pytest.mark.parametrize(
  'overrides, message',
  [
    (['seeds=0'], 'at least 1'), (['seeds=True'], 'expected'), (['seeds=2', 'sharding=fsdp'], 'replicated'),
    (['seeds=2', f'seed={2**31 - 1}'], '32 bits'), (['seeds=many'], 'expected'),
  ],
)  # fmt: skip
def test_seeds_which_cannot_be(overrides, message, tmp_path):
  with pytest.raises(ConfigError, match=f'config.seeds: .*{message}'):
    loop.train(small('digits', *overrides), tmp_path / 'run', show_progress=False)
  assert not (tmp_path / 'run').exists()


def test_sums_of_seeds_are_a_mean_and_a_list():
  mean = BySeed(Mean(np.asarray([1.0, 6.0]), np.asarray([2.0, 3.0])))
  counts = np.asarray([[[1, 1], [0, 2]], [[2, 0], [1, 3]]])
  found = metrics.compute({'loss': mean, 'by_class': BySeed(Confusion(counts))})
  assert found == {'loss': 1.25, 'loss_by_seed': [0.5, 2.0], 'by_class': [0.75, 0.875]}


def test_a_batch_has_each_seeds_own_order_on_its_second_axis():
  from dl.training.assemble import assemble

  parts = assemble(small('digits'))
  both = next(seeds.batches(parts.pipeline, 70, 4, 2))
  for i in range(2):
    alone = assemble(small('digits', f'seed={4 + i}')).pipeline[70]
    assert all(np.array_equal(both[k][:, i], alone[k]) for k in alone)
  assert config.resolve(small('digits')).seeds is None
