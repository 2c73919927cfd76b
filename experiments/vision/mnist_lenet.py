"""LeNet-5 on MNIST (LeCun et al., 1998), whose test error there was 0.95 %.

As in the paper: 32x32 inputs by padding, tanh units, average pooling, 20 passes. Unlike it: a dense layer C3, linear
outputs, and a softmax cross entropy, Adam with a cosine schedule, an average of the weights, and shifts of the images.

python -m dl.train --config=experiments/vision/mnist_lenet.py --workdir=runs/mnist_lenet

MNIST must have been prepared: python -m tensorflow_datasets.scripts.cli.main build mnist --file_format=array_record
Cite: lecun1998gradient
"""

from dl.config import config


def get_config():
  """The experiment."""
  return config(
    seed=0,
    task=dict(name='classify.Classify'),
    model=dict(name='lenet.LeNet5', num_classes=10),
    data=dict(
      name='tfds.Tfds',
      dataset='mnist',
      split='train',
      data_dir=None,
      builder_kwargs=dict(file_format='array_record'),
      batch_size=64,
      augment=[dict(name='random_shift', pixels=2)],
    ),
    optim=dict(
      adam=dict(
        name='adamw',
        weight_decay=0.02,
        mask='kernel$',
        learning_rate=dict(name='warmup_cosine_decay_schedule', peak_value=3e-3, warmup='5%'),
      ),
      ema=dict(name='params_ema', decay=0.998),
    ),
    train_for='20 epochs',
    eval=dict(test=dict(split='test', batch_size=500)),
    eval_every='2 epochs',
    expect={'test/accuracy': (0.9926, 0.002)},
    baselines={'test/accuracy': {'LeCun and others in 1998': 0.9905}},
  )
