"""ViT-S/16 on ImageNet, by the plain recipe of Beyer et al. (arXiv 2205.01580), but with learned position embeddings.

python -m dl.train --config=experiments/vision/imagenet_vit_s16.py --workdir=runs/imagenet_vit_s16

ImageNet (imagenet2012) must have been prepared as array_record, see docs/tutorials/data.md.
Not yet run: 76.5 % of the validation set, top 1.
Cite: deng2009imagenet, beyer2022better
"""

from dl.config import config


def get_config():
  """The experiment."""
  return config(
    seed=0,
    precision='bfloat16',
    task=dict(name='classify.Classify', normalize=True, top_k=(5,)),
    model=dict(name='vit.ViT_S16', num_classes=1000, pool='average', zero_head=True),
    data=dict(
      name='tfds.Tfds',
      dataset='imagenet2012',
      split='train',
      data_dir=None,
      builder_kwargs=dict(file_format='array_record'),
      image_size=(224, 224),
      resize=False,
      transform=[dict(name='random_resized_crop', size=(224, 224), scale=(0.05, 1.0), central=0.875)],
      batch_size=1024,
      augment=[
        dict(name='random_flip'),
        dict(name='rand_augment', num_ops=2, magnitude=10),
        dict(name='mixup', alpha=0.2),
      ],
    ),
    optim=dict(
      clip=dict(name='clip_by_global_norm', max_norm=1.0),
      adam=dict(
        name='adamw',
        weight_decay=0.1,
        mask='kernel$',
        learning_rate=dict(name='warmup_cosine_decay_schedule', peak_value=1e-3, warmup='10000 steps'),
      ),
    ),
    train_for='90 epochs',
    eval=dict(validation=dict(split='validation', batch_size=1024)),
    eval_every='5 epochs',
  )
