"""A small U-Net finds the membranes of neurons in electron micrographs (Ronneberger et al., 2015).

Twenty sections of 1024x1024 pixels through the ventral nerve cord of a fly (Gerhard et al., 2013), 15 to train on and
the last 5 to test on, whole. Sections are 45 to 50 nm apart, so that the test sections are of the same tissue, which
the random forest that it is compared with enjoys as well (benchmarks/vnc_forest.py: 36 filter features of each pixel,
with its best threshold). As in the paper: elastic deformations; unlike it, batch norm, a Dice loss beside the cross
entropy, and all symmetries of the square.

python -m dl.train --config=experiments/vision/vnc_unet.py --workdir=runs/vnc_unet

The data (CC BY 4.0) is that of https://github.com/unidesigner/groundtruth-drosophila-vnc, cloned into data/;
--config.data.path=... takes another folder, or a .zip file, with stack1/raw and stack1/membranes in it.
Cite: ronneberger2015u, milletari2016v, gerhard2013segmented
"""

from dl.config import config


def get_config():
  """The experiment."""
  return config(
    seed=0,
    task=dict(name='segment.Segment', normalize=True),
    model=dict(name='unet.UNet', num_classes=2, features=(16, 32, 64, 128), batch_norm=True),
    data=dict(
      name='segmentation.Pairs',
      path='data/groundtruth-drosophila-vnc',
      images='stack1/raw',
      labels='stack1/membranes',
      splits=dict(train=':15', test='15:'),
      class_names=('inside', 'membrane'),
      tile=256,
      batch_size=4,
      augment=[
        dict(name='dl.data.augment.maps.random_dihedral'),
        dict(name='dl.data.augment.maps.random_elastic', std=8.0, grid=4),
      ],
    ),
    optim=dict(
      adam=dict(
        name='adamw',
        weight_decay=0.01,
        mask='kernel$',
        learning_rate=dict(name='warmup_cosine_decay_schedule', peak_value=3e-3, warmup='5%'),
      ),
      ema=dict(name='params_ema', decay=0.98),
    ),
    train_for='16 epochs',
    eval=dict(test=dict(split='test', tile=None, batch_size=1)),
    eval_every='4 epochs',
    expect={'test/mean_iou': (0.869, 0.01), 'test/dice': (0.928, 0.006)},
    baselines={'test/mean_iou': {'random forest': 0.7946}, 'test/dice': {'random forest': 0.8807}},
  )
