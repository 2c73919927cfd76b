"""A small GPT, byte by byte, on the source of Python's standard library.

python -m dl.train --config=experiments/text/stdlib_gpt.py --workdir=runs/stdlib_gpt
python -m dl.sample --workdir=runs/stdlib_gpt --prompt='def '
"""

from dl.config import config


def get_config():
  """The experiment."""
  length = 256
  return config(
    seed=0,
    task=dict(name='lm.LanguageModel'),
    model=dict(
      name='gpt.GPT', vocab_size=256, length=length, layers=4, heads=4, width=128, use_bias=False, rope=True
    ),
    data=dict(name='text.StandardLibrary', length=length, batch_size=16),
    optim=dict(
      clip=dict(name='clip_by_global_norm', max_norm=1.0),
      adam=dict(
        name='adamw',
        b2=0.99,
        weight_decay=0.1,
        mask='kernel$',
        learning_rate=dict(name='warmup_cosine_decay_schedule', peak_value=3e-3, warmup='5%'),
      ),
    ),
    train_for='2500 steps',
    eval=dict(validation=dict(split='validation', batch_size=64)),
    eval_every='20%',
    expect={'validation/bits_per_character': (1.9, 0.05)},
  )
