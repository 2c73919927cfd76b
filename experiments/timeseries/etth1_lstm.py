"""An LSTM on ETTh1, from 336 hours to the next 96: what linear maps of a few lines are to be compared with.

The temperature of the oil in a power transformer and six of its loads, hourly, over two years, of which 12 months are
for training and 4 each for validation and test, as published (Zhou et al., 2021). The test part is measured once, of
the checkpoint that is best on the validation part, and whole: published code leaves out its last incomplete batch.

python -m dl.train --config=experiments/timeseries/etth1_lstm.py --workdir=runs/etth1_lstm

The data (CC BY-ND 4.0) is ETTh1.csv of https://github.com/zhouhaoyi/ETDataset, in data/; --config.data.path=... takes
another place.
Cite: zhou2021informer
"""

from dl.config import config


def get_config():
  """The experiment."""
  length, horizon = 336, 96
  return config(
    seed=0,
    task=dict(name='forecast.Forecast'),
    model=dict(name='rnn.RecurrentForecaster', horizon=horizon, width=64, dropout=0.2),
    data=dict(
      name='series.Csv',
      path='data/ETTh1.csv',
      time='date',
      length=length,
      horizon=horizon,
      train=12 * 30 * 24,
      validation=4 * 30 * 24,
      test=4 * 30 * 24,
      batch_size=64,
    ),
    optim=dict(
      clip=dict(name='clip_by_global_norm', max_norm=1.0),
      adam=dict(name='adam', learning_rate=dict(name='cosine_decay_schedule', init_value=1e-3)),
    ),
    train_for='4 epochs',
    eval=dict(
      validation=dict(split='validation', batch_size=256),
      test=dict(split='test', batch_size=256, of='best'),
    ),
    eval_every='1 epoch',
    keep=dict(best=1, metric='validation/mse'),
    expect={'test/mse': (0.47, 0.04), 'test/mae': (0.465, 0.03)},
    baselines={'test/mse': {'DLinear': 0.3727}, 'test/mae': {'DLinear': 0.3949}},
  )
