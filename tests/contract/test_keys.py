"""The random streams of a run: each is of its own, and they are those which runs before had."""

import itertools
import pathlib
import re

import jax
import numpy as np

from dl.contract import keys

ROOT = pathlib.Path(__file__).parents[2]


def streams(seed):
  """Name -> key, of everything that a run of a few steps and evaluation batches draws from."""
  found = {}
  for i in range(3):
    found[f'task {i}'], found[f'augmentation {i}'] = keys.step(seed, i)
    found[f'evaluation {i}'] = keys.evaluation(seed, i)
    found[f'findings {i}'] = keys.findings(seed, i)
  found['judged samples'], found['judgement'] = keys.judged(seed)
  return found | {'parameters': keys.parameters(seed), 'artifacts': keys.artifacts(seed)}


def test_no_two_streams_are_the_same():
  data = {
    f'{name} of seed {seed}': tuple(np.asarray(jax.random.key_data(key)).tolist())
    for seed in (0, 1)
    for name, key in streams(seed).items()
  }
  same = [pair for pair in itertools.combinations(data, 2) if data[pair[0]] == data[pair[1]]]
  assert len(data) == 32 and not same


def test_streams_are_those_of_older_runs():
  """Else a run that an earlier version began would go on with other numbers."""
  key = lambda *folded: [key := jax.random.key(7), *(key := jax.random.fold_in(key, i) for i in folded)][-1]
  old = {'parameters': key(), 'artifacts': key(2**31 - 2)}
  for i in range(3):
    old[f'task {i}'], old[f'augmentation {i}'] = jax.random.split(key(i))
    old[f'evaluation {i}'], old[f'findings {i}'] = key(2**31 - 1, i), key(2**31 - 3, i)
  old['judged samples'], old['judgement'] = jax.random.split(key())
  found = streams(7)
  assert old.keys() == found.keys()
  assert all(jax.random.key_data(old[k]).tolist() == jax.random.key_data(found[k]).tolist() for k in old)


def test_the_key_of_a_step_can_be_traced():
  """Its number is one on the device."""
  here, traced = keys.step(3, 5), jax.jit(keys.step)(3, 5)
  assert [jax.random.key_data(k).tolist() for k in here] == [jax.random.key_data(k).tolist() for k in traced]


def test_all_streams_of_a_run_are_named_in_one_file():
  """Elsewhere a key is made for shapes alone, or for a table of constants."""
  sources = {p.relative_to(ROOT / 'dl').as_posix(): p.read_text(encoding='utf-8') for p in (ROOT / 'dl').rglob('*.py')}
  having = lambda pattern: {name for name, text in sources.items() if re.search(pattern, text)}
  packages = lambda names: {name.partition('/')[0] for name in names}
  assert packages(having(r'random\.(key|PRNGKey)\b')) - {'data', 'models', 'tasks'} == {'contract'}
  folding = packages(having(r'random\.fold_in\b'))
  assert folding.isdisjoint({'commands', 'evaluators', 'training'}) and 'contract' in folding
