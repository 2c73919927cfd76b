"""A small convolutional network on MNIST: 99.4 % in ten passes.

python -m dl.train --config=experiments/vision/mnist_cnn.py --workdir=runs/mnist_cnn

MNIST must have been prepared as array_record, see docs/tutorials/data.md.
Cite: simonyan2015very
"""

from dl.config import config


def get_config():
  """The experiment."""
  return config(
    seed=0,
    task=dict(name='classify.Classify', normalize=True, label_smoothing=0.05),
    model=dict(name='cnn.CNN', features=((24,), (48, 48), (96,)), num_classes=10),
    data=dict(
      name='tfds.Tfds',
      dataset='mnist',
      split='train',
      data_dir=None,
      builder_kwargs=dict(file_format='array_record'),
      batch_size=128,
      augment=[dict(name='random_shift', pixels=2)],
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
    train_for='10 epochs',
    eval=dict(test=dict(split='test', batch_size=500)),
    eval_every='1 epochs',
    expect={'test/accuracy': (0.996, 0.002)},
  )
