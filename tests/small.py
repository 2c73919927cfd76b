"""Each kind of learning, as small as it can be, for tests which train."""

import contextlib
import json
import os
import pathlib
import signal
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from dl import config
from dl.contract.info import Info
from dl.data.buckets import by_length
from dl.data.source import Arrays
from dl.data.sources.series import Windows
from dl.data.tokenizers.vocabulary import pad
from dl.store import logs
from dl.training import feed

ROOT = pathlib.Path(__file__).parents[1]
TEXT = pathlib.Path(json.__file__).parent / '*.py'  # a little real code

# kind -> (config below experiments/, overrides), which leave nothing that is tuned there to it.
SMALL = {
  # All at once that a run must get right: augmentation, dropout, batch norm, accumulation, averages, the best kept.
  'digits': (
    'vision/digits_mlp.py',
    [
      "task={'name': 'classify.Classify', 'label_smoothing': 0.1}",
      "model={'name': 'mlp.MLP', 'hidden': (32, 16), 'num_outputs': 10, 'batch_norm': True, 'dropout': 0.2}",
      "data={'name': 'sklearn.Digits', 'batch_size': 32, 'augment': [{'name': 'random_shift', 'pixels': 0.5}]}",
      "optim={'clip': {'name': 'clip_by_global_norm', 'max_norm': 1.0}, 'accumulate': {'name': 'accumulate', "
      "'steps': 2}, 'adam': {'name': 'adamw', 'learning_rate': {'name': 'warmup_cosine_decay_schedule', "
      "'peak_value': 0.01, 'warmup': '10%'}}, 'ema': {'name': 'params_ema', 'decay': 0.9}}",
      "keep={'best': 1, 'metric': 'test/accuracy', 'mode': 'max'}",
      'train_for=60', 'log_every=7', 'eval_every=15', 'checkpoint_every=11',
    ],
  ),
  'perceptron': (
    'vision/digits_perceptron.py',
    [
      "task={'name': 'classify.Classify'}", 'data.batch_size=64',
      "optim={'adam': {'name': 'adam', 'learning_rate': {'name': 'cosine_decay_schedule', 'init_value': 0.01}}}",
      'train_for=40', 'eval_every=20', 'log_every=10', 'checkpoint_every=20',
    ],
  ),
  'cancer': (
    'tabular/breast_cancer_mlp.py:1',
    ['model.hidden=(8,)', 'train_for=40', 'eval_every=40', 'log_every=20', 'checkpoint_every=20'],
  ),
  'diabetes': (
    'tabular/diabetes_mlp.py',
    ['model.hidden=(8,)', 'train_for=40', 'eval_every=20', 'log_every=20', 'checkpoint_every=20'],
  ),
  'gan': (
    'generative/digits_gan.py',
    [
      "task={'name': 'gan.GAN'}",
      "model={'generator': {'name': 'gan.ConvGenerator', 'latent_size': 8, 'features': (8,), 'channels': 1}, "
      "'discriminator': {'name': 'gan.ConvDiscriminator', 'features': (8, 8), 'base': 2}}",
      "optim={'generator': {'adam': {'name': 'adam', 'learning_rate': {'name': 'linear_schedule', 'init_value': 1e-3, "
      "'end_value': 0.0}}, 'ema': {'name': 'params_ema', 'decay': 0.9}}, "
      "'discriminator': {'adam': {'name': 'adam', 'learning_rate': 5e-4}}}",
      'data.batch_size=16', 'train_for=12', 'log_every=4', 'eval_every=6', 'artifacts_every=6', 'checkpoint_every=6',
    ],
  ),
  'gpt': (
    'text/stdlib_gpt.py',
    [
      f"data={{'name': 'text.TextFiles', 'path': {str(TEXT)!r}, 'length': 32, 'batch_size': 8}}",
      "model={'name': 'gpt.GPT', 'vocab_size': 256, 'layers': 1, 'heads': 2, 'width': 32, 'length': 32, 'rope': True}",
      "optim={'clip': {'name': 'clip_by_global_norm', 'max_norm': 1.0}, 'adam': {'name': 'adam', "
      "'learning_rate': 3e-3}}",
      "eval={'validation': {'batch_size': 32}}", 'task.sample_length=24', 'train_for=12', 'log_every=4', 'eval_every=6',
      'checkpoint_every=6',
    ],
  ),
  'carry': (
    'text/shakespeare_lstm.py',
    [
      f"data={{'name': 'text.TextFiles', 'path': {str(TEXT)!r}, 'length': 16, 'streams': 8, 'batch_size': 8}}",
      "model={'name': 'rnn.RecurrentLanguageModel', 'vocab_size': 256, 'width': 16, 'layers': 2, 'dropout': 0.2}",
      "optim={'adam': {'name': 'adamw', 'learning_rate': {'name': 'cosine_decay_schedule', 'init_value': 0.01}}}",
      "task={'name': 'lm.LanguageModel', 'carry': True, 'sample_length': 24}",
      "eval={'validation': {'streams': 4, 'length': None, 'batch_size': 4}}", 'train_for=12', 'log_every=4',
      'eval_every=6', 'checkpoint_every=6', 'expect={}',
    ],
  ),
  'masked': (
    'text/mlm_pretrain.py',
    [
      f"data={{'name': 'text.TextFiles', 'path': {str(TEXT)!r}, 'length': 31, 'batch_size': 8}}",
      "model={'name': 'bert.BERT', 'vocab_size': 257, 'layers': 1, 'heads': 2, 'width': 16, 'hidden': 9, 'length': 32}",
      "task={'name': 'masked_lm.MaskedLanguageModel', 'sentences': ('def [MASK][MASK](self):',), 'guesses': 3}",
      "optim={'adam': {'name': 'adamw', 'learning_rate': {'name': 'cosine_decay_schedule', 'init_value': 3e-3}}}",
      "eval={'validation': {'batch_size': 32}}", 'keep={}', 'train_for=12', 'log_every=4', 'eval_every=6',
      'artifacts_every=6', 'checkpoint_every=6', 'expect={}', 'baselines={}',
    ],
  ),
  'ppo': (
    'rl/cartpole_ppo.py',
    [
      'task.num_envs=4', 'task.rollout_length=16', 'task.epochs=2', 'task.minibatches=2', 'task.eval_episodes=4',
      'model.features=(8,)', "optim={'adam': {'name': 'adam', 'learning_rate': {'name': 'linear_schedule', "
      "'init_value': 1e-3, 'end_value': 0.0}}}", 'train_for=6', 'log_every=2', 'eval_every=3', 'checkpoint_every=3',
    ],
  ),
  'segment': (
    'vision/vnc_unet.py',
    [
      "model={'name': 'unet.UNet', 'num_classes': 2, 'features': (4,), 'padding': 'same'}",
      "data={'name': 'small.Discs', 'batch_size': 8, 'test': 0.25}",
      "optim={'adam': {'name': 'adam', 'learning_rate': {'name': 'cosine_decay_schedule', 'init_value': 0.01}}}",
      'eval.test={}', 'train_for=12', 'log_every=4', 'eval_every=6', 'checkpoint_every=6', 'expect={}', 'baselines={}',
    ],
  ),
  'forecast': (
    'timeseries/etth1_dlinear.py',
    [
      "model={'name': 'dlinear.DLinear', 'horizon': 4, 'window': 5}", "data={'name': 'small.Waves', 'batch_size': 16}",
      "optim={'adam': {'name': 'adam', 'learning_rate': {'name': 'cosine_decay_schedule', 'init_value': 0.01}}}",
      "eval={'test': {'split': 'test'}}", 'keep={}', 'train_for=12', 'log_every=4', 'eval_every=6',
      'checkpoint_every=6', 'expect={}', 'baselines={}',
    ],
  ),
  'music': (
    'music/jsb_lstm.py',
    [
      "model={'name': 'rnn.RNN', 'num_outputs': 8, 'cell': 'lstm', 'width': 8, 'pooling': 'none', 'dropout': 0.2}",
      "data={'name': 'small.Tunes', 'batch_size': 8}", 'task.sample_length=8',
      "eval={'test': {'split': 'test'}}", 'keep={}', 'train_for=12', 'log_every=4', 'eval_every=6',
      'checkpoint_every=6', 'expect={}', 'baselines={}',
    ],
  ),
  'seq2seq': (
    'text/scan_seq2seq.py',
    [
      "model={'name': 'seq2seq.Transformer', 'vocab_size': 8, 'length': 8, 'layers': 1, 'heads': 2, 'width': 8, "
      "'hidden': 12, 'dropout': 0.1}", "task={'name': 'seq2seq.Seq2Seq', 'label_smoothing': 0.1, 'beams': 2}",
      "data={'name': 'small.Reversed', 'batch_size': 8}",
      "optim={'adam': {'name': 'adam', 'learning_rate': {'name': 'cosine_decay_schedule', 'init_value': 0.01}}}",
      "eval={'test': {'split': 'test'}}", 'keep={}', 'train_for=12', 'log_every=4', 'eval_every=6',
      'checkpoint_every=6', 'expect={}', 'baselines={}',
    ],
  ),
}  # fmt: skip


