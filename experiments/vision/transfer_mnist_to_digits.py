"""Transfer: LeNet-5 learns MNIST, and is fine-tuned on ten labelled digits a class of another set.

Its counterpart starts from scratch.

The hundred labels are a stratified part of scikit-learn's digits, whose test part is the usual one of 360. Fine-tuning
and training from scratch differ in their start, and in learning rates that suit each.

python -m dl.train --config=experiments/vision/transfer_mnist_to_digits.py:pretrain --workdir=runs/transfer_pretrain
python -m dl.train --config=experiments/vision/transfer_mnist_to_digits.py:finetune --workdir=runs/transfer_finetune
python -m dl.train --config=experiments/vision/transfer_mnist_to_digits.py:scratch --workdir=runs/transfer_scratch

MNIST must have been prepared as array_record, see docs/tutorials/data.md.
With random shifts and turns of the hundred images, fine-tuning reached 0.974 and training from scratch 0.945 (3 seeds):
augmentation helps the one and disturbs the other.
Cite: yosinski2014transferable, lecun1998gradient, lecun2010mnist, alpaydin1998optical, pedregosa2011scikit
"""

from dl.config import config

PRETRAINED = 'runs/transfer_pretrain'
EXPECTED = {'pretrain': (0.9918, 0.002), 'finetune': (0.976, 0.016), 'scratch': (0.92, 0.01)}
LAYERS = ('conv_0/', 'conv_1/', 'dense_', '^out/')


def get_config(stage='finetune'):
  """The experiment: 'pretrain', 'finetune' (init_from.path is the run to start from), or 'scratch'."""
  if stage not in ('pretrain', 'finetune', 'scratch'):
    raise ValueError(f'expected pretrain, finetune or scratch, got {stage!r}')
  adam = dict(
    name='adamw',
    weight_decay=0.05,
    mask='kernel$',
    learning_rate=dict(name='warmup_cosine_decay_schedule', peak_value=3e-3, warmup='5%'),
  )
  optim, init_from = dict(adam=adam), None
  data = dict(name='sklearn.Digits', test=360, validation=1337, batch_size=50)
  if stage == 'pretrain':
    closer = dict(name='random_rotate_scale', degrees=10.0, scale=(1.0, 1.4), shear=0.1)  # digits there fill the image
    data = dict(
      name='tfds.Tfds',
      dataset='mnist',
      split='train',
      data_dir=None,
      builder_kwargs=dict(file_format='array_record'),
      batch_size=128,
      augment=[closer, dict(name='random_shift', pixels=2)],
    )
  elif stage == 'finetune':
    init_from = dict(name='run', path=PRETRAINED)
    adam['learning_rate']['peak_value'] = 1e-3
    optim['layers'] = dict(name='layerwise_decay', decay=0.7, layers=LAYERS)
  return config(
    seed=0,
    task=dict(name='classify.Classify', normalize=True, label_smoothing=0.05),
    model=dict(name='lenet.LeNet5', num_classes=10, activation='relu', pooling='max', fit='resize'),
    init_from=init_from,
    data=data,
    optim=optim,
    train_for='5 epochs' if stage == 'pretrain' else '400 steps',
    eval=dict(test=dict(split='test', batch_size=360)),
    eval_every='1 epochs' if stage == 'pretrain' else '100 steps',
    expect={'test/accuracy': EXPECTED[stage]},
    baselines={'test/accuracy': {'from scratch': EXPECTED['scratch'][0]}} if stage == 'finetune' else {},
  )
