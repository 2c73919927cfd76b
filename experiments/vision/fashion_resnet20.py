"""ResNet-20 (He et al., 2016), 269,434 parameters on one channel, on Fashion-MNIST.

python -m dl.train --config=experiments/vision/fashion_resnet20.py --workdir=runs/fashion_resnet20

Fashion-MNIST must have been prepared as array_record, see docs/tutorials/data.md.
One CPU core takes about 40 minutes when nothing else runs.
Cite: xiao2017fashion
"""

from dl.config import config


def get_config():
  """The experiment."""
  return config(
    seed=0,
    task=dict(name='classify.Classify', normalize=True, label_smoothing=0.1, test_time_flip=True),
    model=dict(name='resnet.ResNet20', num_classes=10),
    data=dict(
      name='tfds.Tfds',
      dataset='fashion_mnist',
      split='train',
      data_dir=None,
      builder_kwargs=dict(file_format='array_record'),
      batch_size=128,
      augment=[dict(name='random_crop', pad=2), dict(name='random_flip')],
    ),
    optim=dict(
      decay=dict(name='add_decayed_weights', weight_decay=5e-4, mask='kernel$'),
      sgd=dict(
        name='sgd',
        momentum=0.9,
        nesterov=True,
        learning_rate=dict(name='warmup_cosine_decay_schedule', peak_value=0.2, warmup='20%'),
      ),
    ),
    train_for='14 epochs',
    eval=dict(test=dict(split='test', batch_size=500)),
    eval_every='2 epochs',
    expect={'test/accuracy': (0.94, 0.003)},
  )
