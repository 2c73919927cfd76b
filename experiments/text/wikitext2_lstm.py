"""AWD-LSTM on the words of WikiText-2, in the setting of its authors, for a GPU.

Three layers of an LSTM, whose last has as many features as a word, which is also an output: 33 million parameters,
which without dropout would know two million words by heart. So weights of the products with the states are dropped
out, and inputs, layers, outputs and whole words, each with one mask a text; what the last layer gives is penalized,
as is its change from word to word. SGD at a constant rate, whose parameters are averaged at the end: the paper begins
to when an evaluation is no better than some before, here it is after 40 % of the steps; its texts of varying length
are here of one.

python -m dl.train --config=experiments/text/wikitext2_lstm.py --workdir=runs/wikitext2_lstm

The data is WikiText-2 by word tokens (Merity et al., 2016), wiki.train.tokens.gz, wiki.valid.tokens.gz and
wiki.test.tokens.gz, which go into data/wikitext2.
Not yet run: a test perplexity of at most 80 is expected of it, and 65.8 is published.
Cite: merity2018regularizing, merity2017pointer, gal2016theoretically, press2017using
"""

from dl.config import config


def get_config():
  """The experiment."""
  return config(
    seed=0,
    task=dict(name='lm.LanguageModel', carry=True, activation_weight=2.0, temporal_weight=1.0, sample_length=64),
    model=dict(
      name='rnn.RecurrentLanguageModel',
      vocab_size=33278,
      cell='lstm',
      width=1150,
      layers=3,
      embedding=400,
      last_width=400,
      tie_embeddings=True,
      dropout=0.4,
      input_dropout=0.65,
      hidden_dropout=0.2,
      locked=True,
      word_dropout=0.1,
      weight_dropout=0.5,
      penalties=True,
    ),
    data=dict(
      name='text.TextFiles',
      path=dict(
        train='data/wikitext2/wiki.train.tokens.gz',
        validation='data/wikitext2/wiki.valid.tokens.gz',
        test='data/wikitext2/wiki.test.tokens.gz',
      ),
      vocabulary='words',
      length=70,
      streams=80,
      batch_size=80,
    ),
    optim=dict(
      clip=dict(name='clip_by_global_norm', max_norm=0.25),
      decay=dict(name='add_decayed_weights', weight_decay=1.2e-6),
      sgd=dict(name='sgd', learning_rate=30.0),
      mean=dict(name='params_average', after='40%'),
    ),
    train_for='500 epochs',
    eval=dict(
      validation=dict(split='validation', length=None, streams=10, batch_size=10),
      test=dict(split='test', length=None, streams=10, batch_size=10, of='best'),
    ),
    eval_every='1 epoch',
    keep=dict(best=1, metric='validation/loss', mode='min'),
    expect={'test/perplexity': (72.0, 8.0)},
    baselines={'test/perplexity': {'Kneser-Ney trigrams': 224.4, 'AWD-LSTM, published': 65.8}},
  )
