"""nanoGPT's setting for a GPU: a GPT of 10.7 million parameters on the characters of Shakespeare.

python -m dl.train --config=experiments/text/shakespeare_gpt.py --workdir=runs/shakespeare_gpt
python -m dl.sample --workdir=runs/shakespeare_gpt --step=best --prompt='ROMEO:' --length=400

The text is tiny_shakespeare, the first 90 % to train on (https://github.com/karpathy/char-rnn, data/tinyshakespeare):
input.txt goes into data/tiny_shakespeare, or --config.data.path=... names another place. All settings are nanoGPT's
own; the validation part, which it draws windows of, is read whole. Long before the end the network knows its text by
heart, and what counts is the checkpoint with the lowest validation loss.
Not yet run: the best validation loss of nanoGPT's README is 1.4697 nats a character.
Cite: radford2019language
"""

from dl.config import config


def get_config():
  """The experiment."""
  length = 256
  return config(
    seed=0,
    precision='bfloat16',
    task=dict(name='lm.LanguageModel'),
    model=dict(name='gpt.GPT', vocab_size=65, length=length, layers=6, heads=6, width=384, dropout=0.2, use_bias=False),
    data=dict(
      name='text.TextFiles',
      path='data/tiny_shakespeare/input.txt',
      vocabulary='characters',
      length=length,
      stride=1,
      batch_size=64,
    ),
    optim=dict(
      clip=dict(name='clip_by_global_norm', max_norm=1.0),
      adam=dict(
        name='adamw',
        b2=0.99,
        weight_decay=0.1,
        mask='(kernel|embedding)$',
        learning_rate=dict(name='warmup_cosine_decay_schedule', peak_value=1e-3, end_value=1e-4, warmup='100 steps'),
      ),
    ),
    train_for='5000 steps',
    eval=dict(validation=dict(split='validation', stride=None, batch_size=256)),
    eval_every='250 steps',
    keep=dict(best=1, metric='validation/loss', mode='min'),
    expect={'validation/loss': (1.47, 0.02)},
    baselines={'validation/loss': {'nanoGPT, its setting': 1.4697}},
  )
