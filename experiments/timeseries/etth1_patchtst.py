"""PatchTST on ETTh1, from 336 hours to the next 96 (Nie et al., 2023): published test MSE 0.370, MAE 0.400.

Five epochs with a large learning rate, which two CPU cores have time for, in place of the hundred of the paper.

The temperature of the oil in a power transformer and six of its loads, hourly, over two years, of which 12 months are
for training and 4 each for validation and test, as published (Zhou et al., 2021). The test part is measured once, of
the checkpoint that is best on the validation part, and whole: published code leaves out its last incomplete batch.

python -m dl.train --config=experiments/timeseries/etth1_patchtst.py --workdir=runs/etth1_patchtst

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
    model=dict(name='patchtst.PatchTST', horizon=horizon),
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
      adam=dict(name='adam', learning_rate=dict(name='warmup_cosine_decay_schedule', peak_value=1e-3, warmup='10%'))
    ),
    train_for='5 epochs',
    eval=dict(
      validation=dict(split='validation', batch_size=256),
      test=dict(split='test', batch_size=256, of='best'),
    ),
    eval_every='1 epoch',
    keep=dict(best=1, metric='validation/mse'),
    expect={'test/mse': (0.381, 0.008), 'test/mae': (0.405, 0.006)},
    baselines={'test/mse': {'published': 0.37}, 'test/mae': {'published': 0.4}},
  )
