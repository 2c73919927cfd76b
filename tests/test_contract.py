"""What every kind of learning keeps, by the table of small runs: a family adds its row to `small.SMALL`, no test.

Its run is trained once a session; a resumed one finds its code compiled. Of further programs a kind compiles two: steps
of two seeds, fused, and a step in bfloat16, which also shows that a number that is none is noticed.
"""

import contextlib
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small import INPUTS, SMALL, interrupted, records, small

import dl
from dl.commands import evaluate
from dl.contract import metrics
from dl.parallel import meshes
from dl.store import workdir as workdirs
from dl.training import assemble, feed, loop, restore, seeds, steps

FIRST = tuple({config.task['name']: kind for kind in reversed(SMALL) if (config := small(kind))}.values())
"""The first kind of each task."""
TASKS = pytest.mark.parametrize('kind', FIRST)
KINDS = pytest.mark.parametrize(
  'kind', [kind if kind in FIRST else pytest.param(kind, marks=pytest.mark.thorough) for kind in SMALL]
)
KEY = jax.random.key(0)


@KINDS
def test_a_run_that_was_cut_ends_bit_for_bit_alike(runs, kind, tmp_path):
  whole, cut = runs(kind), tmp_path / 'cut'
  calls = workdirs.read_run(whole)['total_steps']
  with interrupted(calls // 2):
    assert loop.train(small(kind), cut, show_progress=False).status == 'interrupted'
  assert loop.train(small(kind), cut, show_progress=False).status == 'complete'
  (_, a), (_, b) = restore.load_parts(whole), restore.load_parts(cut)
  assert jax.tree.structure(a) == jax.tree.structure(b)
  jax.tree.map(np.testing.assert_array_equal, a, b)
  assert records(cut) == records(whole) and len(records(whole)) > 2


@KINDS
def test_a_run_is_loaded_and_evaluates_as_it_was_measured(runs, kind):
  task, state = dl.load(runs(kind))
  assert int(state.step) == workdirs.read_run(runs(kind))['total_steps']
  last = [r for r in records(runs(kind)) if r['split'] != 'train'][-1]
  (line,) = evaluate.evaluate(runs(kind)).values()
  assert line == {k: v for k, v in last.items() if k != 'split'}
  drawn = _outputs(task, state, small(kind))
  assert drawn and all(len(x) == 2 for x in drawn)
  assert all(np.isfinite(x).all() for x in drawn if isinstance(x, jax.Array))
  again = _outputs(task, state, small(kind))
  assert all(np.array_equal(x, y) if isinstance(x, jax.Array) else x == y for x, y in zip(drawn, again, strict=True))


def _outputs(task, state, config):
  """Two predictions for two raw examples, or two samples."""
  with contextlib.suppress(NotImplementedError):
    drawn = task.sample(state, KEY, 2)
    return [drawn] if isinstance(drawn, jax.Array) else [list(drawn)]
  inputs = INPUTS.get(task.__class__.__name__)
  if inputs is None:
    batch = assemble.assemble(config).pipeline[0]
    inputs = next(v for k, v in batch.items() if k in ('image', 'features', 'series', 'tokens', 'source'))[:2]
  return jax.tree.leaves(task.predict(state, inputs, KEY))


def _functions(kind, *overrides):
  """(parts, its compiled functions, the first two batches)."""
  mesh = meshes.make_mesh({'data': 1}, jax.devices()[:1])
  parts = assemble.assemble(small(kind, *overrides))
  batches = feed.device_batches(parts, mesh, 0, iter([1, 1]))
  return parts, steps.compiled(parts, mesh), [batch for _, batch in itertools.islice(batches, 2)]


@functools.cache  # all rows of a kind are one worker's
def _two_steps(kind):
  """(initial state, state after each of two steps, numbers of the first): one seed, one step a call, float32."""
  _, functions, batches = _functions(kind)
  state = functions.init({})
  before = jax.device_get(state)
  sums = functions.new_sums()
  state, sums, finite = functions.train(state, sums, batches[0])
  first = jax.device_get(sums)
  state, sums, finite = functions.train(state, sums, batches[1])
  assert finite
  return before, jax.device_get(state), metrics.compute(first.metrics)


def _distance(a, b):
  """Between the parameters of two states and what their optimizers keep, which change at the first step."""
  leaves = lambda state: [x for x in jax.tree.leaves((state.params, state.opt)) if np.issubdtype(x.dtype, np.floating)]
  return sum(np.abs(x - y).sum() for x, y in zip(leaves(a), leaves(b), strict=True))


@TASKS
def test_two_fused_steps_of_two_seeds_are_those_of_each(kind):
  before, alone, _ = _two_steps(kind)
  _, functions, batches = _functions(kind, 'seeds=2', 'steps_per_call=2')
  stacked = jax.tree.map(lambda *x: jnp.stack(x), *batches)
  state, sums, finite = functions.train_fused(functions.init({}), functions.new_sums(), stacked)
  assert np.all(finite) and np.asarray(sums.bad_step).tolist() == [-1, -1]
  first, second = (jax.device_get(seeds.one(state, 2, i)) for i in range(2))
  assert first.step == alone.step == 2
  moved = _distance(alone, before)
  assert _distance(first, alone) < 0.02 * moved
  assert _distance(second, alone) > moved > 0


@TASKS
def test_bfloat16_is_computed_in_and_what_is_not_finite_is_noticed(kind):
  parts, functions, batches = _functions(kind, 'precision=bfloat16')
  assert 'bf16[' in str(jax.make_jaxpr(steps.make_train_step(parts))(*functions.like, parts.batch))
  state = functions.init({})
  types = jax.tree.map(lambda x: x.dtype, state)
  assert not any(x == jnp.bfloat16 for x in jax.tree.leaves(types))
  state, sums, finite = functions.train(state, functions.new_sums(), batches[0])
  assert finite and int(sums.bad_step) == -1 and jax.tree.map(lambda x: x.dtype, state) == types
  _, _, exact = _two_steps(kind)
  for name, value in metrics.compute(jax.device_get(sums.metrics)).items():
    if 'loss' in name:
      assert value == pytest.approx(exact[name], rel=0.1, abs=0.05), name
  state = state.replace(params=jax.tree.map(lambda x: x * jnp.nan, state.params))
  _, sums, finite = functions.train(state, sums, batches[1])
  assert not finite and int(sums.bad_step) == 2
