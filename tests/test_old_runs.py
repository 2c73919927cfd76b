"""Work directories that earlier code wrote, stopped half way: they load, and end as that code would have ended them.

`tests/old_runs/KIND.tar.xz` was written by commit 49a3dfb: a run stopped by SIGTERM between two logs, with
`outputs.json`, what its model gave, and `uninterrupted.jsonl`, the metrics of the same run to its end.
"""

import json
import pathlib
import tarfile

import jax
import numpy as np
import pytest
from small import records

import dl
from dl.store import logs
from dl.store import workdir as workdirs
from dl.training import loop

ROOT = pathlib.Path(__file__).parents[1]
KEY = jax.random.key(3)


def of_digits(task, state):
  images = pytest.importorskip('sklearn.datasets').load_digits().images[:4, ..., None]
  return {'probability': task.predict(state, images.astype(np.float32) / 16, KEY)['probability']}


def of_diabetes(task, state):
  features = pytest.importorskip('sklearn.datasets').load_diabetes(scaled=False).data[:4]
  return {'target': task.predict(state, features.astype(np.float32), KEY)['target']}


def of_gan(task, state):
  return {'images': task.sample(state, KEY, 2)}


def of_gpt(task, state):
  tokens = np.frombuffer(b'def scan_once(string, idx, _w=WHITESPACE.match):', np.uint8)[None].astype(np.int32)
  texts = task.sample(state, KEY, 2, prompt='def ', length=12, temperature=0.0)
  return {'log_likelihood': task.predict(state, tokens, KEY)['log_likelihood'], 'texts': texts}


def of_ppo(task, state):
  predicted = task.predict(state, np.linspace(-0.2, 0.2, 12).reshape(3, 4).astype(np.float32), KEY)
  return {'probability': predicted['probability'], 'value': predicted['value']}


THOROUGH = [pytest.param(outputs, marks=pytest.mark.thorough) for outputs in (of_gpt, of_ppo)]


@pytest.mark.parametrize('outputs', [of_digits, of_diabetes, of_gan, *THOROUGH])
def test_an_old_run_loads_and_resumes(outputs, tmp_path, monkeypatch):
  kind = outputs.__name__.removeprefix('of_')
  monkeypatch.chdir(ROOT)  # where the text of the GPT lies
  with tarfile.open(ROOT / 'tests' / 'old_runs' / f'{kind}.tar.xz') as archive:
    archive.extraction_filter = getattr(tarfile, 'data_filter', None)  # which Python has since 3.11.4
    archive.extractall(tmp_path)
  run = tmp_path / kind

  expected = json.loads((run / 'outputs.json').read_text())
  for name, values in outputs(*dl.load(run)).items():
    if name == 'texts':
      assert values == expected[name]
    else:
      np.testing.assert_allclose(values, expected[name], rtol=1e-4, atol=1e-5, err_msg=name)

  result = loop.train(workdirs.read_config(run), run, show_progress=False)
  assert result.status == 'complete'
  wanted = [json.loads(line) for line in (run / 'uninterrupted.jsonl').read_text().splitlines()]
  wanted = [{k: v for k, v in record.items() if k not in logs.MACHINE} for record in wanted]
  found = records(run)
  assert [(r['step'], r['split']) for r in found] == [(r['step'], r['split']) for r in wanted]
  for mine, theirs in zip(found, wanted, strict=True):
    assert theirs.keys() <= mine.keys()
    for name, value in theirs.items():
      np.testing.assert_allclose(
        np.asarray(mine[name], np.float64) if name != 'split' else 0,
        np.asarray(value, np.float64) if name != 'split' else 0,
        rtol=1e-4, atol=1e-6, err_msg=f'{name} at step {mine["step"]}',
      )  # fmt: skip