class Reversed(Arrays):
  """48 texts of 1 to 6 of the letters a to g, and the same backwards; the buckets are of 3 and of 6, on request."""

  kinds = {'source': 'tokens'}

  def __init__(self, buckets: bool = False):
    rng = np.random.default_rng(0)
    texts = [rng.integers(1, 8, n) for n in rng.integers(1, 7, 48)]
    columns = {'source': pad(texts, 6), 'target_tokens': pad([np.append(text[::-1], 0) for text in texts], 7)}
    super().__init__(columns, Info(vocab_size=8, vocabulary=('\n', *'abcdefg'), more=(('target_length', 6),)))
    self.parts = {'train': np.arange(32), 'validation': np.arange(32, 40), 'test': np.arange(40, 48)}
    if buckets:
      rooms = [{'source': n, 'target_tokens': n + 1} for n in (3, 6)]
      self.buckets = by_length({name: (values >= 0).sum(1) for name, values in columns.items()}, rooms)


class Discs(Arrays):
  """32 noisy images [16, 16, 1] with a bright disc in each, and where it is."""

  def __init__(self):
    rng = np.random.default_rng(0)
    centre = rng.uniform(4, 12, (32, 1, 1, 2))
    distance = np.linalg.norm(np.stack(np.mgrid[:16, :16], -1) - centre, axis=-1)
    label_map = (distance < rng.uniform(2, 5, (32, 1, 1))).astype(np.int32)
    image = np.clip(rng.normal(0.3 + 0.4 * label_map, 0.1), 0, 1).astype(np.float32)[..., None]
    super().__init__({'image': image, 'label_map': label_map}, Info(num_classes=2, class_names=('field', 'disc')))


