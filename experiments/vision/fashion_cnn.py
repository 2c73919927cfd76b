"""A convolutional network of under 100,000 parameters on Fashion-MNIST (Xiao et al., 2017): 92.5 % in its benchmark.

python -m dl.train --config=experiments/vision/fashion_cnn.py --workdir=runs/fashion_cnn

Fashion-MNIST must have been prepared as array_record, see docs/tutorials/data.md.
Cite: xiao2017fashion
"""

from dl.config import config


def get_config():
  """The experiment."""
  return config(
    seed=0,
    task=dict(name='classify.Classify', normalize=True, label_smoothing=0.05, test_time_flip=True),
    model=dict(name='cnn.CNN', features=((24,), (48, 48), (96,)), num_classes=10, dropout=0.1),
    data=dict(
      name='tfds.Tfds',
      dataset='fashion_mnist',
      split='train',
      data_dir=None,
      builder_kwargs=dict(file_format='array_record'),
      batch_size=128,
      augment=[dict(name='random_flip'), dict(name='random_shift', pixels=1)],
    ),
    optim=dict(
      adam=dict(
        name='adamw',
        weight_decay=0.05,
        mask='kernel$',
        learning_rate=dict(name='warmup_cosine_decay_schedule', peak_value=5e-3, warmup='10%'),
      ),
      ema=dict(name='params_ema', decay=0.995),
    ),
    train_for='16 epochs',
    eval=dict(test=dict(split='test', batch_size=500)),
    eval_every='2 epochs',
    expect={'test/accuracy': (0.927, 0.004)},
    baselines={'test/accuracy': {'the benchmark of Fashion-MNIST': 0.925}},
  )
