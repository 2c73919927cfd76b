"""Whether a sentence of a review is positive (Kotzias et al., 2015): two sites to learn from, the third to test on.

The argument is the site that is held out: amazon (products), imdb (films) or yelp (restaurants), 1,000 sentences each.
A tenth of the other two chooses the checkpoint. Such a test is about what tells one site's words from another's.

python -m dl.train --config=experiments/text/sentiment_sentences.py:yelp --workdir=runs/sentiment_sentences_yelp

The data is Sentiment Labelled Sentences of the UCI repository (https://archive.ics.uci.edu/dataset/331): its three
files go into data/sentiment_sentences.
Cite: joulin2017bag, kotzias2015group
"""

from dl.config import config

FILES = {
  site: f'data/sentiment_sentences/{name}_labelled.txt'
  for site, name in (('amazon', 'amazon_cells'), ('imdb', 'imdb'), ('yelp', 'yelp'))
}


def get_config(site='yelp'):
  """The experiment without one site."""
  return config(
    seed=0,
    task=dict(name='classify.Classify'),
    model=dict(name='text.FastText', num_classes=2, vocab_size=4500, embedding=64, dropout=0.5),
    data=dict(
      name='texts.Labelled',
      path=dict(train=[file for name, file in FILES.items() if name != site], test=FILES[site]),
      header=False,
      text=0,
      label=1,
      lowercase=True,
      validation=0.1,
      batch_size=32,
    ),
    optim=dict(
      adam=dict(name='adamw', weight_decay=0.01, learning_rate=dict(name='cosine_decay_schedule', init_value=3e-3))
    ),
    train_for='20 epochs',
    eval=dict(validation=dict(split='validation', batch_size=256), test=dict(split='test', batch_size=256, of='best')),
    eval_every='1 epoch',
    keep=dict(best=1, metric='validation/accuracy', mode='max'),
    expect={'test/accuracy': (dict(amazon=0.775, imdb=0.718, yelp=0.759)[site], 0.03)},
    baselines={'test/accuracy': {'linear SVM on TF-IDF': dict(amazon=0.799, imdb=0.727, yelp=0.775)[site]}},
  )
