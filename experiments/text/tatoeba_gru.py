"""English to French, short sentences of Tatoeba, by a GRU which attends to its source (Luong and others, 2015).

It has as many parameters as the Transformer of `tatoeba_transformer.py`, of which data and evaluation are too, and as
much time: an epoch takes 0.88 of the Transformer's. Not yet run.

python -m dl.train --config=experiments/text/tatoeba_gru.py --workdir=runs/tatoeba_gru
python -m dl.predict --workdir=runs/tatoeba_gru --step=best --inputs=english.txt --lines

The data is fra-eng.zip of https://www.manythings.org/anki: it goes into data/tatoeba_fra. The file has the folder
fra-eng in it; --config.data.path=... names another.
Cite: luong2015effective, cho2014learning, sennrich2016neural, post2018call
"""

from dl.config import config


def get_config():
  """The experiment."""
  return config(
    seed=0,
    task=dict(
      name='seq2seq.Seq2Seq',
      label_smoothing=0.1,
      beams=4,
      sentences=('I have never been to Paris.', 'Where did you buy this book?', 'She told me that she was tired.'),
    ),
    model=dict(
      name='rnn_seq2seq.EncoderDecoder',
      vocab_size=4000,
      cell='gru',
      width=212,
      embedding=128,
      tie_embeddings=True,
      dropout=0.1,
    ),
    data=dict(
      name='pairs.Pairs',
      path='data/tatoeba_fra/fra-eng.zip:fra-eng/fra.txt',
      header=False,
      source=0,
      target=1,
      vocabulary=dict(name='bpe', size=4000),
      buckets=(8, 12, 16, 32),
      test=0.02,
      validation=0.01,
      batch_size=128,
    ),
    optim=dict(
      clip=dict(name='clip_by_global_norm', max_norm=1.0),
      adam=dict(
        name='adam',
        b2=0.98,
        learning_rate=dict(name='warmup_cosine_decay_schedule', peak_value=2e-3, warmup='10%'),
      ),
    ),
    train_for='4.5 epochs',
    eval=dict(
      validation=dict(split='validation', batch_size=256),
      test=dict(by='decoded.Decoded', bleu=True, beams=4, split='test', references=True, batch_size=128, of='best'),
    ),
    eval_every='1.5 epochs',
    keep=dict(best=1, metric='validation/perplexity', mode='min'),
  )
