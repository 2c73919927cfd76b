"""A small Vision Transformer (Dosovitskiy et al., 2021) on Fashion-MNIST, from scratch.

python -m dl.train --config=experiments/vision/fashion_vit.py --workdir=runs/fashion_vit

Fashion-MNIST must have been prepared as array_record, see docs/tutorials/data.md.
Not yet run: at least 93 % of the test set.
Cite: xiao2017fashion
"""

from dl.config import config


def get_config():
  """The experiment."""
  return config(
    seed=0,
    precision='bfloat16',
    task=dict(name='classify.Classify', normalize=True, label_smoothing=0.1),
    model=dict(
      name='vit.ViT', num_classes=10, patch=4, width=192, depth=9, heads=3, pool='average', stochastic_depth=0.1
    ),
    data=dict(
      name='tfds.Tfds',
      dataset='fashion_mnist',
      split='train',
      data_dir=None,
      builder_kwargs=dict(file_format='array_record'),
      batch_size=256,
      augment=[
        dict(name='random_crop', pad=2),
        dict(name='random_flip'),
        dict(name='mixup', alpha=0.2),
      ],
    ),
    optim=dict(
      clip=dict(name='clip_by_global_norm', max_norm=1.0),
      adam=dict(
        name='adamw',
        weight_decay=0.1,
        mask='kernel$',
        learning_rate=dict(name='warmup_cosine_decay_schedule', peak_value=1e-3, warmup='10%'),
      ),
      ema=dict(name='params_ema', decay=0.999),
    ),
    train_for='150 epochs',
    eval=dict(test=dict(split='test', batch_size=500)),
    eval_every='10 epochs',
  )
