"""The smallest setting of nanoGPT, for a CPU: a GPT of 0.8 million parameters on the characters of Shakespeare.

python -m dl.train --config=experiments/text/shakespeare_gpt_cpu.py --workdir=runs/shakespeare_gpt_cpu
python -m dl.sample --workdir=runs/shakespeare_gpt_cpu --prompt='ROMEO:' --length=400

The text is tiny_shakespeare, the first 90 % to train on (https://github.com/karpathy/char-rnn, data/tinyshakespeare):
input.txt goes into data/tiny_shakespeare, or --config.data.path=... names another place. nanoGPT's README gives a
validation loss of 1.88 nats a character after 2,000 steps. All settings are its own but for the learning rate, 3e-3
at its peak and not 1e-3, with which the whole validation part has 1.91 (1.91 by PyTorch as well).
Cite: radford2019language
"""

from dl.config import config


def get_config():
  """The experiment."""
  length = 64
  return config(
    seed=0,
    task=dict(name='lm.LanguageModel'),
    model=dict(name='gpt.GPT', vocab_size=65, length=length, layers=4, heads=4, width=128, use_bias=False),
    data=dict(
      name='text.TextFiles',
      path='data/tiny_shakespeare/input.txt',
      vocabulary='characters',
      length=length,
      stride=1,
      batch_size=12,
    ),
    optim=dict(
      clip=dict(name='clip_by_global_norm', max_norm=1.0),
      adam=dict(
        name='adamw',
        b2=0.99,
        weight_decay=0.1,
        mask='(kernel|embedding)$',
        learning_rate=dict(name='warmup_cosine_decay_schedule', peak_value=3e-3, end_value=1e-4, warmup='100 steps'),
      ),
    ),
    train_for='2000 steps',
    eval=dict(validation=dict(split='validation', stride=None, batch_size=256)),
    eval_every='25%',
    expect={'validation/loss': (1.785, 0.02)},
    baselines={'validation/loss': {'nanoGPT, its setting': 1.88}},
  )
