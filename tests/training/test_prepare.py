"""What is decided before a run writes: by shapes, without a file or a compilation, and wherever the run will be."""

import json
import os

import jax
import numpy as np
import pytest
from small import small

from dl import config
from dl.errors import ConfigError
from dl.parallel import meshes
from dl.training import prepare, start


def test_a_run_is_prepared_without_a_file_or_a_compilation(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  events = []
  listen = lambda event, *_, **__: events.append(event)
  jax.monitoring.register_event_duration_secs_listener(listen)
  experiment = small('perceptron')
  before = json.dumps(experiment.to_json())
  run = prepare.prepare(experiment)
  compiled = [e for e in events if 'backend_compile' in e]
  assert list(run.measures) == list(run.evaluators) == ['test']
  run.functions.new_sums.lower().compile()
  assert not compiled and [e for e in events if 'backend_compile' in e]
  jax.monitoring.unregister_event_duration_listener(listen)
  assert os.listdir(tmp_path) == [] and json.dumps(experiment.to_json()) == before
  assert run.experiment is experiment and run.schedule.total == run.parts.total_steps == 40
  assert list(run.evals) == ['test'] and run.schedule.metrics['test']['accuracy'] == 'max'
  state, sums = run.functions.like
  assert jax.tree.structure(state) == jax.tree.structure(run.parts.state) and int(sums.bad_step.size) == 1
  assert run.given() == {}


def test_a_plan_needs_no_devices(monkeypatch):
  """A sweep is checked on the machine that starts its runs, which may have other devices than they."""
  monkeypatch.setattr(meshes, 'make_mesh', lambda *_: pytest.fail('it asked for a mesh'))
  experiment = small('perceptron', "mesh={'data': 512}")
  assert prepare.plan(experiment).schedule.due(40) == {'log', 'eval', 'checkpoint', 'artifacts'}


@pytest.mark.parametrize(
  ('override', 'says'),
  [
    ("mesh={'data': 512}", 'config.mesh: '),
    ('model.num_outputs=10', 'config.model.num_outputs: '),
    ("eval={'test': {'split': 'exam'}}", 'config.eval.test'),
    ("keep={'best': 1, 'metric': 'test/f1', 'mode': 'max'}", 'config.keep.metric: '),
  ],
)
def test_what_is_wrong_is_named(override, says):
  with pytest.raises(ConfigError, match=says):
    prepare.prepare(small('perceptron', override))


def test_weights_from_elsewhere_are_read_once_and_when_they_are_asked_for(tmp_path, monkeypatch):
  reads, read = [], start.read
  monkeypatch.setattr(start, 'read', lambda path: reads.append(path) or read(path))
  spec = {'name': 'tensors', 'path': str(tmp_path / 'weights.npz')}
  run = prepare.prepare(config.resolve(small('perceptron').to_json() | {'init_from': spec}))
  with pytest.raises(ConfigError, match='no file'):
    run.given()
  shapes = {k: v for k, v in jax.tree_util.tree_leaves_with_path(run.parts.state.params['model'])}
  ((path, bias), (_, kernel)) = sorted(shapes.items(), key=lambda item: len(item[1].shape))
  layer = path[0].key
  arrays = {f'{layer}.weight': np.ones(kernel.shape[::-1], 'f4'), f'{layer}.bias': np.ones(bias.shape, 'f4')}
  np.savez(tmp_path / 'weights.npz', **arrays)
  reads.clear()
  assert run.given() is run.given() and len(reads) == 1
  assert {v.shape for v in run.given().values()} == {kernel.shape, bias.shape}
