"""A small GPT, byte by byte, on the source of Python's standard library (modules of one file, no packages).

python -m dl.train --config=experiments/text/stdlib_gpt.py --workdir=runs/stdlib_gpt
python -m dl.sample --workdir=runs/stdlib_gpt --prompt='def ' --length=400

Expect: validation 1.72 +/- 0.03 bits per character, in about 10 minutes on one CPU core. To beat, on the same split:
1.99, a modified Kneser-Ney 5-gram (`python -m benchmarks.ngram`). Embeddings of hashed n-grams (Byte Latent
Transformer, arXiv 2412.09871) and Muon are what lets so little computing get well below it.
"""

from dl.config import config


def schedule(peak):
  """Warm-up and cosine decay over the whole training."""
  return dict(name='warmup_cosine_decay_schedule', peak_value=peak, warmup='5%')


def get_config():
  """The experiment."""
  length = 256
  return config(
    seed=0,
    task=dict(name='lm.LanguageModel', prompt='def '),
    model=dict(
      name='gpt.GPT',
      vocab_size=256,
      length=length,
      layers=4,
      heads=4,
      width=128,
      use_bias=False,
      rope=True,
      ngrams=(2, 3, 4),
    ),
    data=dict(name='text.StandardLibrary', packages=False, length=length, batch_size=16),
    optim=dict(
      clip=dict(name='clip_by_global_norm', max_norm=1.0),
      muon=dict(name='muon', mask='^block.*kernel$', weight_decay=0.1, learning_rate=schedule(2e-2)),
      adam=dict(name='adam', mask='^(?!block.*kernel$)', b2=0.99, learning_rate=schedule(5e-3)),
    ),
    train_for='800 steps',
    eval=dict(validation=dict(split='validation', batch_size=64)),
    eval_every='25%',
    expect={'validation/bits_per_character': (1.72, 0.03)},
    baselines={'validation/bits_per_character': {'modified Kneser-Ney 5-gram': 1.9917}},
    cite=('jordan2024muon', 'pagnoni2025byte'),
  )
