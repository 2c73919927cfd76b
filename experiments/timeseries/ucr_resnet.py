"""The residual network of Wang et al. (2017) on a set of the UCR archive (Dau et al., 2019).

The argument is the set: GunPoint (150 steps of the place of a hand, 50 series to learn from, two classes) or OSULeaf
(outlines of leaves in 427 steps, 200 to learn from, six classes). The parts are those of the archive; published test
accuracies are 0.993 and 0.979. So few series leave none for validation: what is measured is the last state of a run
whose length was fixed before.

python -m dl.train --config=experiments/timeseries/ucr_resnet.py:GunPoint --workdir=runs/ucr_resnet_GunPoint

The data is that of https://www.timeseriesclassification.com, its .ts files in data/ucr; --config.data.path=... takes
another folder.
"""

from dl.config import config


def get_config(dataset='GunPoint'):
  """The experiment on one set."""
  classes, expected, published = {
    'GunPoint': (2, (0.98, 0.015), 0.993),
    'OSULeaf': (6, (0.985, 0.015), 0.979),
  }[dataset]
  return config(
    seed=0,
    task=dict(name='classify.Classify', normalize=True),
    model=dict(name='conv1d.ResNet', num_classes=classes),
    data=dict(name='ucr.Ts', path='data/ucr', dataset=dataset, batch_size=16),
    optim=dict(adam=dict(name='adam', learning_rate=dict(name='cosine_decay_schedule', init_value=1e-3))),
    train_for='1500 steps',
    eval=dict(test=dict(split='test', batch_size=128)),
    eval_every='50%',
    expect={'test/accuracy': expected},
    baselines={'test/accuracy': {'published': published}},
  )
