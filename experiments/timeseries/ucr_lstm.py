"""An LSTM on a set of the UCR and UEA archives (Dau et al., 2019), beside the convolutional networks on the same.

The argument is the set: GunPoint (150 steps of the place of a hand, 50 series to learn from, two classes), OSULeaf
(outlines of leaves in 427 steps, 200 to learn from, six classes) or JapaneseVowels (12 cepstral coefficients of a vowel
in 7 to 29 steps, 270 to learn from, nine speakers). The parts are those of the archive. So few series leave none for
validation: what is measured is the last state of a run whose length was fixed before.

python -m dl.train --config=experiments/timeseries/ucr_lstm.py:GunPoint --workdir=runs/ucr_lstm_GunPoint

The data is that of https://www.timeseriesclassification.com, its .ts files in data/ucr; --config.data.path=... takes
another folder.
"""

from dl.config import config


def get_config(dataset='GunPoint'):
  """The experiment on one set."""
  classes, expected = {
    'GunPoint': (2, (0.88, 0.06)),
    'OSULeaf': (6, (0.55, 0.08)),
    'JapaneseVowels': (9, (0.97, 0.01)),
  }[dataset]
  return config(
    seed=0,
    task=dict(name='classify.Classify', normalize=True),
    model=dict(
      name='rnn.RNN',
      num_outputs=classes,
      cell='lstm',
      width=64,
      bidirectional=True,
      pooling='mean',
      dropout=0.2,
      padded=dataset == 'JapaneseVowels',
    ),
    data=dict(name='ucr.Ts', path='data/ucr', dataset=dataset, batch_size=16),
    optim=dict(
      clip=dict(name='clip_by_global_norm', max_norm=1.0),
      adam=dict(name='adam', learning_rate=dict(name='cosine_decay_schedule', init_value=3e-3)),
    ),
    train_for='2000 steps',
    eval=dict(test=dict(split='test', batch_size=128)),
    eval_every='50%',
    expect={'test/accuracy': expected},
  )
