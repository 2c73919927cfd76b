"""An MLP with hidden layers 256-128-100 on Fashion-MNIST (Xiao et al., 2017), whose benchmark lists 88.33 % for it.

python -m dl.train --config=experiments/vision/fashion_mlp.py --workdir=runs/fashion_mlp

Fashion-MNIST must have been prepared as array_record, see docs/tutorials/data.md.
Cite: rumelhart1986learning
"""

from dl.config import config


def get_config():
  """The experiment."""
  return config(
    seed=0,
    task=dict(name='classify.Classify', normalize=True, label_smoothing=0.1),
    model=dict(name='mlp.MLP', hidden=(256, 128, 100), num_outputs=10, batch_norm=True, dropout=0.1),
    data=dict(
      name='tfds.Tfds',
      dataset='fashion_mnist',
      split='train',
      data_dir=None,
      builder_kwargs=dict(file_format='array_record'),
      batch_size=128,
      augment=[dict(name='random_flip')],
    ),
    optim=dict(
      adam=dict(
        name='adamw',
        weight_decay=0.05,
        mask='kernel$',
        learning_rate=dict(name='warmup_cosine_decay_schedule', peak_value=2e-3, warmup='5%'),
      ),
      ema=dict(name='params_ema', decay=0.998),
    ),
    train_for='30 epochs',
    eval=dict(test=dict(split='test', batch_size=500)),
    eval_every='3 epochs',
    expect={'test/accuracy': (0.906, 0.004)},
    baselines={'test/accuracy': {'the benchmark of Fashion-MNIST': 0.8833}},
  )
