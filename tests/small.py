"""Each kind of learning, as small as it can be, for tests which train."""

import json
import pathlib
from collections.abc import Sequence
from typing import Any

from dl import config, logs

ROOT = pathlib.Path(__file__).parents[1]
TEXT = pathlib.Path(json.__file__).parent / '*.py'  # a little real code

# kind -> (config below experiments/, overrides)
SMALL = {
  # All at once that a run must get right: augmentation, dropout, batch norm, accumulation, averages, the best kept.
  'digits': (
    'vision/digits_mlp.py',
    [
      'model.hidden=(32, 16)', 'model.batch_norm=True', 'data.batch_size=32', 'train_for=60', 'log_every=7',
      'eval_every=15', 'checkpoint_every=11', "keep={'best': 1, 'metric': 'test/accuracy', 'mode': 'max'}",
      "optim={'clip': {'name': 'clip_by_global_norm', 'max_norm': 1.0}, 'accumulate': {'name': 'accumulate', "
      "'steps': 2}, 'adam': {'name': 'adamw', 'learning_rate': {'name': 'warmup_cosine_decay_schedule', "
      "'peak_value': 0.01, 'warmup': '10%'}}, 'ema': {'name': 'params_ema', 'decay': 0.9}}",
    ],
  ),
  'perceptron': ('vision/digits_perceptron.py', ['train_for=40', 'eval_every=20', 'log_every=10']),
  'cancer': ('tabular/breast_cancer_mlp.py:1', ['model.hidden=(8,)', 'train_for=40', 'eval_every=40', 'log_every=20']),
  'diabetes': ('tabular/diabetes_mlp.py', ['model.hidden=(8,)', 'train_for=40', 'eval_every=20', 'log_every=20']),
  'gan': (
    'generative/digits_gan.py',
    [
      'model.generator.latent_size=8', 'model.generator.features=(8,)', 'model.generator.base=4',
      'model.discriminator.features=(8,)', 'model.discriminator.base=4',
      'data.batch_size=16', 'train_for=12', 'log_every=4', 'eval_every=6', 'artifacts_every=6',
    ],
  ),
  'gpt': (
    'text/stdlib_gpt.py',
    [
      f"data={{'name': 'text.TextFiles', 'path': {str(TEXT)!r}, 'length': 32, 'batch_size': 8}}",
      'model.layers=1', 'model.heads=2', 'model.width=32', 'model.length=32', 'task.sample_length=24',
      'train_for=12', 'log_every=4', 'eval_every=6',
    ],
  ),
  'ppo': (
    'rl/cartpole_ppo.py',
    [
      'task.num_envs=4', 'task.rollout_length=16', 'task.epochs=2', 'task.minibatches=2', 'task.eval_episodes=4',
      'model.features=(8,)', 'train_for=6', 'log_every=2', 'eval_every=3',
    ],
  ),
}  # fmt: skip


def small(kind: str, *overrides: str) -> dict[str, Any]:
  """The resolved config of a kind in `SMALL`, with further overrides."""
  path, first = SMALL[kind]
  return config.load(str(ROOT / 'experiments' / path), [*first, *overrides])


def records(
  workdir: pathlib.Path, split: str | None = None, leave_out: Sequence[str] = ('seconds', 'steps_per_second')
):
  """The lines of `metrics.jsonl` (of one split), without what depends on the clock."""
  return [
    {k: v for k, v in r.items() if k not in leave_out}
    for r in logs.read(workdir)
    if split is None or r['split'] == split
  ]
