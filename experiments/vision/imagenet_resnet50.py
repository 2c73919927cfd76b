"""ResNet-50 (He et al., 2016) on ImageNet, with the large batches of Goyal et al. (arXiv 1706.02677).

From there: a warm-up, a rate in proportion to the batch, and the last norm of each block starting at zero. Unlike it:
cosine decay, label smoothing and a weight decay of 5e-5.

python -m dl.train --config=experiments/vision/imagenet_resnet50.py --workdir=runs/imagenet_resnet50

ImageNet (imagenet2012) must have been prepared as array_record, see docs/tutorials/data.md.
Not yet run: 76.5 % of the validation set, top 1.
Cite: deng2009imagenet, goyal2017accurate
"""

from dl.config import config


def get_config():
  """The experiment."""
  return config(
    seed=0,
    precision='bfloat16',
    task=dict(name='classify.Classify', normalize=True, label_smoothing=0.1, top_k=(5,)),
    model=dict(name='resnet.ResNet50', num_classes=1000, zero_init_residual=True),
    data=dict(
      name='tfds.Tfds',
      dataset='imagenet2012',
      split='train',
      data_dir=None,
      builder_kwargs=dict(file_format='array_record'),
      image_size=(224, 224),
      resize=False,
      transform=[dict(name='random_resized_crop', size=(224, 224), central=0.875)],
      batch_size=1024,
      augment=[dict(name='random_flip')],
    ),
    optim=dict(
      decay=dict(name='add_decayed_weights', weight_decay=5e-5, mask='kernel$'),
      sgd=dict(
        name='sgd',
        momentum=0.9,
        nesterov=True,
        learning_rate=dict(name='warmup_cosine_decay_schedule', peak_value=0.4, warmup='6%'),
      ),
    ),
    train_for='90 epochs',
    eval=dict(validation=dict(split='validation', batch_size=1024)),
    eval_every='5 epochs',
  )
