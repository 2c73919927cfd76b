"""Gated recurrent units on the characters of Shakespeare.

python -m dl.train --config=experiments/text/shakespeare_gru.py --workdir=runs/shakespeare_gru
python -m dl.sample --workdir=runs/shakespeare_gru --prompt='ROMEO:' --length=400

It has as many parameters, batches and steps as
shakespeare_rnn.py, _lstm.py and _mamba.py: the four can be compared.
The text is tiny_shakespeare, the first 90 % to train on (https://github.com/karpathy/char-rnn, data/tinyshakespeare):
input.txt goes into data/tiny_shakespeare, or --config.data.path=... names another place.
Cite: cho2014learning
"""

from dl.config import config


def get_config():
  """The experiment."""
  return config(
    seed=0,
    task=dict(name='lm.LanguageModel'),
    model=dict(name='rnn.RecurrentLanguageModel', vocab_size=65, cell='gru', embedding=128, width=304, layers=1),
    data=dict(
      name='text.TextFiles',
      path='data/tiny_shakespeare/input.txt',
      vocabulary='characters',
      length=64,
      stride=1,
      batch_size=12,
    ),
    optim=dict(
      clip=dict(name='clip_by_global_norm', max_norm=1.0),
      adam=dict(
        name='adamw',
        weight_decay=0.01,
        mask='(kernel|embedding)$',
        learning_rate=dict(name='warmup_cosine_decay_schedule', peak_value=3e-3, warmup='5%'),
      ),
    ),
    train_for='2000 steps',
    eval=dict(validation=dict(split='validation', stride=None, batch_size=128)),
    eval_every='25%',
    expect={'validation/loss': (1.639, 0.03)},
  )
