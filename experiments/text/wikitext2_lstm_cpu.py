"""WikiText-2 by words and an LSTM, as much of it as two CPU cores learn in about twenty minutes.

It is above all the softmax over 33,278 words that takes the time: the network is small, and its output layer is the
table of embeddings. Its state goes on from batch to batch, in training and in evaluation, as it does behind published
numbers. What it has to beat is a trigram model (`python -m benchmarks.ngram`).

python -m dl.train --config=experiments/text/wikitext2_lstm_cpu.py --workdir=runs/wikitext2_lstm_cpu

The data is WikiText-2 by word tokens (Merity et al., 2016), wiki.train.tokens.gz, wiki.valid.tokens.gz and
wiki.test.tokens.gz, which go into data/wikitext2.
Cite: merity2017pointer, zaremba2014recurrent, press2017using
"""

from dl.config import config


def get_config():
  """The experiment."""
  return config(
    seed=0,
    task=dict(name='lm.LanguageModel', carry=True, sample_length=64),
    model=dict(
      name='rnn.RecurrentLanguageModel',
      vocab_size=33278,
      cell='lstm',
      width=200,
      layers=1,
      tie_embeddings=True,
      dropout=0.2,
    ),
    data=dict(
      name='text.TextFiles',
      path=dict(
        train='data/wikitext2/wiki.train.tokens.gz',
        validation='data/wikitext2/wiki.valid.tokens.gz',
        test='data/wikitext2/wiki.test.tokens.gz',
      ),
      vocabulary='words',
      length=35,
      streams=20,
      batch_size=20,
    ),
    optim=dict(
      clip=dict(name='clip_by_global_norm', max_norm=1.0),
      adam=dict(
        name='adamw',
        weight_decay=0.01,
        mask='kernel$',
        learning_rate=dict(name='warmup_cosine_decay_schedule', peak_value=3e-3, warmup='5%'),
      ),
    ),
    train_for='2 epochs',
    eval=dict(
      validation=dict(split='validation', length=None, streams=10, batch_size=10),
      test=dict(split='test', length=None, streams=10, batch_size=10),
    ),
    eval_every='1 epoch',
    expect={'test/perplexity': (149.6, 6.0)},
    baselines={'test/perplexity': {'Kneser-Ney trigrams': 224.4, 'AWD-LSTM, published': 65.6}},
  )