class Waves(Windows):
  """Two noisy waves of 160 steps, of which the slower one is forecast, 4 steps from 12."""

  def __init__(self, split: str):
    step = np.arange(160)[:, None]
    values = np.sin(step / np.array([2.0, 5.0])) * [1.0, 30.0] + [0.0, 100.0]
    values = (values + np.random.default_rng(0).normal(0, [0.1, 3.0], values.shape)).astype(np.float32)
    facts = (('length', 12), ('horizon', 4), ('targets', ('slow',)))
    mean, std = (tuple(x.tolist()) for x in (values[:120].mean(0), values[:120].std(0)))
    info = Info(feature_names=('fast', 'slow'), mean=mean, std=std, more=facts)
    super().__init__(values, 12, 4, {'train': (0, 120), 'test': (120, 160)}[split], 1, [1], info)


class Tunes(Arrays):
  """28 pieces of 6 to 12 frames, in which a key of 8 moves up by one in each frame, below its octave."""

  def __init__(self):
    rng = np.random.default_rng(0)
    series = np.full((28, 12, 8), np.nan, np.float32)
    for row, frames, first in zip(series, rng.integers(6, 13, 28), rng.integers(0, 4, 28), strict=True):
      keys = (first + np.arange(frames)) % 4
      row[:frames] = np.eye(8)[keys] + np.eye(8)[keys + 4]
    names = ('C4', 'D4', 'E4', 'F4', 'G4', 'A4', 'B4', 'C5')
    super().__init__({'series': series}, Info(feature_names=names, more=(('lowest_pitch', 60),)))
    self.parts = {'train': np.arange(16), 'validation': np.arange(16, 22), 'test': np.arange(22, 28)}


INPUTS = {'PPO': np.zeros((2, 4), np.float32)}
"""Two inputs of what tasks predict from, where they have no data."""


def small(kind: str, *overrides: str) -> config.Experiment:
  """The config of a kind in `SMALL`, with further overrides."""
  path, first = SMALL[kind]
  return config.load(str(ROOT / 'experiments' / path), [*first, *overrides])


def records(workdir: pathlib.Path, split: str | None = None, leave_out: Sequence[str] = logs.MACHINE):
  """The lines of `metrics.jsonl` (of one split), without what depends on the clock."""
  return [
    {k: v for k, v in r.items() if k not in leave_out}
    for r in logs.read(workdir)
    if split is None or r['split'] == split
  ]


@contextlib.contextmanager
def each_call(then: Callable[[int, Any], None]) -> Iterator[None]:
  """Calls `then(number, its last result)` after each compiled call of the training inside, which is one training."""
  bounded = feed.bounded

  def counting(depth):
    feed.bounded = bounded  # evaluations have theirs
    push, number = bounded(depth), 0

    def pushed(result):
      nonlocal number
      push(result)
      number += 1
      then(number, result)

    return pushed

  feed.bounded = counting
  try:
    yield
  finally:
    feed.bounded = bounded


def interrupted(after: int) -> contextlib.AbstractContextManager[None]:
  """Sends this process SIGTERM after so many compiled calls of the training inside."""
  return each_call(lambda number, _: os.kill(os.getpid(), signal.SIGTERM) if number == after else None)
