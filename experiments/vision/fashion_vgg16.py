"""VGG-16 with batch norm (Simonyan and Zisserman, 2015) on Fashion-MNIST, whose benchmark lists 93.5 % for it.

python -m dl.train --config=experiments/vision/fashion_vgg16.py --workdir=runs/fashion_vgg16

Fashion-MNIST must have been prepared as array_record, see docs/tutorials/data.md.
Not yet run: at least 93.5 % of the test set.
Cite: xiao2017fashion
"""

from dl.config import config


def get_config():
  """The experiment."""
  return config(
    seed=0,
    precision='bfloat16',
    task=dict(name='classify.Classify', normalize=True, label_smoothing=0.1),
    model=dict(name='vgg.VGG16', num_classes=10, batch_norm=True, head='linear'),
    data=dict(
      name='tfds.Tfds',
      dataset='fashion_mnist',
      split='train',
      data_dir=None,
      builder_kwargs=dict(file_format='array_record'),
      image_size=(32, 32),
      batch_size=128,
      augment=[dict(name='random_crop', pad=2), dict(name='random_flip')],
    ),
    optim=dict(
      decay=dict(name='add_decayed_weights', weight_decay=5e-4, mask='kernel$'),
      sgd=dict(
        name='sgd',
        momentum=0.9,
        nesterov=True,
        learning_rate=dict(name='warmup_cosine_decay_schedule', peak_value=0.05, warmup='10%'),
      ),
    ),
    train_for='40 epochs',
    eval=dict(test=dict(split='test', batch_size=500)),
    eval_every='5 epochs',
  )
