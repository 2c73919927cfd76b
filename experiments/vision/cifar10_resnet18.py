"""ResNet-18 with a 3x3 stem (He et al., 2016) on CIFAR-10.

python -m dl.train --config=experiments/vision/cifar10_resnet18.py --workdir=runs/cifar10_resnet18

CIFAR-10 must have been prepared as array_record, see docs/tutorials/data.md.
Not yet run: 95 % of the test set, as the common recipe (random crops and flips, SGD with Nesterov momentum) gives.
Cite: krizhevsky2009learning
"""

from dl.config import config


def get_config():
  """The experiment."""
  return config(
    seed=0,
    precision='bfloat16',
    task=dict(name='classify.Classify', normalize=True),
    model=dict(name='resnet.ResNet18', num_classes=10, stem='cifar'),
    data=dict(
      name='tfds.Tfds',
      dataset='cifar10',
      split='train',
      data_dir=None,
      builder_kwargs=dict(file_format='array_record'),
      batch_size=128,
      augment=[dict(name='random_crop', pad=4), dict(name='random_flip')],
    ),
    optim=dict(
      decay=dict(name='add_decayed_weights', weight_decay=5e-4, mask='kernel$'),
      sgd=dict(
        name='sgd',
        momentum=0.9,
        nesterov=True,
        learning_rate=dict(name='warmup_cosine_decay_schedule', peak_value=0.1, warmup='5%'),
      ),
    ),
    train_for='200 epochs',
    eval=dict(test=dict(split='test', batch_size=500)),
    eval_every='10 epochs',
  )
