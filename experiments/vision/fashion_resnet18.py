"""ResNet-18 with a 3x3 stem (He et al., 2016) on Fashion-MNIST, whose benchmark lists 94.9 % for it.

python -m dl.train --config=experiments/vision/fashion_resnet18.py --workdir=runs/fashion_resnet18

Fashion-MNIST must have been prepared as array_record, see docs/tutorials/data.md.
Not yet run: at least 94.9 % of the test set.
Cite: xiao2017fashion
"""

from dl.config import config


def get_config():
  """The experiment."""
  return config(
    seed=0,
    precision='bfloat16',
    task=dict(name='classify.Classify', normalize=True, label_smoothing=0.1, test_time_flip=True),
    model=dict(name='resnet.ResNet18', num_classes=10, stem='cifar'),
    data=dict(
      name='tfds.Tfds',
      dataset='fashion_mnist',
      split='train',
      data_dir=None,
      builder_kwargs=dict(file_format='array_record'),
      batch_size=128,
      augment=[
        dict(name='random_crop', pad=2),
        dict(name='random_flip'),
        dict(name='random_erasing', probability=0.5),
      ],
    ),
    optim=dict(
      decay=dict(name='add_decayed_weights', weight_decay=5e-4, mask='kernel$'),
      sgd=dict(
        name='sgd',
        momentum=0.9,
        nesterov=True,
        learning_rate=dict(name='warmup_cosine_decay_schedule', peak_value=0.1, warmup='10%'),
      ),
    ),
    train_for='50 epochs',
    eval=dict(test=dict(split='test', batch_size=500)),
    eval_every='5 epochs',
  )
