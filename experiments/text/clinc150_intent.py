"""Which of 150 intents a query has, or none of them (Larson et al., 2019), by a convolutional network on words.

Queries out of scope are a class of their own, of 100 examples beside the 100 of each intent, as in the column
'oos-train' of the paper. The accuracy of the evaluation `test` is that in scope, that of `out_of_scope` the share of
the queries without an intent which are found to have none. Far more of them are found where one that the network is
not sure of counts as none, too: `rejecting`, by the threshold which accepts 99 % of the right answers of `tuning`.

python -m dl.train --config=experiments/text/clinc150_intent.py --workdir=runs/clinc150_intent
python -m dl.predict --workdir=runs/clinc150_intent --step=best --inputs=queries.txt --lines

The data is data_full.json of https://github.com/clinc/oos-eval: it goes into data/clinc150.
Cite: kim2014convolutional, larson2019evaluation, hendrycks2017baseline
"""

from dl.config import config

FILE = 'data/clinc150/data_full.json'


def get_config():
  """The experiment."""
  return config(
    seed=0,
    task=dict(name='classify.Classify'),
    model=dict(
      name='text.TextCNN',
      num_classes=151,
      vocab_size=5400,
      embedding=200,
      sizes=(2, 3, 4),
      features=150,
      embedding_dropout=0.3,
      dropout=0.5,
    ),
    data=dict(
      name='texts.Labelled',
      path=dict(
        train=[f'{FILE}:train', f'{FILE}:oos_train'],
        validation=f'{FILE}:val',
        test=f'{FILE}:test',
        out_of_scope=f'{FILE}:oos_test',
        validation_and_out_of_scope=[f'{FILE}:val', f'{FILE}:oos_val'],
        test_and_out_of_scope=[f'{FILE}:test', f'{FILE}:oos_test'],
      ),
      text=0,
      label=1,
      batch_size=64,
    ),
    optim=dict(
      adam=dict(name='adamw', weight_decay=0.05, learning_rate=dict(name='cosine_decay_schedule', init_value=1.5e-3))
    ),
    train_for='20 epochs',
    eval=dict(
      validation=dict(split='validation', batch_size=256),
      test=dict(split='test', batch_size=256, of='best'),
      out_of_scope=dict(split='out_of_scope', batch_size=256, of='best'),
      tuning=dict(
        split='validation_and_out_of_scope', batch_size=256, of='best', by='rejection.Rejection', outside='oos'
      ),
      rejecting=dict(
        split='test_and_out_of_scope',
        batch_size=256,
        of='best',
        by='rejection.Rejection',
        outside='oos',
        threshold=0.318,
      ),
    ),
    eval_every='2 epochs',
    keep=dict(best=1, metric='validation/accuracy', mode='max'),
    expect={'test/accuracy': (0.924, 0.008), 'out_of_scope/accuracy': (0.168, 0.05)},
    baselines={
      'test/accuracy': {
        'linear SVM on TF-IDF': 0.913,
        'SVM (Larson and others)': 0.910,
        'CNN (Larson and others)': 0.912,
      },
      'out_of_scope/accuracy': {
        'linear SVM on TF-IDF': 0.111,
        'SVM (Larson and others)': 0.145,
        'CNN (Larson and others)': 0.189,
      },
    },
  )
